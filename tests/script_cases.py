"""Tasks, tiny models and short runs for the tests of scripts, and how a script is held against its run."""

import contextlib
import io
import json
import random
import re
import runpy
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

import luthier
from luthier.new_model import new
from luthier.runs import read_events
from tiny_tokenizer import write_tokenizer

ROOT = Path(__file__).parents[1]
COLOURS, PLACES = ("red", "blue", "green"), ("paris", "rome", "town")


def tiny_models(folder: Path) -> dict[str, Path]:
    """Tiny models with random weights and without dropout, by what they can do."""
    import torch
    from transformers import BertConfig, BertModel

    made = {name: folder / name for name in ("encoder", "decoder", "both")}
    write_tokenizer(made["encoder"])
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    BertModel(BertConfig(vocab_size=160, max_position_embeddings=128, initializer_range=0.2, hidden_dropout_prob=0.0,
                         attention_probs_dropout_prob=0.0, **sizes)).save_pretrained(made["encoder"])  # fmt: skip
    texts = [sentence(random.Random(number)) for number in range(60)]
    for name, architecture in (("decoder", "llama"), ("both", "marian")):
        plan = new(architecture=architecture, vocabulary=300, layers=1, hidden_size=32, heads=2, dropout=0.0, max_positions=128)
        plan.make(made[name], texts, 0)
    return made


def sentence(rng: random.Random) -> str:
    words = ["the", rng.choice(COLOURS), "river", "in", rng.choice(PLACES), *rng.choices(["old", "works", "not", "at"], k=3)]
    return " ".join(words[: rng.randint(5, 8)])


def single(rng: random.Random) -> dict[str, Any]:
    text = sentence(rng)
    return {"text": text, "label": next(colour for colour in COLOURS if colour in text)}


def several(rng: random.Random) -> dict[str, Any]:
    text = sentence(rng)
    return {"text": text, "label": [word for word in (*COLOURS, *PLACES) if word in text and word != "green"]}


def pair(rng: random.Random) -> dict[str, Any]:
    first, second = sentence(rng), sentence(rng)
    return {"text": first, "text_pair": second, "label": str(first.split()[1] == second.split()[1])}


def number(rng: random.Random) -> dict[str, Any]:
    text = sentence(rng)
    return {"text": text, "label": len(text) / 8}


def tagged(rng: random.Random) -> dict[str, Any]:
    tokens = sentence(rng).split() * rng.choice([1, 1, 2])
    return {"tokens": tokens, "tags": ["B-LOC" if word in PLACES else "B-COL" if word in COLOURS else "O" for word in tokens]}


def tagged_long(rng: random.Random) -> dict[str, Any]:
    row = tagged(rng)
    times = rng.choice([1, 4])
    return {"tokens": row["tokens"] * times, "tags": row["tags"] * times}


def question(rng: random.Random) -> dict[str, Any]:
    context = " . ".join(sentence(rng) for _ in range(rng.choice([1, 2, 6])))
    place = next(word for word in context.split() if word in PLACES)
    return {"question": "where ?", "context": context, "answers": {"text": [place], "answer_start": [context.index(place)]}}


def question_or_none(rng: random.Random) -> dict[str, Any]:
    row = question(rng)
    if rng.random() < 0.3:
        return {**row, "question": "who ?", "answers": {"text": [], "answer_start": []}}
    return row


def pair_of_texts(rng: random.Random) -> dict[str, Any]:
    text = sentence(rng)
    return {"source": text, "target": " ".join(reversed(text.split()))}


def document(rng: random.Random) -> dict[str, Any]:
    return {"text": " . ".join(sentence(rng) for _ in range(rng.choice([1, 3, 9])))}


def dialogue(rng: random.Random) -> dict[str, Any]:
    turns = []
    for _ in range(rng.choice([1, 2])):
        text = sentence(rng)
        turns += [{"role": "user", "content": f"where is {text} ?"}, {"role": "assistant", "content": text.split()[-1]}]
    return {"messages": turns}


ENCODER_TASKS = {
    "single": ("text-classification", single, {}),
    "weighed": ("text-classification", single, {"class_weights": "balanced", "max_tokens": 6}),
    "several": ("text-classification", several, {}),
    "pairs": ("text-classification", pair, {"max_tokens": 12}),
    "number": ("text-classification", number, {}),
    "tags": ("token-classification", tagged, {}),
    "tags in windows": ("token-classification", tagged_long, {"max_tokens": 14, "stride": 4}),
    "answers": ("question-answering", question, {"max_tokens": 24, "stride": 6}),
    "answers or none": ("question-answering", question_or_none, {"max_tokens": 30, "stride": 20}),
}
WRITING_TASKS = {
    "translation": ("both", "translation", pair_of_texts, {"label_smoothing": 0.1}),
    "summarization": ("both", "summarization", pair_of_texts, {"prefix": "the "}),
    "documents": ("decoder", "text-generation", document, {"max_tokens": 40}),
    "dialogues": ("decoder", "text-generation", dialogue, {}),
    "whole dialogues": ("decoder", "text-generation", dialogue, {"train_on": "all", "max_tokens": 48}),
}


def case(models: dict[str, Path], name: str) -> tuple[str, Path, Any, dict[str, Any]]:
    if name in ENCODER_TASKS:
        task, make, options = ENCODER_TASKS[name]
        return task, models["encoder"], make, options
    kind, task, make, options = WRITING_TASKS[name]
    return task, models[kind], make, options


def written_data(folder: Path, name: str, make: Any) -> dict[str, str]:
    """Write the splits of a case; return their paths."""
    rng = random.Random(name)
    folder.mkdir(exist_ok=True)
    for split, rows in (("train", 48), ("validation", 20), ("test", 24)):
        text = "".join(json.dumps(make(rng)) + "\n" for _ in range(rows))
        (folder / f"{split}.jsonl").write_text(text, encoding="utf-8")
    return {split: str(folder / f"{split}.jsonl") for split in ("train", "validation", "test")}


def trained(
    folder: Path,
    models: dict[str, Path],
    name: str,
    *,
    method: Any = "full",
    without: tuple[str, ...] = (),
    engine: str = "torch",
    **train: Any,
) -> luthier.Run:
    """Return a short run; a writing task gets more steps, so that it writes something."""
    task, model, make, options = case(models, name)
    data = written_data(folder / name, name, make)
    settings = {"duration": "2 epochs", "batch": "10 examples", "learning_rate": 3e-3, "precision": "float32", "seed": 3}
    if name in WRITING_TASKS and method == "full":
        settings |= {"duration": "6 epochs", "learning_rate": 1e-2}
    return luthier.train(
        task={"name": task, **options}, model=str(model), method=method, engine=engine, device="cpu",
        data={split: path for split, path in data.items() if split not in without},
        train={**settings, **train}, generation={"max_new_tokens": 8},
        output=str(folder / name / f"run-{len(list((folder / name).iterdir()))}"),
    )  # fmt: skip


def losses_of(run: luthier.Run) -> list[float]:
    return [event["loss"] for event in read_events(run.folder / "events.jsonl") if event["event"] == "progress"]


def validated(run: luthier.Run) -> list[dict[str, float]]:
    return [event["metrics"] for event in read_events(run.folder / "events.jsonl") if event["event"] == "evaluated"]


def ran(script: Path) -> str:
    """Run a script as the main program; return what it prints."""
    said = io.StringIO()
    argv, sys.argv = sys.argv, [str(script)]
    try:
        with contextlib.redirect_stdout(said), warnings.catch_warnings():
            # peft asks transformers by an older name.
            warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
            runpy.run_path(str(script), run_name="__main__")
    finally:
        sys.argv = argv
    return said.getvalue()


def assert_same(run: luthier.Run, said: str, folder: Path) -> None:
    """Hold what a script printed and wrote against its run."""
    losses = [float(found) for found in re.findall(r"^step \d+/\d+  loss (\S+)", said, re.MULTILINE)]
    assert losses == pytest.approx(losses_of(run), abs=1e-3)
    assert min(losses[-3:]) < losses[0]
    found = [(name, float(value)) for name, value in re.findall(r"validation (\w+) (\S+)$", said, re.MULTILINE)]
    for (name, value), metrics in zip(found, validated(run), strict=True):
        assert value == pytest.approx(metrics[name], abs=1e-3)
    scores = json.loads((folder / "scores.json").read_text())
    (split,) = scores
    for name, value in scores[split].items():
        assert value == pytest.approx(run.metrics[split][name].value, rel=2e-3, abs=2e-3), name


def unfinished(folder: Path, models: dict[str, Path], name: str, **values: Any) -> Path:
    """Return the folder of a run that has not begun: all that an export reads of it, its adapter's config made up."""
    task, model, make, options = case(models, name)
    data = written_data(folder / name, name, make)
    run = folder / name / f"plan-{len(list((folder / name).iterdir()))}"
    (run / "model").mkdir(parents=True)
    config = {"task": {"name": task, **options}, "model": str(model), "data": data, **values}
    (run / "config.yaml").write_text(json.dumps(config))
    adapter = {"r": 4, "lora_alpha": 8, "target_modules": ["query"], "modules_to_save": None, "use_dora": False}
    (run / "model" / "adapter_config.json").write_text(json.dumps(adapter))
    return run
