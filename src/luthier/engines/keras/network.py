"""A backbone of KerasHub and a head of our own as one function of named weights.

The weights are kept outside of Keras' variables: what is trained may be something else than what a layer computes with
(a thin product beside a frozen matrix), and an optimizer step is a function too.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from luthier.engines.keras.families import Family, build_backbone, every_layer, family_of
from luthier.engines.keras.head_layers import Dense, Dropout, Step, steps_of
from luthier.engines.keras.hub_folder import HubWeights, Place, read_config, set_head, write_folder
from luthier.errors import InputError
from luthier.heads import CausalHead, Head, Seq2SeqHead, SequenceHead, TokenHead

Values = Mapping[str, Any]
"""Tensors by the names of weights."""

_SEGMENT = "embeddings.token_type_embeddings.weight"
_BIAS = "final_logits_bias"


@dataclass(frozen=True, slots=True)
class Weight:
    """One weight: a variable of the backbone, or a tensor of the head.

    Attributes:
        name: the variable's path, or the tensor's name in the folder.
        hub: the tensor's name in the folder.
        variable: None for what is no variable of the backbone.
        inputs: the width of what a matrix is multiplied with; 0 for other weights.
        constant: whether no method trains it.
    """

    name: str
    hub: str
    variable: Any
    inputs: int = 0
    constant: bool = False


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a folder gave: a network, its weights' values, and what there is to say of them."""

    network: Network
    values: dict[str, np.ndarray]
    made: tuple[str, ...]
    unused: tuple[str, ...]


class Network:
    """See the module. Made by ``load_network``.

    Attributes:
        family: of the backbone.
        config: transformers' object, with the head written into it.
        weights: by name.
        longest: the number of positions, or None where there is no limit.
    """

    def __init__(
        self,
        family: Family,
        head: Head,
        config: Any,
        backbone: Any,
        weights: Mapping[str, Weight],
        steps: tuple[Step, ...],
        places: Mapping[str, Place],
        remainder: Mapping[str, np.ndarray],
    ) -> None:
        self.family, self.head, self.config, self.backbone = family, head, config, backbone
        self.weights, self._steps, self._places, self._remainder = dict(weights), steps, places, remainder
        self.longest: int | None = getattr(backbone, "max_sequence_length", None)
        self._own_seeds = [keras.random.SeedGenerator(0) for step in steps if isinstance(step, Dropout) and step.rate]
        found = [variable for variable in backbone.non_trainable_variables if "seed_generator" in variable.path]
        self._seeds = [*found, *(generator.state for generator in self._own_seeds)]

    @property
    def num_seeds(self) -> int:
        """How many pairs of numbers ``results`` takes."""
        return len(self._seeds)

    def is_head(self, name: str) -> bool:
        """Whether a weight stands after the body; a pooler does."""
        hub = self.weights[name].hub
        return ".pooler." in hub or not hub.startswith(self.family.prefix)

    def silence(self, trained: Collection[str]) -> None:
        """Turn dropout off in layers that hold none of the trained weights: they compute the same thing every time."""
        embeds = any("embed" in self.weights[name].hub for name in trained if name in self.weights)
        for layer in self.backbone.layers:
            own = {variable.path for variable in layer.trainable_variables}
            if own.isdisjoint(trained) if own else not embeds:
                for part in every_layer(layer):
                    if isinstance(part, keras.layers.Dropout):
                        part.rate = 0.0
                    elif isinstance(part, keras.layers.MultiHeadAttention):
                        part._dropout = 0.0

    def results(self, values: Values, seeds: Any, inputs: Values, *, training: bool) -> Any:
        """Return logits [R, C], [R, L, C] or [R, L, 2]; of a head that writes the states [R, L, H].

        Args:
            values: of all weights.
            seeds: [num_seeds, 2], what dropout draws from.
            inputs: a piece's, see luthier.engines.keras.batch.
            training: whether dropout is on.
        """
        with keras.StatelessScope(state_mapping=self._mapping(values, seeds)):
            states = self._states(inputs, training=training)
            if isinstance(self.head, SequenceHead):
                states = self._pooled(states, inputs)
            generators = iter(self._own_seeds)
            for step in self._steps:
                states = step.apply(states, values, generators, training=training)
            return states

    def vocabulary(self, values: Values, states: Any) -> Any:
        """Return the logits of all tokens for states [..., H]."""
        with keras.StatelessScope(state_mapping=self._mapping(values, None)):
            logits = self.backbone.token_embedding(states, reverse=True)
        return logits + values[_BIAS][0] if _BIAS in values else logits

    def assign(self, values: Mapping[str, np.ndarray]) -> None:
        """Put values into the backbone's own variables: for a copy that Keras itself writes."""
        for variable, value in self._mapping(values, None):
            variable.assign(value)

    def save(self, folder: Path, values: Mapping[str, np.ndarray]) -> None:
        """Write a folder in the hub's format."""
        body = ((self._places[name], values[name]) for name, weight in self.weights.items() if weight.variable is not None)
        others = {weight.hub: values[name] for name, weight in self.weights.items() if weight.variable is None}
        write_folder(folder, self.config, body, others, self._remainder)

    def _mapping(self, values: Values, seeds: Any) -> list[tuple[Any, Any]]:
        """Pair the backbone's variables with values."""
        pairs = [(weight.variable, values[name]) for name, weight in self.weights.items() if weight.variable is not None]
        segment = next((name for name in self.weights if name.endswith(_SEGMENT) and self.weights[name].variable is None), None)
        if segment is not None:
            # KerasHub's RoBERTa has no segments; the first one's vector is added to every position instead.
            position = self.backbone.embeddings.position_embedding.position_embeddings
            pairs = [(v, value + values[segment][:1] if v is position else value) for v, value in pairs]
        if seeds is not None:
            pairs += [(variable, ops.cast(seeds[place], variable.dtype)) for place, variable in enumerate(self._seeds)]
        return pairs

    def _states(self, inputs: Values, *, training: bool) -> Any:
        if isinstance(self.head, Seq2SeqHead):
            sides = {f"{side}_{name}": inputs[f"{side}_{name}"] for side in ("encoder", "decoder") for name in _SIDE}
            return self.backbone(sides, training=training)["decoder_sequence_output"]
        given = {"token_ids": inputs["token_ids"], "padding_mask": inputs["padding_mask"]}
        if self.family.name != "Bert":
            return self.backbone(given, training=training)
        outputs = self.backbone({**given, "segment_ids": inputs["segment_ids"]}, training=training)
        return outputs["pooled_output" if isinstance(self.head, SequenceHead) else "sequence_output"]

    def _pooled(self, states: Any, inputs: Values) -> Any:
        if self.family.name == "Bert":
            return states
        if CausalHead not in self.family.heads:
            return states[:, 0]
        return ops.squeeze(ops.take_along_axis(states, inputs["last"][:, None, None], axis=1), 1)


_SIDE = ("token_ids", "padding_mask")


def load_network(folder: Path, head: Head, *, seed: int | None, engine: str) -> Loaded:
    """Load a network; a head that the folder lacks is made new from ``seed``.

    Args:
        folder: in the hub's format.
        head: chooses the size of the head.
        seed: None for inference: then the folder must hold the head too.
        engine: its name, for messages.

    Raises:
        InputError: no model, one of another kind, without this head, with missing or non-finite weights.
        SecurityError: the weights are a pickle, or the model wants to run its own code.
    """
    config = read_config(folder)
    family = family_of(folder, config.to_dict(), head, engine=engine)
    renew = set_head(config, head)
    described = config.to_dict()
    converter = converter_of(described)
    backbone = build_backbone(family, described, converter)
    files = HubWeights(folder, family.prefix)
    converter.convert_weights(backbone, files, described)
    weights, values = _body(folder, family, head, backbone, files)
    steps = steps_of(family, head, described)
    made = _make_pooler(weights, values, files, backbone, described, seed or 0) if isinstance(head, SequenceHead) else []
    made += _head_weights(weights, values, steps, files, head, described, renew=renew, seed=seed or 0)
    if made and seed is None:
        what = (
            "its head is another one than this task's"
            if renew
            else f"it has no trained head for this task ({made[0]} is missing)"
        )
        raise InputError(what, where=str(folder), fix="Train it first.")
    unused = tuple(name for name in files.unused() if not name.endswith("position_ids"))
    config.architectures = [family.architecture(head)]
    network = Network(family, head, config, backbone, weights, steps, files.places, files.remainder())
    return Loaded(network, values, tuple(made), unused)


def converter_of(config: Mapping[str, Any]) -> Any:
    """Return KerasHub's module that reads folders of a config's kind."""
    from keras_hub.src.utils.transformers.preset_loader import TransformersPresetLoader

    return TransformersPresetLoader("", dict(config)).converter


def _body(
    folder: Path, family: Family, head: Head, backbone: Any, files: HubWeights
) -> tuple[dict[str, Weight], dict[str, np.ndarray]]:
    """Return the backbone's weights. A pooler that nothing asks for stays out."""
    weights: dict[str, Weight] = {}
    values: dict[str, np.ndarray] = {}
    for variable in backbone.trainable_variables:
        if "pooled_dense" in variable.path and not isinstance(head, SequenceHead):
            files.places.pop(variable.path, None)
            continue
        if variable.path in files.missing and "pooled_dense" in variable.path:
            continue
        if variable.path not in files.places:
            name = files.missing.get(variable.path, variable.path)
            if "reverse_embeddings" in variable.path and not isinstance(head, CausalHead):
                continue
            raise InputError(f"some of its weights are missing (such as {name})", where=str(folder))
        place = files.places[variable.path]
        matrix = variable.path.endswith(("/kernel", "/reverse_embeddings"))
        inputs = place.shape[0 if family.name == "GPT2" else -1] if matrix else 0
        try:
            values[variable.path] = files.values(variable)
        except ValueError as error:
            raise InputError(f"its weight {place.name} is of another size: {list(place.shape)}", where=str(folder)) from error
        weights[variable.path] = Weight(variable.path, place.name, variable, inputs)
    for name, constant in ((f"{family.prefix}{_SEGMENT}", False), (_BIAS, True)):
        bare = name if name == _BIAS else name.removeprefix(family.prefix)
        tensor = next((found for found in (files.take(name), files.take(bare)) if found is not None), None)
        if tensor is not None and not any(place.name == name for place in files.places.values()):
            weights[name] = Weight(name, name, None, constant=constant)
            values[name] = tensor
    return weights, values


def _make_pooler(
    weights: dict[str, Weight],
    values: dict[str, np.ndarray],
    files: HubWeights,
    backbone: Any,
    config: Mapping[str, Any],
    seed: int,
) -> list[str]:
    """Make a pooler that the folder lacks; return the names of its weights."""
    made: list[str] = []
    rng = np.random.default_rng((seed, 1))
    for variable in backbone.trainable_variables:
        if variable.path in files.missing and "pooled_dense" in variable.path and variable.path not in weights:
            hub, shape = files.missing[variable.path], tuple(variable.shape)
            matrix = len(shape) == 2
            values[variable.path] = _drawn(rng, shape, config) if matrix else np.zeros(shape, dtype=np.float32)
            files.places[variable.path] = Place(hub, shape[::-1], _transposed if matrix else None)
            weights[variable.path] = Weight(variable.path, hub, variable, shape[0] if matrix else 0)
            made.append(hub)
    return made


def _transposed(tensor: Any, _: Any) -> Any:
    return np.transpose(tensor)


def _head_weights(
    weights: dict[str, Weight],
    values: dict[str, np.ndarray],
    steps: tuple[Step, ...],
    files: HubWeights,
    head: Head,
    config: Mapping[str, Any],
    *,
    renew: bool,
    seed: int,
) -> list[str]:
    """Take the head's weights from the folder, or make them; return the names of those that are new."""
    made: list[str] = []
    rng = np.random.default_rng((seed, 0))
    for step in steps:
        if not isinstance(step, Dense):
            continue
        last = isinstance(head, SequenceHead | TokenHead) and step.outputs == head.num_labels
        for name, shape in step.shapes().items():
            found = None if renew and last else files.take(name)
            if found is None or found.shape != shape:
                found = _drawn(rng, shape, config) if len(shape) == 2 else np.zeros(shape, dtype=np.float32)
                made.append(name)
            values[name] = found
            weights[name] = Weight(name, name, None, step.inputs if len(shape) == 2 else 0)
    return made


def _drawn(rng: np.random.Generator, shape: tuple[int, ...], config: Mapping[str, Any]) -> np.ndarray:
    """Draw a new matrix as transformers does."""
    return np.asarray(rng.standard_normal(shape) * config.get("initializer_range", 0.02), dtype=np.float32)
