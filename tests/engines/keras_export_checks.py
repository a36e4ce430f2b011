"""Exports to Keras and TensorFlow beside transformers. Run as a script, since a process has one back end of Keras:

    python keras_export_checks.py OUTPUT.json

writes what it measured; tests/parity/test_keras_exports.py says what that must be.
"""

from __future__ import annotations

import json
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from engines.tiny_networks import CLASSES, VOCABULARY, save_tiny
from luthier.engines.keras.backend import open_backend
from luthier.engines.torch.loading import quiet
from luthier.heads import CausalHead, Head, Seq2SeqHead, SequenceHead, SpanHead, TokenHead

open_backend("tensorflow", device="cpu", precision="float32")
import keras  # noqa: E402  after the back end was chosen
import tensorflow  # noqa: E402

from luthier.engines.keras.exporting import whole_model, write  # noqa: E402
from luthier.engines.keras.network import load_network  # noqa: E402

CASES: dict[str, tuple[str, Head, dict[str, Any]]] = {
    "bert classes": ("bert", SequenceHead(3), {"hidden_act": "gelu_new", "layer_norm_eps": 1e-3}),
    "roberta classes": ("roberta", SequenceHead(3), {"layer_norm_eps": 1e-3}),
    "xlm-roberta tokens": ("xlm-roberta", TokenHead(3), {}),
    "distilbert spans": ("distilbert", SpanHead(), {"activation": "relu"}),
    "gpt2 classes": ("gpt2", SequenceHead(3), {}),
    "gpt2 causal": ("gpt2", CausalHead(), {"layer_norm_epsilon": 1e-3, "activation_function": "gelu"}),
    "llama causal": ("llama", CausalHead(), {"tie_word_embeddings": True, "rms_norm_eps": 1e-3}),
    "llama classes": ("llama", SequenceHead(3), {"rope_parameters": {"rope_type": "default", "rope_theta": 500.0}}),
    "qwen2 causal": ("qwen2", CausalHead(), {"num_key_value_heads": 2}),
    "qwen3 causal": ("qwen3", CausalHead(), {}),
    "mistral causal": ("mistral", CausalHead(), {"sliding_window": None}),
    "bart seq2seq": ("bart", Seq2SeqHead(), {}),
}
LENGTHS = (11, 4, 7)


def inputs_for(names: Any, widths: dict[str, int]) -> dict[str, np.ndarray]:
    """Return texts of different lengths, padded on the right."""
    rng = np.random.default_rng(0)
    masks = {side: np.arange(width)[None] < np.minimum(LENGTHS, width)[:, None] for side, width in widths.items()}
    given = {}
    for name in names:
        mask = masks["decoder" if name.startswith("decoder") else "encoder"]
        ids = rng.integers(2, VOCABULARY, mask.shape) * mask + ~mask
        kinds = {"mask": mask, "segment": mask & (np.arange(mask.shape[1]) > 2)}
        given[name] = next((array for kind, array in kinds.items() if kind in name), ids).astype(np.int32)
    return given


def by_transformers(folder: Path, head: Head, given: dict[str, np.ndarray]) -> np.ndarray:
    names = {"token_ids": "input_ids", "padding_mask": "attention_mask", "segment_ids": "token_type_ids"}
    names |= {f"encoder_{name}": hub for name, hub in names.items()} | {
        f"decoder_{name}": f"decoder_{hub}" for name, hub in names.items()
    }
    with quiet():
        network: Any = getattr(transformers, CLASSES[type(head)]).from_pretrained(str(folder)).eval()
    with torch.no_grad():
        found = network(**{names[name]: torch.tensor(array).long() for name, array in given.items()})
    if isinstance(head, SpanHead):
        return torch.stack([found.start_logits, found.end_logits], -1).numpy()
    return found.logits.numpy()


def array_of(found: Any) -> np.ndarray:
    if isinstance(found, dict) and "start_logits" in found:
        return np.stack([found["start_logits"], found["end_logits"]], -1)
    return np.asarray(found["logits"] if isinstance(found, dict) else found)


def checked(family: str, head: Head, others: dict[str, Any], root: Path) -> dict[str, Any]:
    """Write a network both ways, load each by its own toolchain, and compare the real tokens' logits."""
    hub = save_tiny(root / "hub", family, head, **others)
    model = whole_model(load_network(hub, head, seed=None, engine="tensorflow"), head)
    for format in ("file", "saved-model"):
        (root / format).mkdir()
        write(model, root / format, format)
    reread = keras.saving.load_model(root / "file" / "model.keras", safe_mode=True, compile=False)
    signature = tensorflow.saved_model.load(str(root / "saved-model")).signatures["serving_default"]
    result: dict[str, Any] = {"keras": 0.0, "saved_model": 0.0, "size": 0.0}
    for widths in ({"encoder": 11, "decoder": 11}, {"encoder": 6, "decoder": 9}):
        given = inputs_for(model.input, widths)
        expected = by_transformers(hub, head, given)
        real = given.get("decoder_padding_mask", given.get("padding_mask")).astype(bool)
        chosen = slice(None) if isinstance(head, SequenceHead) else real
        tensors = {name: tensorflow.constant(array) for name, array in given.items()}
        for name, found in (("keras", reread(given)), ("saved_model", signature(**tensors))):
            result[name] = max(result[name], float(np.abs(array_of(found) - expected)[chosen].max()))
        result["size"] = max(result["size"], float(np.abs(expected[chosen]).max()))
    with zipfile.ZipFile(root / "file" / "model.keras") as opened:
        result["ours"] = "luthier" in opened.read("config.json").decode()
    result["signature"] = sorted(
        (name, spec.dtype.name, spec.shape.as_list()) for name, spec in signature.structured_input_signature[1].items()
    )
    return result


def main() -> None:
    found = {}
    for name, (family, head, others) in CASES.items():
        with tempfile.TemporaryDirectory() as folder:
            found[name] = checked(family, head, others, Path(folder))
    Path(sys.argv[1]).write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main()
