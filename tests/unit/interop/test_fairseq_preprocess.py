"""`luthier fairseq-preprocess`: its flags, what it prints, and what it refuses before it writes. tests/oracles holds it
against fairseq itself.
"""

import json
import os
import re
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from luthier.assembly import open_split
from luthier.cli import app
from luthier.errors import InputError
from luthier.interop.fairseq.dictionary import EOS, Dictionary
from luthier.interop.fairseq.indexed import IndexedIds

LANGUAGES = ("-s", "en", "-t", "fr")


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    put("train", "the town\n\na town\n", "la ville\n\nune ville\n")
    put("valid", "a new town\n", "une ville\n")
    return tmp_path


def put(prefix: str, source: str, target: str) -> None:
    for language, text in (("en", source), ("fr", target)):
        Path(f"{prefix}.{language}").write_text(text, encoding="utf-8")


def run(*flags: str) -> Result:
    return CliRunner().invoke(app, ["fairseq-preprocess", *LANGUAGES, *flags])


def refused(*flags: str) -> str:
    """Return what is said; nothing may be written, and nothing else escape."""
    before = sorted(Path.cwd().rglob("*"))
    found = run(*flags).exception
    assert isinstance(found, InputError)
    assert sorted(Path.cwd().rglob("*")) == before
    return str(found)


def test_what_is_written_can_be_trained_on(place: Path):
    assert run("--trainpref", "train", "--validpref", "valid", "--destdir", "made").exit_code == 0
    assert (place / "made/dict.en.txt").read_text().splitlines()[:3] == ["town 2", "a 1", "the 1"]
    rows = [dict(row) for row in open_split("fairseq:made", name="validation").rows()]
    assert rows == [{"source": "a <unk> town", "target": "une ville"}]


def test_a_blank_line_is_a_sentence_as_for_fairseq():
    run("--trainpref", "train", "--destdir", "made")
    assert [len(ids) for ids in IndexedIds(Path("made/train.en-fr.en"))] == [3, 1, 3]
    assert IndexedIds(Path("made/train.en-fr.fr"))[1].tolist() == [EOS]


def test_it_prints_what_it_wrote():
    lines = run("--trainpref", "train", "--validpref", "valid", "--destdir", "made").stdout.splitlines()
    assert lines[2] == "valid.en-fr.en: 1 sentences, 4 tokens, 1 of them <unk>; its dictionary has 8 symbols"
    assert lines[-1] == "Wrote made. As data: fairseq:made"
    values = json.loads(run("--trainpref", "train", "--destdir", "again", "--json").stdout)
    assert values["folder"] == "again"
    assert values["files"][0] == {"name": "train.en-fr.en", "symbols": 8, "sentences": 3, "tokens": 7, "unknown": 0}


def test_several_prefixes_are_numbered_as_by_fairseq():
    run("--trainpref", "train", "--validpref", "valid,train", "--testpref", "valid", "--destdir", "made")
    assert {path.name.split(".")[0] for path in Path("made").glob("*.idx")} == {"train", "valid", "valid1", "test"}
    assert Path("made/valid1.en-fr.fr.bin").read_bytes() == Path("made/train.en-fr.fr.bin").read_bytes()


def test_given_dictionaries_are_taken_and_the_missing_one_is_made():
    Dictionary.build([["town", "new"]]).write(Path("old.txt"))
    run("--trainpref", "train", "--srcdict", "old.txt", "--destdir", "made")
    assert Path("made/dict.en.txt").read_bytes() == Path("old.txt").read_bytes()
    assert Path("made/dict.fr.txt").read_text().startswith("ville 2\n")
    run("--validpref", "valid", "--tgtdict", "old.txt", "--joined-dictionary", "--destdir", "joined")
    assert Path("joined/dict.en.txt").read_bytes() == Path("joined/dict.fr.txt").read_bytes() == Path("old.txt").read_bytes()


def test_one_new_dictionary_counts_both_sides():
    run("--trainpref", "train", "--joined-dictionary", "--destdir", "made")
    assert Path("made/dict.en.txt").read_bytes() == Path("made/dict.fr.txt").read_bytes()
    assert Dictionary.read(Path("made/dict.en.txt")).symbols[4:6] == ("town", "ville")


@pytest.mark.parametrize(
    ("source", "target", "said"),
    [
        ("a\nb\nc\n", "un\ndeux\n", "train.en has 3 lines, train.fr 2; they must agree"),
        ("a\n", "un\ndeux\n", "train.en has 1 lines, train.fr 2; they must agree"),
        ("a\n", "", "train.fr: the file is empty"),
        ("a\n", "b\0\n", "train.fr:1: byte 1 is NUL"),
    ],
)
def test_text_that_cannot_be_used_is_named_before_anything_is_written(source: str, target: str, said: str):
    put("train", source, target)
    assert said in refused("--validpref", "valid", "--trainpref", "train")


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("", "no text is named. Write --trainpref"),
        ("--trainpref nowhere", "nowhere.en: there is no such file"),
        ("--trainpref train --validpref valid,gone", "gone.en: there is no such file"),
        ("--trainpref train --srcdict gone.txt", "gone.txt: it cannot be read"),
        ("--validpref valid", "without the split train there is nothing to make dictionaries from"),
        ("--validpref valid --srcdict old.txt", "without the split train"),
        ("--trainpref train --codes codes.bpe", "codes.bpe: codes need the dictionaries"),
        ("--trainpref train --srcdict old.txt --tgtdict new.txt --joined-dictionary", "new.txt: found two dictionaries"),
        ("--trainpref train --target-lang en", "both sides are in en"),
        ("--trainpref train --destdir .", "this folder is not empty. Name a new folder."),
        ("--trainpref train --destdir train.en", "train.en: this is a file"),
    ],
)
def test_what_cannot_be_done_is_refused(flags: str, said: str):
    assert said in refused(*flags.split())


def test_real_text_gives_the_files_and_counts_of_fairseq():
    root = os.environ.get("LUTHIER_BENCH_DATA")
    if not root:
        pytest.skip("LUTHIER_BENCH_DATA is not set")
    home = Path(root) / "fairseq_format/multi30k_fairseq0122/original"
    theirs = home / "data-bin"
    flags = [
        *("--validpref", f"{home}/text/val.bpe", "--testpref", f"{home}/text/test_2016_flickr.bpe", "--destdir", "made"),
        *("--srcdict", f"{theirs}/dict.en.txt", "--tgtdict", f"{theirs}/dict.fr.txt"),
    ]
    done = run(*flags, "--json")
    for path in Path("made").iterdir():
        assert path.read_bytes() == (theirs / path.name).read_bytes(), path.name
    files = {side["name"]: (side["sentences"], side["tokens"]) for side in json.loads(done.stdout)["files"]}
    log = (theirs / "preprocess.log").read_text(encoding="utf-8")
    for prefix, split in (("val", "valid"), ("test_2016_flickr", "test")):
        for language in ("en", "fr"):
            found = re.search(rf"{prefix}\.bpe\.{language}: (\d+) sents, (\d+) tokens", log)
            assert found is not None
            assert files[f"{split}.en-fr.{language}"] == (int(found[1]), int(found[2]))
