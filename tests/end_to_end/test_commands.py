"""The commands as a user types them, on a tiny model."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

import luthier

LUTHIER = [sys.executable, "-m", "luthier"]


def run(*arguments: str, cwd: Path, code: int = 0, stdin: str | None = None) -> subprocess.CompletedProcess:
    done = subprocess.run([*LUTHIER, *arguments], cwd=cwd, capture_output=True, text=True, input=stdin, check=False)
    assert done.returncode == code, done.stderr + done.stdout
    assert ("Traceback" in done.stderr) == (code == 1)
    return done


@pytest.fixture(scope="module")
def workplace(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("work")


@pytest.fixture(scope="module")
def trained(workplace: Path, tiny_model: Path, tables: Path) -> Path:
    """A finished run."""
    values = ["task=text-classification", f"model={tiny_model}", f"data.train={tables / 'train.csv'}",
              f"data.test={tables / 'test.csv'}", "data.validation=20%", "train.duration=10 epochs", "train.batch=8 examples",
              "train.learning_rate=5e-3", "train.precision=float32", "loggers=[tensorboard]", "output=run"]  # fmt: skip
    done = run("train", *values, "--json", cwd=workplace)
    assert json.loads(done.stdout)["run"] == "run"
    return workplace / "run"


def test_the_run_folder_holds_what_is_promised(trained: Path):
    names = {path.name for path in trained.iterdir()}
    assert {"config.yaml", "metrics.json", "ledger.parquet", "predictions", "report.html", "checkpoints", "model", "README.md",
            "events.jsonl", "tensorboard"} == names  # fmt: skip
    metrics = json.loads((trained / "metrics.json").read_text(encoding="utf-8"))
    assert set(metrics) == {"validation", "test", "train", "baselines", "signatures"}
    assert set(metrics["baselines"]) == {"majority", "tfidf_logistic_regression"}
    assert set(metrics["test"]["accuracy"]) == {"value", "low", "high", "n"}
    assert metrics["test"]["accuracy"]["n"] == 60
    assert metrics["test"]["accuracy"]["value"] > 0.9
    assert {"examples", "tokens", "targets", "steps", "seconds", "tokens_per_second", "peak_memory_bytes", "loss"} <= set(
        metrics["train"]
    )
    assert metrics["train"]["examples"] == metrics["train"]["targets"] == 10 * 96
    assert (trained / "report.html").stat().st_size > 10_000
    assert not list(trained.glob(".work"))


def test_every_row_is_in_the_ledger_and_the_sums_are_exact(trained: Path, tables: Path):
    ledger = pq.read_table(trained / "ledger.parquet").to_pylist()
    assert set(ledger[0]) == {"file", "line", "split", "outcome", "reason", "tokens", "targets"}
    assert len(ledger) == 180
    lines = {(entry["file"], entry["line"]) for entry in ledger}
    assert lines == {
        (str(tables / f"{name}.csv"), line) for name, count in (("train", 120), ("test", 60)) for line in range(2, count + 2)
    }
    training = [entry for entry in ledger if entry["split"] == "train"]
    metrics = json.loads((trained / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["train"]["tokens"] == 10 * sum(entry["tokens"] for entry in training)


def test_predictions_of_the_test_split_are_listed(trained: Path):
    lines = [json.loads(line) for line in (trained / "predictions" / "test.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(lines) == 60
    assert set(lines[0]) == {"id", "file", "line", "gold", "predicted", "counts"}
    accuracy = sum(line["gold"]["label"] == line["predicted"]["label"] for line in lines) / 60
    run_ = luthier.Run(trained)
    assert run_.metrics["test"]["accuracy"].value == pytest.approx(accuracy)
    assert run_.metrics["test"]["accuracy"].low <= accuracy <= run_.metrics["test"]["accuracy"].high
    assert run_.training["steps"] == 120


def test_the_model_folder_gives_the_same_logits_in_plain_transformers(trained: Path):
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    texts = ["the old town and paris", "red works for a b c", "who"]
    ours = luthier.load(trained, precision="float32").predict(texts)
    model = AutoModelForSequenceClassification.from_pretrained(trained / "model").eval()
    tokenizer = AutoTokenizer.from_pretrained(trained / "model")
    with torch.no_grad():
        logits = torch.cat([model(**tokenizer(text, return_tensors="pt")).logits for text in texts])
    expected = torch.softmax(logits.double(), dim=-1).numpy()
    for prediction, row in zip(ours, expected, strict=True):
        found = [prediction["scores"][model.config.id2label[place]] for place in range(2)]
        np.testing.assert_allclose(found, row, atol=1e-5)


def test_the_saved_config_reruns_as_it_is_and_gives_the_same(trained: Path, workplace: Path):
    run("train", "run/config.yaml", "train.duration=1 epoch", "loggers=[]", cwd=workplace)
    assert (workplace / "runs" / "run" / "metrics.json").exists()
    done = run("train", "run/config.yaml", "output=run", cwd=workplace, code=2)
    assert "--resume run" in done.stderr


def test_predict_from_arguments_stdin_and_files(trained: Path, workplace: Path, tables: Path):
    one = json.loads(run("predict", "run", "the old town", cwd=workplace).stdout)
    assert set(one) == {"label", "score", "scores"}
    several = run("predict", "run", cwd=workplace, stdin="the old town\nred\n").stdout.splitlines()
    assert json.loads(several[0]) == one
    assert len(several) == 2
    documents = json.loads(run("predict", "run", "the old town", "red", "--json", cwd=workplace).stdout)
    assert documents[0] == one
    run("predict", "run", "--input", str(tables / "test.csv"), "--output", "out.jsonl", cwd=workplace)
    run("predict", "run", "--input", str(tables / "test.csv"), "--output", "out.csv", cwd=workplace)
    listed = [json.loads(line) for line in (workplace / "out.jsonl").read_text(encoding="utf-8").splitlines()]
    with (workplace / "out.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == len(listed) == 60
    assert [row["label"] for row in rows] == [line["label"] for line in listed]
    run("predict", "run", "--input", str(tables / "test.csv"), "--output", "out.csv", cwd=workplace, code=2)


def test_evaluate_gives_the_scores_of_the_run(trained: Path, workplace: Path, tables: Path):
    scores = json.loads(run("evaluate", "run", "--data", str(tables / "test.csv"), "--json", cwd=workplace).stdout)
    assert scores["scores"]["accuracy"]["value"] == luthier.Run(trained).metrics["test"]["accuracy"].value
    assert scores["rows"]["used"] == 60
    assert "accuracy" in run("evaluate", "run", "--data", str(tables / "test.csv"), cwd=workplace).stdout


def test_an_untuned_model_with_a_head_predicts_and_is_scored(trained: Path, workplace: Path, tables: Path):
    bare = workplace / "bare"
    if not bare.exists():
        import shutil

        shutil.copytree(trained / "model", bare, ignore=shutil.ignore_patterns("luthier.json"))
    assert "its task is unknown" in run("predict", "bare", "red", cwd=workplace, code=2).stderr
    found = json.loads(run("predict", "bare", "red", "--task", "text-classification", cwd=workplace).stdout)
    assert found["label"] in ("colour", "place")
    scores = run(
        "evaluate", "bare", "--task", "text-classification", "--data", str(tables / "test.csv"), "--json", cwd=workplace
    )
    assert json.loads(scores.stdout)["scores"]["accuracy"]["value"] > 0.9


def test_check_does_everything_but_train(settings: list[str], workplace: Path):
    result = json.loads(run("check", *settings, "--json", cwd=workplace).stdout)
    assert result["splits"]["train"]["rows"] + result["splits"]["validation"]["rows"] == 120
    assert result["steps"] == 12
    assert 0 < result["seconds"][0] < result["seconds"][1]
    assert result["memory_bytes"] > 10**8
    run("check", *settings, cwd=workplace)


def weights(folder: Path) -> bytes:
    return (folder / "model" / "model.safetensors").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_stopped_run_resumes_to_the_same_bits(settings: list[str], workplace: Path, number: signal.Signals):
    values = [*settings, "train.duration=12 epochs", "train.save_every=3 steps"]
    straight = workplace / "straight"
    if not straight.exists():
        run("train", *values, "output=straight", cwd=workplace)
    output = f"stopped-{number.name}"
    command = [*LUTHIER, "train", *values, f"output={output}"]
    process = subprocess.Popen(command, cwd=workplace, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    checkpoints = workplace / output / "checkpoints"
    deadline = time.time() + 120
    while not list(checkpoints.glob("step-*/manifest.json")) and time.time() < deadline and process.poll() is None:
        time.sleep(0.01)
    os.kill(process.pid, number)
    _, errors = process.communicate()
    assert not (workplace / output / "metrics.json").exists(), "it was stopped in the middle"
    if number == signal.SIGKILL:
        assert process.returncode == -signal.SIGKILL
    else:
        assert process.returncode == 128 + number
        assert f"luthier train --resume {output}" in errors
    run("train", "--resume", output, cwd=workplace)
    assert weights(workplace / output) == weights(straight)
    assert luthier.Run(workplace / output).training["examples"] == luthier.Run(straight).training["examples"]
    assert "this run has finished" in run("train", "--resume", output, cwd=workplace, code=2).stderr


def test_a_diverged_run_ends_with_code_5(settings: list[str], workplace: Path):
    done = run(
        "train", *settings, "train.learning_rate=1e9", "train.warmup=0%", "train.max_grad_norm=null", cwd=workplace, code=5
    )
    assert "training diverged" in done.stderr
    assert "Lower train.learning_rate" in done.stderr


def test_rows_may_come_from_python(tiny_model: Path, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [{"text": f"{word} {letter}", "label": word} for word in ("red", "paris") for letter in "abcdefgh"]
    result = luthier.train(task="text-classification", model=str(tiny_model), data={"train": rows, "test": rows},
                           train={"duration": "2 steps"}, output=str(tmp_path / "run"))  # fmt: skip
    assert result.metrics["test"]["accuracy"].n == 16
    model = luthier.load(result.folder)
    assert set(model.predict([{"text": "red"}])[0]) == {"label", "score", "scores"}
    with pytest.raises(luthier.errors.InputError, match="give a list"):
        model.predict("red")


def test_samples_and_doctor_and_init_print_json(workplace: Path, tables: Path):
    names = {sample["name"] for sample in json.loads(run("samples", "--json", cwd=workplace).stdout)}
    assert {"minilm", "e5-multilingual", "reuters-r8", "reuters-r52", "20newsgroups", "chinese-reviews", "peoples-daily",
            "medical-questions"} <= names  # fmt: skip
    assert {"python", "torch"} <= {item["name"] for item in json.loads(run("doctor", "--json", cwd=workplace).stdout)}
    done = json.loads(run("init", str(tables / "train.csv"), "--output", "mine.yaml", "--json", cwd=workplace).stdout)
    assert done["config"]["task"] == "text-classification"
    assert done["config"]["data"]["test"] == str(tables / "test.csv")
    assert "exists already" in run("init", str(tables / "train.csv"), "--output", "mine.yaml", cwd=workplace, code=2).stderr
