"""Exports to Keras and TensorFlow: loaded by plain Keras or TensorFlow they compute what the run's model computes."""

from __future__ import annotations

import ast
import json
import os
import random
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import luthier
from luthier.errors import InputError
from luthier.exporting import export
from luthier.new_model import new
from script_cases import sentence, tiny_models, trained

TESTS = Path(__file__).parents[1]
MISSING = [package for package in ("tensorflow", "keras", "keras_hub") if find_spec(package) is None]
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}")
ROUNDING = 1e-5
TEXTS = ["The first text.", "The second one."]


def run_alone(*arguments: str, folder: Path | None = None) -> str:
    """Run Python in a process of its own; return what it prints."""
    surroundings = {**os.environ, "PYTHONPATH": str(TESTS), "KERAS_BACKEND": "tensorflow", "CUDA_VISIBLE_DEVICES": "-1"}
    done = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, env=surroundings, cwd=folder, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout.strip()


def snippet_of(made: Path, *, without: tuple[str, ...]) -> str:
    """Run a README's snippet as a stranger would, and see that these packages were not imported; return what it prints."""
    (code,) = re.findall(r"```python\n(.*?)```", (made / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    code += f"\nimport sys\nassert not {set(without)} & set(sys.modules), 'imported'\n"
    return run_alone("-c", code, folder=made)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return what tests/engines/keras_export_checks.py measures."""
    output = tmp_path_factory.mktemp("exports") / "found.json"
    run_alone(str(TESTS / "engines" / "keras_export_checks.py"), str(output))
    return json.loads(output.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def models(folder: Path) -> dict[str, Path]:
    made = tiny_models(folder)
    plan = new(architecture="bart", vocabulary=300, layers=1, hidden_size=32, heads=2, dropout=0.0, max_positions=128)
    plan.make(folder / "bart", [sentence(random.Random(number)) for number in range(60)], 0)
    config = folder / "bart" / "config.json"
    values = {**json.loads(config.read_text()), "scale_embedding": False}  # KerasHub's BART cannot scale
    config.write_text(json.dumps(values))
    return {**made, "both": folder / "bart", "marian": made["both"]}


def test_every_family_computes_what_transformers_computes_at_any_length(found: Any):
    assert len(found) == 12
    for case, result in found.items():
        assert result["size"] > 1, case
        assert result["saved_model"] < ROUNDING * result["size"], case
        # KerasHub's file of a Qwen3 does not hold the epsilon of the norms in attention.
        assert result["keras"] < (1e-3 if case.startswith("qwen3") else ROUNDING) * result["size"], case


def test_a_keras_file_names_nothing_of_luthier(found: Any):
    assert not [case for case, result in found.items() if result["ours"]]


def test_a_saved_model_takes_integers_of_any_batch_and_length(found: Any):
    names = {"bert classes": ["padding_mask", "segment_ids", "token_ids"], "gpt2 causal": ["padding_mask", "token_ids"]}
    names["bart seq2seq"] = [f"{side}_{name}" for side in ("decoder", "encoder") for name in ("padding_mask", "token_ids")]
    for case, expected in names.items():
        assert found[case]["signature"] == [[name, "int32", [None, None]] for name in expected]


def test_a_run_with_an_adapter_becomes_a_saved_model_that_tensorflow_alone_serves(folder: Path, models: dict[str, Path]):
    run = trained(folder, models, "single", method={"name": "lora", "rank": 4}, learning_rate=1e-2)
    assert (run.folder / "model" / "adapter_model.safetensors").is_file()
    made = export(run.folder, to="saved-model", device="cpu")
    assert made.folder == run.folder / "export" / "saved-model"
    assert made.rows == 24
    assert made.difference < 1e-4
    assert made.logits is not None
    assert made.logits < 1e-4
    run_score, export_score = made.metrics["accuracy"]
    assert run_score == export_score == pytest.approx(run.metrics["test"]["accuracy"].value)
    said = snippet_of(made.folder, without=("luthier", "keras_hub"))
    assert ast.literal_eval(said) == [found["label"] for found in loaded(run).predict(TEXTS)]


def test_a_run_that_answers_questions_becomes_a_keras_file_that_keras_alone_loads(folder: Path, models: dict[str, Path]):
    run = trained(folder, models, "answers")
    made = export(run.folder, to="keras", device="cpu")
    assert {"model.keras", "README.md", "tokenizer.json", "luthier.json"} <= {path.name for path in made.folder.iterdir()}
    assert made.metrics["exact_match"][0] == made.metrics["exact_match"][1] > 0.5
    assert made.logits is not None
    assert made.logits < 1e-4
    question = {"question": "Who works in Paris?", "context": "Ada works in Paris."}
    assert snippet_of(made.folder, without=("luthier",)) == loaded(run).predict([question])[0]["answer"]


def loaded(run: luthier.Run) -> Any:
    return luthier.load(run.folder, device="cpu", precision="float32")


def tags_by_transformers(model: Path) -> list[tuple[str, str]]:
    import torch
    from transformers import AutoModelForTokenClassification, AutoTokenizer

    words = ["Ada", "works", "in", "Paris", "."]
    network = AutoModelForTokenClassification.from_pretrained(model).eval()
    encoded = AutoTokenizer.from_pretrained(model)([words], is_split_into_words=True, return_tensors="pt")
    with torch.no_grad():
        tags = network(**encoded).logits[0].argmax(-1).tolist()
    return [(word, network.config.id2label[tags[encoded.word_ids(0).index(place)]]) for place, word in enumerate(words)]


def written_by_transformers(model: Path, kind: str, text: str) -> str:
    import transformers

    network = getattr(transformers, kind).from_pretrained(model).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(model)
    given = tokenizer(text, return_tensors="pt", return_token_type_ids=False)
    ids = network.generate(**given, do_sample=False, num_beams=1, max_new_tokens=20)
    text = tokenizer.decode(ids[0], skip_special_tokens="Seq2Seq" in kind)
    return str(text).strip()


def test_the_snippets_of_all_heads_give_the_predictions_of_the_run(folder: Path, models: dict[str, Path]):
    long = {"duration": "10 epochs", "learning_rate": 1e-2}
    names = {"tags": long, "several": {}, "number": {}, "documents": {}, "translation": {}}
    runs = {name: trained(folder, models, name, **train) for name, train in names.items()}
    hubs = {name: run.folder / "model" for name, run in runs.items()}
    output = folder / "printed.json"
    run_alone(str(TESTS / "engines" / "keras_export_snippets.py"), str(output), *map(str, hubs.values()))
    said = dict(zip(names, json.loads(output.read_text(encoding="utf-8")), strict=True))
    tags = tags_by_transformers(hubs["tags"])
    assert len({tag for _, tag in tags}) > 1
    several = [found["labels"] for found in loaded(runs["several"]).predict(TEXTS)]
    values = [found["value"] for found in loaded(runs["number"]).predict(TEXTS)]
    for place in (0, 1):
        assert ast.literal_eval(said["tags"][place]) == tags
        assert [sorted(labels) for labels in ast.literal_eval(said["several"][place])] == list(map(sorted, several))
        assert [float(value) for value in said["number"][place].strip("[]").split()] == pytest.approx(values, abs=1e-4)
        expected = written_by_transformers(hubs["documents"], "AutoModelForCausalLM", "The first words")
        assert said["documents"][place] == expected
        expected = written_by_transformers(hubs["translation"], "AutoModelForSeq2SeqLM", "A text to begin with.")
        assert said["translation"][place] == expected


def test_a_model_that_kerashub_has_not_is_refused_in_a_sentence_and_leaves_nothing(folder: Path, models: dict[str, Path]):
    run = trained(folder, {**models, "both": models["marian"]}, "summarization")
    with pytest.raises(InputError, match=r'no models of the kind "marian".*Choose --to safetensors'):
        export(run.folder, to="keras", device="cpu")
    assert not any((run.folder / "export").iterdir())
