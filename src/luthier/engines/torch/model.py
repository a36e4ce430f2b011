"""The Model of this engine: what the loop talks to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from luthier.data.features import Feature, FeatureStore
from luthier.engines.engine import Batch, LazyScalar, TrainingSetup
from luthier.engines.torch import adapters, compiled, gpu, methods, packing, structure
from luthier.engines.torch.adapters import Adapter
from luthier.engines.torch.batch import Piece, TorchBatch, count_targets
from luthier.engines.torch.buckets import Buckets
from luthier.engines.torch.dropout import use_fast_dropout
from luthier.engines.torch.embeddings import UsedRows, train_used_rows
from luthier.engines.torch.frozen import FrozenStates, frozen_layers, remember
from luthier.engines.torch.generate import TokenWriter, attending
from luthier.engines.torch.loading import Loaded, load_network, quiet
from luthier.engines.torch.loss import sequence_losses
from luthier.engines.torch.memory import micro_tokens
from luthier.engines.torch.optim import Optimizer
from luthier.engines.torch.packing import Packed
from luthier.engines.torch.precision import products, resolve_device, resolve_precision
from luthier.engines.torch.state import read_state, write_state
from luthier.engines.torch.virtual import written_alone
from luthier.engines.torch.vocabulary import vocabulary_of
from luthier.errors import InputError
from luthier.generation import GenerationOptions, Stopped, TokenStep
from luthier.heads import Head, SequenceHead, SpanHead, num_tokens, writes
from luthier.tasks.task import Output


class TorchModel:
    """See luthier.engines.engine.Model."""

    def __init__(
        self, loaded: Loaded, head: Head, *, device: torch.device, precision: str, setup: TrainingSetup | None
    ) -> None:
        self.network: Any = loaded.network
        self._head, self._device, self._precision = head, device, precision
        self._own_attention: str = self.network.config._attn_implementation
        self._adapter: Adapter | None = loaded.adapter
        with quiet():
            self._vocabulary = vocabulary_of(self.network) if writes(head) else None
            packs = methods.packs(setup.method) if setup else loaded.adapter is None or loaded.adapter.virtual is None
            self._batching = packing.choose(self.network, head) if packs else Buckets(self.network, head)
        self.network.to(device)
        self._fused = device.type == "cuda" and gpu.fuse_layers(self.network)
        self._seed = setup.seed if setup else 0
        self._optimizer: Optimizer | None = None
        self._step = 0
        self._stale = False
        self._recomputes = setup is not None and setup.gradient_checkpointing
        self._rows: UsedRows | None = None
        self._frozen: FrozenStates | None = None
        if setup is None:
            self.network.requires_grad_(False)
        else:
            with quiet():
                self._adapter = methods.apply(self.network, setup.method, head=head, seed=setup.seed)
            if setup.gradient_checkpointing:
                _recompute(self.network, self._adapter)
        parameters = adapters.num_parameters(self.network)
        # DoRA computes with the frozen weights themselves, not only with their products.
        if self._adapter is not None and precision == "bfloat16" and self._adapter.name != "dora":
            adapters.store_products_in_bfloat16(self.network)
        if device.type == "cpu":
            use_fast_dropout(self.network)
        if setup is not None:
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
        number = resolve_precision(precision, place)
        bits = setup.method.options.get("base_bits") if setup else None
        loaded = load_network(Path(folder), head, seed=setup.seed if setup else None, bits=bits, precision=number)
        return cls(loaded, head, device=place, precision=number, setup=setup)

    @property
    def facts(self) -> Mapping[str, str | int]:
        return self._facts

    @property
    def micro_tokens(self) -> int:
        return micro_tokens(self.network.config, self._device, training=self._optimizer is not None)

    def begin(self, features: FeatureStore, *, passes: float, folder: Path) -> Mapping[str, str | int]:
        if not isinstance(self._batching, Packed):
            return {}
        facts = self._remember_frozen(features, self._batching, folder) if passes > 1 else {}
        operations = 6 * float(features.lengths.sum()) * passes * sum(p.numel() for p in self.network.parameters())
        # Layers that hand on what was kept are changed at every step.
        if self._frozen is None and not self._recomputes and compiled.pays(self._device, operations):
            facts["compiled_layers"] = self._compile(self._batching)
        return facts

    def _remember_frozen(self, features: FeatureStore, batching: Packed, folder: Path) -> dict[str, str | int]:
        self._set_inference()
        layers = frozen_layers(self.network, batching, self._head)
        if not layers:
            return {}
        found = remember(
            self.network, batching, self._head, features, layers=layers, precision=self._precision, folder=folder,
            micro_tokens=self.micro_tokens, run=self._results_without_gradient,
        )  # fmt: skip
        if isinstance(found, str):
            return {"frozen_layers": f"{len(layers)}, {found}"}
        self._frozen = found
        return {"frozen_layers": f"{len(layers)}, computed once ({found.file.nbytes / 2**20:.0f} MiB in a file)"}

    def _compile(self, batching: Packed) -> str:
        self._set_inference()
        (piece,) = batching.pieces(packing.probe_features(self.network, self._head))
        trained = list(self._trained().values())

        def trial() -> list[Tensor]:
            results = self._results(piece.to(self._device)).float()
            gradients = torch.autograd.grad(results.square().sum(), trained, allow_unused=True)
            return [results.detach(), *(gradient.float() for gradient in gradients if gradient is not None)]

        # A layer that packing has narrowed runs attention of ours, which is nothing for a compiler.
        layers = [layer for layer in structure.layers(self.network) if not any("forward" in vars(m) for m in layer.modules())]
        return compiled.compile_layers(layers, trial, precision=self._precision)

    def collate(self, features: Sequence[Feature]) -> TorchBatch:
        if self._adapter is not None and self._adapter.virtual is not None:
            self._adapter.virtual.check(features)
        pieces = self._pieces(features)
        return TorchBatch(
            features=tuple(features),
            pieces=tuple(map(gpu.pinned, pieces) if self._device.type == "cuda" else pieces),
            num_targets=count_targets(features, self._head),
            num_tokens=sum(num_tokens(self._head, feature.arrays) for feature in features),
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

    def generate(
        self,
        features: Sequence[Feature],
        options: GenerationOptions,
        *,
        end_ids: Sequence[int] = (),
        stopped: Stopped | None = None,
    ) -> Iterator[list[TokenStep]]:
        """See luthier.generation.Generator."""
        self._set_inference()
        virtual = self._adapter.virtual if self._adapter else None
        writer = TokenWriter(self.network, end_ids, reserved=virtual.reserved if virtual else 0)
        alone = virtual is not None and virtual.windowed
        steps = written_alone(writer, features, options, stopped) if alone else writer.write(features, options, stopped)
        # Token by token the weights are read, not multiplied: casting float32 ones each time would take longest.
        halves = any(parameter.dtype == torch.bfloat16 for parameter in self.network.parameters())
        precision = self._precision if halves else "float32"
        with attending(self.network, self._own_attention):
            while True:
                with torch.inference_mode(), products(precision, self._device):
                    found = next(steps, None)
                if found is None:
                    return
                yield found

    def save(self, folder: Path) -> None:
        self._set_inference()
        if self._adapter is not None:
            self._adapter.save(folder)
            return
        if self._rows is not None:
            self.network.set_input_embeddings(self._rows.whole)
        try:
            with quiet():
                self.network.save_pretrained(str(folder))
        finally:
            if self._rows is not None:
                self.network.set_input_embeddings(self._rows)

    def save_whole(self, folder: Path) -> None:
        if self._adapter is None:
            self.save(folder)
            return
        self._set_inference()
        base = load_network(self._adapter.base, self._head, seed=0).network
        with quiet():
            self._adapter.save_merged(folder, base)

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

    def _pieces(self, features: Sequence[Feature]) -> list[Piece]:
        if self._frozen is None or not self._frozen.knows(features):
            return self._batching.pieces(features)
        pieces = self._batching.pieces(self._frozen.shortened(features))
        return [replace(piece, states=self._frozen.of([features[place] for place in piece.order])) for piece in pieces]

    def _trained(self) -> dict[str, Tensor]:
        return {name: p for name, p in self.network.named_parameters() if p.requires_grad}

    def _forward(self, piece: Piece) -> Tensor:
        if self._frozen is None:
            return self._batching.forward(piece)
        with self._frozen.given(piece.states):
            return self._batching.forward(piece)

    def _results(self, piece: Piece) -> Tensor:
        with products(self._precision, self._device):
            return self._forward(piece)

    def _results_without_gradient(self, piece: Piece) -> Tensor:
        with torch.inference_mode():
            return self._results(piece.to(self._device))

    def _losses(self, piece: Piece) -> tuple[Tensor, Tensor]:
        with products(self._precision, self._device):
            results = self._forward(piece)
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
        packed = isinstance(self._batching, Packed)
        why = "with virtual tokens" if self._adapter and self._adapter.virtual else f"{kind} does not pass the packing probe"
        facts: dict[str, str | int] = {
            "device": str(self._device),
            "precision": self._precision,
            "batching": "packed" if packed else f"length buckets ({why})",
            "attention": "inside each packed sequence" if packed else str(self.network.config._attn_implementation),
            "parameters": parameters,
            "trainable_parameters": sum(p.numel() for p in self._trained().values()),
            "head": loaded.head,
        }
        if self._fused:
            facts["fused_layers"] = "liger-kernel"
        if self._adapter is not None:
            facts["adapter"] = self._adapter.described
        if loaded.bits is not None:
            facts["base_bits"] = loaded.bits
        if loaded.unused:
            facts["unused_weights"] = f"{len(loaded.unused)} (such as {loaded.unused[0]})"
        if self._rows is not None:
            facts["embedding_rows"] = f"{len(self._rows.weight)} of {self._rows.whole.num_embeddings} occur and are trained"
        if self._optimizer is not None and any(not p.requires_grad for p in self.network.parameters()):
            facts["frozen"] = "frozen parts run without dropout"
        return facts


def _recompute(network: Any, adapter: Adapter | None) -> None:
    """Keep no activations inside layers; backward computes them again."""
    virtual = adapter is not None and adapter.virtual is not None
    if virtual or not network.supports_gradient_checkpointing:
        kind = f'the method "{adapter.name}"' if virtual and adapter else f'models of the kind "{network.config.model_type}"'
        raise InputError(f"{kind} cannot do that", where="train.gradient_checkpointing", fix="Leave it out.")
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
