"""What happens during a run, as values: ``training.fit`` yields them, consumers read them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["started", "progress", "evaluated", "saved", "resumed", "skipped_step", "stopped", "diverged", "finished"]


@dataclass(frozen=True, slots=True)
class Event:
    """One event; a line of ``events.jsonl``.

    ``data`` by kind:
        started: {total_steps, steps_per_epoch, epochs, rows, ...}
        progress: {epoch, rows, tokens, targets, loss, learning_rate, grad_norm, tokens_per_second, seconds_left}
        evaluated: {metrics: {name: value}, headline, best: bool}
        saved: {folder}; resumed: {folder}; skipped_step: {grad_norm, consecutive}
        stopped: {signal}; diverged: {reason}; finished: {seconds, steps, reason}
    """

    kind: Kind
    step: int
    data: Mapping[str, Any] = field(default_factory=dict)
    time: float = field(default_factory=time.time)

    def to_json(self) -> dict[str, Any]:
        return {"event": self.kind, "step": self.step, "time": round(self.time, 3), **self.data}
