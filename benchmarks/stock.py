"""The other side: transformers' Trainer as a user gets it, on the very same features."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from torch.utils.data import Dataset

from luthier.data.features import Feature, FeatureStore
from luthier.engines.engine import Model
from luthier.heads import CausalHead, Head, Seq2SeqHead, SequenceHead, SpanHead
from luthier.tasks.task import Output


class Rows(Dataset):  # type: ignore[type-arg]
    """Features as Trainer wants them."""

    def __init__(self, features: FeatureStore, head: Head) -> None:
        self.features, self.head = features, head

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, index: int) -> dict[str, Any]:
        arrays = self.features[int(index)].arrays
        row: dict[str, Any] = {name: arrays[name].tolist() for name in arrays if name != "labels"}
        labels = arrays["labels"].tolist()
        if isinstance(self.head, SpanHead):
            row["start_positions"], row["end_positions"] = labels
        else:
            row["labels"] = labels[0] if isinstance(self.head, SequenceHead) else labels
        return row


def collator(tokenizer: Any, head: Head, model: Any) -> Any:
    """Return the collator that pads to the longest of the batch."""
    if isinstance(head, SequenceHead | SpanHead):
        return transformers.DataCollatorWithPadding(tokenizer, padding="longest")
    if isinstance(head, CausalHead | Seq2SeqHead):
        return transformers.DataCollatorForSeq2Seq(tokenizer, model, padding="longest")
    return transformers.DataCollatorForTokenClassification(tokenizer, padding="longest")


class StepClock(transformers.TrainerCallback):  # type: ignore[misc]
    """Processor seconds and wall seconds of every optimizer step, with its useful tokens."""

    def __init__(self) -> None:
        self.steps: list[tuple[float, float]] = []
        self._began = (0.0, 0.0)

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self._began = (time.process_time(), time.perf_counter())

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.steps.append((time.process_time() - self._began[0], time.perf_counter() - self._began[1]))


def stock_model(folder: Path, head: Head, *, seed: int) -> Any:
    """Return the plain model under the head."""
    transformers.set_seed(seed)
    options: dict[str, Any] = {"local_files_only": True}
    if isinstance(head, SpanHead):
        return transformers.AutoModelForQuestionAnswering.from_pretrained(folder, **options)
    if isinstance(head, SequenceHead):
        return transformers.AutoModelForSequenceClassification.from_pretrained(folder, num_labels=head.num_labels, **options)
    if isinstance(head, CausalHead):
        return transformers.AutoModelForCausalLM.from_pretrained(folder, **options)
    if isinstance(head, Seq2SeqHead):
        return transformers.AutoModelForSeq2SeqLM.from_pretrained(folder, **options)
    return transformers.AutoModelForTokenClassification.from_pretrained(folder, num_labels=head.num_labels, **options)  # type: ignore[union-attr]


def trainer(
    model: Any,
    tokenizer: Any,
    rows: Any,
    head: Head,
    *,
    out: Path,
    batch: int,
    rate: float,
    steps: int,
    seed: int,
    clock: StepClock,
) -> Any:
    """Return a Trainer with the settings of a Luthier run."""
    smoothing = head.objective.label_smoothing if isinstance(head, Seq2SeqHead) else 0.0
    kinds = (transformers.Seq2SeqTrainer, transformers.Seq2SeqTrainingArguments)
    kind, arguments_kind = kinds if isinstance(head, Seq2SeqHead) else (transformers.Trainer, transformers.TrainingArguments)
    arguments = arguments_kind(
        output_dir=str(out),
        label_smoothing_factor=smoothing,
        per_device_train_batch_size=batch,
        learning_rate=rate,
        max_steps=steps,
        warmup_steps=round(steps * 0.1),
        weight_decay=0.0,
        max_grad_norm=1.0,
        lr_scheduler_type="linear",
        seed=seed,
        save_strategy="no",
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        logging_strategy="no",
    )
    return kind(
        model=model,
        args=arguments,
        train_dataset=rows,
        data_collator=collator(tokenizer, head, model),
        processing_class=tokenizer,
        callbacks=[clock],
    )


class StockModel:
    """A plain model behind the two methods that scoring needs: one sequence at a time, no packing."""

    micro_tokens = 4096

    def __init__(self, model: Any, head: Head) -> None:
        self.model, self.head = model.eval(), head

    def collate(self, features: Sequence[Feature]) -> Sequence[Feature]:
        return features

    @torch.inference_mode()
    def outputs(self, batch: Sequence[Feature]) -> list[Output]:
        results = []
        for feature in batch:
            inputs = {
                name: torch.from_numpy(np.array(array, dtype=np.int64))[None]
                for name, array in feature.arrays.items()
                if name != "labels"
            }
            out = self.model(**inputs)
            span = isinstance(self.head, SpanHead)
            logits = torch.stack([out.start_logits[0], out.end_logits[0]]) if span else out.logits[0]
            results.append(Output(feature, logits.float().numpy()))
        return results


def as_model(model: Any, head: Head) -> Model:
    """Return a plain model as far as evaluation needs one."""
    return StockModel(model, head)  # type: ignore[return-value]
