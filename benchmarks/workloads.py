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
from luthier.heads import CausalHead, Head
from luthier.samples import fetch


@dataclass(frozen=True)
class Workload:
    """One data set with its settings.

    Attributes:
        title: for the heading of a table.
        bars: the least ratio of useful tokens a second to the stock Trainer's in float32, by precision; empty where
            speed is not measured.
        bfloat16_bar: the least ratio to the stock Trainer's own bfloat16.
        updates: for parity of scores; 0: the loss curve is compared instead (``benchmarks.curves``).
    """

    name: str
    title: str
    values: dict[str, Any]
    bars: dict[str, float]
    bfloat16_bar: float = 2.5
    updates: int = 0


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
    """Return the workloads; ``scratch`` takes what must be made first."""
    return [*_understanding(scratch), *_writing(scratch)]


def _understanding(scratch: Path) -> list[Workload]:
    data = folder()
    banking, news = (data / "text_classification" / name for name in ("banking77", "ag_news"))
    conll = data / "ner" / "conll2003"
    squad = data / "question_answering" / "squad_v1_dev"
    conll_train = first_sentences(conll / "eng.train", 4000, scratch / "conll-train.conll")
    return [
        Workload(
            "ag-news",
            "MiniLM, classification of AG News",
            {
                "task": {"name": "text-classification", "max_tokens": 256},
                "data": {
                    "train": str(named(news / "train.csv", "text,label", scratch / "ag-news-train.csv")),
                    "test": str(named(news / "test.csv", "text,label", scratch / "ag-news-test.csv")),
                },
                "train": {"batch": "32 examples", "learning_rate": 2e-4},
            },
            {"auto": 4.0, "float32": 2.5},
        ),
        Workload(
            "banking77",
            "MiniLM, classification of short questions (banking77)",
            {
                "task": {"name": "text-classification", "max_tokens": 128},
                "data": {
                    "train": str(banking / "train.csv"),
                    "test": str(banking / "test.csv"),
                    "columns": {"text": "text", "label": "category"},
                },
                "train": {"batch": "32 examples", "learning_rate": 5e-4},
            },
            {"auto": 4.0, "float32": 2.5},
            updates=180,
        ),
        Workload(
            "conll2003-4000",
            "MiniLM, tagging of CoNLL-2003",
            {
                "task": {"name": "token-classification", "max_tokens": 128},
                "data": {"train": str(conll_train), "test": str(conll / "eng.testb"), "format": "conll"},
                "train": {"batch": "32 examples", "learning_rate": 2e-4},
            },
            {"auto": 4.0, "float32": 2.5},
            updates=80,
        ),
        Workload(
            "squad-v1",
            "MiniLM, question answering on SQuAD",
            {
                "task": {"name": "question-answering", "max_tokens": 384, "stride": 128},
                "data": {"train": str(squad / "train.json"), "test": str(squad / "test.json")},
                "train": {"batch": "8 examples", "learning_rate": 1e-4},
            },
            {"auto": 3.0, "float32": 1.7},
            updates=50,
        ),
    ]


def _writing(scratch: Path) -> list[Workload]:
    generation = folder() / "text_generation"
    alpaca = {"train": str(generation / "alpaca" / "train.json"), "max_rejected": "5%"}
    chat = {"name": "text-generation", "max_tokens": 512}
    pairs = folder() / "machine_translation" / "multi30k_en_fr" / "train"
    return [
        Workload(
            "bbc-news",
            "Llama of 29 M, raw news of up to 512 tokens (BBC)",
            {
                "task": chat,
                "model": small_decoder(scratch),
                "data": {"train": str(generation / "bbc_news" / "train.csv"), "columns": {"text": "content"}},
                "train": {"batch": "8 examples", "learning_rate": 5e-4},
            },
            {"auto": 2.0, "float32": 2.0},
        ),
        Workload(
            "alpaca-all",
            "Llama of 29 M, mixed lengths, all tokens (alpaca)",
            {
                "task": {**chat, "train_on": "all"},
                "model": small_decoder(scratch),
                "data": alpaca,
                "train": {"batch": "32 examples", "learning_rate": 5e-4},
            },
            {"auto": 4.0, "float32": 2.0},
        ),
        Workload(
            "alpaca",
            "Llama of 29 M, mixed lengths, the responses alone (alpaca)",
            {
                "task": chat,
                "model": small_decoder(scratch),
                "data": alpaca,
                "train": {"batch": "32 examples", "learning_rate": 5e-4},
            },
            {"auto": 4.0, "float32": 2.4},
        ),
        Workload(
            "smollm2",
            "SmolLM2-135M, full, chat rows (alpaca)",
            {"task": chat, "model": "smollm2", "data": alpaca, "train": {"batch": "8 examples", "learning_rate": 1e-5}},
            {"auto": 3.0, "float32": 1.7},
            bfloat16_bar=1.9,
        ),
        Workload(
            "smollm2-lora",
            "SmolLM2-135M, LoRA of rank 16, chat rows (alpaca)",
            {
                "task": chat,
                "model": "smollm2",
                "method": {"name": "lora", "rank": 16},
                "data": alpaca,
                "train": {"batch": "8 examples", "learning_rate": 2e-4},
            },
            {"auto": 3.0, "float32": 1.8},
            bfloat16_bar=1.9,
        ),
        Workload(
            "multi30k",
            "Marian of 6 and 6 layers, 512 wide, translation (Multi30k)",
            {
                "task": {"name": "translation", "target_language": "fr", "label_smoothing": 0.1},
                "model": small_translator(scratch),
                "data": {"train": f"{pairs}.{{en,fr}}"},
                "train": {"batch": "32 examples", "learning_rate": 5e-4},
            },
            {"auto": 5.0, "float32": 2.8},
        ),
    ]


def named(path: Path, header: str, aside: Path) -> Path:
    """Copy a csv file that has no header to ``aside`` with one."""
    aside.write_text(header + "\n" + path.read_text(encoding="utf-8"), encoding="utf-8")
    return aside


def tune_stock(model: Any, workload: Workload, head: Head) -> Any:
    """Return the plain model with the workload's method on it: peft's LoRA on the same layers with the same sizes."""
    method = workload.values.get("method")
    if method is None:
        return model
    import peft

    assert method["name"] == "lora"
    assert isinstance(head, CausalHead)
    rank = method["rank"]
    return peft.get_peft_model(
        model, peft.LoraConfig(task_type="CAUSAL_LM", r=rank, lora_alpha=2 * rank, target_modules="all-linear")
    )


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
    """Write a Marian model of 6 and 6 layers, 512 wide, 60 M, with random weights and no dropout; return its folder."""
    import torch
    from transformers import AutoTokenizer, MarianConfig, MarianMTModel

    folder = scratch / "translator"
    if not folder.exists():
        tokenizer = AutoTokenizer.from_pretrained(fetch("marian-en-pt"))
        torch.manual_seed(0)
        config = MarianConfig(
            vocab_size=len(tokenizer), d_model=512, encoder_layers=6, decoder_layers=6, encoder_attention_heads=8,
            decoder_attention_heads=8, encoder_ffn_dim=2048, decoder_ffn_dim=2048, max_position_embeddings=256, dropout=0.0,
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
