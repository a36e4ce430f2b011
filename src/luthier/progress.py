"""Live progress of a run: one line that renews itself on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import atexit
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Self

from luthier.events import Event
from luthier.report.formats import count, metric_name, metric_value, number, plural, rate, seconds_text, visible

if TYPE_CHECKING:
    from rich.live import Live

SECONDS_BETWEEN_LINES = 10.0
"""Where the output is no terminal, progress is printed this often."""
_BAR = 12


class Progress:
    """Prints the events of ``training.fit`` as they come. Use it as a context manager around the loop.

    Args:
        file: where to print; default: standard output.
    """

    def __init__(self, file: IO[str] | None = None) -> None:
        from luthier.console import open_console

        self.console = open_console(file)
        self.live: Live | None = None
        self._renews = self.console.is_terminal and not self.console.is_dumb_terminal
        self._started: dict[str, Any] = {}
        self._epoch = 0.0
        self._best = ""
        self._printed: float | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Take the live line away."""
        if self.live is not None:
            self.live.stop()
            self.live = None
            atexit.unregister(self.close)

    def consume(self, event: Event) -> None:
        """Show one event. What ends a run early is left to the error that follows it."""
        data = event.data
        if event.kind == "started":
            self._started = dict(data)
            rows, steps = plural(data["rows"], "row"), plural(data["total_steps"], "step")
            self._say(f"{rows}, {_epochs(data['epochs'])}, {steps}")
            if "frozen_layers" in data:
                self._say(f"frozen layers: {data['frozen_layers']}")
        elif event.kind == "resumed":
            self._say(f"going on from step {count(event.step)} ({data['folder']})")
        elif event.kind == "progress":
            self._epoch = data["epoch"]
            self._progress(event)
        elif event.kind == "evaluated":
            self._evaluated(event)
        elif event.kind == "skipped_step":
            self._say(f"step {count(event.step)}: the gradient was not finite ({data['grad_norm']}), so it was not applied")
        elif event.kind in ("stopped", "diverged"):
            self.close()
        elif event.kind == "finished":
            self.close()
            self._finished(event)

    def line(self, event: Event, width: int | None = None) -> str:
        """Return the progress line; what matters least goes first when it must fit ``width`` columns."""
        data = event.data
        total = self._started.get("epochs")
        share = event.step / self._started["total_steps"] if self._started.get("total_steps") else 0.0
        done = round(_BAR * min(share, 1.0))
        parts = [  # (how early it is dropped, text), in the order of the line
            (5, f"[{'=' * done}{' ' * (_BAR - done)}]"),
            (0, f"epoch {data['epoch']:.2f}" + (f" of {total:g}" if total else "")),
            (4, f"{count(data['rows'])} rows"),
            (2, f"{count(data['tokens_per_second'])} tokens/s"),
            (0, f"loss {number(data['loss'])}"),
            (6, f"learning rate {rate(data['learning_rate'])}"),
            (3, self._best),
            (1, f"{seconds_text(data['seconds_left'])} left"),
        ]
        parts = [part for part in parts if part[1]]
        while width is not None and len("  ".join(text for _, text in parts)) > width and max(parts)[0]:
            parts.remove(max(parts))
        return "  ".join(text for _, text in parts)

    def _progress(self, event: Event) -> None:
        from rich.live import Live
        from rich.text import Text

        if self._renews:
            if self.live is None:
                # errors keep their own stream, so nothing is redirected; whatever happens, the cursor comes back
                self.live = Live(
                    console=self.console, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False
                )
                self.live.start()
                atexit.register(self.close)
            self.live.update(Text(self.line(event, self.console.width - 1), no_wrap=True), refresh=True)
        elif self._printed is None or event.time - self._printed >= SECONDS_BETWEEN_LINES:
            self._printed = event.time
            parts = self.line(event).partition("]  ")[2]  # a bar is of no use where nothing moves
            self._say(parts)

    def _evaluated(self, event: Event) -> None:
        metrics, headline = event.data["metrics"], event.data["headline"]
        ordered = [headline, *(name for name in metrics if name != headline)]
        said = ", ".join(f"{metric_name(name)} {metric_value(name, metrics[name])}" for name in ordered if name in metrics)
        self._best = f"{metric_name(headline)} {metric_value(headline, metrics[headline])}"
        self._say(f"epoch {self._epoch:.2f}: validation {said}{' (best so far)' if event.data['best'] else ''}")

    def _finished(self, event: Event) -> None:
        data = event.data
        said = f"trained {plural(event.step, 'step')} in {seconds_text(data['seconds'])}"
        if data.get("reason") == "patience":
            said += "; stopped early, as validation no longer improved"
        best = data.get("best_step")
        if best is not None and best != event.step:
            said += f"; the weights of step {count(best)}, the best on validation, are kept"
        self._say(said)

    def _say(self, text: str) -> None:
        self.console.print(visible(text), soft_wrap=not self._renews)


def _epochs(value: float) -> str:
    return f"{value:g} epoch{'' if value == 1 else 's'}"
