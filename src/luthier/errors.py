"""The errors a user can meet, each with its exit code.

    LuthierError
    ├── InputError        2    the user's input: where, what, what to do
    │   ├── RowError           one bad row: rejected and counted, not fatal by itself
    │   └── ConfigError        every problem of a config at once, each with its path
    ├── SecurityError     3    refused for security
    ├── LimitError        4    a stated limit was reached
    ├── DivergedError     5    training diverged; the last good state is kept
    └── StoppedError  130/143  stopped by a signal; the state is saved

Anything else that escapes is a defect in Luthier and ends with a traceback and exit code 1.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


class LuthierError(Exception):
    """Base of all errors that Luthier raises on purpose."""

    exit_code = 1


class InputError(LuthierError):
    """Something that the user gave cannot be used.

    The message has three parts: where it stands, what is wrong, what to do.
    """

    exit_code = 2

    def __init__(self, what: str, *, where: str | None = None, fix: str | None = None) -> None:
        self.what, self.where, self.fix = what, where, fix
        message = f"{where}: {what}" if where else what
        super().__init__(f"{message}{'' if message.endswith(('.', '?', '!')) else '.'} {fix}" if fix else message)


class RowError(InputError):
    """One row that cannot be used. It is rejected, counted and written to the ledger."""


class ConfigError(InputError):
    """All problems of one config, each with its path."""

    def __init__(self, problems: Sequence[str], *, where: str | None = None) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems), where=where)


class SecurityError(LuthierError):
    """Refused: doing it could run somebody else's code."""

    exit_code = 3


class LimitError(LuthierError):
    """A limit that was stated beforehand was reached."""

    exit_code = 4


class DivergedError(LuthierError):
    """The loss is no longer finite. The last good checkpoint is kept."""

    exit_code = 5


class StoppedError(LuthierError):
    """A signal asked the run to stop; it has saved its state."""

    def __init__(self, message: str, *, signal_number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number


def did_you_mean(name: str, available: Iterable[str]) -> str:
    """Return ``Did you mean "x"?`` for a near name, else the list of what is available."""
    names = sorted(available)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if near:
        return f'Did you mean "{near[0]}"?'
    return f"Available: {', '.join(names) or 'nothing'}."
