"""What the engines of Keras are held to beside torch. Run as a script, since a process has one of them:

    python keras_checks.py ENGINE OUTPUT.json

writes what it measured; tests/parity/test_keras.py says what that must be.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from engines.tiny_networks import denominator_of, save_tiny, tiny_config, tiny_features, tiny_pairs
from luthier.data.features import Feature
from luthier.engines import ENGINES
from luthier.engines.engine import Choice, TrainingSetup
from luthier.engines.torch.loading import quiet
from luthier.errors import InputError
from luthier.generation import GenerationOptions
from luthier.heads import (
    BinaryCrossEntropy,
    CausalHead,
    CrossEntropy,
    Head,
    Seq2SeqHead,
    SequenceHead,
    SpanHead,
    SquaredError,
    TokenHead,
)

HEADS: dict[str, Head] = {
    "classes": SequenceHead(3, CrossEntropy(weights=(1.0, 2.5, 0.25), label_smoothing=0.1)),
    "several": SequenceHead(3, BinaryCrossEntropy(weights=(1.0, 2.5, 0.25))),
    "values": SequenceHead(2, SquaredError()),
    "tokens": TokenHead(3),
    "spans": SpanHead(CrossEntropy(label_smoothing=0.1)),
    "causal": CausalHead(CrossEntropy(label_smoothing=0.1)),
    "seq2seq": Seq2SeqHead(),
}
TRAINED = {
    "tensorflow": [
        ("bert", "classes"),
        ("roberta", "tokens"),
        ("distilbert", "spans"),
        ("gpt2", "causal"),
        ("qwen3", "causal"),
        ("bart", "seq2seq"),
    ],
    "jax": [("bert", "classes"), ("distilbert", "spans"), ("llama", "causal"), ("bart", "seq2seq")],
}
SCORED = {
    "tensorflow": [
        ("bert", "values"),
        ("roberta", "several"),
        ("xlm-roberta", "classes"),
        ("distilbert", "classes"),
        ("gpt2", "classes"),
        ("llama", "causal"),
        ("qwen2", "causal"),
        ("mistral", "causal"),
    ],
    "jax": [("gpt2", "causal"), ("qwen3", "causal")],
}
OTHERS: dict[str, dict[str, Any]] = {
    "mistral": {"sliding_window": None},
    "qwen2": {"num_key_value_heads": 2},
    "bert": {"hidden_act": "gelu_new", "layer_norm_eps": 1e-3},
    "llama": {
        "tie_word_embeddings": True,
        "rms_norm_eps": 1e-3,
        "rope_parameters": {"rope_type": "default", "rope_theta": 500.0},
    },
}
LENGTHS = [9, 3, 14, 5, 22]


def features_for(head: Head, seed: int) -> list[Feature]:
    if isinstance(head, Seq2SeqHead):
        return tiny_pairs([(9, 4), (3, 7), (14, 5), (5, 3)], seed=seed)
    features = tiny_features(head, LENGTHS, seed=seed)
    if isinstance(head, SequenceHead) and isinstance(head.objective, BinaryCrossEntropy | SquaredError):
        rng = np.random.default_rng(seed)
        labels = [rng.integers(2, size=head.num_labels).astype(np.float32) for _ in features]
        return [Feature({**f.arrays, "labels": gold}) for f, gold in zip(features, labels, strict=True)]
    return features


def load(name: str, folder: Path, head: Head, method: Choice | None = None) -> Any:
    setup = None if method is None else TrainingSetup(method=method, weight_decay=0.01)
    return ENGINES.get(name).load(folder, head, device="cpu", precision="float32" if name == "torch" else "auto", setup=setup)


def trained(model: Any, head: Head, steps: int, rate: float = 1e-3) -> list[float]:
    losses = []
    for step in range(steps):
        features = features_for(head, step)
        batches = [model.collate(features[:2]), model.collate(features[2:])]
        losses.append(model.accumulate(batches, denominator_of(head, features)).item())
        model.update(rate, 1.0)
    return losses


def logits_of(model: Any, features: list[Feature]) -> list[np.ndarray]:
    return [output.logits for output in model.outputs(model.collate(features))]


def apart(ones: list[np.ndarray], others: list[np.ndarray]) -> float:
    return max(float(np.abs(one - other).max()) for one, other in zip(ones, others, strict=True))


def same_scores(name: str, family: str, kind: str, root: Path) -> dict[str, Any]:
    """Score the same network by both engines, as it is."""
    head = HEADS[kind]
    folder = save_tiny(root / "model", family, head, **OTHERS.get(family, {}))
    features = features_for(head, 9)
    ours, torchs = (load(engine, folder, head) for engine in (name, "torch"))
    losses = [np.stack(model.losses(model.collate(features))) for model in (ours, torchs)]
    ours.save(root / "saved")
    again = load("torch", root / "saved", head)
    return {
        "losses": apart([losses[0]], [losses[1]]),
        "logits": apart(logits_of(ours, features), logits_of(torchs, features)),
        "saved": apart(logits_of(again, features), logits_of(torchs, features)),
    }


def same_training(name: str, family: str, kind: str, root: Path) -> dict[str, Any]:
    """Train the same network 20 steps by both engines, and read what this one saved with the other."""
    head = HEADS[kind]
    folder = save_tiny(root / "model", family, head, **OTHERS.get(family, {}))
    ours, torchs = load(name, folder, head, Choice("full")), load("torch", folder, head, Choice("full"))
    before = apart(logits_of(ours, features_for(head, 9)), logits_of(torchs, features_for(head, 9)))
    losses = np.asarray([trained(model, head, 20) for model in (ours, torchs)])
    ours.save(root / "saved")
    again = load("torch", root / "saved", head)
    here, there = (logits_of(model, features_for(head, 9)) for model in (ours, again))
    return {
        "logits": before,
        "first": float(np.abs(losses[0] - losses[1])[0]),
        "last": float(np.abs(losses[0] - losses[1])[-1]),
        "reloaded": apart(here, there),
        "same_predictions": all(np.array_equal(a.argmax(-1), b.argmax(-1)) for a, b in zip(here, there, strict=True)),
        "files": sorted(path.name for path in (root / "saved").iterdir()),
    }


def bare_bodies(name: str, root: Path) -> dict[str, Any]:
    """Load bodies that were saved without a head: their weights have no prefix."""
    found = {}
    for family in ("bert", "roberta", "distilbert"):
        folder = root / family
        with quiet(), torch.random.fork_rng():
            torch.manual_seed(0)
            body = transformers.AutoModel.from_config(tiny_config(family)).eval()
            body.save_pretrained(str(folder))
        model = load(name, folder, TokenHead(3), Choice("full"))
        model.save(root / f"{family}-saved")
        with quiet():
            again = transformers.AutoModel.from_pretrained(str(root / f"{family}-saved")).eval()
        ids = torch.arange(2, 12)[None]
        found[family] = bool(torch.equal(body(ids).last_hidden_state, again(ids).last_hidden_state))
    return found


def methods(name: str, root: Path) -> dict[str, Any]:
    """Train by each method, and say what moved."""
    from safetensors.numpy import load_file

    head = HEADS["tokens"]
    folder = save_tiny(root / "model", "roberta", head, dropout=0.1)
    before = load_file(folder / "model.safetensors")
    found = {}
    for method, options in (("head", {}), ("freeze", {"layers": 1}), ("lora", {"rank": 4})):
        model = load(name, folder, head, Choice(method, options))
        start = logits_of(model, features_for(head, 9))
        trained(model, head, 8, rate=1e-2)
        model.save(root / method)
        after = load_file(root / method / "model.safetensors")
        found[method] = {
            "trainable": model.facts["trainable_parameters"],
            "unchanged_at_first": apart(start, logits_of(load("torch", folder, head), features_for(head, 9))),
            "moved": sorted(key for key in before if not np.array_equal(before[key], after[key])),
            "reloaded": apart(
                logits_of(model, features_for(head, 9)), logits_of(load("torch", root / method, head), features_for(head, 9))
            ),
        }
    return found


def dropout(name: str, root: Path) -> dict[str, Any]:
    """Draw the same step twice, and another one."""
    head = HEADS["tokens"]
    folder = save_tiny(root / "model", "bert", head, dropout=0.3)
    model, features = load(name, folder, head, Choice("full")), features_for(head, 0)
    batch = model.collate(features)
    draws = [model.accumulate([batch], 1.0).item() for _ in range(2)]
    model.update(0.0, 1.0)
    return {"same_step": draws, "next_step": model.accumulate([batch], 1.0).item(), "none": float(model.losses(batch)[0].sum())}


def writing(name: str, root: Path) -> dict[str, Any]:
    """Write greedily under this engine and under torch."""
    head = HEADS["causal"]
    folder = save_tiny(root / "model", "gpt2", head)
    prompts = [Feature({"input_ids": np.arange(4, 9, dtype=np.int32)})]
    options = GenerationOptions(max_new_tokens=6)
    texts = [
        [step.token for steps in load(n, folder, head).generate(prompts, options) for step in steps] for n in (name, "torch")
    ]
    return {"here": texts[0], "torch": texts[1]}


def refused(act: Callable[[], Any]) -> str:
    try:
        act()
    except InputError as error:
        return str(error)
    return ""


def refusals(name: str, root: Path) -> dict[str, str]:
    """Ask for what cannot be."""
    head = HEADS["tokens"]
    bert, electra = (save_tiny(root / family, family, head) for family in ("bert", "electra"))
    t5 = save_tiny(root / "t5", "t5", Seq2SeqHead())
    pair = save_tiny(root / "gpt2", "gpt2", CausalHead(), scale_attn_by_inverse_layer_idx=True)
    other = "jax" if name == "tensorflow" else "tensorflow"
    return {
        "other_engine": refused(lambda: load(other, bert, head)),
        "electra": refused(lambda: load(name, electra, head)),
        "t5": refused(lambda: load(name, t5, Seq2SeqHead())),
        "config": refused(lambda: load(name, pair, CausalHead())),
        "precision": refused(lambda: ENGINES.get(name).load(bert, head, precision="bfloat16")),
        "no_head": refused(lambda: load(name, bert, SpanHead())),
        "option": refused(lambda: load(name, bert, head, Choice("lora", {"dropout": 0.1}))),
        "empty": refused(lambda: load(name, root, head)),
    }


def main(name: str, output: Path) -> None:
    checks: dict[str, Callable[[str, Path], Any]] = {
        "bodies": bare_bodies,
        "methods": methods,
        "dropout": dropout,
        "writing": writing,
        "refusals": refusals,
    }
    found: dict[str, Any] = {"training": {}, "scores": {}}
    for key, cases, compare in (("training", TRAINED, same_training), ("scores", SCORED, same_scores)):
        for family, kind in cases[name]:
            with tempfile.TemporaryDirectory() as folder:
                found[key][f"{family} {kind}"] = compare(name, family, kind, Path(folder))
    for key, check in checks.items():
        with tempfile.TemporaryDirectory() as folder:
            found[key] = check(name, Path(folder))
    output.write_text(json.dumps(found, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
