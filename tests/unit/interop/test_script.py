"""What a script is made of, what it refuses, and that it is clean."""

import ast
import json
import random
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from luthier.errors import InputError
from luthier.exporting import export
from luthier.interop.script.methods import METHODS, beginnings_of
from luthier.tasks import TASKS
from script_cases import (
    ENCODER_TASKS,
    ROOT,
    WRITING_TASKS,
    case,
    sentence,
    tiny_models,
    trained,
    unfinished,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("scripts")


@pytest.fixture(scope="module")
def models(folder: Path) -> dict[str, Path]:
    return tiny_models(folder)


OPTIONS = {"freeze": {"layers": 1}}


def test_every_script_is_clean_and_imports_nothing_of_luthier(folder: Path, models: dict[str, Path]):
    tried = set()
    scripts = folder / "clean"
    for name in [*ENCODER_TASKS, *WRITING_TASKS]:
        for number, method in enumerate(METHODS):
            if method == "head" and name in WRITING_TASKS:
                continue
            train: dict[str, Any] = {"precision": "bfloat16" if number % 2 else "float32", "max_grad_norm": 1.0}
            if number % 3 == 1:
                train |= {"patience": 2, "evaluate_every": "0.3 epochs", "weight_decay": 0.1, "batch": "100 tokens"}
            chosen = {"name": method, **OPTIONS.get(method, {})}
            generation = {"stop": ["."], "num_beams": 1, "rows": 5} if number % 2 else {}
            run = unfinished(folder, models, name, method=chosen, train=train, generation=generation)
            made = export(run, to="script", output=scripts / f"{name} {method}".replace(" ", "_")).folder
            tree = ast.parse((made / "train.py").read_text(encoding="utf-8"))
            imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
            imported |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
            assert not any(module.startswith("luthier") for module in imported)
            tried.add(case(models, name)[0])
    assert tried == set(TASKS)
    for arguments in (["check"], ["check", "--isolated"], ["format", "--check"]):
        options = [] if "--isolated" in arguments else ["--config", str(ROOT / "pyproject.toml")]
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *arguments, *options, "--no-cache", str(scripts)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"method": "ia3"}, 'by "ia3"'),
        ({"method": {"name": "prompt", "num_tokens": 4}}, 'by "prompt"'),
        ({"method": {"name": "lora", "base_bits": 8}}, "quantized base"),
        ({"train": {"optimizer": "adamw8bit"}}, "adamw8bit"),
        ({"engine": "jax", "method": {"name": "lora", "rank": 4}}, "keeps no adapter"),
        ({"model": {"name": "new", "architecture": "bert"}}, "made for the run"),
        ({"data": {"train": "<3 rows given from Python>"}}, "given from Python"),
    ],
    ids=str,
)
def test_what_a_script_cannot_redo_is_refused_in_one_sentence(folder: Path, models, values: dict[str, Any], said: str):
    run = unfinished(folder, models, "single", **values)
    with pytest.raises(InputError, match=said) as refusal:
        export(run, to="script")
    assert "\n" not in str(refusal.value)
    assert not (run / "export" / "script").exists()


def test_a_head_for_as_many_other_labels_is_refused(folder: Path, models: dict[str, Path]):
    run = trained(folder, models, "single", duration="1 step")
    values = json.loads((run.folder / "model" / "config.json").read_text())
    values["id2label"] = {"0": "one", "1": "two", "2": "three"}
    (run.folder / "model" / "config.json").write_text(json.dumps(values))
    again = unfinished(folder, models, "single", model=str(run.folder / "model"))
    with pytest.raises(InputError, match="as many other labels"):
        export(again, to="script")


def test_data_that_changed_since_the_run_is_refused(folder: Path, models: dict[str, Path]):
    run = trained(folder, models, "number", duration="1 step")
    path = folder / "number" / "train.jsonl"
    path.write_text(path.read_text() + json.dumps({"text": "one more", "label": 1.25}) + "\n")
    with pytest.raises(InputError, match=r"data\.train: the data has changed"):
        export(run.folder, to="script")


def test_a_question_longer_than_half_a_window_is_refused(folder: Path, models: dict[str, Path]):
    long = {"question": "where " * 40, "context": "in paris", "answers": {"text": ["paris"], "answer_start": [3]}}
    rows = folder / "long.jsonl"
    rows.write_text(json.dumps(long) + "\n")
    run = unfinished(folder, models, "answers", data={"train": str(rows)})
    with pytest.raises(InputError, match="1 questions are longer"):
        export(run, to="script")


def test_an_unknown_format_names_those_that_there_are(folder: Path, models: dict[str, Path]):
    run = unfinished(folder, models, "single")
    with pytest.raises(InputError, match='no export format "scripts"'):
        export(run, to="scripts")


def test_the_rows_are_those_that_the_run_used_without_what_it_rejected(folder: Path, models: dict[str, Path]):
    path = folder / "flawed.csv"
    good = [(sentence(random.Random(number)), "ab"[number % 2]) for number in range(40)]
    lines = [f"{text},{label}" for text, label in good]
    lines.insert(7, ",a")
    path.write_text("\n".join(["review,label", *lines]) + "\n")
    data = {"train": str(path), "validation": "25%", "columns": {"text": "review"}, "max_rejected": "10%"}
    run = unfinished(folder, models, "single", data=data)
    made = export(run, to="script").folder
    split = {
        name: [(row["text"], row["label"]) for row in map(json.loads, (made / f"{name}.jsonl").read_text().splitlines())]
        for name in ("train", "validation")
    }
    assert sorted(split["train"] + split["validation"]) == sorted(good)
    assert len(split["validation"]) in range(6, 15)
    assert "rows" in (made / "README.md").read_text()


def test_beginnings_fit_the_chosen_names_and_no_others():
    names = ["bert.embeddings.word.weight", "bert.layer.1.a", "bert.layer.1.b", "bert.layer.10.a", "head.weight", "head.bias"]
    assert beginnings_of(names[1:3], names) == ["bert.layer.1."]
    assert beginnings_of([names[0], names[4]], names) == ["bert.embeddings.", "head.weight"]


def test_the_script_of_the_example_is_what_its_config_gives(folder: Path, models: dict[str, Path]):
    from luthier.config import load_config

    example = ROOT / "examples" / "four-ways"
    config = load_config(example / "medical-questions.yaml", [f"model={models['encoder']}", "task.max_tokens=128"])
    run = folder / "example"
    run.mkdir()
    (run / "config.yaml").write_text(config.to_yaml())
    made = (export(run, to="script").folder / "train.py").read_text(encoding="utf-8")
    kept = (example / "train.py").read_text(encoding="utf-8")
    local = re.compile(r"^(Written by Luthier from the run |MODEL =|MAX_TOKENS =|DEVICE =).*$", re.MULTILINE)
    assert local.sub("", made) == local.sub("", kept)


def test_the_command_says_what_it_wrote(folder: Path, models: dict[str, Path]):
    from typer.testing import CliRunner

    from luthier.cli import app

    run = unfinished(folder, models, "pairs")
    done = CliRunner().invoke(app, ["export", str(run), "--to", "script"])
    assert done.exit_code == 0, done.output
    path, said = done.output.strip().splitlines()[-2:]
    assert (Path(path) / "train.py").is_file()
    assert "48 train, 20 validation, 24 test" in said
