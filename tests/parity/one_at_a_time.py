"""The oracle of packing: transformers' own class and loss, fed one unpadded sequence after another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers

from engines.tiny_networks import CLASSES, denominator_of
from luthier.data.features import Feature
from luthier.engines.torch.loading import quiet
from luthier.heads import IGNORED, Head, Seq2SeqHead, SequenceHead, SpanHead


def one_at_a_time(folder: Path, head: Head, features: list[Feature]) -> tuple[float, dict[str, torch.Tensor]]:
    """Return the mean loss over all targets and its gradients, by transformers alone."""
    with quiet():
        network: Any = getattr(transformers, CLASSES[type(head)]).from_pretrained(str(folder), attn_implementation="eager")
    network.eval()
    keep_computed(network)
    denominator = denominator_of(head, features)
    total = 0.0
    for feature in features:
        inputs = {name: torch.tensor(array)[None].long() for name, array in feature.arrays.items() if name != "labels"}
        labels = torch.tensor(feature.arrays["labels"]).long()
        if isinstance(head, SpanHead):
            # transformers halves the sum of the two losses.
            loss = network(**inputs, start_positions=labels[:1], end_positions=labels[1:]).loss * 2
        elif isinstance(head, SequenceHead):
            loss = network(**inputs, labels=labels).loss
        elif isinstance(head, Seq2SeqHead):
            # Most families make these themselves, but FSMT makes them of the source.
            start = network.config.decoder_start_token_id
            inputs["decoder_input_ids"] = torch.cat([torch.tensor([start]), labels[:-1]])[None]
            loss = network(**inputs, labels=labels[None]).loss * len(labels)
        else:
            loss = network(**inputs, labels=labels[None]).loss * float((labels != IGNORED).sum())
        (loss / denominator).backward()
        total += loss.item() / denominator
    modules = network.named_modules()
    # FSMT would train the values of a formula.
    fixed = {f"{name}.weight" for name, module in modules if type(module).__name__ == "SinusoidalPositionalEmbedding"}
    return total, {name: parameter.grad for name, parameter in network.named_parameters() if name not in fixed}


def keep_computed(network: torch.nn.Module) -> None:
    """Freeze Marian's and Pegasus' positions, as their classes make them: loading forgets it, and saving leaves them out."""
    for module in network.modules():
        if hasattr(module, "create_weight"):
            module.requires_grad_(False)


def assert_same_gradients(found: dict[str, Any], expected: dict[str, Any]) -> None:
    """Compare every weight's gradient, relative to its length."""
    assert found.keys() == expected.keys()
    whole = torch.stack([grad.norm() for grad in expected.values() if grad is not None]).norm()
    for name, grad in expected.items():
        if grad is None:
            assert found[name] is None, name
            continue
        # The second term is for gradients that are zero in exact arithmetic, such as those of key biases.
        assert (found[name] - grad).norm() <= 1e-5 * grad.norm() + 1e-7 * whole, name
