"""What a script says of training: the config's ``train`` section as constants, flags and words of the pieces."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from luthier.config import RunConfig
from luthier.data.preparation import Prepared
from luthier.interop.script.tasks import Constant
from luthier.metrics import LOWER_IS_BETTER
from luthier.proof import split_that_counts
from luthier.units import Quantity

_MICRO_TOKENS = {True: 2048, False: 8192}
"""Tokens that go through the network at once; a vocabulary layer takes much memory."""
_SCHEDULES = {"linear": "linear", "cosine": "cosine", "inverse_sqrt": "inverse_sqrt", "constant": "constant_with_warmup"}
"""transformers' names."""


def settings(config: RunConfig, *, learning_rate: float, vocabulary: bool) -> list[Constant]:
    """Return the constants of the config's ``train`` section.

    Args:
        config: the run's.
        learning_rate: resolved.
        vocabulary: whether the model ends in a vocabulary layer.
    """
    train = config.train
    of_tokens = train.batch.unit == "tokens"
    batch = ("BATCH_TOKENS", int(train.batch.value), "tokens of a step, at most")
    micro = _MICRO_TOKENS[vocabulary] if train.micro_batch == "auto" else int(train.micro_batch.value)
    return [
        ("SEED", train.seed, ""),
        batch if of_tokens else ("BATCH_ROWS", int(train.batch.value), "rows of a step"),
        ("MICRO_TOKENS", micro, "tokens that go through the model at once: less takes less memory and gives the same gradient"),
        ("LEARNING_RATE", learning_rate, "at its peak"),
        *([("WEIGHT_DECAY", train.weight_decay, "")] if train.weight_decay else []),
        *([("MAX_GRAD_NORM", train.max_grad_norm, "")] if train.max_grad_norm else []),
        *([("PATIENCE", train.patience, "validations without a better score that end training")] if train.patience else []),
    ]


def training_flags(config: RunConfig, prepared: Prepared, adapted: Mapping[str, Any]) -> dict[str, bool]:
    """Return which optional lines the piece ``training`` has; ``adapted`` is what the method brings."""
    from luthier.engines.torch.precision import resolve_device, resolve_precision

    train, task = config.train, prepared.task
    validation = "validation" in prepared.splits
    learns_thresholds = bool(getattr(task, "thresholds", None)) or getattr(task, "has_no_answer", False)
    return {
        "batch_tokens": train.batch.unit == "tokens",
        # The other engines compute in float32.
        "bfloat16": config.engine == "torch"
        and resolve_precision(train.precision, resolve_device(config.device)) == "bfloat16",
        "validation": validation,
        "calibrated": validation and learns_thresholds,
        "scored": split_that_counts(prepared) is not None,
        "fraction": train.evaluate_every.unit == "epochs" and train.evaluate_every.value != 1,
        "patience": validation and train.patience is not None,
        "clipping": train.max_grad_norm is not None,
        "weight_decay": bool(train.weight_decay),
        "checkpointing": train.gradient_checkpointing is True,
        "partly": bool(adapted),
        "frozen": "FROZEN" in adapted,
        "trained": "TRAINED" in adapted,
        "lora": "LORA" in adapted,
    }


def training_words(config: RunConfig, prepared: Prepared) -> dict[str, str]:
    """Return what stands in the places of the piece ``training``."""
    train, task = config.train, prepared.task
    criterion = task.criterion or task.headline
    lower = criterion in LOWER_IS_BETTER
    every, duration, warmup = train.evaluate_every, train.duration, train.warmup
    share = f"{_number(duration)} * per_epoch"
    total = f"{_number(duration)}" if duration.unit == "steps" else share
    whole = duration.unit == "steps" or duration.value == int(duration.value)
    warm = {
        "%": f"round(total * {_number(warmup)} / 100)",
        "steps": f"min(total, {_number(warmup)})",
        "epochs": f"min(total, round({_number(warmup)} * per_epoch))",
    }
    validation, patience = "validation" in prepared.splits, train.patience is not None
    several = bool(getattr(task, "thresholds", None))
    calibrate = "thresholds = best_thresholds" if several else "threshold = best_threshold"
    calibrated = validation and (several or getattr(task, "has_no_answer", False))
    return {
        "validation_argument": ", validation" if validation else "",
        "validation_rows": ', read("validation")' if validation else "",
        "keeping": f", and leave it with the weights of the best {criterion} on validation" if validation else "",
        "total": total if whole else f"max(1, round({share}))",
        "warmup": warm[warmup.unit] if warmup.value else "0",
        "schedule": _SCHEDULES[train.schedule],
        "stale_start": ", stale" if patience else "",
        "stale_zero": ", 0" if patience else "",
        "worst": "math.inf" if lower else "-math.inf",
        "better": "<" if lower else ">",
        "every": f"{_number(every)}",
        "due": f"step % {_number(every)} == 0" if every.unit == "steps" else "done == len(rows)",
        "validate": f'evaluate(model, validation)[0]["{criterion}"]',
        "criterion": criterion,
        "calibrate": f'{calibrate}(model, read("validation"))',
        "calibration_argument": (", thresholds" if several else ", threshold") if calibrated else "",
        "split": split_that_counts(prepared) or "",
    }  # fmt: skip


def _number(quantity: Quantity) -> str:
    value = quantity.value
    return str(int(value)) if value == int(value) else repr(value)
