"""The kinds of models that this engine has, and how KerasHub's backbones are brought to compute what transformers computes.

KerasHub's converters say which weight goes where; epsilons, activations and dropout follow the checkpoint's config here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

from luthier.errors import InputError
from luthier.heads import CausalHead, Head, Seq2SeqHead, SequenceHead, SpanHead, TokenHead

_ENCODER = (SequenceHead, TokenHead, SpanHead)
_DECODER = (CausalHead, SequenceHead)
_SUFFIXES: Mapping[type[Head], str] = {
    SequenceHead: "ForSequenceClassification",
    TokenHead: "ForTokenClassification",
    SpanHead: "ForQuestionAnswering",
    CausalHead: "ForCausalLM",
    Seq2SeqHead: "ForConditionalGeneration",
}


@dataclass(frozen=True, slots=True)
class Family:
    """A kind of model.

    Attributes:
        name: the prefix of transformers' class names.
        prefix: of the body's weights in a folder.
        heads: that it can have here.
        needs: values of the config that KerasHub's backbone takes for granted.
        epsilon: the config's key for that of its norms, or the value itself.
        activation: the config's key; None where the backbone has the only one there is.
        dropouts: the config's keys for dropout of the embeddings, of the layers' results and of attention.
    """

    name: str
    prefix: str
    heads: tuple[type[Head], ...]
    needs: Mapping[str, Any]
    epsilon: str | float
    activation: str | None
    dropouts: tuple[str, str, str] | None = None

    def architecture(self, head: Head) -> str:
        """Return the name of transformers' class for this head."""
        if self.name == "GPT2" and isinstance(head, CausalHead):
            return "GPT2LMHeadModel"
        return self.name + _SUFFIXES[type(head)]


_ENCODER_DROPOUTS = ("hidden_dropout_prob", "hidden_dropout_prob", "attention_probs_dropout_prob")
_BERT = {"is_decoder": False, "add_cross_attention": False}
_ROPE = {"mlp_bias": False, "attention_bias": False, "hidden_act": "silu", "attention_dropout": 0.0}

FAMILIES: Mapping[str, Family] = {
    "bert": Family("Bert", "bert.", _ENCODER, _BERT, "layer_norm_eps", "hidden_act", _ENCODER_DROPOUTS),
    "roberta": Family("Roberta", "roberta.", _ENCODER, _BERT, "layer_norm_eps", "hidden_act", _ENCODER_DROPOUTS),
    "xlm-roberta": Family("XLMRoberta", "roberta.", _ENCODER, _BERT, "layer_norm_eps", "hidden_act", _ENCODER_DROPOUTS),
    "distilbert": Family(
        "DistilBert", "distilbert.", _ENCODER, {}, 1e-12, "activation", ("dropout", "dropout", "attention_dropout")
    ),
    "gpt2": Family(
        "GPT2",
        "transformer.",
        _DECODER,
        {
            "scale_attn_weights": True,
            "scale_attn_by_inverse_layer_idx": False,
            "add_cross_attention": False,
            "tie_word_embeddings": True,
        },
        "layer_norm_epsilon",
        "activation_function",
        ("embd_pdrop", "resid_pdrop", "attn_pdrop"),
    ),
    "llama": Family("Llama", "model.", _DECODER, _ROPE, "rms_norm_eps", None),
    "qwen2": Family("Qwen2", "model.", _DECODER, {**_ROPE, "use_sliding_window": False}, "rms_norm_eps", None),
    "qwen3": Family("Qwen3", "model.", _DECODER, {**_ROPE, "use_sliding_window": False}, "rms_norm_eps", None),
    "mistral": Family(
        "Mistral", "model.", _DECODER, {**_ROPE, "sliding_window": None, "tie_word_embeddings": False}, "rms_norm_eps", None
    ),
    "bart": Family(
        "Bart",
        "model.",
        (Seq2SeqHead,),
        {"scale_embedding": False, "activation_dropout": 0.0, "tie_word_embeddings": True},
        1e-5,
        "activation_function",
        ("dropout", "dropout", "attention_dropout"),
    ),
}
"""By the config's ``model_type``."""


def family_of(folder: Path, config: Mapping[str, Any], head: Head, *, engine: str) -> Family:
    """Return the kind of a model.

    Raises:
        InputError: KerasHub has no such model, or not with this head or these values of its config.
    """
    kind = str(config.get("model_type"))
    torch = 'The engine "torch" has it: engine=torch.'
    if kind not in FAMILIES:
        there = ", ".join(FAMILIES)
        raise InputError(
            f'the engine "{engine}" has no models of the kind "{kind}" (it has {there})', where=str(folder), fix=torch
        )
    family = FAMILIES[kind]
    if type(head) not in family.heads:
        raise InputError(
            f'under the engine "{engine}" a model of the kind "{kind}" cannot have a {type(head).__name__}',
            where=str(folder),
            fix=torch,
        )
    wrong = {key: config[key] for key, value in family.needs.items() if key in config and config[key] != value}
    wrong |= _other_sizes(kind, config)
    if wrong:
        found = ", ".join(f"{key}: {value}" for key, value in wrong.items())
        raise InputError(f'the engine "{engine}" cannot compute this "{kind}" exactly ({found})', where=str(folder), fix=torch)
    return family


def _other_sizes(kind: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return values that KerasHub's backbones cannot have, though a config can."""
    wrong: dict[str, Any] = {}
    if kind in ("llama", "qwen2") and config.get("head_dim"):
        usual = config["hidden_size"] // config["num_attention_heads"]
        wrong |= {"head_dim": config["head_dim"]} if config["head_dim"] != usual else {}
    rope = (config.get("rope_parameters") or {}).get("rope_type", "default")
    if rope != "default" and not (kind == "llama" and rope == "llama3"):
        wrong["rope_type"] = rope
    for side in ("layers", "attention_heads", "ffn_dim"):
        if f"encoder_{side}" in config and config[f"encoder_{side}"] != config[f"decoder_{side}"]:
            wrong[f"decoder_{side}"] = config[f"decoder_{side}"]
    return wrong


def build_backbone(family: Family, config: Mapping[str, Any], converter: Any) -> Any:
    """Return KerasHub's backbone for a config, with weights that are still to be set."""
    values = dict(config)
    rope = values.get("rope_parameters") or {}
    if rope.get("rope_type", "default") != "default":
        values["rope_scaling"] = rope
    else:
        values["rope_scaling"] = None  # the converter takes any other value for Llama 3's
    if "encoder_layers" in values:
        values["num_hidden_layers"] = values["encoder_layers"]
    options = dict(converter.convert_backbone_config(values))
    if isinstance(family.epsilon, str) and family.dropouts is None:
        options["layer_norm_epsilon"] = config[family.epsilon]
    if family.name == "GPT2" and config.get("n_inner"):
        options["intermediate_dim"] = config["n_inner"]
    if family.name == "Bert":
        options["num_segments"] = config["type_vocab_size"]
    rates = dropout_rates(family, config)
    if rates:
        options["dropout"] = max(rates)  # layers made without dropout never get any
    backbone = converter.backbone_cls(**options, dtype="float32")
    _follow_config(backbone, family, config)
    return backbone


def dropout_rates(family: Family, config: Mapping[str, Any]) -> tuple[float, ...]:
    """Return the rates of embeddings, results and attention; empty for families without dropout."""
    return tuple(float(config[key]) for key in family.dropouts or ())


def _follow_config(backbone: Any, family: Family, config: Mapping[str, Any]) -> None:
    epsilon = config[family.epsilon] if isinstance(family.epsilon, str) else family.epsilon
    for layer in every_layer(backbone):
        if "norm" in type(layer).__name__.lower() and hasattr(layer, "epsilon"):
            layer.epsilon = epsilon
        elif hasattr(layer, "_feedforward_intermediate_dense") and family.activation:
            layer._feedforward_intermediate_dense.activation = _activation(str(config[family.activation]))
        elif family.dropouts is not None:
            _set_dropout(layer, family, dropout_rates(family, config))


def _set_dropout(layer: Any, family: Family, rates: tuple[float, ...]) -> None:
    embedded, results, attention = rates
    if isinstance(layer, keras.layers.MultiHeadAttention):
        layer._dropout = layer._dropout_layer.rate = attention
    elif isinstance(layer, keras.layers.Dropout) and layer.name.endswith("embeddings_dropout"):
        layer.rate = embedded
    elif isinstance(layer, keras.layers.Dropout) and layer.name.endswith("_dropout"):
        # DistilBERT has no dropout between the attention's result and its norm.
        layer.rate = 0.0 if family.name == "DistilBert" and layer.name == "self_attention_dropout" else results


def every_layer(layer: Any) -> Iterator[Any]:
    """Yield a layer and all inside it, each once, in a fixed order."""
    seen: set[int] = set()
    waiting = [layer]
    while waiting:
        one = waiting.pop(0)
        if id(one) not in seen:
            seen.add(id(one))
            yield one
            waiting += list(getattr(one, "_layers", []))


def _activation(name: str) -> Any:
    """Return the function that transformers calls so.

    Raises:
        InputError: none of those that encoders are known to use.
    """
    if name == "gelu":
        return lambda x: keras.activations.gelu(x, approximate=False)
    if name in ("gelu_new", "gelu_pytorch_tanh", "gelu_fast"):
        return lambda x: keras.activations.gelu(x, approximate=True)
    if name in ("relu", "silu", "swish"):
        return keras.activations.get("silu" if name == "swish" else name)
    raise InputError(f'the activation "{name}" is not known under Keras', where="model", fix="Choose engine=torch.")
