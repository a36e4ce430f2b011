"""The workloads that are measured: what Luthier trains on, and the same features for the stock Trainer."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from luthier.assembly import Assembly, assemble
from luthier.config import load_config
from luthier.data.preparation import Prepared
from luthier.samples import fetch


@dataclass(frozen=True)
class Workload:
    """One data set with its settings.

    ``bars``: the least ratio of useful tokens a second, by precision. ``updates``: for parity, cut so that three
    seeds of all workloads run in about 30 minutes on two cores; 0: the loss curve is compared instead
    (``benchmarks.curves``).
    """

    name: str
    values: dict[str, Any]
    bars: dict[str, float]
    updates: int


def folder() -> Path:
    """Return the folder of the data sets."""
    path = os.environ.get("LUTHIER_BENCH_DATA")
    if not path or not Path(path).is_dir():
        sys.exit("LUTHIER_BENCH_DATA must name the folder that holds the data sets.")
    return Path(path)


def first_sentences(path: Path, count: int, aside: Path) -> Path:
    """Copy the first sentences of a CoNLL file to ``aside``."""
    kept: list[str] = []
    sentences, inside = 0, False
    for line in path.read_text(encoding="utf-8").split("\n"):
        token = bool(line.strip()) and not line.startswith("-DOCSTART-")
        if inside and not token:
            sentences += 1
            if sentences == count:
                break
        inside = token
        kept.append(line)
    aside.write_text("\n".join(kept) + "\n", encoding="utf-8")
    return aside


def workloads(scratch: Path) -> list[Workload]:
    """Return the workloads; ``scratch`` takes what must be cut first."""
    data = folder()
    banking = data / "text_classification" / "banking77"
    conll = data / "ner" / "conll2003"
    squad = data / "question_answering" / "squad_v1_dev"
    generation = data / "text_generation"
    conll_train = first_sentences(conll / "eng.train", 4000, scratch / "conll-train.conll")
    return [
        Workload(
            "banking77",
            {
                "task": {"name": "text-classification", "max_tokens": 128},
                "data": {
                    "train": str(banking / "train.csv"),
                    "test": str(banking / "test.csv"),
                    "columns": {"text": "text", "label": "category"},
                },
                "train": {"batch": "32 examples", "learning_rate": 5e-4},
            },
            {"auto": 2.5, "float32": 1.7},
            updates=180,
        ),
        Workload(
            "conll2003-4000",
            {
                "task": {"name": "token-classification", "max_tokens": 128},
                "data": {"train": str(conll_train), "test": str(conll / "eng.testb"), "format": "conll"},
                "train": {"batch": "32 examples", "learning_rate": 2e-4},
            },
            {"auto": 2.5, "float32": 1.7},
            updates=80,
        ),
        Workload(
            "squad-v1",
            {
                "task": {"name": "question-answering", "max_tokens": 384, "stride": 128},
                "data": {"train": str(squad / "train.json"), "test": str(squad / "test.json")},
                "train": {"batch": "8 examples", "learning_rate": 1e-4},
            },
            {"auto": 2.0, "float32": 1.3},
            updates=50,
        ),
        Workload(
            "bbc-news",
            {
                "task": {"name": "text-generation", "max_tokens": 512},
                "model": small_decoder(scratch),
                "data": {"train": str(generation / "bbc_news" / "train.csv"), "columns": {"text": "content"}},
                "train": {"batch": "8 examples", "learning_rate": 5e-4},
            },
            {"auto": 2.0, "float32": 2.0},
            updates=0,
        ),
        Workload(
            "alpaca",
            {
                "task": {"name": "text-generation", "max_tokens": 512},
                "model": small_decoder(scratch),
                "data": {"train": str(generation / "alpaca" / "train.json"), "max_rejected": "5%"},
                "train": {"batch": "16 examples", "learning_rate": 5e-4},
            },
            {"auto": 2.0, "float32": 2.0},
            updates=0,
        ),
        Workload(
            "multi30k",
            {
                "task": {"name": "translation", "target_language": "fr", "label_smoothing": 0.1},
                "model": small_translator(scratch),
                "data": {"train": f"{data / 'machine_translation' / 'multi30k_en_fr' / 'train'}.{{en,fr}}"},
                "train": {"batch": "64 examples", "learning_rate": 5e-4},
            },
            {"auto": 2.5, "float32": 2.5},
            updates=0,
        ),
    ]


def small_decoder(scratch: Path) -> str:
    """Write a Llama of 6 layers and 384 wide, 29 M, with random weights and SmolLM2's tokenizer; return its folder."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    folder = scratch / "decoder"
    if not folder.exists():
        tokenizer = AutoTokenizer.from_pretrained(fetch("smollm2"))
        torch.manual_seed(0)
        config = LlamaConfig(
            vocab_size=len(tokenizer), hidden_size=384, intermediate_size=1024, num_hidden_layers=6, num_attention_heads=6,
            num_key_value_heads=2, max_position_embeddings=1024, tie_word_embeddings=True, bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
        )  # fmt: skip
        LlamaForCausalLM(config).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return str(folder)


def small_translator(scratch: Path) -> str:
    """Write a Marian model of 4 and 4 layers, 256 wide, 16 M, with random weights and no dropout; return its folder."""
    import torch
    from transformers import AutoTokenizer, MarianConfig, MarianMTModel

    folder = scratch / "translator"
    if not folder.exists():
        tokenizer = AutoTokenizer.from_pretrained(fetch("marian-en-pt"))
        torch.manual_seed(0)
        config = MarianConfig(
            vocab_size=len(tokenizer), d_model=256, encoder_layers=4, decoder_layers=4, encoder_attention_heads=4,
            decoder_attention_heads=4, encoder_ffn_dim=1024, decoder_ffn_dim=1024, max_position_embeddings=256, dropout=0.0,
            scale_embedding=True, pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id,
            decoder_start_token_id=tokenizer.pad_token_id, forced_eos_token_id=None,
        )  # fmt: skip
        MarianMTModel(config).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return str(folder)


def prepared(workload: Workload, scratch: Path, **train: Any) -> tuple[Assembly, Prepared]:
    """Resolve and encode one workload."""
    values = {"model": "minilm", **workload.values, "train": {**workload.values["train"], **train}}
    assembly = assemble(load_config(None, (), values))
    return assembly, assembly.prepare(scratch / workload.name)
