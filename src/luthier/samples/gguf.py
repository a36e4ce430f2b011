"""A Llama model out of a GGUF file, as a folder in the hub's format.

The file (GGUF 3, little endian): magic, version, number of tensors, number of entries; the entries (name, kind,
value); the tensors' names, shapes (fastest axis first), kinds and offsets; from the next multiple of 32 bytes on
(or of the entry general.alignment) the tensors. Kind 0 is float32; 8 is Q8_0, blocks of 32 weights as a float16
scale and 32 int8; 3 is Q4_1, blocks of 32 as float16 scale and minimum and 16 bytes, weight = nibble * scale +
minimum, low nibbles first.
See https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from luthier.errors import InputError

_WHERE = "smollm2"
_ALIGNMENT = 32
_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_BLOCK = 32
_NAMES = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
}


@dataclass(frozen=True, slots=True)
class _File:
    entries: Mapping[str, Any]
    tensors: Mapping[str, np.ndarray]


def convert(data: bytes, folder: Path) -> None:
    """Write config.json, model.safetensors (float32), the tokenizer and its chat template to ``folder``.

    Raises:
        InputError: the file is damaged, has another form, or is of another kind of model.
    """
    if data[:8] != b"GGUF" + struct.pack("<I", 3):
        raise InputError("this is no GGUF file of version 3", where=_WHERE)
    try:
        file = _read(data)
        _check_kind(file.entries)
        _write_model(file, folder)
        _write_tokenizer(file.entries, folder)
    except (struct.error, KeyError, IndexError, ValueError, OverflowError) as error:
        raise InputError(f"this file is cut off, or lacks something ({error})", where=_WHERE) from error


def _check_kind(entries: Mapping[str, Any]) -> None:
    """Refuse what would be written wrongly: what is below holds for these alone."""
    known = {"general.architecture": "llama", "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "smollm"}
    for name, value in known.items():
        if entries[name] != value:
            raise InputError(f"its {name} is {entries[name]}, not {value}", where=_WHERE)


class _Cursor:
    """Reads one value after another."""

    def __init__(self, data: bytes, at: int) -> None:
        self.data, self.at = data, at

    def number(self, kind: str) -> Any:
        (value,) = struct.unpack_from(f"<{kind}", self.data, self.at)
        self.at += struct.calcsize(kind)
        return value

    def text(self) -> str:
        length = self.number("Q")
        self.at += length
        if self.at > len(self.data):
            raise ValueError("a string ends behind the file")
        return self.data[self.at - length : self.at].decode("utf-8")

    def value(self, kind: int) -> Any:
        if kind == _STRING:
            return self.text()
        if kind == _ARRAY:
            inner, count = self.number("I"), self.number("Q")
            return [self.value(inner) for _ in range(count)]
        return self.number(_NUMBERS[kind])


def _read(data: bytes) -> _File:
    cursor = _Cursor(data, 8)
    num_tensors, num_entries = cursor.number("Q"), cursor.number("Q")
    entries = {cursor.text(): cursor.value(cursor.number("I")) for _ in range(num_entries)}
    listed = []
    for _ in range(num_tensors):
        name = cursor.text()
        shape = [cursor.number("Q") for _ in range(cursor.number("I"))]
        listed.append((name, shape[::-1], cursor.number("I"), cursor.number("Q")))
    alignment = entries.get("general.alignment", _ALIGNMENT)
    start = math.ceil(cursor.at / alignment) * alignment
    return _File(entries, {name: _tensor(data, start + offset, shape, kind) for name, shape, kind, offset in listed})


def _tensor(data: bytes, at: int, shape: list[int], kind: int) -> np.ndarray:
    count = math.prod(shape)
    if kind == 0:
        return np.frombuffer(data, "<f4", count, at).reshape(shape)
    if kind == 8:
        blocks = np.frombuffer(data, np.dtype([("scale", "<f2"), ("values", "i1", _BLOCK)]), count // _BLOCK, at)
        weights = blocks["values"].astype(np.float32) * blocks["scale"].astype(np.float32)[:, None]
    elif kind == 3:
        form = np.dtype([("scale", "<f2"), ("least", "<f2"), ("values", "u1", _BLOCK // 2)])
        blocks = np.frombuffer(data, form, count // _BLOCK, at)
        nibbles = np.concatenate([blocks["values"] & 15, blocks["values"] >> 4], axis=1).astype(np.float32)
        weights = nibbles * blocks["scale"].astype(np.float32)[:, None] + blocks["least"].astype(np.float32)[:, None]
    else:
        raise InputError(f"a tensor is of kind {kind}, which is not known here", where=_WHERE)
    return weights.reshape(shape)


def _write_model(file: _File, folder: Path) -> None:
    from safetensors.numpy import save_file

    said = {key.removeprefix("llama."): value for key, value in file.entries.items()}
    heads, kv_heads = said["attention.head_count"], said["attention.head_count_kv"]
    weights = {_hub_name(name): _in_hub_order(name, tensor, heads, kv_heads) for name, tensor in file.tensors.items()}
    save_file(
        {key: np.ascontiguousarray(value) for key, value in weights.items()}, folder / "model.safetensors", {"format": "pt"}
    )
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": said["embedding_length"],
        "intermediate_size": said["feed_forward_length"],
        "num_hidden_layers": said["block_count"],
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "max_position_embeddings": said["context_length"],
        "rms_norm_eps": float(np.float32(said["attention.layer_norm_rms_epsilon"])),
        "rope_theta": said["rope.freq_base"],
        "vocab_size": said["vocab_size"],
        "hidden_act": "silu",
        "tie_word_embeddings": True,
        "dtype": "float32",
        **{f"{role}_token_id": number for role, number in _special_ids(file.entries).items() if role != "unk"},
    }
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")


def _hub_name(name: str) -> str:
    """Return what transformers calls a tensor.

    Raises:
        InputError: there is no such tensor in a Llama model without biases whose embeddings are tied.
    """
    outer = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight"}
    if name in outer:
        return outer[name]
    block, _, inner = name.partition(".")
    layer, _, part = inner.removesuffix(".weight").partition(".")
    if block != "blk" or not name.endswith(".weight") or part not in _NAMES:
        raise InputError(f"it holds a tensor that is not known here: {name}", where=_WHERE)
    return f"model.layers.{layer}.{_NAMES[part]}.weight"


def _in_hub_order(name: str, tensor: np.ndarray, heads: int, kv_heads: int) -> np.ndarray:
    counts = {"attn_q.weight": heads, "attn_k.weight": kv_heads}
    count = counts.get(name.split(".", 2)[-1])
    return tensor if count is None else _unpermuted(tensor, count)


def _unpermuted(weight: np.ndarray, heads: int) -> np.ndarray:
    """Undo the order in which GGUF keeps the two halves of each head for rotary positions."""
    rows, width = weight.shape
    return weight.reshape(heads, rows // heads // 2, 2, width).swapaxes(1, 2).reshape(rows, width)


def _special_ids(entries: Mapping[str, Any]) -> dict[str, int]:
    roles = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}
    return {role: entries[f"tokenizer.ggml.{name}_token_id"] for role, name in roles.items()}


def _write_tokenizer(entries: Mapping[str, Any], folder: Path) -> None:
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    tokens: list[str] = entries["tokenizer.ggml.tokens"]
    kinds: list[int] = entries["tokenizer.ggml.token_type"]
    merges = [tuple(merge.split(" ", 1)) for merge in entries["tokenizer.ggml.merges"]]
    backend = Tokenizer(models.BPE({token: number for number, token in enumerate(tokens)}, merges))
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    backend.decoder = decoders.ByteLevel()
    control = 3
    special = [token for token, kind in zip(tokens, kinds, strict=True) if kind == control]
    backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    backend.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": entries["llama.context_length"],
        "model_input_names": ["input_ids", "attention_mask"],
        "clean_up_tokenization_spaces": False,
        **{f"{role}_token": tokens[number] for role, number in _special_ids(entries).items()},
        "chat_template": entries["tokenizer.chat_template"],
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
