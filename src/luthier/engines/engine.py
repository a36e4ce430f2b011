"""The seam of engines: what the loop asks of a model, and nothing more.

An engine knows heads and tensors, never tasks. The loop treats a batch as opaque but for its three
numbers, and a lazy scalar as something to add and, when it logs, to read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from luthier.data.features import Feature, FeatureStore
from luthier.generation import Generator
from luthier.heads import Head
from luthier.tasks.task import Output


class Batch(Protocol):
    """One micro-batch, made by a model for itself."""

    @property
    def num_targets(self) -> int: ...
    @property
    def num_tokens(self) -> int:
        """Non-padding tokens, special tokens included."""

    @property
    def num_sequences(self) -> int: ...


class LazyScalar(Protocol):
    """A number that may still be on its way. Reading it waits."""

    def __add__(self, other: Any) -> LazyScalar: ...
    def item(self) -> float: ...


@dataclass(frozen=True, slots=True)
class Choice:
    """A named choice with its options, as in ``method: {name: freeze, layers: 4}``."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TrainingSetup:
    """What an engine needs to know to train, beside the head.

    Attributes:
        method: full, head, freeze ...
        optimizer: adamw.
        weight_decay: applied to weights of matrices alone: not to biases, norms and embeddings.
        seed: of the new head's weights and of dropout. Dropout of a step is a function of (seed, step).
        used_ids: the token ids that occur in the training split, ascending.
    """

    method: Choice = Choice("full")
    optimizer: Choice = Choice("adamw")
    weight_decay: float = 0.0
    seed: int = 0
    gradient_checkpointing: bool = False
    used_ids: np.ndarray | None = None


class Model(Protocol):
    """All that the loop talks to."""

    @property
    def facts(self) -> Mapping[str, str | int]:
        """What was resolved, for the log and the report.

        Keys: ``device``, ``precision``, ``batching`` (packed, or buckets and why), ``attention``,
        ``parameters``, ``trainable_parameters``.
        """

    @property
    def micro_tokens(self) -> int:
        """How many tokens of one micro-batch fit comfortably (an estimate from the free memory)."""

    def begin(self, features: FeatureStore, *, passes: float, folder: Path) -> Mapping[str, str | int]:
        """Hear, before the first step, what will be trained on and how often.

        What stays the same from one pass to the next may be computed once here.

        Args:
            features: of the training split.
            passes: over all of them.
            folder: takes temporary files.

        Returns:
            What was done, for the log; empty where nothing was.
        """

    def collate(self, features: Sequence[Feature]) -> Batch:
        """Pack, bucket or pad on the host; runs ahead in a thread. ``features`` may be empty."""

    def accumulate(self, batches: Sequence[Batch], denominator: float) -> LazyScalar:
        """Forward and backward of this rank's micro-batches of one step; return the sum of losses / denominator.

        The gradient added is that of (sum of all losses) / denominator, however the step is cut.
        """

    def update(self, learning_rate: float, max_grad_norm: float | None) -> LazyScalar:
        """Clip, step and clear the gradients; return the norm before clipping.

        When the norm is not finite nothing is applied and the gradients are cleared.
        """

    def losses(self, batch: Batch) -> tuple[np.ndarray, np.ndarray]:
        """Return per sequence the sum of its loss [S] and the weight of its targets [S], without dropout."""

    def outputs(self, batch: Batch) -> list[Output]:
        """Return one output a feature, in the order given to ``collate``, without dropout."""

    def save(self, folder: Path) -> None:
        """Write the model in the hub's folder format: float32 masters, config with label names. No tokenizer."""

    def save_whole(self, folder: Path) -> None:
        """As ``save``, but an adapter is merged into its base.

        Raises:
            InputError: this adapter cannot be merged.
        """

    def save_state(self, folder: Path) -> None:
        """Write weights, optimizer state and step counter: safetensors and JSON."""

    def load_state(self, folder: Path) -> None:
        """Take up a state written by ``save_state``: training continues to the same bits."""


def as_generator(model: Model) -> Generator:
    """Return a model as the Generator that it is, under a head that writes.

    Raises:
        TypeError: it cannot generate.
    """
    if not isinstance(model, Generator):
        raise TypeError(f"{type(model).__name__} does not generate")
    return model


class Engine(Protocol):
    """A toolchain. ``methods`` lists the tuning methods that it has, with their options' defaults and types."""

    name: str

    def methods(self) -> Mapping[str, Any]:
        """Return the functions registered as tuning methods; their keyword-only arguments are the options."""

    def load(
        self, folder: Path, head: Head, *, device: str = "auto", precision: str = "auto", setup: TrainingSetup | None = None
    ) -> Model:
        """Load a hub-format folder under a head; without ``setup`` only for inference.

        A head whose weights the folder lacks is made new from ``setup.seed``; for inference that is refused.

        Raises:
            InputError: the folder holds no model of a kind that this engine and head can use.
        """
