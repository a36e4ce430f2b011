"""The Model of this engine: what the loop talks to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from luthier.data.features import Feature
from luthier.engines.engine import Batch, LazyScalar, TrainingSetup
from luthier.engines.torch import methods, packing
from luthier.engines.torch.batch import Piece, TorchBatch, count_targets
from luthier.engines.torch.dropout import use_fast_dropout
from luthier.engines.torch.embeddings import UsedRows, train_used_rows
from luthier.engines.torch.loading import Loaded, load_network, quiet
from luthier.engines.torch.loss import sequence_losses
from luthier.engines.torch.memory import micro_tokens
from luthier.engines.torch.optim import Optimizer
from luthier.engines.torch.precision import products, resolve_device, resolve_precision
from luthier.engines.torch.state import read_state, write_state
from luthier.errors import InputError
from luthier.heads import CausalHead, Head, SequenceHead, SpanHead
from luthier.tasks.task import Output


class TorchModel:
    """See luthier.engines.engine.Model."""

    def __init__(
        self, loaded: Loaded, head: Head, *, device: torch.device, precision: str, setup: TrainingSetup | None
    ) -> None:
        self.network: Any = loaded.network
        self._head, self._device, self._precision = head, device, precision
        with quiet():
            self._batching = packing.choose(self.network, head)
        self._vocabulary = self.network.get_output_embeddings() if isinstance(head, CausalHead) else None
        self.network.to(device)
        if device.type == "cpu":
            use_fast_dropout(self.network)
        self._seed = setup.seed if setup else 0
        self._optimizer: Optimizer | None = None
        self._step = 0
        self._stale = False
        self._rows: UsedRows | None = None
        parameters = sum(p.numel() for p in self.network.parameters())
        if setup is None:
            self.network.requires_grad_(False)
        else:
            methods.apply(self.network, setup.method)
            if setup.gradient_checkpointing:
                _recompute(self.network)
            self._rows = train_used_rows(self.network, setup.used_ids)
            self._optimizer = Optimizer(self.network, setup.optimizer, weight_decay=setup.weight_decay)
        self._facts = self._resolved(loaded, parameters)

    @classmethod
    def load(
        cls,
        folder: Path,
        head: Head,
        *,
        device: str = "auto",
        precision: str = "auto",
        setup: TrainingSetup | None = None,
    ) -> TorchModel:
        """See luthier.engines.engine.Engine.load.

        Raises:
            InputError: the folder, device, precision or method cannot be used.
            SecurityError: loading would run somebody else's code.
        """
        place = resolve_device(device)
        loaded = load_network(Path(folder), head, seed=setup.seed if setup else None)
        return cls(loaded, head, device=place, precision=resolve_precision(precision, place), setup=setup)

    @property
    def facts(self) -> Mapping[str, str | int]:
        return self._facts

    @property
    def micro_tokens(self) -> int:
        return micro_tokens(self.network.config, self._device, training=self._optimizer is not None)

    def collate(self, features: Sequence[Feature]) -> TorchBatch:
        return TorchBatch(
            features=tuple(features),
            pieces=tuple(self._batching.pieces(features)),
            num_targets=count_targets(features, self._head),
            num_tokens=sum(feature.length for feature in features),
        )

    def accumulate(self, batches: Sequence[Batch], denominator: float) -> LazyScalar:
        self._set_training()
        total = torch.zeros((), device=self._device)
        pieces = (piece for batch in batches for piece in _own(batch).pieces)
        for index, piece in enumerate(pieces):
            with self._dropout_of(index):
                sums, _ = self._losses(piece.to(self._device))
                loss = sums.sum() / denominator
                loss.backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        return total

    def update(self, learning_rate: float, max_grad_norm: float | None) -> LazyScalar:
        if self._optimizer is None:
            raise ValueError("this model was loaded without a training setup")
        self._step += 1
        self._stale = True
        return self._optimizer.update(learning_rate, max_grad_norm)

    def losses(self, batch: Batch) -> tuple[np.ndarray, np.ndarray]:
        self._set_inference()
        sums = np.zeros(batch.num_sequences, dtype=np.float32)
        weights = np.zeros(batch.num_sequences, dtype=np.float32)
        with torch.inference_mode():
            for piece in _own(batch).pieces:
                order = list(piece.order)
                sums[order], weights[order] = (values.cpu().numpy() for values in self._losses(piece.to(self._device)))
        return sums, weights

    def outputs(self, batch: Batch) -> list[Output]:
        self._set_inference()
        own = _own(batch)
        logits: list[np.ndarray] = [np.zeros(0, dtype=np.float32)] * len(own.features)
        with torch.inference_mode():
            for piece in own.pieces:
                results = self._results(piece.to(self._device))
                if self._vocabulary is not None:
                    results = self._vocabulary(results)
                for place, array in zip(piece.order, _parts(self._head, results, piece), strict=True):
                    logits[place] = array
        return [Output(feature, array) for feature, array in zip(own.features, logits, strict=True)]

    def save(self, folder: Path) -> None:
        self._set_inference()
        if self._rows is not None:
            self.network.set_input_embeddings(self._rows.whole)
        try:
            with quiet():
                self.network.save_pretrained(str(folder))
        finally:
            if self._rows is not None:
                self.network.set_input_embeddings(self._rows)

    def save_state(self, folder: Path) -> None:
        optimizer = self._optimizer.state() if self._optimizer else {}
        write_state(folder, self._trained(), optimizer, step=self._step)

    def load_state(self, folder: Path) -> None:
        weights, optimizer, step = read_state(folder, {name: value.shape for name, value in self._trained().items()})
        with torch.no_grad():
            for name, value in self._trained().items():
                value.copy_(weights[name])
        self._stale = True
        if self._optimizer is not None:
            self._optimizer.load(optimizer)
        self._step = step

    def _trained(self) -> dict[str, Tensor]:
        return {name: p for name, p in self.network.named_parameters() if p.requires_grad}

    def _results(self, piece: Piece) -> Tensor:
        with products(self._precision, self._device):
            return self._batching.forward(piece)

    def _losses(self, piece: Piece) -> tuple[Tensor, Tensor]:
        results = self._results(piece)
        return sequence_losses(self._head, results, piece, self._vocabulary)

    def _set_inference(self) -> None:
        self.network.eval()
        if self._stale and self._rows is not None:
            self._rows.synchronize()
        self._stale = False

    def _set_training(self) -> None:
        """Turn dropout on where weights are trained; what is frozen computes the same thing every time."""
        if self.network.training:
            return
        self.network.train()
        for module in self.network.modules():
            parameters = list(module.parameters())
            if parameters and not any(parameter.requires_grad for parameter in parameters):
                module.eval()

    @contextmanager
    def _dropout_of(self, index: int) -> Iterator[None]:
        """Make dropout a function of (seed, step, micro-batch): a resumed run draws what the first one drew."""
        drawn = np.random.SeedSequence((self._seed, self._step, index)).generate_state(1, np.uint64)
        devices = [torch.cuda.current_device()] if self._device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(int(drawn[0] >> np.uint64(1)))
            yield

    def _resolved(self, loaded: Loaded, parameters: int) -> dict[str, str | int]:
        kind = self.network.config.model_type
        packed = isinstance(self._batching, packing.Packed)
        facts: dict[str, str | int] = {
            "device": str(self._device),
            "precision": self._precision,
            "batching": "packed" if packed else f"length buckets ({kind} does not pass the packing probe)",
            "attention": "inside each packed sequence" if packed else str(self.network.config._attn_implementation),
            "parameters": parameters,
            "trainable_parameters": sum(p.numel() for p in self._trained().values()),
            "head": loaded.head,
        }
        if loaded.unused:
            facts["unused_weights"] = f"{len(loaded.unused)} (such as {loaded.unused[0]})"
        if self._rows is not None:
            facts["embedding_rows"] = f"{len(self._rows.weight)} of {self._rows.whole.num_embeddings} occur and are trained"
        if self._optimizer is not None and any(not p.requires_grad for p in self.network.parameters()):
            facts["frozen"] = "frozen parts run without dropout"
        return facts


def _recompute(network: Any) -> None:
    """Keep no activations inside layers; backward computes them again."""
    if not network.supports_gradient_checkpointing:
        kind = network.config.model_type
        raise InputError(
            f'models of the kind "{kind}" cannot do that', where="train.gradient_checkpointing", fix="Leave it out."
        )
    # The name is newer than the oldest transformers that is supported.
    enable = getattr(network, "activation_checkpointing_enable", None) or network.gradient_checkpointing_enable
    enable({"use_reentrant": False})


def _own(batch: Batch) -> TorchBatch:
    if not isinstance(batch, TorchBatch):
        raise TypeError("this batch was collated by another engine")
    return batch


def _parts(head: Head, results: Tensor, piece: Piece) -> list[np.ndarray]:
    """Cut results into one float32 array a sequence, in the order of the piece."""
    array = results.float().cpu().numpy()
    if isinstance(head, SequenceHead):
        return list(array)
    parts = np.split(array, np.cumsum(piece.lengths)[:-1])
    return [part.T for part in parts] if isinstance(head, SpanHead) else parts
