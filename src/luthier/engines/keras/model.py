"""The Model of this engine: what the loop talks to."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from keras import ops

from luthier.data.features import Feature, FeatureStore
from luthier.engines.engine import Batch, LazyScalar, Model, TrainingSetup, as_generator
from luthier.engines.keras import methods, optim
from luthier.engines.keras.backend import Backend
from luthier.engines.keras.batch import KerasBatch, Piece, Pieces, Shapes
from luthier.engines.keras.loss import row_losses
from luthier.engines.keras.methods import Tuning
from luthier.engines.keras.network import Loaded, load_network
from luthier.engines.keras.state import read_state, write_state
from luthier.engines.keras.thin import Thin
from luthier.errors import InputError
from luthier.generation import GenerationOptions, Stopped, TokenStep
from luthier.heads import Head, Seq2SeqHead, SequenceHead, SpanHead, writes
from luthier.tasks.task import Output

_MICRO_TOKENS = 16384
"""A micro-batch runs piece by piece, so its size takes little memory."""


class Number:
    """A LazyScalar: a tensor of the toolchain that is read when it is asked for."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def __add__(self, other: Any) -> Number:
        return Number(self._value + (other._value if isinstance(other, Number) else other))

    def item(self) -> float:
        return float(np.asarray(self._value))


class KerasModel:
    """See luthier.engines.engine.Model."""

    def __init__(self, loaded: Loaded, head: Head, *, backend: Backend, setup: TrainingSetup | None) -> None:
        self._network, self._head, self._backend = loaded.network, head, backend
        self._pieces = Pieces(head, loaded.network.config, Shapes.usual(loaded.network.longest))
        self._seed = setup.seed if setup else 0
        self._compilations = 0
        self._step = 0
        tuning = methods.apply(self._network, setup.method, head=head) if setup else Tuning(frozenset())
        self._thin = Thin(self._network, tuning, loaded.values, seed=self._seed)
        trained = {name: loaded.values[name] for name in self._network.weights if name in tuning.trained}
        trained |= self._thin.initial
        self._names = tuple(trained)
        self._shapes = {name: value.shape for name, value in trained.items()}
        self._trained = [backend.tensor(value) for value in trained.values()]
        self._frozen = {name: backend.tensor(value) for name, value in loaded.values.items() if name not in trained}
        self._moments = tuple([backend.tensor(np.zeros_like(value)) for value in trained.values()] for _ in range(2))
        self._applied = self._number(0)
        self._gradients: list[Any] = []
        self._writer: tuple[tuple[int, int], Model] | None = None
        self._loads = 0
        if setup is not None:
            self._network.silence(tuning.trained | set(tuning.adapted))
        self._facts = self._resolved(loaded, tuning)
        self._prepare(setup)

    @classmethod
    def load(cls, folder: Path, head: Head, *, backend: Backend, setup: TrainingSetup | None) -> KerasModel:
        """See luthier.engines.engine.Engine.load.

        Raises:
            InputError: the folder or method cannot be used.
            SecurityError: loading would run somebody else's code.
        """
        if setup is not None:
            optim.check(setup.optimizer, engine=backend.name)
            if setup.gradient_checkpointing:
                what = f'the engine "{backend.name}" keeps activations; it cannot compute them again'
                raise InputError(what, where="train.gradient_checkpointing", fix="Leave it at auto.")
        loaded = load_network(folder, head, seed=setup.seed if setup else None, engine=backend.name)
        return cls(loaded, head, backend=backend, setup=setup)

    @property
    def facts(self) -> Mapping[str, str | int]:
        return {**self._facts, "compilations": self._compilations} if self._compilations else self._facts

    @property
    def micro_tokens(self) -> int:
        return _MICRO_TOKENS

    def begin(self, features: FeatureStore, *, passes: float, folder: Path) -> Mapping[str, str | int]:
        """Choose the lengths that sequences are padded to."""
        if isinstance(self._head, Seq2SeqHead):  # the store counts both sides together
            return {}
        longest, cost = self._network.longest, self._backend.compile_tokens
        self._pieces.shapes = Shapes.fitting(features.lengths, longest, passes=passes, cost=cost)
        return {"padded_to": f"{', '.join(map(str, self._pieces.shapes.lengths))} tokens"}

    def collate(self, features: Sequence[Feature]) -> KerasBatch:
        return self._pieces.batch(features)

    def accumulate(self, batches: Sequence[Batch], denominator: float) -> LazyScalar:
        total: Any = 0.0
        pieces = (piece for batch in batches for piece in _own(batch).pieces)
        for index, piece in enumerate(pieces):
            loss, gradients = self._differentiated(
                self._trained, self._frozen, *_given(piece), self._number(denominator), self._seeds(index)
            )
            self._gradients = self._added(self._gradients, gradients) if self._gradients else gradients
            total = total + loss
        return Number(total)

    def update(self, learning_rate: float, max_grad_norm: float | None) -> LazyScalar:
        if self._adamw is None:
            raise ValueError("this model was loaded without a training setup")
        self._step += 1
        if not self._gradients:
            return Number(0.0)
        most = self._number(np.inf if max_grad_norm is None else max_grad_norm)
        gradients, self._gradients = self._gradients, []
        self._trained, first, second, self._applied, norm = self._adamw(
            self._trained, *self._moments, gradients, self._applied, self._number(learning_rate), most
        )
        self._moments = (first, second)
        return Number(norm)

    def losses(self, batch: Batch) -> tuple[np.ndarray, np.ndarray]:
        sums = np.zeros(batch.num_sequences, dtype=np.float32)
        weights = np.zeros(batch.num_sequences, dtype=np.float32)
        for piece in _own(batch).pieces:
            order = list(piece.order)
            found = self._scored(self._trained, self._frozen, *_given(piece))
            sums[order], weights[order] = (np.asarray(values)[: len(order)] for values in found)
        return sums, weights

    def outputs(self, batch: Batch) -> list[Output]:
        own = _own(batch)
        logits: list[np.ndarray] = [np.zeros(0, dtype=np.float32)] * len(own.features)
        for piece in own.pieces:
            results = np.asarray(self._logits(self._trained, self._frozen, piece.inputs))
            for row, (place, length) in enumerate(zip(piece.order, piece.lengths, strict=True)):
                array = results[row] if isinstance(self._head, SequenceHead) else results[row, :length]
                logits[place] = array.T if isinstance(self._head, SpanHead) else array
        return [Output(feature, array) for feature, array in zip(own.features, logits, strict=True)]

    def generate(
        self,
        features: Sequence[Feature],
        options: GenerationOptions,
        *,
        end_ids: Sequence[int] = (),
        stopped: Stopped | None = None,
    ) -> Iterator[list[TokenStep]]:
        """See luthier.generation.Generator. Keras scores, torch writes: on a copy of these weights."""
        if not writes(self._head):
            raise TypeError(f"a {type(self._head).__name__} does not write")
        writer = as_generator(self._written_by_torch())
        with closing(writer.generate(features, options, end_ids=end_ids, stopped=stopped)) as steps:  # type: ignore[type-var]
            yield from steps

    def save(self, folder: Path) -> None:
        self._network.save(folder, self._values())

    def save_whole(self, folder: Path) -> None:
        self.save(folder)

    def save_state(self, folder: Path) -> None:
        moments = self._moments or ([], [])
        named = [dict(zip(self._names, map(np.asarray, values), strict=True)) for values in (self._trained, *moments)]
        write_state(folder, named, step=self._step, applied=int(np.asarray(self._applied)))

    def load_state(self, folder: Path) -> None:
        (weights, first, second), self._step, applied = read_state(folder, self._shapes)
        self._trained = self._tensors(weights)
        self._moments = (self._tensors(first), self._tensors(second))
        self._applied = self._number(applied)
        self._gradients = []
        self._loads += 1

    def _prepare(self, setup: TrainingSetup | None) -> None:
        """Make the functions that are compiled."""
        network, head, backend = self._network, self._head, self._backend

        def values_of(trained: Sequence[Any], frozen: Mapping[str, Any]) -> dict[str, Any]:
            return self._thin.merged({**frozen, **dict(zip(self._names, trained, strict=True))})

        def losses(trained: Any, frozen: Any, inputs: Any, gold: Any, seeds: Any = None) -> tuple[Any, Any]:
            values = values_of(trained, frozen)
            results = network.results(values, seeds, inputs, training=seeds is not None)
            return row_losses(head, results, inputs, gold, lambda states: network.vocabulary(values, states))

        def loss(trained: Any, frozen: Any, inputs: Any, gold: Any, denominator: Any, seeds: Any) -> Any:
            return ops.sum(losses(trained, frozen, inputs, gold, seeds)[0]) / denominator

        def logits(trained: Any, frozen: Any, inputs: Any) -> Any:
            values = values_of(trained, frozen)
            results = network.results(values, None, inputs, training=False)
            return network.vocabulary(values, results) if writes(head) else results

        def added(one: Sequence[Any], other: Sequence[Any]) -> list[Any]:
            return [a + b for a, b in zip(one, other, strict=True)]

        self._scored = backend.compiled(self._counted(losses))
        self._logits = backend.compiled(self._counted(logits))
        self._differentiated = backend.compiled(self._counted(backend.with_gradient(loss)))
        self._added = backend.compiled(added)
        self._adamw: Any = None
        if setup is not None:
            decays = [setup.weight_decay if self._decays(name) else 0.0 for name in self._names]
            self._adamw = backend.compiled(optim.adamw(decays))

    def _counted(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Count the shapes that a function is compiled for: only then does Python run it."""

        def counted(*arguments: Any) -> Any:
            self._compilations += 1
            return function(*arguments)

        return counted

    def _decays(self, name: str) -> bool:
        """Whether weight decay applies: to matrices, not to biases, norms and embeddings."""
        return name.startswith("lora_") or bool(self._network.weights[name].inputs)

    def _seeds(self, index: int) -> Any:
        """Make dropout a function of (seed, step, piece): a resumed run draws what the first one drew."""
        drawn = np.random.SeedSequence((self._seed, self._step, index)).generate_state(2 * self._network.num_seeds + 2)
        return self._backend.tensor((drawn.reshape(-1, 2) >> 1).astype(np.int32))

    def _number(self, value: float) -> Any:
        return self._backend.tensor(np.asarray(value, dtype=np.float32))

    def _tensors(self, values: Mapping[str, np.ndarray]) -> list[Any]:
        return [self._backend.tensor(values[name]) for name in self._names]

    def _values(self) -> dict[str, np.ndarray]:
        """Return the weights as they are now, on the host."""
        now = self._thin.merged({**self._frozen, **dict(zip(self._names, self._trained, strict=True))})
        return {name: np.asarray(value) for name, value in now.items()}

    def _written_by_torch(self) -> Model:
        """Return these weights under the torch engine; kept until they change."""
        from luthier.engines import ENGINES

        version = (self._step, self._loads)
        if self._writer is None or self._writer[0] != version:
            with tempfile.TemporaryDirectory(prefix="luthier-") as folder:
                self.save(Path(folder))
                device = self._backend.device
                self._writer = (
                    version,
                    ENGINES.get("torch").load(Path(folder), self._head, device=device, precision="float32"),
                )
        return self._writer[1]

    def _resolved(self, loaded: Loaded, tuning: Tuning) -> dict[str, str | int]:
        facts: dict[str, str | int] = {
            "device": self._backend.device,
            "precision": "float32",
            "batching": "padded to a few lengths",
            "attention": f"KerasHub's, on {self._backend.name}",
            "parameters": sum(value.size for value in loaded.values.values()),
            "trainable_parameters": sum(int(np.prod(shape)) for shape in self._shapes.values()),
            "head": "new" if loaded.made else "from the checkpoint",
        }
        if tuning.adapted:
            facts["adapter"] = f"lora of rank {tuning.rank} on {len(tuning.adapted)} layers, saved merged"
        if loaded.unused:
            facts["unused_weights"] = f"{len(loaded.unused)} (such as {loaded.unused[0]})"
        if writes(self._head):
            facts["writing"] = "by the torch engine, with these weights"
        if set(self._frozen) - set(tuning.adapted):
            facts["frozen"] = "frozen parts run without dropout"
        return facts


def _own(batch: Batch) -> KerasBatch:
    assert isinstance(batch, KerasBatch)
    return batch


def _given(piece: Piece) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    if piece.gold is None:
        raise ValueError("the features have no labels: they were encoded without gold")
    return piece.inputs, piece.gold
