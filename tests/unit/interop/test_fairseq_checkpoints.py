"""``model: fairseq:checkpoint.pt``: found with its dictionaries, converted once, tuned, and written back."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import fairseq_files
import luthier
from fairseq_files import KINDS, WORDS, WORTE, Tiny
from luthier.errors import InputError
from luthier.exporting import export
from luthier.interop.fairseq.checkpoint import read_checkpoint
from luthier.interop.fairseq.dictionary import Dictionary
from luthier.interop.fairseq.vocabularies import dictionaries_of
from luthier.model_source import resolve_model
from luthier.tokenizer import HubTokenizer


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LUTHIER_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "models"


def test_the_same_checkpoint_is_converted_once(tmp_path: Path, cache: Path, capsys: pytest.CaptureFixture[str]):
    path = fairseq_files.write(tmp_path / "model", Tiny())
    first = resolve_model(f"fairseq:{path}")
    assert first.found_as == "converted from fairseq"
    assert first.folder.parent == cache
    assert "converting" in capsys.readouterr().err
    made = (first.folder / "model.safetensors").stat().st_mtime_ns
    assert resolve_model(f"fairseq:{path}").folder == first.folder
    assert (first.folder / "model.safetensors").stat().st_mtime_ns == made
    assert capsys.readouterr().err == ""


def test_another_dictionary_is_another_conversion(tmp_path: Path):
    path = fairseq_files.write(tmp_path / "model", Tiny())
    first = resolve_model(f"fairseq:{path}").folder
    file = tmp_path / "model" / "data-bin" / "dict.de.txt"
    file.write_text(file.read_text().replace("katze", "maus"), encoding="utf-8")
    second = resolve_model(f"fairseq:{path}").folder
    assert second != first
    texts = [HubTokenizer(folder).decode(np.asarray([5]), special=False) for folder in (first, second)]
    assert texts == ["katze", "maus"]


def test_text_becomes_the_ids_of_each_sides_dictionary(tmp_path: Path):
    folder = resolve_model(f"fairseq:{fairseq_files.write(tmp_path / 'model', Tiny())}").folder
    tokenizer = HubTokenizer(folder)
    assert tokenizer.ids_of(["the cat sees a unicorn"])[0].tolist() == [4, 5, 7, 8, 3]
    assert tokenizer.ids_of(["die katze sieht"], target=True)[0].tolist() == [4, 5, 7]
    assert tokenizer.join(np.asarray([4, 5])).arrays["input_ids"].tolist() == [4, 5, 2]
    assert [part.tolist() for part in tokenizer.target_affixes] == [[], [2]]


PLACES = {
    "data-bin beside it": lambda home: home / "data-bin",
    "beside it": lambda home: home,
    "data-bin beside its folder": lambda home: home.parent / "data-bin",
}


@pytest.mark.parametrize("place", PLACES)
def test_dictionaries_are_found_near_the_checkpoint(place: str, tmp_path: Path):
    path = fairseq_files.write(tmp_path / "project" / "checkpoints", Tiny())
    dictionaries = sorted((path.parent / "data-bin").iterdir())
    target = PLACES[place](path.parent)
    target.mkdir(exist_ok=True)
    for file in dictionaries:
        if file.parent != target:
            shutil.move(file, target / file.name)
    assert resolve_model(f"fairseq:{path}").folder.is_dir()


def test_the_data_folder_that_the_settings_name_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = fairseq_files.write(tmp_path / "out", Tiny(more={"data": "prepared/en-de"}))
    shutil.move(path.parent / "data-bin", tmp_path / "moved")
    (tmp_path / "work" / "prepared").mkdir(parents=True)
    shutil.move(tmp_path / "moved", tmp_path / "work" / "prepared" / "en-de")
    monkeypatch.chdir(tmp_path / "work")
    assert resolve_model("fairseq:../out/checkpoint.pt").folder.is_dir()


def test_options_behind_a_question_mark_say_where_things_are(tmp_path: Path):
    path = fairseq_files.write(tmp_path / "model", Tiny())
    shutil.move(path.parent / "data-bin", tmp_path / "elsewhere")
    with pytest.raises(InputError) as caught:
        resolve_model(f"fairseq:{path}")
    message = str(caught.value)
    assert "there is no dict.LANGUAGE.txt in" in message
    assert str(path.parent) in message
    assert "?data=data-bin" in message
    assert resolve_model(f"fairseq:{path}?data={tmp_path / 'elsewhere'}").folder.is_dir()
    for wrong, said in (
        ("?data=nowhere", "no folder"),
        ("?dat=x", 'Did you mean "data"'),
        (f"?data={tmp_path / 'elsewhere'}&codes=nowhere", "no file"),
        (f"?data={tmp_path / 'elsewhere'}&source=fr", "dict.fr.txt"),
    ):
        with pytest.raises(InputError, match=said):
            resolve_model(f"fairseq:{path}{wrong}")


@pytest.mark.parametrize("hint", ["nothing", "names of the data", "options"])
def test_which_side_is_which_is_told_or_asked_for(hint: str, tmp_path: Path):
    kind = Tiny(more={"source_lang": None, "target_lang": None})
    path = fairseq_files.write(tmp_path / "model", kind)
    data = path.parent / "data-bin"
    options = ""
    if hint == "names of the data":
        (data / "valid.en-de.en.idx").write_bytes(b"")
    if hint == "options":
        options = "?source=en"
    tokenizer = HubTokenizer(resolve_model(f"fairseq:{path}{options}").folder)  # by the sizes, where nothing says it
    assert tokenizer.ids_of(["the"])[0].tolist() == [4]
    assert tokenizer.ids_of(["die"], target=True)[0].tolist() == [4]


def test_it_is_not_guessed_which_side_is_which(tmp_path: Path):
    path = fairseq_files.write(tmp_path / "model", Tiny(joined=True, more={"source_lang": None, "target_lang": None}))
    german = path.parent / "data-bin" / "dict.de.txt"
    german.write_text(german.read_text().replace("cat", "katze"), encoding="utf-8")
    with pytest.raises(InputError, match=r"which of de, en is the source.*\?source=de&target=en"):
        resolve_model(f"fairseq:{path}")


def test_a_dictionary_of_another_size_is_refused(tmp_path: Path):
    path = fairseq_files.write(tmp_path / "model", Tiny())
    with (path.parent / "data-bin" / "dict.de.txt").open("a", encoding="utf-8") as stream:
        stream.write("more 1\n")
    with pytest.raises(InputError, match="14 symbols, and the checkpoint's table 13 rows"):
        resolve_model(f"fairseq:{path}")


@pytest.mark.parametrize("piece", ["@@", "\u2581"])
def test_pieces_of_words_without_their_codes_are_refused_unless_it_is_said(piece: str, tmp_path: Path):
    path = fairseq_files.write(tmp_path / "model", Tiny())
    english = path.parent / "data-bin" / "dict.en.txt"
    english.write_text(english.read_text().replace("cat", "cat@@" if piece == "@@" else "\u2581cat"), encoding="utf-8")
    with pytest.raises(InputError, match=r"pieces of words.*codes=none"):
        resolve_model(f"fairseq:{path}")
    assert resolve_model(f"fairseq:{path}?codes=none").folder.is_dir()


def test_codes_beside_the_data_are_found_and_come_back(tmp_path: Path):
    path = fairseq_files.write(tmp_path / "model", Tiny())
    english = path.parent / "data-bin" / "dict.en.txt"
    english.write_text(english.read_text().replace("cat", "c@@").replace("dog", "at"), encoding="utf-8")
    (path.parent / "codes").write_text("#version: 0.2\na t</w>\nt h\nth e</w>\n", encoding="utf-8")
    tokenizer = HubTokenizer(resolve_model(f"fairseq:{path}").folder)
    assert tokenizer.ids_of(["the cat"])[0].tolist() == [4, 5, 6]
    tokenizer.save(tmp_path)
    source, target = dictionaries_of(tmp_path)
    assert (source.symbols, target.symbols) == (Dictionary.read(english).symbols, ("<s>", "<pad>", "</s>", "<unk>", *WORTE))


def test_a_checkpoint_that_is_not_there_is_said_to_be_so(tmp_path: Path):
    with pytest.raises(InputError, match="there is no file"):
        resolve_model(f"fairseq:{tmp_path / 'checkpoint.pt'}")


def pairs(path: Path) -> Path:
    """Word by word translations, which a model of two layers learns in no time."""
    english = ["the cat", "a dog sees the cat", "the dog runs and the cat sleeps", "the bird sees a cat", "a red dog"]
    german = ["die katze", "hund sieht die katze", "hund rennt und die katze", "vogel sieht katze", "rot hund"]
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["source", "target"])
        writer.writerows(zip(english * 8, german * 8, strict=True))
    return path


RUNS = ["post-norm, all shared", "post-norm, nothing shared", "pre-norm", "learned positions"]


@pytest.mark.parametrize("name", RUNS)
def test_it_is_tuned_and_comes_back_as_a_checkpoint_of_fairseq(name: str, tmp_path: Path):
    kind = KINDS[name]
    path = fairseq_files.write(tmp_path / "model", kind)
    data = pairs(tmp_path / "pairs.csv")
    run = luthier.train(
        task={"name": "translation", "source_language": "en", "target_language": "de"},
        model=f"fairseq:{path}",
        data={"train": str(data), "test": str(data)},
        train={"duration": "3 epochs", "batch": "8 examples", "learning_rate": 0.01, "precision": "float32"},
        generation={"num_beams": 1, "max_new_tokens": 8},
        device="cpu",
        output=str(tmp_path / "run"),
    )
    assert run.metrics["test"]["loss"].value < np.log(kind.rows("decoder"))
    result = export(tmp_path / "run", to="fairseq", device="cpu")
    assert result.rows == 40
    assert result.difference < 1e-5
    assert {file.name for file in result.folder.iterdir()} == {"checkpoint.pt", "dict.en.txt", "dict.de.txt"}
    for side, language in (("encoder", "en"), ("decoder", "de")):
        assert list(Dictionary.read(result.folder / f"dict.{language}.txt").symbols[4:]) == kind.words(side)
    before, after = read_checkpoint(path), read_checkpoint(result.folder / "checkpoint.pt")
    assert after.weights.keys() == before.weights.keys()
    assert not torch.equal(after.weights["decoder.layers.0.fc1.weight"], before.weights["decoder.layers.0.fc1.weight"])
    for setting in ("encoder_attention_heads", "activation_fn", "share_decoder_input_output_embed", "encoder_normalize_before"):
        assert after.settings[setting] == before.settings[setting] or kind.share_all
    again = resolve_model(f"fairseq:{result.folder / 'checkpoint.pt'}").folder
    saved = json.loads((tmp_path / "run" / "model" / "config.json").read_text())
    assert json.loads((again / "config.json").read_text())["model_type"] == saved["model_type"]
    text = luthier.load(str(tmp_path / "run"), device="cpu").predict(["a dog sees the cat"])[0]["text"]
    assert set(text.split()) <= {*kind.words("decoder"), "<unk>", "<s>", "<pad>"}


def test_a_language_model_is_tuned_and_comes_back(tmp_path: Path):
    path = fairseq_files.write(tmp_path / "model", KINDS["language model, pre-norm, gelu"])
    data = tmp_path / "text.txt"
    data.write_text("\n".join(["the cat sees a bird", "a big dog runs and the cat sleeps"] * 20) + "\n", encoding="utf-8")
    run = luthier.train(
        task="text-generation",
        model=f"fairseq:{path}",
        data={"train": str(data), "test": str(data)},
        train={"duration": "3 epochs", "batch": "8 examples", "learning_rate": 0.02, "precision": "float32"},
        generation={"max_new_tokens": 6},
        device="cpu",
        output=str(tmp_path / "run"),
    )
    assert run.metrics["test"]["loss"].value < np.log(len(WORDS) + 4)
    result = export(tmp_path / "run", to="fairseq", device="cpu")
    assert {file.name for file in result.folder.iterdir()} == {"checkpoint.pt", "dict.txt"}
    assert result.difference < 1e-5
    assert read_checkpoint(result.folder / "checkpoint.pt").task["_name"] == "language_modeling"


def test_only_what_fairseq_has_is_written_for_fairseq(tmp_path: Path):
    from tiny_tokenizer import write_model

    write_model(tmp_path / "bert")
    data = tmp_path / "rows.csv"
    data.write_text("text,label\n" + "good film,1\nbad film,0\n" * 10, encoding="utf-8")
    luthier.train(
        task="text-classification",
        model=str(tmp_path / "bert"),
        data={"train": str(data)},
        train={"duration": "1 steps", "batch": "4 examples"},
        device="cpu",
        output=str(tmp_path / "run"),
    )
    with pytest.raises(InputError, match='no model of the kind "bert"'):
        export(tmp_path / "run", to="fairseq", device="cpu")
    assert not (tmp_path / "run" / "export" / "fairseq").exists()
