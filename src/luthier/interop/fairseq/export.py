"""A tuned model as a checkpoint with dictionaries that fairseq 0.12.2 loads.

    checkpoint.pt    dict.LANGUAGE.txt for both sides (a language model: dict.txt)    codes.bpe where there are BPE codes

The settings are written as fairseq's older ``args``: every version reads them and fills in what they leave out.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from luthier.errors import InputError
from luthier.interop.fairseq.architecture import ACTIVATIONS, Architecture, Side, architecture_of
from luthier.interop.fairseq.checkpoint import read_checkpoint
from luthier.interop.fairseq.dictionary import Dictionary
from luthier.interop.fairseq.hub_form import CAUSAL, FSMT, SEQ2SEQ, architecture_of_config, fairseq_weights, write_model
from luthier.interop.fairseq.vocabularies import dictionaries_of

if TYPE_CHECKING:
    from torch import Tensor

    from luthier.trained import TrainedModel

_CHECKPOINT = "checkpoint.pt"
_VERSION = 3.0
"""Of an encoder's or decoder's layout; where it is less fairseq takes the norm after the last layer off."""


def export_fairseq(trained: TrainedModel, folder: Path) -> None:
    """Write the checkpoint, the dictionaries and BPE codes.

    Raises:
        InputError: fairseq has no model of this kind.
    """
    with tempfile.TemporaryDirectory(prefix="luthier-") as scratch:
        whole = Path(scratch)
        trained.model.save_whole(whole)
        architecture = architecture_of_config(_config(whole, where=str(trained.source.folder)))
        weights = fairseq_weights(architecture, _read(whole))
        trained.tokenizer.save(whole)
        source, target = dictionaries_of(whole)
        _check_sizes(architecture, source, target, where=str(trained.source.folder))
        names = _write_dictionaries(architecture, source, target, trained.task.languages, folder)
        _write_codes(whole, folder)
    write_checkpoint(architecture, weights, names, folder / _CHECKPOINT)


def write_checkpoint(
    architecture: Architecture, weights: Mapping[str, Tensor], names: tuple[str, str] | None, path: Path
) -> None:
    """Write a checkpoint of fairseq.

    Args:
        weights: under fairseq's names, with every shared table in all its places.
        names: of source and target, as the dictionaries are called; None of a language model.
    """
    import torch

    weights = dict(weights)
    for name, side in (("encoder", architecture.encoder), ("decoder", architecture.decoder)):
        if side is not None:
            normed = side.final_norm or not side.normalize_before
            weights[f"{name}.version"] = torch.tensor([_VERSION if normed else 1.0])
    state = {
        "args": argparse.Namespace(**_settings(architecture, names)),
        "cfg": None,
        "model": weights,
        "criterion": None,
        "optimizer_history": [
            {"criterion_name": "", "optimizer_name": "", "lr_scheduler_state": {}, "num_updates": 0},
        ],
        "task_state": {},
        "extra_state": {"train_iterator": {"epoch": 1, "iterations_in_epoch": 0}},
        "last_optimizer_state": None,
    }
    torch.save(state, path)


def reopened(folder: Path, hub: Path) -> None:
    """Write the model of an export in the hub's form again, without its tokenizer, to hold it against the original."""
    checkpoint = read_checkpoint(folder / _CHECKPOINT)
    write_model(architecture_of(checkpoint), checkpoint.weights, hub)


def _config(folder: Path, *, where: str) -> dict[str, Any]:
    """Return config.json with what stands in no such file because it is the default."""
    from transformers import AutoConfig

    from luthier.engines.torch.fairseq import register

    kind = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type")
    if kind not in (FSMT, SEQ2SEQ, CAUSAL):
        raise InputError(
            f'fairseq has no model of the kind "{kind}"', where=where, fix="What was a fairseq model before can be written so."
        )
    register()
    values: dict[str, Any] = AutoConfig.from_pretrained(str(folder), local_files_only=True).to_dict()
    return values


def _read(folder: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    weights: dict[str, Tensor] = {}
    for path in sorted(folder.glob("*.safetensors")):
        weights |= load_file(path)
    return weights


def _check_sizes(architecture: Architecture, source: Dictionary, target: Dictionary, *, where: str) -> None:
    sides = ((architecture.encoder, source), (architecture.decoder, target))
    for side, dictionary in sides:
        if side is not None and side.vocabulary != len(dictionary):
            raise InputError(
                f"its tokenizer has {len(dictionary)} symbols, and its table {side.vocabulary} rows: no dictionary fits",
                where=where,
            )


def _write_dictionaries(
    architecture: Architecture,
    source: Dictionary,
    target: Dictionary,
    languages: tuple[str | None, str | None],
    folder: Path,
) -> tuple[str, str] | None:
    """Write them; return the names of the two sides, None of a language model."""
    if architecture.encoder is None:
        target.write(folder / "dict.txt")
        return None
    names = (languages[0] or "source", languages[1] or "target")
    if names[0] == names[1]:
        names = ("source", "target")
    for name, dictionary in zip(names, (source, target), strict=True):
        dictionary.write(folder / f"dict.{name}.txt")
    return names


def _write_codes(whole: Path, folder: Path) -> None:
    """Write the merges of a BPE tokenizer as subword-nmt keeps them; other tokenizers have none."""
    model = json.loads((whole / "tokenizer.json").read_text(encoding="utf-8"))["model"]
    if model["type"] != "BPE":
        return
    pairs = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
    (folder / "codes.bpe").write_text("\n".join(["#version: 0.2", *pairs, ""]), encoding="utf-8")


def _settings(architecture: Architecture, names: tuple[str, str] | None) -> dict[str, Any]:
    """Return the flags with which fairseq-train would make this model."""
    activations = {hub: name for name, hub in reversed(ACTIVATIONS.items())}
    values: dict[str, Any] = {
        "data": ".",
        "dropout": architecture.dropout,
        "attention_dropout": architecture.attention_dropout,
        "activation_dropout": architecture.activation_dropout,
        "activation_fn": activations[architecture.activation],
        "no_scale_embedding": not architecture.scale_embedding,
        "layernorm_embedding": architecture.layernorm_embedding,
        "share_decoder_input_output_embed": architecture.share_output,
        "criterion": "cross_entropy",
        "optimizer": "adam",
        "lr_scheduler": "fixed",
        **_side_settings("decoder", architecture.decoder, architecture.width),
        "decoder_input_dim": architecture.width,
        "decoder_output_dim": architecture.width,
        "no_decoder_final_norm": architecture.decoder.normalize_before and not architecture.decoder.final_norm,
        "max_target_positions": architecture.decoder.positions,
    }
    if architecture.encoder is None or names is None:
        return {
            **values,
            "arch": "transformer_lm",
            "task": "language_modeling",
            "tokens_per_sample": architecture.decoder.positions,
        }
    return {
        **values,
        "arch": "transformer",
        "task": "translation",
        "source_lang": names[0],
        "target_lang": names[1],
        "share_all_embeddings": architecture.share_all,
        **_side_settings("encoder", architecture.encoder, architecture.width),
        "max_source_positions": architecture.encoder.positions,
    }


def _side_settings(name: str, side: Side, width: int) -> dict[str, Any]:
    return {
        f"{name}_embed_dim": width,
        f"{name}_ffn_embed_dim": side.inner,
        f"{name}_layers": side.layers,
        f"{name}_attention_heads": side.heads,
        f"{name}_normalize_before": side.normalize_before,
        f"{name}_learned_pos": side.learned_positions,
    }
