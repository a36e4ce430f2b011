"""The script of a run, without Luthier, makes the run's steps and gets the run's scores.

Tiny models without dropout, in float32. A script runs inside this process, but for one that runs as users run it.
"""

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import luthier
from luthier.exporting import export
from script_cases import COLOURS, ENCODER_TASKS, WRITING_TASKS, assert_same, ran, sentence, tiny_models, trained


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("scripts")


@pytest.fixture(scope="module")
def models(folder: Path) -> dict[str, Path]:
    return tiny_models(folder)


@pytest.mark.parametrize("name", [*ENCODER_TASKS, *WRITING_TASKS])
def test_a_script_makes_the_steps_and_gets_the_scores_of_its_run(folder: Path, models: dict[str, Path], name: str):
    run = trained(folder, models, name)
    result = export(run.folder, to="script")
    assert_same(run, ran(result.folder / "train.py"), result.folder)


@pytest.mark.parametrize(
    ("name", "method"),
    [
        ("single", "head"),
        ("tags", {"name": "freeze", "layers": 1}),
        ("answers", {"name": "lora", "rank": 4}),
        ("single", {"name": "dora", "rank": 2}),
        ("translation", {"name": "rslora", "rank": 4}),
        ("documents", {"name": "lora", "rank": 4, "alpha": 4.0, "targets": ["q_proj", "v_proj"]}),
        ("translation", {"name": "freeze", "layers": 1}),
    ],
    ids=str,
)
def test_a_script_trains_what_its_method_trains(folder: Path, models: dict[str, Path], name: str, method: Any):
    run = trained(folder, models, name, method=method, learning_rate=1e-2)
    result = export(run.folder, to="script")
    assert_same(run, ran(result.folder / "train.py"), result.folder)


@pytest.mark.parametrize(
    "train",
    [
        {"batch": "90 tokens", "weight_decay": 0.5, "schedule": "cosine", "warmup": "3 steps", "max_grad_norm": 0.1},
        {"duration": "12 steps", "schedule": "inverse_sqrt", "warmup": "0%", "evaluate_every": "0.4 epochs"},
        {"duration": "9 epochs", "evaluate_every": "2 steps", "patience": 1, "schedule": "constant", "warmup": "1 epoch"},
        {"duration": "1.5 epochs", "micro_batch": "64 tokens", "gradient_checkpointing": True},
    ],
    ids=str,
)
def test_a_script_keeps_the_settings_of_training(folder: Path, models: dict[str, Path], train: dict[str, Any]):
    run = trained(folder, models, "answers", **train)
    result = export(run.folder, to="script")
    assert_same(run, ran(result.folder / "train.py"), result.folder)


def test_without_a_test_split_the_validation_split_is_scored_and_without_one_the_last_weights_stay(folder: Path, models):
    for without, split in ((("test",), "validation"), (("validation",), "test")):
        run = trained(folder, models, "several", without=without)
        result = export(run.folder, to="script")
        assert_same(run, ran(result.folder / "train.py"), result.folder)
        assert list(json.loads((result.folder / "scores.json").read_text())) == [split]


def test_a_script_runs_as_users_run_it_and_its_model_predicts_what_the_runs_does(folder: Path, models: dict[str, Path]):
    run = trained(folder, models, "single")
    result = export(run.folder, to="script", output=folder / "as users do")
    blocked = "import sys; sys.modules['luthier'] = None; import runpy; sys.argv = sys.argv[1:]; "
    done = subprocess.run(
        [sys.executable, "-c", blocked + "runpy.run_path(sys.argv[0], run_name='__main__')", str(result.folder / "train.py")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert_same(run, done.stdout, result.folder)
    rows = [json.loads(line)["text"] for line in (result.folder / "test.jsonl").read_text().splitlines()]
    from transformers import AutoModelForSequenceClassification

    names = AutoModelForSequenceClassification.from_pretrained(result.folder / "model").config.id2label
    assert list(names.values()) == sorted(COLOURS)
    written = [json.loads(line) for line in (result.folder / "predictions.jsonl").read_text().splitlines()]
    assert [one["label"] for one in written] == [one["label"] for one in luthier.load(run.folder).predict(rows)]


def test_byte_level_words_get_the_blank_that_they_have_in_running_text(folder: Path, models: dict[str, Path]):
    from tokenizers import ByteLevelBPETokenizer
    from transformers import RobertaConfig, RobertaModel, RobertaTokenizer

    model = folder / "roberta"
    model.mkdir()
    bytes_ = ByteLevelBPETokenizer()
    texts = [sentence(random.Random(number)) for number in range(60)]
    bytes_.train_from_iterator(texts, vocab_size=300, special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    bytes_.save_model(str(model))
    RobertaTokenizer.from_pretrained(str(model), model_max_length=60).save_pretrained(str(model))
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 64}
    quiet = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "max_position_embeddings": 64}
    RobertaModel(RobertaConfig(vocab_size=300, initializer_range=0.2, **sizes, **quiet)).save_pretrained(model)
    run = trained(folder, {**models, "encoder": model}, "tags")
    result = export(run.folder, to="script")
    assert "add_prefix_space=True" in (result.folder / "train.py").read_text()
    assert_same(run, ran(result.folder / "train.py"), result.folder)
