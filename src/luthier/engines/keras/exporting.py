"""A model folder as a ``.keras`` file or a SavedModel. Run as a script, since a process has one back end of Keras:

    python -m luthier.engines.keras.exporting FORMAT HUB_FOLDER NEW_FOLDER

What is written holds layers of Keras and KerasHub alone, no class or function of ours, so it loads without Luthier.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import keras_hub
from keras import ops

from luthier.engines.keras.exported import KERAS_FILE, Format, head_of
from luthier.engines.keras.families import dropout_rates, every_layer
from luthier.engines.keras.head_layers import Dense, Dropout, steps_of
from luthier.engines.keras.network import Loaded, load_network
from luthier.errors import InputError
from luthier.heads import CausalHead, Head, SequenceHead, SpanHead, writes

_BIAS = "final_logits_bias"
_APPROXIMATE = ("gelu_new", "gelu_pytorch_tanh", "gelu_fast")


def whole_model(loaded: Loaded, head: Head) -> Any:
    """Return a keras.Model that says by itself how it is built.

    Its inputs are those of the batches (``token_ids`` ..., int32 [B, L]); it gives the logits of luthier.heads, those
    of a SpanHead as ``start_logits`` and ``end_logits`` [B, L].
    """
    network = loaded.network
    backbone, described = network.backbone, network.config.to_dict()
    network.assign(loaded.values)
    _describe(loaded, described)
    if network.family.activation is None:  # its decoder layers cannot be read from a file but as parts of their backbone
        backbone = _as_read_back(backbone)
        if isinstance(head, CausalHead):
            return _writer_class(backbone)(backbone, preprocessor=None)
        inputs = {name: keras.Input((None,), dtype="int32", name=name) for name in backbone.input}
        states = backbone(inputs)
    else:
        inputs, states = backbone.input, backbone.output
    if writes(head):
        return keras.Model(inputs, _vocabulary(loaded, inputs, states))
    states = _chosen(loaded, head, inputs, states)
    for number, step in enumerate(steps_of(network.family, head, described)):
        if isinstance(step, Dense):
            states = _dense(step, loaded, states)
        elif isinstance(step, Dropout):
            states = keras.layers.Dropout(step.rate, name=f"head_dropout_{number}")(states)
        else:
            states = keras.layers.Activation(step.name, name=f"head_{step.name}")(states)
    if isinstance(head, SpanHead):
        return keras.Model(inputs, {"start_logits": states[:, :, 0], "end_logits": states[:, :, 1]})
    return keras.Model(inputs, states)


def write(model: Any, folder: Path, format: Format) -> None:
    """Write a model of ``whole_model`` into an empty folder."""
    if format == "file":
        model.save(folder / KERAS_FILE)
        return
    import tensorflow

    def serve(inputs: Any) -> Any:
        found = model(inputs, training=False)
        return found if isinstance(found, dict) else {"logits": found}

    archive = keras.export.ExportArchive()
    archive.track(model)
    signature = {name: tensorflow.TensorSpec([None, None], tensorflow.int32, name=name) for name in model.input}
    archive.add_endpoint("serve", serve, input_signature=[signature])
    archive.write_out(str(folder), verbose=False)


def _describe(loaded: Loaded, config: dict[str, Any]) -> None:
    """Let layers say of themselves what they were brought to compute after they had been made."""
    family, backbone = loaded.network.family, loaded.network.backbone
    epsilon = config[family.epsilon] if isinstance(family.epsilon, str) else family.epsilon
    rates = dropout_rates(family, config)
    if hasattr(backbone, "layer_norm_epsilon"):
        backbone.layer_norm_epsilon = epsilon
    for layer in every_layer(backbone):
        if hasattr(layer, "layer_norm_epsilon"):
            layer.layer_norm_epsilon = epsilon
        if hasattr(layer, "_feedforward_intermediate_dense") and family.activation:
            layer.activation = _activation(str(config[family.activation]))
            layer.dropout = rates[1]


def _as_read_back(backbone: Any) -> Any:
    """Return a backbone of which its own description says all: KerasHub's Llama leaves out that its embeddings are tied."""
    described = backbone.get_config()
    if not getattr(backbone, "tie_word_embeddings", False) or "tie_word_embeddings" in described:
        return backbone
    untied = type(backbone).from_config(described)
    values = {variable.path: variable for variable in backbone.weights}
    for variable in untied.weights:
        found = values.get(variable.path)
        variable.assign(ops.transpose(backbone.token_embedding.embeddings) if found is None else found)
    return untied


def _activation(name: str) -> Any:
    """Return the function that transformers calls so, as one that Keras can name in a file."""
    if name in _APPROXIMATE:
        from keras_hub.src.utils.keras_utils import gelu_approximate

        return gelu_approximate
    return keras.activations.get("silu" if name == "swish" else name)


def _writer_class(backbone: Any) -> Any:
    """Return KerasHub's class that writes with this backbone."""

    def below(kind: Any) -> Iterator[Any]:
        for found in kind.__subclasses__():
            yield found
            yield from below(found)

    return next(kind for kind in below(keras_hub.models.CausalLM) if kind.backbone_cls is type(backbone))


def _chosen(loaded: Loaded, head: Head, inputs: Any, states: Any) -> Any:
    """Return the states that the head's layers begin with: [B, L, H], for a SequenceHead [B, H]."""
    family = loaded.network.family
    pooled = isinstance(head, SequenceHead)
    if family.name == "Bert":
        return states["pooled_output" if pooled else "sequence_output"]
    if not pooled:
        return states
    if CausalHead not in family.heads:
        return states[:, 0]
    last = ops.sum(inputs["padding_mask"], axis=1) - 1
    return ops.squeeze(ops.take_along_axis(states, ops.expand_dims(ops.expand_dims(last, -1), -1), axis=1), 1)


def _dense(step: Dense, loaded: Loaded, states: Any) -> Any:
    layer = keras.layers.Dense(step.outputs, use_bias=step.bias, dtype="float32", name=step.name.replace(".", "_"))
    results = layer(states)
    bias = [loaded.values[f"{step.name}.bias"]] if step.bias else []
    layer.set_weights([loaded.values[f"{step.name}.weight"].T, *bias])
    return results


def _vocabulary(loaded: Loaded, inputs: Any, states: Any) -> Any:
    """Return the logits of all tokens [B, L, V]."""
    if isinstance(states, dict):
        states = states["decoder_sequence_output"]
    logits = loaded.network.backbone.token_embedding(states, reverse=True)
    bias = loaded.values.get(_BIAS)
    if bias is None or not bias.any():
        return logits
    # A table of one row: no other layer of Keras holds a bias alone.
    layer = keras.layers.Embedding(1, bias.size, dtype="float32", name=_BIAS)
    added = layer(ops.zeros_like(inputs["decoder_token_ids"]))
    layer.set_weights([bias.reshape(1, -1)])
    return logits + added


def main(arguments: list[str]) -> int:
    """Write one folder; what stands in the way is said on stderr."""
    from luthier.engines.keras.backend import open_backend

    given, hub, target = arguments
    format: Format = "file" if given == "file" else "saved-model"
    try:
        engine = open_backend("tensorflow", device="cpu", precision="float32").name
        head = head_of(Path(hub))
        write(whole_model(load_network(Path(hub), head, seed=None, engine=engine), head), Path(target), format)
    except InputError as error:
        sys.stderr.write(f"{error.what}\n")  # what to do about it in a config is of no use here
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
