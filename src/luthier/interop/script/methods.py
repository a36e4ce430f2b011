"""What a script says of a tuning method: which weights are trained, by the beginnings of their names, or peft's config."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from luthier.engines.engine import Choice
from luthier.errors import InputError
from luthier.heads import Head, SequenceHead, TokenHead

LOW_RANK = ("lora", "dora", "rslora")
_PEFT = ("r", "lora_alpha", "lora_dropout", "target_modules", "modules_to_save", "fan_in_fan_out", "use_dora", "use_rslora")
"""What is taken of peft's config. No task_type: peft's wrapper for question answering drops the token types on their way."""
METHODS = ("full", "head", "freeze", *LOW_RANK)


def method_constants(choice: Choice, *, run_model: Path, base: Path, auto_class: str, head: Head) -> dict[str, Any]:
    """Return ``FROZEN``, ``TRAINED`` or ``LORA`` and its value; nothing where everything is trained.

    Also under ``full`` some weights stay: Marian's positions are computed, and transformers does not save them.

    Args:
        choice: the run's method.
        run_model: the run's own model folder, which holds the adapter.
        base: the folder of the model before tuning.
        auto_class: of transformers, under the task's head.
        head: of the task.

    Raises:
        InputError: the scripts do not know this method.
    """
    if choice.name not in METHODS or choice.options.get("base_bits"):
        what = "on a quantized base" if choice.name in METHODS else f'by "{choice.name}"'
        raise InputError(f"a script cannot redo tuning {what}; it can: {', '.join(METHODS)}", where="method")
    if choice.name in LOW_RANK:
        return {"LORA": _lora(json.loads((run_model / "adapter_config.json").read_text(encoding="utf-8")))}
    trained = _trained_names(choice, base=base, auto_class=auto_class, head=head)
    if all(trained.values()):
        return {}
    wanted = choice.name == "head"
    beginnings = beginnings_of([name for name, yes in trained.items() if yes is wanted], list(trained))
    return {"TRAINED" if wanted else "FROZEN": tuple(beginnings)}


def _lora(values: dict[str, Any]) -> dict[str, Any]:
    chosen = {key: values[key] for key in _PEFT if values.get(key) not in (None, False)}
    for key in ("target_modules", "modules_to_save"):
        if isinstance(chosen.get(key), list):
            chosen[key] = sorted(chosen[key])
    return chosen


def _trained_names(choice: Choice, *, base: Path, auto_class: str, head: Head) -> dict[str, bool]:
    """Return every weight's name with whether the method trains it, from a network without values."""
    import torch
    import transformers

    from luthier.engines.torch import methods
    from luthier.engines.torch.loading import quiet

    with quiet(), torch.device("meta"):
        config = transformers.AutoConfig.from_pretrained(str(base), local_files_only=True, trust_remote_code=False)
        if isinstance(head, SequenceHead | TokenHead):
            config.num_labels = head.num_labels
        network = getattr(transformers, auto_class).from_config(config)
    methods.apply(network, choice, head=head, seed=0)
    return {name: parameter.requires_grad for name, parameter in network.named_parameters()}


def beginnings_of(chosen: Sequence[str], names: Sequence[str]) -> list[str]:
    """Return the shortest beginnings of dotted names that together fit ``chosen`` and no other of ``names``."""
    others = set(names) - set(chosen)
    found: dict[str, None] = {}
    for name in chosen:
        parts = name.split(".")
        tries = [".".join(parts[:size]) + ("." if size < len(parts) else "") for size in range(1, len(parts) + 1)]
        found[next(start for start in tries if not any(other.startswith(start) for other in others) or start == name)] = None
    return list(found)
