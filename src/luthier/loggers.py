"""Where events may go beside events.jsonl, when asked: ``loggers: [tensorboard]``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from luthier.errors import InputError
from luthier.events import Event
from luthier.registry import Registry

LOGGERS = Registry("logger")

Consumer = Callable[[Event], None]


@LOGGERS.register("tensorboard")
def tensorboard(folder: Path) -> Consumer:
    """Write TensorBoard scalars under ``folder/tensorboard``.

    Raises:
        InputError: the package is missing.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        fix = 'Install it: pip install "luthier[tensorboard]"'
        raise InputError("the tensorboard package is missing", where="loggers", fix=fix) from error
    writer = SummaryWriter(str(folder / "tensorboard"))

    def consume(event: Event) -> None:
        if event.kind == "progress":
            for name in ("loss", "learning_rate", "grad_norm", "tokens_per_second"):
                writer.add_scalar(f"train/{name}", event.data[name], event.step)
        elif event.kind == "evaluated":
            for name, value in event.data["metrics"].items():
                writer.add_scalar(f"validation/{name}", value, event.step)
        elif event.kind in ("finished", "stopped", "diverged"):
            writer.close()

    return consume
