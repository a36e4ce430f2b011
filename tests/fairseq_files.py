"""Small checkpoints as fairseq writes them, and what a fairseq transformer computes, written out from its papers and code.

The forward pass here is one sequence at a time, without masks for padding, caches or modules: nothing of Luthier's.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

WORDS = ["the", "cat", "dog", "sees", "a", "bird", "and", "sleeps", "runs", "big", "small", "red"]
WORTE = ["die", "katze", "hund", "sieht", "einen", "vogel", "und", "rennt", "rot"]


@dataclass(frozen=True)
class Tiny:
    """A fairseq model of width 8; ``lm`` has a decoder alone."""

    lm: bool = False
    joined: bool = False
    share_all: bool = False
    share_output: bool = False
    encoder_before: bool = False
    decoder_before: bool = False
    learned: bool = False
    final_norm: bool = True
    activation: str = "relu"
    embedding_norm: bool = False
    scaled: bool = True
    encoder_layers: int = 2
    decoder_layers: int = 1
    more: dict[str, Any] = field(default_factory=dict)

    @property
    def sides(self) -> list[str]:
        return ["decoder"] if self.lm else ["encoder", "decoder"]

    def words(self, side: str) -> list[str]:
        return WORDS if side == "encoder" or self.joined or self.lm else WORTE

    def rows(self, side: str) -> int:
        return 4 + len(self.words(side))


WIDTH, HEADS, INNER, POSITIONS = 8, 2, 12, 30


def settings(kind: Tiny) -> dict[str, Any]:
    """Return the flags that fairseq-train would have been given."""
    values: dict[str, Any] = {
        "arch": "transformer_lm" if kind.lm else "transformer",
        "task": "language_modeling" if kind.lm else "translation",
        "share_decoder_input_output_embed": kind.share_output,
        "activation_fn": kind.activation,
        "layernorm_embedding": kind.embedding_norm,
        "no_scale_embedding": not kind.scaled,
        "no_decoder_final_norm": not kind.final_norm,
        "dropout": 0.0,
        "max_target_positions": POSITIONS,
        "decoder_output_dim": WIDTH,
        "decoder_input_dim": WIDTH,
        "lr": [0.001],
        "data": "data-bin",
    }
    if not kind.lm:
        values |= {"share_all_embeddings": kind.share_all, "max_source_positions": POSITIONS}
        values |= {"source_lang": "en", "target_lang": "de"}
    for side in kind.sides:
        values |= {
            f"{side}_embed_dim": WIDTH,
            f"{side}_attention_heads": HEADS,
            f"{side}_normalize_before": kind.encoder_before if side == "encoder" else kind.decoder_before,
            f"{side}_learned_pos": kind.learned,
        }
    return values | kind.more


def weights(kind: Tiny, seed: int = 0) -> dict[str, Tensor]:
    """Return random weights under fairseq's names, with the stale copies and buffers that it writes too."""
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int, around: float = 0.0) -> Tensor:
        return around + 0.4 * torch.randn(*shape, generator=generator)

    found: dict[str, Tensor] = {}
    for side in kind.sides:
        found[f"{side}.version"] = torch.tensor([3.0])
        table = random(kind.rows(side), WIDTH)
        table[1] = 0
        found[f"{side}.embed_tokens.weight"] = table
        if kind.learned:
            found[f"{side}.embed_positions.weight"] = random(POSITIONS + 2, WIDTH)
        else:
            found[f"{side}.embed_positions._float_tensor"] = torch.zeros(1)
        for layer in range(kind.encoder_layers if side == "encoder" else kind.decoder_layers):
            at = f"{side}.layers.{layer}"
            attentions = ["self_attn"] if side == "encoder" or kind.lm else ["self_attn", "encoder_attn"]
            for name in [f"{attention}.{part}_proj" for attention in attentions for part in ("q", "k", "v", "out")]:
                found |= {f"{at}.{name}.weight": random(WIDTH, WIDTH), f"{at}.{name}.bias": random(WIDTH)}
            found |= {f"{at}.fc1.weight": random(INNER, WIDTH), f"{at}.fc1.bias": random(INNER)}
            found |= {f"{at}.fc2.weight": random(WIDTH, INNER), f"{at}.fc2.bias": random(WIDTH)}
            for name in [*(f"{attention}_layer_norm" for attention in attentions), "final_layer_norm"]:
                found |= {f"{at}.{name}.weight": random(WIDTH, around=1.0), f"{at}.{name}.bias": random(WIDTH)}
            if side == "encoder":
                found |= {f"{at}.in_proj_weight": random(3 * WIDTH, WIDTH), f"{at}.in_proj_bias": random(3 * WIDTH)}
                found |= {f"{at}.fc1_weight": random(INNER, WIDTH), f"{at}.out_proj_bias": random(WIDTH)}
        before = kind.encoder_before if side == "encoder" else kind.decoder_before and kind.final_norm
        for name in [*(["layer_norm"] if before else []), *(["layernorm_embedding"] if kind.embedding_norm else [])]:
            found |= {f"{side}.{name}.weight": random(WIDTH, around=1.0), f"{side}.{name}.bias": random(WIDTH)}
    if kind.share_all:
        found["encoder.embed_tokens.weight"] = found["decoder.embed_tokens.weight"]
    shared = kind.share_all or kind.share_output
    table = found["decoder.embed_tokens.weight"]
    found["decoder.output_projection.weight"] = table if shared else random(*table.shape)
    return found


def write(folder: Path, kind: Tiny, *, old: bool = False, seed: int = 0) -> Path:
    """Write checkpoint.pt, in a new or an old form, and the dictionaries in data-bin; return the checkpoint's path."""
    (folder / "data-bin").mkdir(parents=True)
    for side in kind.sides:
        name = "dict.txt" if kind.lm else f"dict.{'en' if side == 'encoder' else 'de'}.txt"
        lines = "".join(f"{word} {100 - number}\n" for number, word in enumerate(kind.words(side)))
        (folder / "data-bin" / name).write_text(lines, encoding="utf-8")
    values = settings(kind)
    task = {"_name": values["task"], **{key: values.get(key) for key in ("data", "source_lang", "target_lang")}}
    state: dict[str, Any] = {"model": weights(kind, seed), "optimizer_history": [], "extra_state": {}}
    if old:
        state["args"] = argparse.Namespace(**values)
    else:
        model = argparse.Namespace(**{**values, "_name": values["arch"]})
        state |= {"args": None, "cfg": {"_name": None, "model": model, "task": task}}
    torch.save(state, folder / "checkpoint.pt")
    return folder / "checkpoint.pt"


def logits(kind: Tiny, found: dict[str, Tensor], source: Sequence[int] | None, target: Sequence[int]) -> Tensor:
    """Compute [T, V] for one pair, or one text."""
    seen = None if source is None else _stack(kind, found, "encoder", source, None)
    states = _stack(kind, found, "decoder", target, seen)
    return states @ found["decoder.output_projection.weight"].T


def _stack(kind: Tiny, found: dict[str, Tensor], side: str, ids: Sequence[int], seen: Tensor | None) -> Tensor:
    states = found[f"{side}.embed_tokens.weight"][torch.tensor(ids)] * (math.sqrt(WIDTH) if kind.scaled else 1.0)
    states = states + _positions(kind, found, side, len(ids))
    if kind.embedding_norm:
        states = _norm(states, found, f"{side}.layernorm_embedding")
    before = kind.encoder_before if side == "encoder" else kind.decoder_before
    for layer in range(kind.encoder_layers if side == "encoder" else kind.decoder_layers):
        at = f"{side}.layers.{layer}"
        inputs = _norm(states, found, f"{at}.self_attn_layer_norm") if before else states
        states = states + _attention(found, f"{at}.self_attn", inputs, inputs, causal=side == "decoder")
        states = states if before else _norm(states, found, f"{at}.self_attn_layer_norm")
        if seen is not None:
            inputs = _norm(states, found, f"{at}.encoder_attn_layer_norm") if before else states
            states = states + _attention(found, f"{at}.encoder_attn", inputs, seen, causal=False)
            states = states if before else _norm(states, found, f"{at}.encoder_attn_layer_norm")
        inputs = _norm(states, found, f"{at}.final_layer_norm") if before else states
        inner = inputs @ found[f"{at}.fc1.weight"].T + found[f"{at}.fc1.bias"]
        states = states + _activation(kind, inner) @ found[f"{at}.fc2.weight"].T + found[f"{at}.fc2.bias"]
        states = states if before else _norm(states, found, f"{at}.final_layer_norm")
    return _norm(states, found, f"{side}.layer_norm") if f"{side}.layer_norm.weight" in found else states


def _activation(kind: Tiny, values: Tensor) -> Tensor:
    if kind.activation == "relu":
        return values.clamp(min=0)
    if kind.activation == "gelu":
        return values * 0.5 * (1 + torch.erf(values / math.sqrt(2)))
    return 0.5 * values * (1 + torch.tanh(math.sqrt(2 / math.pi) * (values + 0.044715 * values**3)))


def _norm(states: Tensor, found: dict[str, Tensor], name: str) -> Tensor:
    centred = states - states.mean(-1, keepdim=True)
    scaled = centred / torch.sqrt(centred.pow(2).mean(-1, keepdim=True) + 1e-5)
    return scaled * found[f"{name}.weight"] + found[f"{name}.bias"]


def _positions(kind: Tiny, found: dict[str, Tensor], side: str, count: int) -> Tensor:
    """Positions begin at 2, behind that of padding."""
    if kind.learned:
        return found[f"{side}.embed_positions.weight"][2 : 2 + count]
    half = WIDTH // 2
    rows = []
    for position in range(2, 2 + count):
        angles = [position * math.exp(-number * math.log(10000) / (half - 1)) for number in range(half)]
        rows.append([*(math.sin(angle) for angle in angles), *(math.cos(angle) for angle in angles)])
    return torch.tensor(rows)


def _attention(found: dict[str, Tensor], name: str, queries: Tensor, keys: Tensor, *, causal: bool) -> Tensor:
    def project(states: Tensor, part: str) -> Tensor:
        return states @ found[f"{name}.{part}_proj.weight"].T + found[f"{name}.{part}_proj.bias"]

    q, k, v = project(queries, "q"), project(keys, "k"), project(keys, "v")
    size = WIDTH // HEADS
    parts = []
    for head in range(HEADS):
        place = slice(head * size, (head + 1) * size)
        scores = q[:, place] @ k[:, place].T / math.sqrt(size)
        if causal:
            scores = scores.masked_fill(torch.ones_like(scores).triu(1).bool(), -math.inf)
        parts.append(functional.softmax(scores, -1) @ v[:, place])
    return torch.cat(parts, -1) @ found[f"{name}.out_proj.weight"].T + found[f"{name}.out_proj.bias"]


KINDS = {
    "post-norm, all shared": Tiny(joined=True, share_all=True),
    "post-norm, nothing shared": Tiny(),
    "post-norm, output shared": Tiny(share_output=True, encoder_layers=1, decoder_layers=3),
    "pre-norm": Tiny(encoder_before=True, decoder_before=True, share_output=True),
    "pre-norm, all shared, gelu": Tiny(
        joined=True, share_all=True, encoder_before=True, decoder_before=True, activation="gelu"
    ),
    "pre-norm encoder alone, gelu_accurate": Tiny(encoder_before=True, activation="gelu_accurate"),
    "pre-norm without the last norm": Tiny(encoder_before=True, decoder_before=True, final_norm=False),
    "learned positions": Tiny(learned=True, decoder_layers=2),
    "learned positions, pre-norm, not scaled": Tiny(learned=True, encoder_before=True, decoder_before=True, scaled=False),
    "a norm behind the embeddings": Tiny(joined=True, share_all=True, embedding_norm=True),
    "language model": Tiny(lm=True, share_output=True, decoder_layers=2),
    "language model, pre-norm, gelu": Tiny(lm=True, decoder_before=True, activation="gelu", decoder_layers=2),
    "language model, learned positions": Tiny(lm=True, learned=True, decoder_before=True, share_output=True),
    "language model without the last norm": Tiny(lm=True, decoder_before=True, final_norm=False),
}


def with_settings(kind: Tiny, **more: Any) -> Tiny:
    return replace(kind, more=more)
