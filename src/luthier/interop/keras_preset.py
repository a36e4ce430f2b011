"""A KerasHub preset as a folder in the hub's format: its config, its tokenizer, and its weights through KerasHub itself.

A preset's config.json names a class. Only the names below are known, and nothing of a preset is deserialised: sizes are
read as plain numbers. The result computes what KerasHub computes, so a BERT has the approximate GELU there.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from luthier.errors import InputError
from luthier.interop.converted import digest_of, made_once
from luthier.interop.keras_tokenizer import tokenizer_of

_VERSION = "keras 1"
"""Of what is written; a new one makes old conversions be made again."""
_POSITIONS = 4096
"""Of kinds that turn positions into angles: a preset says nothing of how many they were trained on."""
_SIZES = {
    "vocab_size": "vocabulary_size", "num_hidden_layers": "num_layers", "hidden_size": "hidden_dim",
    "intermediate_size": "intermediate_dim",
}  # fmt: skip
_ENCODER = {
    **_SIZES, "num_attention_heads": "num_heads", "hidden_dropout_prob": "dropout",
    "attention_probs_dropout_prob": "dropout", "max_position_embeddings": "max_sequence_length",
}  # fmt: skip
_DECODER = {
    **_SIZES, "num_attention_heads": "num_query_heads", "num_key_value_heads": "num_key_value_heads",
    "rms_norm_eps": "layer_norm_epsilon", "tie_word_embeddings": "tie_word_embeddings", "rope_theta": "rope_max_wavelength",
}  # fmt: skip
_BART = {
    "vocab_size": "vocabulary_size", "d_model": "hidden_dim", "max_position_embeddings": "max_sequence_length",
    **{f"{side}_layers": "num_layers" for side in ("encoder", "decoder")},
    **{f"{side}_attention_heads": "num_heads" for side in ("encoder", "decoder")},
    **{f"{side}_ffn_dim": "intermediate_dim" for side in ("encoder", "decoder")},
    "dropout": "dropout", "attention_dropout": "dropout",
}  # fmt: skip
_DISTILBERT = {
    "vocab_size": "vocabulary_size", "n_layers": "num_layers", "n_heads": "num_heads", "dim": "hidden_dim",
    "hidden_dim": "intermediate_dim", "dropout": "dropout", "attention_dropout": "dropout",
    "max_position_embeddings": "max_sequence_length",
}  # fmt: skip
_GPT2 = {
    "vocab_size": "vocabulary_size", "n_layer": "num_layers", "n_head": "num_heads", "n_embd": "hidden_dim",
    "n_inner": "intermediate_dim", "n_positions": "max_sequence_length", "embd_pdrop": "dropout", "resid_pdrop": "dropout",
    "attn_pdrop": "dropout",
}  # fmt: skip
_ROPE_SCALING = ("rope_scaling_factor", "rope_position_scaling_factor", "rope_frequency_adjustment_factor")

BACKBONES: Mapping[str, tuple[str, Mapping[str, str], Mapping[str, Any]]] = {
    "BertBackbone": (
        "bert",
        {**_ENCODER, "type_vocab_size": "num_segments"},
        {"hidden_act": "gelu_new", "layer_norm_eps": 1e-12, "architectures": ["BertModel"]},
    ),
    "DistilBertBackbone": ("distilbert", _DISTILBERT, {"activation": "gelu", "architectures": ["DistilBertModel"]}),
    "RobertaBackbone": (
        "roberta",
        _ENCODER,
        {"hidden_act": "gelu", "layer_norm_eps": 1e-5, "type_vocab_size": 1, "architectures": ["RobertaModel"]},
    ),
    "GPT2Backbone": (
        "gpt2",
        _GPT2,
        {"activation_function": "gelu_new", "layer_norm_epsilon": 1e-5, "architectures": ["GPT2LMHeadModel"]},
    ),
    "BartBackbone": (
        "bart",
        _BART,
        {"activation_function": "gelu", "activation_dropout": 0.0, "architectures": ["BartForConditionalGeneration"]},
    ),
    "Llama3Backbone": ("llama", _DECODER, {"architectures": ["LlamaForCausalLM"]}),
    "QwenBackbone": ("qwen2", _DECODER, {"architectures": ["Qwen2ForCausalLM"], "use_sliding_window": False}),
    "Qwen3Backbone": (
        "qwen3",
        {**_DECODER, "head_dim": "head_dim"},
        {"architectures": ["Qwen3ForCausalLM"], "use_sliding_window": False},
    ),
}
"""From KerasHub's class to transformers' kind, where each of its sizes comes from, and what KerasHub fixes."""


def converted(name: str, cache: Path) -> Path:
    """Return the hub folder of a preset, made where the cache has none of these files.

    Args:
        name: the preset's folder; what follows ``keras:``.
        cache: takes the folder.

    Raises:
        InputError: no preset, a damaged one, or of a kind or with a tokenizer not known here; or KerasHub is not installed.
    """
    preset = Path(name).expanduser()
    if not preset.is_dir():
        raise InputError(
            f'there is no folder "{preset}"', where="model", fix="Write keras: and the folder of a KerasHub preset."
        )
    kind, _ = read_sizes(preset)
    weights = _weights(preset)
    tokenizer, files = tokenizer_of(preset, kind)
    config = config_of(preset, tokenizer)
    target = cache / f"keras-{digest_of([preset / 'config.json', *weights, *files], salt=_VERSION)}"

    def make(made: Path) -> None:
        config.save_pretrained(str(made))
        tokenizer.save_pretrained(str(made))
        _convert_weights(preset, made)

    return made_once(target, make)


def read_sizes(preset: Path) -> tuple[str, dict[str, Any]]:
    """Return a preset's kind, as transformers names it, and the plain values of its backbone's config.

    Raises:
        InputError: it is damaged, or a class that is not known here.
    """
    values = read_json(preset, "config.json")
    found, config = values.get("class_name"), values.get("config")
    if not isinstance(found, str) or found not in BACKBONES or not isinstance(config, dict):
        raise InputError(
            f'KerasHub\'s "{found}" cannot be read (known are {", ".join(BACKBONES)})',
            where=str(preset / "config.json"),
            fix="Give a folder in the hub's format.",
        )
    plain = {key: value for key, value in config.items() if value is None or isinstance(value, bool | int | float)}
    missing = sorted({*BACKBONES[found][1].values()} - plain.keys() - {"tie_word_embeddings"})
    if missing:
        raise InputError(f'it says nothing of "{missing[0]}"', where=str(preset / "config.json"))
    if (scaled := [key for key in _ROPE_SCALING if plain.get(key) not in (None, 1, 1.0)]) or plain.get(
        "use_sliding_window_attention"
    ):
        what = scaled[0] if scaled else "use_sliding_window_attention"
        raise InputError(f'"{what}" cannot be carried over', where=str(preset / "config.json"))
    return BACKBONES[found][0], {"class_name": found, **{key: plain[key] for key in plain if key != "trainable"}}


def config_of(preset: Path, tokenizer: Any) -> Any:
    """Return transformers' config object for a preset, with the special tokens of its tokenizer."""
    from transformers import AutoConfig

    kind, sizes = read_sizes(preset)
    _, sources, fixed = BACKBONES[sizes["class_name"]]
    values = {name: sizes[source] for name, source in sources.items() if source in sizes}
    if kind == "roberta":
        values["max_position_embeddings"] += 2  # the first two rows are for padding
    if "rope_theta" in values:
        values["rope_parameters"] = {"rope_type": "default", "rope_theta": float(values.pop("rope_theta"))}
        values.setdefault("tie_word_embeddings", False)
        values["max_position_embeddings"] = _POSITIONS
    ids = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    if kind == "bart":
        ids |= {"decoder_start_token_id": ids["eos_token_id"], "forced_eos_token_id": ids["eos_token_id"]}
    return AutoConfig.for_model(kind, **values, **ids, **fixed)


def _weights(preset: Path) -> list[Path]:
    """Return the files that hold a preset's weights."""
    whole, parts = preset / "model.weights.h5", preset / "model.weights.json"
    if whole.is_file():
        return [whole]
    if parts.is_file():
        return [parts, *sorted(preset.glob("model_*.weights.h5"))]
    raise InputError("there is no model.weights.h5 in this preset", where=str(preset), fix="Get the preset again.")


def read_json(preset: Path, name: str) -> dict[str, Any]:
    """Return the object in one of a preset's files.

    Raises:
        InputError: it is missing or damaged.
    """
    path = preset / name
    if not path.is_file():
        raise InputError(f"there is no {name} in this preset", where=str(preset), fix="A preset is what save_to_preset writes.")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{name} is damaged", where=str(preset), fix="Get the preset again.") from error
    if not isinstance(values, dict):
        raise InputError(f"{name} holds no object", where=str(preset))
    return values


def _convert_weights(preset: Path, made: Path) -> None:
    """Let KerasHub read the weights, in a process of its own: this one may run torch, or another toolchain."""
    engine = next((name for name in ("tensorflow", "jax") if find_spec(name)), None)
    if engine is None or find_spec("keras_hub") is None:
        raise InputError("to read a preset KerasHub must be installed", where="model", fix='pip install "luthier[tensorflow]"')
    surroundings = {**os.environ, "KERAS_BACKEND": engine, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
    command = [sys.executable, "-m", "luthier.engines.keras.preset", engine, str(preset), str(made)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=surroundings, check=False)
    if done.returncode == InputError.exit_code:
        raise InputError(done.stderr.strip().splitlines()[-1], where=str(preset), fix="Get the preset again.")
    if done.returncode:
        raise RuntimeError(f"the process that reads the preset ended with {done.returncode}:\n{done.stderr[-4000:]}")
