"""The other side: transformers' Trainer as a user gets it, on the very same features, step by step the same rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from torch.utils.data import Dataset, SequentialSampler

from luthier.data.batching import Plan
from luthier.data.features import Feature, FeatureStore
from luthier.engines.engine import Model
from luthier.heads import CausalHead, Head, Seq2SeqHead, SequenceHead, SpanHead
from luthier.tasks.task import Output
from luthier.training import Settings
from luthier.units import Duration


def planned(store: FeatureStore, settings: Settings, steps: int) -> list[list[int]]:
    """Return the feature indices of each of the first ``steps`` updates of a Luthier run, epochs through."""
    plan = Plan(store.groups, store.lengths, batch=settings.batch, seed=settings.seed)
    found: list[list[int]] = []
    epoch = 0
    while len(found) < steps:
        found += [[index for row in step.rows for index in plan.features(int(row))] for step in plan.epoch(epoch)]
        epoch += 1
    return found[:steps]


def useful_tokens(store: FeatureStore, steps: Sequence[Sequence[int]]) -> int:
    """Return the tokens without padding of the features of some updates."""
    return sum(int(store.lengths[index]) for members in steps for index in members)


def uninterrupted(settings: Settings, duration: Duration) -> Settings:
    """Return the settings for so long a run without checkpoints and evaluations."""
    never = Duration(10**6, "steps")
    return dataclasses.replace(settings, duration=duration, save_every=never, evaluate_every=never)


class Steps(Dataset):  # type: ignore[type-arg]
    """Whole updates as Trainer takes single rows, so that both sides train on the same rows in the same order.

    A batch of one such item is a batch of that update's features; ``collator`` unpacks it.
    """

    def __init__(self, features: FeatureStore, head: Head, steps: Sequence[Sequence[int]]) -> None:
        self.features, self.head, self.steps = features, head, steps

    def __len__(self) -> int:
        return len(self.steps)

    def __getitem__(self, index: int) -> list[dict[str, Any]]:
        return [self._row(self.features[member]) for member in self.steps[int(index)]]

    def _row(self, feature: Feature) -> dict[str, Any]:
        row: dict[str, Any] = {name: array.tolist() for name, array in feature.arrays.items() if name != "labels"}
        labels = feature.arrays["labels"].tolist()
        if isinstance(self.head, SpanHead):
            row["start_positions"], row["end_positions"] = labels
        else:
            row["labels"] = labels[0] if isinstance(self.head, SequenceHead) else labels
        return row


def collator(tokenizer: Any, head: Head, model: Any) -> Any:
    """Return the stock collator of the task, which pads to the longest of the batch, for items of ``Steps``."""
    if isinstance(head, SequenceHead | SpanHead):
        own: Any = transformers.DataCollatorWithPadding(tokenizer, padding="longest")
    elif isinstance(head, CausalHead | Seq2SeqHead):
        own = transformers.DataCollatorForSeq2Seq(tokenizer, model, padding="longest")
    else:
        own = transformers.DataCollatorForTokenClassification(tokenizer, padding="longest")
    return lambda items: own(items[0])


def stock_model(folder: Path, head: Head, *, seed: int) -> Any:
    """Return the plain model under the head.

    Marian's computed positions stay fixed, as its class makes them: loading forgets that, and what the Trainer would make
    of them is left out when it saves.
    """
    transformers.set_seed(seed)
    options: dict[str, Any] = {"local_files_only": True}
    if isinstance(head, SpanHead):
        return transformers.AutoModelForQuestionAnswering.from_pretrained(folder, **options)
    if isinstance(head, SequenceHead):
        return transformers.AutoModelForSequenceClassification.from_pretrained(folder, num_labels=head.num_labels, **options)
    if isinstance(head, CausalHead):
        return transformers.AutoModelForCausalLM.from_pretrained(folder, **options)
    if isinstance(head, Seq2SeqHead):
        model = transformers.AutoModelForSeq2SeqLM.from_pretrained(folder, **options)
        for module in model.modules():
            if hasattr(module, "create_weight"):
                module.requires_grad_(False)
        return model
    return transformers.AutoModelForTokenClassification.from_pretrained(folder, num_labels=head.num_labels, **options)  # type: ignore[union-attr]


def trainer(
    model: Any,
    tokenizer: Any,
    rows: Steps,
    *,
    out: Path,
    rate: float,
    seed: int,
    bf16: bool = False,
    callbacks: Sequence[Any] = (),
    **others: Any,
) -> Any:
    """Return a Trainer with the settings of a Luthier run, one update an item of ``rows``, in their order.

    Args:
        others: more training arguments.
    """
    head = rows.head
    smoothing = head.objective.label_smoothing if isinstance(head, Seq2SeqHead) else 0.0
    kinds = (transformers.Seq2SeqTrainer, transformers.Seq2SeqTrainingArguments)
    kind, arguments_kind = kinds if isinstance(head, Seq2SeqHead) else (transformers.Trainer, transformers.TrainingArguments)
    values = {
        "output_dir": str(out),
        "label_smoothing_factor": smoothing,
        "per_device_train_batch_size": 1,
        "learning_rate": rate,
        "max_steps": len(rows),
        "warmup_steps": round(len(rows) * 0.1),
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
        "lr_scheduler_type": "linear",
        "seed": seed,
        "bf16": bf16,
        "save_strategy": "no",
        "report_to": [],
        "use_cpu": True,
        "disable_tqdm": True,
        "logging_strategy": "no",
    }
    made = kind(
        model=model,
        args=arguments_kind(**{**values, **others}),
        train_dataset=rows,
        data_collator=collator(tokenizer, head, model),
        processing_class=tokenizer,
        callbacks=list(callbacks),
    )
    made._get_train_sampler = lambda *_: SequentialSampler(made.train_dataset)
    return made


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
