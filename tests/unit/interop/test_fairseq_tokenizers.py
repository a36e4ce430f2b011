"""A dictionary with its codes splits a text as the codes' own tool and fairseq do: the same ids, and the text again."""

import contextlib
import io
import json
import os
from pathlib import Path

import numpy as np
import pytest

from luthier.errors import InputError
from luthier.interop.fairseq.dictionary import UNK, Dictionary
from luthier.interop.fairseq.tokenizers import kind_of, write_tokenizer
from luthier.tokenizer import HubTokenizer

TEXTS = [
    "the lowest tower stands near the newest river",
    "lower and slower the widest river widens",
    "a newer tower , lower than the widest wall .",
    "où est l' été ? une étoile brûle près d' un château",
    "le château le plus bas est près de la rivière la plus large",
] * 3
UNSEEN = [
    "a wider tower and the slowest wave",
    "étés brûlés , rivières larges !",
    "zzz 漢字 x",
    "  two  blanks ",
    "a",
    "an end </s> <s> of it",
    "a\u00a0b",
    "the\ttower",
]


@pytest.fixture(scope="module")
def codes(tmp_path_factory) -> Path:
    from subword_nmt.learn_bpe import learn_bpe

    out = io.StringIO()
    with contextlib.redirect_stderr(io.StringIO()):
        learn_bpe(TEXTS, out, 60)
    path = tmp_path_factory.mktemp("codes") / "codes.bpe"
    path.write_text(out.getvalue(), encoding="utf-8")
    return path


def split_by(codes: Path):
    from subword_nmt.apply_bpe import BPE

    with codes.open(encoding="utf-8") as stream:
        bpe = BPE(stream)
    return lambda text: bpe.process_line(text).split()


def tokenizer(folder: Path, source: Dictionary, target: Dictionary | None = None, codes: Path | None = None) -> HubTokenizer:
    folder.mkdir(exist_ok=True)
    write_tokenizer(folder, source=source, target=target or source, codes=codes)
    return HubTokenizer(folder)


def test_ids_are_those_of_subword_nmt_and_the_dictionary(tmp_path: Path, codes: Path):
    split = split_by(codes)
    dictionary = Dictionary.build(split(text) for text in TEXTS)
    made = tokenizer(tmp_path, dictionary, codes=codes)
    wanted = [dictionary.encode(split(text)) for text in TEXTS + UNSEEN]
    assert [ids.tolist() for ids in made.ids_of(TEXTS + UNSEEN)] == wanted
    assert any(UNK in ids for ids in wanted)


def test_pieces_on_the_way_to_longer_ones_are_unknown_where_the_dictionary_lacks_them(tmp_path: Path, codes: Path):
    split = split_by(codes)
    dictionary = Dictionary.build([split(TEXTS[0])])
    made = tokenizer(tmp_path, dictionary, codes=codes)
    for text, ids in zip(TEXTS, made.ids_of(TEXTS), strict=True):
        assert ids.max() < len(dictionary)
        assert ids.tolist() == dictionary.encode(split(text))
    assert made.tokenize(TEXTS)[1].ids.tolist() == dictionary.encode(split(TEXTS[1]))


def test_text_comes_back_without_its_pieces(tmp_path: Path, codes: Path):
    split = split_by(codes)
    made = tokenizer(tmp_path, Dictionary.build(split(text) for text in TEXTS), codes=codes)
    for text, ids in zip(TEXTS, made.ids_of(TEXTS), strict=True):
        assert made.decode(ids) == text
    (the, tower) = made.ids_of(["the", "tower"])
    assert made.decode(np.concatenate([the, [UNK], tower, [2]])) == "the <unk> tower"


def test_the_end_follows_a_source_and_a_target(tmp_path: Path):
    made = tokenizer(tmp_path, Dictionary.build([["a", "b"]]))
    assert made.join(made.ids_of(["a b"])[0]).arrays["input_ids"].tolist() == [4, 5, 2]
    before, after = made.target_affixes
    assert (before.tolist(), after.tolist()) == ([], [2])
    assert [affix.tolist() for affix in made.document_affixes] == [[2], [2]]


def test_fastbpe_codes_are_the_same_merges_with_counts(tmp_path: Path, codes: Path):
    lines = codes.read_text(encoding="utf-8").splitlines()[1:]
    (tmp_path / "fast").write_text("".join(f"{line} {9999 - n}\n" for n, line in enumerate(lines)), encoding="utf-8")
    split = split_by(codes)
    dictionary = Dictionary.build(split(text) for text in TEXTS)
    made = tokenizer(tmp_path / "model", dictionary, codes=tmp_path / "fast")
    assert [ids.tolist() for ids in made.ids_of(TEXTS)] == [dictionary.encode(split(text)) for text in TEXTS]
    assert kind_of(tmp_path / "fast") == "fastbpe"


def test_without_codes_words_are_what_stands_between_white_space(tmp_path: Path):
    dictionary = Dictionary.build([["hel@@", "lo", "<unk>", "town"]])
    made = tokenizer(tmp_path, dictionary)
    for text in ["hel@@ lo town", " hel@@\u00a0lo\u2003\ttown  nowhere ", "<unk> </s> lo", "x\x1fy"]:
        assert made.ids_of([text])[0].tolist() == dictionary.encode(text.split()), text
    assert made.decode(made.ids_of(["hel@@ lo town"])[0]) == "hel@@ lo town"


def test_source_and_target_have_dictionaries_of_their_own(tmp_path: Path, codes: Path):
    split = split_by(codes)
    english, french = (Dictionary.build(split(text) for text in part) for part in (TEXTS[:3], TEXTS[3:5]))
    made = tokenizer(tmp_path / "made", english, french, codes)
    made.save(tmp_path / "saved")
    (tmp_path / "saved" / "config.json").write_text(json.dumps({"model_type": "fsmt"}), encoding="utf-8")
    for side in (made, HubTokenizer(tmp_path / "saved")):
        assert side.ids_of(TEXTS[:1])[0].tolist() == english.encode(split(TEXTS[0]))
        assert side.ids_of(TEXTS[3:4], target=True)[0].tolist() == french.encode(split(TEXTS[3]))
        assert side.decode(side.ids_of(TEXTS[3:4], target=True)[0]) == TEXTS[3]
        assert side.decode(side.ids_of(TEXTS[:1])[0], source=True) == TEXTS[0]
        assert side.target_affixes[1].tolist() == [2]


@pytest.mark.parametrize(("kind", "size"), [("unigram", 50), ("bpe", 70)])
@pytest.mark.filterwarnings("ignore:builtin type")  # of sentencepiece's SWIG
def test_ids_are_those_of_sentencepiece_and_the_dictionary(tmp_path: Path, kind: str, size: int):
    spm = pytest.importorskip("sentencepiece")
    out = io.BytesIO()
    seen = [*TEXTS, "ｆｕｌｌ ﬁne Été"]
    spm.SentencePieceTrainer.train(
        sentence_iterator=iter(seen), model_writer=out, vocab_size=size, model_type=kind, minloglevel=2, num_threads=1,
        character_coverage=0.98,
    )  # fmt: skip
    path = tmp_path / "spm.model"
    path.write_bytes(out.getvalue())
    processor = spm.SentencePieceProcessor(model_file=str(path))

    def split(text: str) -> list[str]:
        return " ".join(processor.encode(text, out_type=str)).split()

    dictionary = Dictionary.build(split(text) for text in seen[:4])
    made = tokenizer(tmp_path / "model", dictionary, codes=path)
    texts = [text for text in seen + UNSEEN if "</s>" not in text]
    wanted = [dictionary.encode(split(text)) for text in texts]
    assert [ids.tolist() for ids in made.ids_of(texts)] == wanted
    assert any(UNK in ids for ids in wanted)
    for text, ids in zip(texts, wanted, strict=True):
        if UNK not in ids:
            assert made.decode(np.asarray(ids)) == processor.decode(split(text))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"#version: 0.1\na b\n", "0.1"),
        (b"a b\nc d\n", "codes:1"),
        (b"a b 1\nc d\n", "codes:2"),
        (b"#version: 0.2\na b\nc\n", "codes:3"),
        (b"#version: 0.2\n\xff b\n", "not UTF-8"),
        (b"\n\x0c\n\x05", "SentencePiece"),
        (b"\x0a\x00\x00", "SentencePiece"),
    ],
)
def test_codes_of_an_unknown_kind_are_refused(tmp_path: Path, content: bytes, said: str):
    (tmp_path / "codes").write_bytes(content)
    with pytest.raises(InputError, match=said):
        write_tokenizer(tmp_path, source=Dictionary.build([["a"]]), target=Dictionary.build([["a"]]), codes=tmp_path / "codes")


def test_a_damaged_tokenizer_of_the_target_is_named(tmp_path: Path):
    tokenizer(tmp_path, Dictionary.build([["a"]]), Dictionary.build([["b"]]))
    (tmp_path / "target_tokenizer.json").write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match=r"target_tokenizer\.json"):
        HubTokenizer(tmp_path)


def test_real_text_gets_the_ids_that_subword_nmt_gives(tmp_path: Path):
    root = os.environ.get("LUTHIER_BENCH_DATA")
    if not root:
        pytest.skip("LUTHIER_BENCH_DATA is not set")
    real = Path(root) / "fairseq_format/multi30k_fairseq0122/original"
    dictionary = Dictionary.read(real / "data-bin/dict.en.txt")
    made, split = tokenizer(tmp_path, dictionary, codes=real / "codes.bpe"), split_by(real / "codes.bpe")
    for path in sorted((real / "text").glob("*.tok.*")):
        lines = path.read_text(encoding="utf-8").splitlines()
        assert [ids.tolist() for ids in made.ids_of(lines)] == [dictionary.encode(split(line)) for line in lines]
