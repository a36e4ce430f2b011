"""The heads of transformers' classes, layer by layer: what stands between a body's states and the logits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import keras
from keras import ops

from luthier.engines.keras.families import Family
from luthier.heads import Head, SequenceHead, SpanHead, TokenHead


@dataclass(frozen=True, slots=True)
class Dense:
    """A linear layer; its weights stand as in the folder, [outputs, inputs]."""

    name: str
    inputs: int
    outputs: int
    bias: bool = True

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shapes of its weights by name."""
        shapes: dict[str, tuple[int, ...]] = {f"{self.name}.weight": (self.outputs, self.inputs)}
        return shapes | ({f"{self.name}.bias": (self.outputs,)} if self.bias else {})

    def apply(self, states: Any, values: Mapping[str, Any], generators: Iterator[Any], *, training: bool) -> Any:
        results = ops.matmul(states, ops.transpose(values[f"{self.name}.weight"]))
        return results + values[f"{self.name}.bias"] if self.bias else results


@dataclass(frozen=True, slots=True)
class Dropout:
    """Dropout; takes the next generator where its rate is not 0."""

    rate: float

    def apply(self, states: Any, values: Mapping[str, Any], generators: Iterator[Any], *, training: bool) -> Any:
        if not self.rate:
            return states
        generator = next(generators)
        return keras.random.dropout(states, self.rate, seed=generator) if training else states


@dataclass(frozen=True, slots=True)
class Activation:
    """``tanh`` or ``relu``."""

    name: str

    def apply(self, states: Any, values: Mapping[str, Any], generators: Iterator[Any], *, training: bool) -> Any:
        return ops.tanh(states) if self.name == "tanh" else ops.relu(states)


Step = Dense | Dropout | Activation


def steps_of(family: Family, head: Head, config: Mapping[str, Any]) -> tuple[Step, ...]:
    """Return the layers of a head, in order; none for a head that writes: its vocabulary layer is the backbone's."""
    width = int(config.get("hidden_size") or config.get("dim") or config.get("n_embd") or 0)
    if isinstance(head, SpanHead):
        own = (Dropout(config["qa_dropout"]),) if family.name == "DistilBert" else ()
        return (*own, Dense("qa_outputs", width, 2))
    if not isinstance(head, SequenceHead | TokenHead):
        return ()
    if family.dropouts is None or family.name == "GPT2":
        return (Dense("score", width, head.num_labels, bias=False),)
    if family.name == "DistilBert" and isinstance(head, SequenceHead):
        return (
            Dense("pre_classifier", width, width),
            Activation("relu"),
            Dropout(config["seq_classif_dropout"]),
            Dense("classifier", width, head.num_labels),
        )
    rate = config.get("classifier_dropout")
    dropout = Dropout(config[family.dropouts[0]] if rate is None else rate)
    if family.name in ("Roberta", "XLMRoberta") and isinstance(head, SequenceHead):
        inner, outer = Dense("classifier.dense", width, width), Dense("classifier.out_proj", width, head.num_labels)
        return (dropout, inner, Activation("tanh"), dropout, outer)
    return (dropout, Dense("classifier", width, head.num_labels))
