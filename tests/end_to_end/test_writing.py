"""Text is written: from training through scores and export to use, on tiny models."""

import itertools
import json
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import luthier
from end_to_end.conftest import SENTENCES
from luthier.errors import InputError
from luthier.exporting import export

SHORT = {"train.precision": "float32", "generation.max_new_tokens": 8, "generation.rows": 6}
DIALOGUES = [
    {"messages": [{"role": "user", "content": f"where is {sentence} ?"}, {"role": "assistant", "content": "it is here"}]}
    for sentence in SENTENCES
]
PAIRS = [{"source": sentence, "target": " ".join(reversed(sentence.split()))} for sentence in SENTENCES]


def lines(path: Path, rows: list[dict]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("writing")


@pytest.fixture(scope="module")
def documents(folder: Path, tiny_decoder: Path) -> luthier.Run:
    train = lines(folder / "documents.jsonl", [{"text": f"{one} . {other} ."} for one, other in itertools.pairwise(SENTENCES)])
    other = lines(folder / "other.jsonl", [{"text": "nobody knows why the old clock stopped"}])
    return luthier.train(
        task="text-generation", model=str(tiny_decoder), method={"name": "lora", "rank": 4},
        data={"train": train, "test": train, "general": other}, output=str(folder / "documents"),
        **{"train.duration": "6 epochs", "train.batch": "8 examples", "train.learning_rate": 1e-2}, **SHORT,
    )  # fmt: skip


@pytest.fixture(scope="module")
def dialogues(folder: Path, tiny_decoder: Path) -> luthier.Run:
    rows = lines(folder / "dialogues.jsonl", DIALOGUES)
    return luthier.train(
        task="text-generation", model=str(tiny_decoder), data={"train": rows, "test": rows}, output=str(folder / "dialogues"),
        **{"train.duration": "20 epochs", "train.batch": "6 examples", "train.learning_rate": 1e-2}, **SHORT,
    )  # fmt: skip


@pytest.fixture(scope="module")
def translation(folder: Path) -> luthier.Run:
    """Words in the opposite order, by a model from nothing."""
    rows = lines(folder / "pairs.jsonl", PAIRS)
    model = {"name": "new", "architecture": "marian", "vocabulary": 60, "layers": 1, "hidden_size": 32, "heads": 2}
    return luthier.train(
        task={"name": "translation", "target_language": "en"}, model=model, data={"train": rows, "test": rows},
        output=str(folder / "translation"),
        **{"train.duration": "40 epochs", "train.batch": "6 examples", "train.learning_rate": 5e-3},
        **{"train.precision": "float32"},
    )  # fmt: skip


def test_documents_are_scored_before_and_after_and_beside_an_n_gram_model(documents: luthier.Run):
    assert {"bits_per_byte", "loss", "perplexity", "distinct_1", "repetition"} <= set(documents.metrics["test"])
    assert set(documents.baselines) == {"n-gram", "base_model", "base_model_general"}
    after, before = (scores["bits_per_byte"].value for scores in (documents.metrics["test"], documents.baselines["base_model"]))
    assert after < 0.97 * before
    assert set(documents.baselines["n-gram"]) == {"bits_per_byte"}


def test_what_tuning_did_to_other_text_is_said(documents: luthier.Run):
    assert documents.metrics["general"]["loss"].value != documents.baselines["base_model_general"]["loss"].value
    assert "orgetting" in (documents.folder / "README.md").read_text(encoding="utf-8")


def test_every_row_of_the_predictions_is_scored_and_some_are_written(documents: luthier.Run):
    text = (documents.folder / "predictions" / "test.jsonl").read_text(encoding="utf-8")
    found = [json.loads(line)["predicted"] for line in text.splitlines()]
    assert len(found) == len(SENTENCES) - 1
    assert all(one["loss"] > 0 and one["bytes"] > 0 for one in found)
    assert sum(one["text"] is not None for one in found) == 6


def test_an_adapter_is_merged_scored_and_loads_in_plain_transformers(documents: luthier.Run):
    from transformers import AutoModelForCausalLM

    result = export(documents.folder, to="safetensors")
    assert result.rows == len(SENTENCES) - 1
    assert result.difference < 1e-4
    assert result.losses[0] == pytest.approx(documents.metrics["test"]["loss"].value, rel=1e-3)
    assert (documents.folder / "model" / "adapter_model.safetensors").is_file()
    AutoModelForCausalLM.from_pretrained(result.folder)
    assert luthier.load(result.folder).predict(["the big"]) == luthier.load(documents.folder).predict(["the big"])


def test_an_export_that_differs_is_refused_and_leaves_nothing(documents: luthier.Run, monkeypatch: pytest.MonkeyPatch):
    import torch

    from luthier.exporting import EXPORTERS

    def wrong(trained, folder: Path) -> None:
        trained.model.save_whole(folder)
        from safetensors.torch import load_file, save_file

        weights = load_file(folder / "model.safetensors")
        weights["model.norm.weight"] = weights["model.norm.weight"] + torch.tensor(0.1)
        save_file(weights, folder / "model.safetensors", {"format": "pt"})

    monkeypatch.setitem(EXPORTERS._entries, "safetensors", wrong)
    with pytest.raises(InputError, match="differs"):
        export(documents.folder, to="safetensors", output=documents.folder / "wrong")
    assert not (documents.folder / "wrong").exists()


def test_a_dialogue_teaches_the_answer_alone(dialogues: luthier.Run):
    assert dialogues.metrics["test"]["loss"].value < 0.3
    assert dialogues.metrics["test"]["rouge_l"].value > 0.9
    (answer,) = luthier.load(dialogues.folder).predict([f"where is {SENTENCES[0]} ?"])
    assert answer["text"].strip() == "it is here"
    assert answer["finish_reason"] == "stop"


def test_the_pieces_of_a_stream_make_the_prediction(dialogues: luthier.Run):
    model = luthier.load(dialogues.folder)
    question = f"where is {SENTENCES[3]} ?"
    pieces = list(model.stream(question))
    assert "".join(pieces) == model.predict([question])[0]["text"]
    assert len(pieces) > 1


def test_generation_options_reach_the_writing(dialogues: luthier.Run):
    model = luthier.load(dialogues.folder, generation={"max_new_tokens": 1})
    assert model.predict(["where is it ?"])[0]["finish_reason"] == "length"
    with pytest.raises(InputError, match=r"generation\.temprature.*temperature"):
        luthier.load(dialogues.folder, generation={"temprature": 1})


def test_a_new_model_learns_its_task_from_nothing(translation: luthier.Run):
    assert set(translation.baselines) == {"copy"}
    assert translation.metrics["test"]["bleu"].value > 50 > translation.baselines["copy"]["bleu"].value
    assert translation.signatures["bleu"].startswith("nrefs:1|case:mixed|eff:no|tok:13a")
    assert not (translation.folder / "new_model").exists()


def test_a_row_whose_answer_is_cut_away_is_rejected_and_said(folder: Path, tiny_decoder: Path):
    long = {"messages": [{"role": "user", "content": "very " * 300}, {"role": "assistant", "content": "it is here"}]}
    rows = lines(folder / "long.jsonl", [*DIALOGUES, long])
    run = luthier.train(
        task={"name": "text-generation", "max_tokens": 64}, model=str(tiny_decoder), data={"train": rows},
        output=str(folder / "long"), **{"train.duration": "1 step"},
    )  # fmt: skip
    ledger = pq.read_table(run.folder / "ledger.parquet").to_pylist()
    assert [line["outcome"] for line in ledger][-1] == "rejected"
    assert "nothing to learn" in ledger[-1]["reason"]


def test_check_shows_which_tokens_are_learned(folder: Path, tiny_decoder: Path):
    rows = lines(folder / "shown.jsonl", DIALOGUES[:8])
    values = ["task=text-generation", f"model={tiny_decoder}", f"data.train={rows}", "train.duration=1 step"]
    done = subprocess.run(
        [sys.executable, "-m", "luthier", "check", *values], capture_output=True, text=True, check=True, cwd=folder
    )
    learned = [part.split("]]")[0] for part in done.stdout.split("[[")[2:]]  # the first pair stands in the heading
    assert len(learned) == 1
    assert "it is here" in learned[0]
    assert "where is" not in learned[0]
