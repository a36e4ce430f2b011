"""Named things that a config may choose: tasks, readers, engines, methods, schedules.

Names resolve here and nowhere else; a config can never import a dotted path. An entry is either an
object or a ``"module:attribute"`` string written in Luthier's own source, imported on first use, so
that listing the names costs nothing.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from typing import Any

from luthier.errors import InputError, did_you_mean


class Registry:
    """A dictionary of names with lazy entries and helpful refusals.

    Args:
        kind: what the entries are, for messages: ``"task"``.
    """

    def __init__(self, kind: str, entries: dict[str, Any] | None = None) -> None:
        self.kind = kind
        self._entries: dict[str, Any] = dict(entries or {})

    def add(self, name: str, entry: Any) -> None:
        """Add an entry. Raises ValueError when the name is taken by another one."""
        if name in self._entries and self._entries[name] is not entry:
            raise ValueError(f"{self.kind} {name!r} is registered already")
        self._entries[name] = entry

    def register(self, name: str) -> Callable[[Any], Any]:
        """Use as ``@registry.register("name")``."""

        def decorate(entry: Any) -> Any:
            self.add(name, entry)
            return entry

        return decorate

    def get(self, name: str) -> Any:
        """Return the entry.

        Raises:
            InputError: no such name; the message offers a near one.
        """
        if name not in self._entries:
            raise InputError(f'no {self.kind} "{name}"', fix=did_you_mean(name, self._entries))
        entry = self._entries[name]
        if isinstance(entry, str):
            module, _, attribute = entry.partition(":")
            entry = getattr(importlib.import_module(module), attribute)
            self._entries[name] = entry
        return entry

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._entries))

    def __len__(self) -> int:
        return len(self._entries)
