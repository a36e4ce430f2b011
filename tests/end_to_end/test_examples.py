"""Every example config, run on a few rows of its own data with a tiny model; and the demo with the real one."""

import itertools
import json
from pathlib import Path

import pytest

import luthier
from luthier.config import RunConfig, load_config
from luthier.samples import resolve_data

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.yaml"))
FEW = 40


def test_there_is_an_example_for_every_task():
    from luthier.tasks import TASKS

    # Summarization is translation's path with other metrics; no package brings summaries to train on.
    assert {load_config(path).task.name for path in EXAMPLES} == set(TASKS) - {"summarization"}
    assert len(EXAMPLES) >= 4


def few_rows(spec: str, folder: Path, split: str) -> str:
    """Copy the first rows of a sample's split."""
    path = resolve_data(spec)
    aside = folder / f"{split}{path.suffix}"
    if path.suffix == ".json":
        content = json.loads(path.read_text(encoding="utf-8"))
        content["data"] = content["data"][:5]
        aside.write_text(json.dumps(content), encoding="utf-8")
    else:
        count = 40 * FEW if path.suffix == ".conll" else FEW + 1
        with path.open(encoding="utf-8", newline="") as stream:
            aside.write_text("".join(itertools.islice(stream, count)), encoding="utf-8")
    return str(aside)


def tiny(config: RunConfig, request: pytest.FixtureRequest) -> list[str]:
    """Return what puts a tiny model in the place of an example's own."""
    if not isinstance(config.model, str):
        return ["model.layers=1", "model.hidden_size=32", "model.heads=2", "model.vocabulary=300"]
    fixture = {"translation": "tiny_translator", "text-generation": "tiny_decoder"}.get(config.task.name, "tiny_model")
    return [f"model={request.getfixturevalue(fixture)}"]


@pytest.mark.slow
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs_on_a_few_rows(path: Path, request: pytest.FixtureRequest, tmp_path: Path):
    config = load_config(path)
    data = {"train": config.data.train, "test": config.data.test}
    if config.data.general is not None:
        data["general"] = config.data.general
    if isinstance(config.data.validation, str) and config.data.share is None:
        data["validation"] = config.data.validation
    overrides = [f"data.{split}={few_rows(spec, tmp_path, split)}" for split, spec in data.items()]
    overrides += tiny(config, request)
    run = luthier.train(path, *overrides, "train.duration=2 steps", f"output={tmp_path / 'run'}", "train.precision=float32",
                        "task.max_tokens=64", "generation.max_new_tokens=8", "generation.rows=4")  # fmt: skip
    headline = run.metrics["test"]
    assert headline
    assert all(score.low is not None and score.low <= score.value <= score.high for score in headline.values())
    assert run.baselines
    assert run.report.stat().st_size > 10_000
    assert luthier.load(run.folder).task.name == config.task.name


@pytest.mark.slow
def test_the_demo_begins_to_learn_with_the_real_model(tmp_path: Path):
    path = next(path for path in EXAMPLES if path.stem == "news-topics")
    source = resolve_data("sample:reuters-r8/train").read_text(encoding="utf-8").splitlines(keepends=True)
    small = tmp_path / "train.csv"
    small.write_text("".join(source[:1] + source[1::8]), encoding="utf-8")
    test = tmp_path / "test.csv"
    test.write_text(
        "".join(resolve_data("sample:reuters-r8/test").read_text(encoding="utf-8").splitlines(keepends=True)[:300]), "utf-8"
    )
    run = luthier.train(
        path, f"data.train={small}", f"data.test={test}", "train.duration=1 epoch", f"output={tmp_path / 'run'}"
    )
    assert run.metrics["test"]["accuracy"].value > 0.6
    (prediction,) = luthier.load(run.folder).predict(["opec ministers agree to cut crude oil output"])
    assert prediction["label"] == max(prediction["scores"], key=prediction["scores"].get)
