"""TRL's side of ``benchmarks.peers``: runs in an environment of its own, without Luthier.

    python peer_trl.py ROWS.json MODEL OUT STEPS BATCH RATE MODE

Prints one JSON object: processor seconds and tokens without padding of each step.
"""

import json
import sys
import time
from typing import Any

from datasets import Dataset
from torch.utils.data import SequentialSampler
from transformers import AutoTokenizer, TrainerCallback
from trl import SFTConfig, SFTTrainer

_MODES: dict[str, dict[str, Any]] = {
    "defaults": {},
    "plain": {"gradient_checkpointing": False, "bf16": False},
    "packed": {"gradient_checkpointing": False, "bf16": False, "packing": True},
}


class Clock(TrainerCallback):  # type: ignore[misc]
    """Processor seconds of each step."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._began = 0.0

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self._began = time.process_time()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.seconds.append(time.process_time() - self._began)


def main() -> None:
    """Train a few steps."""
    rows, model, out, steps, batch, rate, mode = sys.argv[1:]
    clock, tokens = Clock(), list[int]()
    settings = SFTConfig(
        output_dir=out, per_device_train_batch_size=int(batch), max_steps=int(steps), learning_rate=float(rate),
        max_length=512, use_cpu=True, report_to=[], save_strategy="no", logging_strategy="no", disable_tqdm=True,
        completion_only_loss=True, seed=0, **_MODES[mode],
    )  # fmt: skip
    with open(rows, encoding="utf-8") as stream:
        data = Dataset.from_list(json.load(stream))
    trainer = SFTTrainer(
        model, settings, train_dataset=data, processing_class=AutoTokenizer.from_pretrained(model), callbacks=[clock]
    )
    own = trainer.data_collator

    def counted(features: Any) -> Any:
        tokens.append(sum(len(feature["input_ids"]) for feature in features))
        return own(features)

    trainer.data_collator = counted
    trainer._get_train_sampler = lambda *_: SequentialSampler(trainer.train_dataset)
    trainer.train()
    print(json.dumps({"seconds": clock.seconds, "tokens": tokens[: len(clock.seconds)]}))


if __name__ == "__main__":
    main()
