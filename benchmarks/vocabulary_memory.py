"""Peak memory of one training step with a large vocabulary: Luthier against the stock Trainer.

    python -m benchmarks.vocabulary_memory [--vocabulary 49152] [--tokens 8192] [--hidden 192]

A Llama of two layers with random weights takes one step in float32 on documents of 512 tokens, all of them in one
batch. Each side runs in a process of its own; the figures are the peak of its resident memory, with Python and
torch in it, and that peak less what was resident with the model loaded.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

_DOCUMENT = 512


def documents(vocabulary: int, tokens: int) -> list[np.ndarray]:
    """Return token ids of ``tokens`` / 512 documents."""
    rng = np.random.default_rng(0)
    return [rng.integers(3, vocabulary, _DOCUMENT).astype(np.int32) for _ in range(tokens // _DOCUMENT)]


def write_model(folder: Path, vocabulary: int, hidden: int) -> None:
    """Write a tiny Llama."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocabulary, hidden_size=hidden, intermediate_size=3 * hidden, num_hidden_layers=2,
        num_attention_heads=hidden // 64, max_position_embeddings=2 * _DOCUMENT, tie_word_embeddings=True,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(str(folder))


def resident(*, peak: bool) -> int:
    """Return this process's resident memory in bytes (Linux)."""
    key = "VmHWM:" if peak else "VmRSS:"
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))


def luthier_step(folder: Path, ids: list[np.ndarray], scratch: Path) -> int:
    """Take one step; return what was resident before it."""
    from luthier.data.features import Feature
    from luthier.engines.engine import TrainingSetup
    from luthier.engines.torch import ENGINE
    from luthier.heads import CausalHead

    model = ENGINE.load(folder, CausalHead(), device="cpu", precision="float32", setup=TrainingSetup())
    before = resident(peak=False)
    batch = model.collate([Feature({"input_ids": row, "labels": row}) for row in ids])
    model.accumulate([batch], float(sum(len(row) - 1 for row in ids))).item()
    model.update(1e-4, 1.0).item()
    return before


def stock_step(folder: Path, ids: list[np.ndarray], scratch: Path) -> int:
    """The same with transformers' Trainer as a user gets it."""
    import transformers

    network = transformers.AutoModelForCausalLM.from_pretrained(str(folder), dtype="float32")
    settings = transformers.TrainingArguments(
        output_dir=str(scratch), per_device_train_batch_size=len(ids), max_steps=1, learning_rate=1e-4, use_cpu=True,
        report_to="none", save_strategy="no", disable_tqdm=True,
    )  # fmt: skip
    rows: list[dict[str, Any]] = [{"input_ids": row.tolist(), "labels": row.tolist()} for row in ids]
    trainer = transformers.Trainer(network, settings, train_dataset=rows)
    before = resident(peak=False)
    trainer.train()
    return before


SIDES = {"luthier": luthier_step, "trainer": stock_step}


def measured(side: str, arguments: argparse.Namespace, folder: Path) -> dict[str, int]:
    """Run one side in its own process."""
    given = [
        "--side",
        side,
        "--folder",
        str(folder),
        "--vocabulary",
        str(arguments.vocabulary),
        "--tokens",
        str(arguments.tokens),
    ]
    environment = os.environ | {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.vocabulary_memory", *given],
        env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    figures: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    return figures


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--vocabulary", type=int, default=49152)
    parser.add_argument("--tokens", type=int, default=8192)
    parser.add_argument("--hidden", type=int, default=192)
    parser.add_argument("--side", choices=SIDES)
    parser.add_argument("--folder", type=Path)
    arguments = parser.parse_args()
    if arguments.side:
        ids = documents(arguments.vocabulary, arguments.tokens)
        before = SIDES[arguments.side](arguments.folder, ids, arguments.folder / "scratch")
        print(json.dumps({"before": before, "peak": resident(peak=True)}))
        return
    with tempfile.TemporaryDirectory() as folder:
        write_model(Path(folder), arguments.vocabulary, arguments.hidden)
        found = {side: measured(side, arguments, Path(folder)) for side in SIDES}
    steps = {side: figures["peak"] - figures["before"] for side, figures in found.items()}
    for side, figures in found.items():
        print(f"{side:8} peak {figures['peak'] / 1e6:6.0f} MB, of which the step {steps[side] / 1e6:6.0f} MB")
    ratio = found["luthier"]["peak"] / found["trainer"]["peak"]
    print(f"ratio    peak {ratio:.3f}, of the step alone {steps['luthier'] / steps['trainer']:.3f}")


if __name__ == "__main__":
    main()
