"""Folders of fairseq-preprocess: what was written there comes back as text, and text is written as fairseq writes it."""

import os
import struct
from pathlib import Path

import numpy as np
import pytest

from luthier.assembly import open_split
from luthier.errors import InputError
from luthier.interop.fairseq.dictionary import EOS, Dictionary
from luthier.interop.fairseq.indexed import IndexedIds, write_ids
from luthier.interop.fairseq.preprocess import write_data_bin
from luthier.interop.fairseq.tokenizers import read_vocabulary

CODES = {1: "u1", 2: "i1", 3: "<i2", 4: "<i4", 5: "<i8", 6: "<f8", 7: "<f8", 8: "<u2", 9: "<u4", 10: "<u8"}
ENGLISH = [["hel@@", "lo", "town"], ["town"], ["a", "<unk>", "town"]]
FRENCH = [["bon@@", "jour"], ["ville"], ["la", "ville"]]


def put(prefix: Path, sentences: list[list[int]], code: int = 8) -> None:
    """Write the two files byte by byte, from the format's description."""
    dtype = np.dtype(CODES[code])
    sizes = [len(ids) for ids in sentences]
    offsets = [dtype.itemsize * sum(sizes[:number]) for number in range(len(sizes))]
    content = b"MMIDIDX\0\0" + struct.pack("<QBQ", 1, code, len(sizes))
    content += b"".join(struct.pack("<i", size) for size in sizes) + b"".join(struct.pack("<q", start) for start in offsets)
    Path(f"{prefix}.idx").write_bytes(content)
    Path(f"{prefix}.bin").write_bytes(b"".join(np.asarray(ids, dtype).tobytes() for ids in sentences))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data-bin with the splits train, train1 and valid, from en to fr."""
    place = tmp_path / "data-bin"
    place.mkdir()
    for language, sentences in (("en", ENGLISH), ("fr", FRENCH)):
        dictionary = Dictionary.build(sentences)
        dictionary.write(place / f"dict.{language}.txt")
        ids = [[*dictionary.encode(sentence), EOS] for sentence in sentences]
        for split, part in (("train", ids), ("train1", ids[:1]), ("valid", ids[1:])):
            put(place / f"{split}.en-fr.{language}", part)
    return place


def rows(spec: str, name: str = "train") -> list[dict]:
    return [dict(row) for row in open_split(spec, name=name).rows()]


@pytest.mark.parametrize("code", CODES)
def test_every_type_of_ids_is_read(tmp_path: Path, code: int):
    put(tmp_path / "x", [[4, 5, 2], [], [100, 2]], code)
    ids = IndexedIds(tmp_path / "x")
    ids.check(101)
    assert [sentence.tolist() for sentence in ids] == [[4, 5, 2], [], [100, 2]]


@pytest.mark.parametrize(("symbols", "code"), [(8, 8), (65499, 8), (65500, 9)])
def test_ids_are_written_in_the_type_that_fairseq_takes(tmp_path: Path, symbols: int, code: int):
    sentences = [[4, 5, 2], [2], [7, 2]]
    put(tmp_path / "expected", sentences, code)
    assert write_ids(tmp_path / "made", sentences, symbols=symbols) == 3
    for suffix in ("idx", "bin"):
        assert (tmp_path / f"made.{suffix}").read_bytes() == (tmp_path / f"expected.{suffix}").read_bytes()
    with pytest.raises(ValueError, match="sentence 1"):
        write_ids(tmp_path / "made", [[symbols]], symbols=symbols)


def test_pairs_become_rows_of_text(folder: Path):
    assert rows(f"fairseq:{folder}", "validation") == [
        {"source": "town", "target": "ville"},
        {"source": "a <unk> town", "target": "la ville"},
    ]
    first = next(iter(open_split(f"fairseq:{folder}", name="train").rows()))
    assert dict(first) == {"source": "hello town", "target": "bonjour"}
    assert (first.file, first.line) == (str(folder / "train.en-fr.en.idx"), 1)


def test_all_parts_of_a_split_are_read(folder: Path):
    assert [row["target"] for row in rows(f"fairseq:{folder}")] == ["bonjour", "ville", "la ville", "bonjour"]


def test_options_name_the_split_the_direction_and_the_pieces(folder: Path):
    assert rows(f"fairseq:{folder}?split=valid&source=fr&target=en")[0] == {"source": "ville", "target": "town"}
    assert rows(f"fairseq:{folder}?bpe=kept")[0] == {"source": "hel@@ lo town", "target": "bon@@ jour"}
    for option, said in (
        ("lang=en", "no option"),
        ("bpe=no", "bpe=no"),
        ("split=test", r"test\.SOURCE"),
        ("source=de", "en-fr"),
    ):
        with pytest.raises(InputError, match=said):
            rows(f"fairseq:{folder}?{option}")


def test_a_folder_with_two_pairs_must_be_told_which(folder: Path):
    Dictionary.build([["tag"]]).write(folder / "dict.de.txt")
    for language in ("en", "de"):
        put(folder / f"train.en-de.{language}", [[4, 2]])
    with pytest.raises(InputError, match="en-de, en-fr, and it is not said"):
        rows(f"fairseq:{folder}")
    assert rows(f"fairseq:{folder}?target=de") == [
        {"source": Dictionary.read(folder / "dict.en.txt").symbols[4], "target": "tag"}
    ]


def test_rows_with_unknown_words_are_counted(folder: Path):
    source = open_split(f"fairseq:{folder}", name="train")
    assert source.notes == []
    list(source.rows())
    (note,) = source.notes
    assert "<unk> stands in 1 of the 4 rows of train" in note


@pytest.mark.parametrize("name", ["train", "train.en-None.en"])
def test_text_of_a_language_model_is_read(tmp_path: Path, name: str):
    dictionary = Dictionary.build([["▁hel", "lo", "▁town"]])
    dictionary.write(tmp_path / ("dict.txt" if name == "train" else "dict.en.txt"))
    put(tmp_path / name, [[*dictionary.encode(["▁hel", "lo", "▁town"]), EOS]])
    assert rows(f"fairseq:{tmp_path}") == [{"text": "hello town"}]


def test_the_digest_is_that_of_all_files(folder: Path):
    def digest() -> str:
        return open_split(f"fairseq:{folder}", name="train").digest()

    before = digest()
    assert digest() == before
    Dictionary.build([*ENGLISH, ["town"]]).write(folder / "dict.en.txt")
    assert digest() != before


def damaged(path: Path, change) -> None:
    path.write_bytes(change(path.read_bytes()))


@pytest.mark.parametrize(
    ("suffix", "change", "said"),
    [
        ("bin", lambda content: content[:-1], r"train\.en-fr\.en\.bin: it ends at byte \d+, and sentence 3 lies at bytes"),
        ("bin", lambda content: content + b"\0\0", r"\.bin: from byte \d+ on there are 2 bytes"),
        ("bin", lambda content: content[:2] + b"\xff\xff" + content[4:], r"\.bin: found the id 65535 at byte 2"),
        ("idx", lambda content: content[:-4], r"\.idx: it ends at byte \d+, and its 3 sentences need \d+"),
        ("idx", lambda content: content[:10], r"\.idx: this is no index of fairseq: it ends at byte 10"),
        ("idx", lambda content: b"", r"\.idx: this is no index"),
        ("idx", lambda content: b"PK\3\4" + content[4:], r"\.idx: this is no index of fairseq: byte 0"),
        ("idx", lambda content: b"TNTIDX\0\0" + content[8:], r"\.idx: .*--dataset-impl mmap"),
        ("idx", lambda content: content[:9] + b"\2" + content[10:], r"\.idx: byte 9 says version 2"),
        ("idx", lambda content: content[:17] + b"\x63" + content[18:], r"\.idx: byte 17 says type 99"),
        ("idx", lambda content: content[:26] + b"\xff\xff\xff\xff" + content[30:], "sentence 1"),
        ("idx", lambda content: content[:-8] + b"\xff" * 7 + b"\x7f", "sentence 3"),
        ("idx", lambda content: content[:-8] + b"\1" + content[-7:], "sentence 3"),
    ],
)
def test_damage_is_named_with_its_file_and_byte(folder: Path, suffix: str, change, said: str):
    damaged(folder / f"train.en-fr.en.{suffix}", change)
    with pytest.raises(InputError, match=said):
        rows(f"fairseq:{folder}")


def test_numbers_that_are_no_ids_are_refused(tmp_path: Path):
    for code, value in ((4, -1), (7, 4.5), (7, float("nan"))):
        put(tmp_path / "x", [[4, value]], code)
        with pytest.raises(InputError, match="found the id"):
            IndexedIds(tmp_path / "x").check(10)


def test_missing_files_are_named(folder: Path, tmp_path: Path):
    with pytest.raises(InputError, match="no such folder"):
        rows(f"fairseq:{tmp_path}/nowhere")
    (folder / "train.en-fr.fr.bin").unlink()
    with pytest.raises(InputError, match=r"train\.en-fr\.fr\.bin: it cannot be read"):
        rows(f"fairseq:{folder}")
    put(folder / "train.en-fr.fr", [[4, 2]])
    with pytest.raises(InputError, match="they must agree"):
        rows(f"fairseq:{folder}")
    (folder / "dict.fr.txt").unlink()
    with pytest.raises(InputError, match=r"dict\.fr\.txt: it cannot be read"):
        rows(f"fairseq:{folder}")


def test_parallel_text_is_written_as_a_data_bin(folder: Path, tmp_path: Path):
    for language, sentences in (("en", ENGLISH), ("fr", FRENCH)):
        (tmp_path / f"text.{language}").write_text("".join(" ".join(part) + "\n" for part in sentences), encoding="utf-8")
    made = tmp_path / "made"
    write_data_bin(made, {"train": f"{tmp_path}/text.{{en,fr}}"}, languages=("en", "fr"))
    for path in made.iterdir():
        assert path.read_bytes() == (folder / path.name).read_bytes(), path.name
    assert len(list(made.iterdir())) == 6
    again = tmp_path / "again"
    both = (folder / "dict.en.txt", folder / "dict.fr.txt")
    write_data_bin(again, {"valid": f"{tmp_path}/text.{{en,fr}}"}, languages=("en", "fr"), dictionaries=both)
    assert (again / "valid.en-fr.fr.bin").read_bytes() == (folder / "train.en-fr.fr.bin").read_bytes()
    joined = tmp_path / "joined"
    write_data_bin(joined, {"train": f"{tmp_path}/text.{{en,fr}}"}, languages=("en", "fr"), joined=True)
    assert (joined / "dict.en.txt").read_bytes() == (joined / "dict.fr.txt").read_bytes()
    assert len(Dictionary.read(joined / "dict.en.txt")) % 8 == 0


def test_what_cannot_be_written_is_refused(folder: Path, tmp_path: Path):
    pair = [{"source": "a", "target": "b"}]
    for splits, options, said in (
        ({"valid": pair}, {}, "without the split train"),
        ({"train": pair}, {"codes": tmp_path / "codes"}, "dictionaries of the model"),
        ({"train": [{"source": "a"}]}, {}, 'column "target"'),
    ):
        with pytest.raises(InputError, match=said):
            write_data_bin(tmp_path / "new", splits, languages=("en", "fr"), **options)
    with pytest.raises(InputError, match="not empty"):
        write_data_bin(folder, {"train": pair}, languages=("en", "fr"))


@pytest.fixture(scope="module")
def real() -> Path:
    root = os.environ.get("LUTHIER_BENCH_DATA")
    if not root:
        pytest.skip("LUTHIER_BENCH_DATA is not set")
    return Path(root) / "fairseq_format"


def test_what_fairseq_wrote_is_written_again_byte_by_byte(real: Path, tmp_path: Path):
    found = sorted(real.rglob("*.idx"))
    assert len(found) == 8
    for index in found:
        dictionary = Dictionary.read(index.with_name(f"dict.{index.stem.split('.')[-1]}.txt"))
        ids = IndexedIds(index.with_suffix(""))
        ids.check(len(dictionary))
        write_ids(tmp_path / "again", ids, symbols=len(dictionary))
        for suffix in ("idx", "bin"):
            assert (tmp_path / f"again.{suffix}").read_bytes() == index.with_suffix(f".{suffix}").read_bytes()


def test_real_text_is_encoded_into_the_ids_that_stood_there(real: Path, tmp_path: Path):
    place = real / "multi30k_fairseq0122/original"
    for name, split in (("validation", "valid"), ("test", "test")):
        read = rows(f"fairseq:{place}/data-bin", name)
        for role, language in (("source", "en"), ("target", "fr")):
            vocabulary = read_vocabulary(Dictionary.read(place / f"data-bin/dict.{language}.txt"), place / "codes.bpe")
            stored = IndexedIds(place / f"data-bin/{split}.en-fr.{language}")
            made = vocabulary.ids_of([row[role] for row in read])
            assert [ids.tolist() for ids in made] == [ids[:-1].tolist() for ids in stored]
    texts = {"valid": f"{place}/text/val.tok.{{en,fr}}", "test": f"{place}/text/test_2016_flickr.tok.{{en,fr}}"}
    both = (place / "data-bin/dict.en.txt", place / "data-bin/dict.fr.txt")
    write_data_bin(tmp_path / "made", texts, languages=("en", "fr"), dictionaries=both, codes=place / "codes.bpe")
    for path in (tmp_path / "made").iterdir():
        assert path.read_bytes() == (place / "data-bin" / path.name).read_bytes(), path.name


def test_real_pieces_without_codes_are_kept(real: Path):
    place = real / "envi_databin/data-bin"
    for name, split in (("validation", "valid"), ("test", "test")):
        read = rows(f"fairseq:{place}?bpe=kept", name)
        for role, language in (("source", "en"), ("target", "vi")):
            vocabulary = read_vocabulary(Dictionary.read(place / f"dict.{language}.txt"))
            stored = IndexedIds(place / f"{split}.en-vi.{language}")
            made = vocabulary.ids_of([row[role] for row in read])
            assert [ids.tolist() for ids in made] == [ids[:-1].tolist() for ids in stored]
