"""HTML and SVG as values. A plain string is escaped wherever it is put; only ``Html`` goes in as it is."""

from __future__ import annotations

import html
from collections.abc import Iterable

from luthier.report.formats import visible


class Html(str):
    """Markup made by this module."""

    __slots__ = ()


_VOID = frozenset({"meta", "link", "br", "hr", "col"})

Child = str | int
Attribute = str | int | float | None


def escaped(text: str) -> Html:
    """Return user text as markup: escaped, control characters written out."""
    return Html(html.escape(visible(text), quote=True))


def element(name: str, /, *children: Child, **attributes: Attribute) -> Html:
    """Return an element.

    Args:
        name: the tag's name.
        children: ``Html`` is put in as it is; everything else is escaped.
        attributes: ``class_`` means class, other underscores are hyphens; None leaves the attribute out.
    """
    written = "".join(_attribute(key, value) for key, value in attributes.items() if value is not None)
    if name in _VOID:
        return Html(f"<{name}{written}>")
    return Html(f"<{name}{written}>{join(children)}</{name}>")


def join(children: Iterable[Child]) -> Html:
    """Return children one after the other."""
    return Html("".join(child if isinstance(child, Html) else escaped(str(child)) for child in children))


def user(text: str, name: str = "bdi", **attributes: Attribute) -> Html:
    """Return text that a user wrote, in an element that keeps its direction to itself."""
    return element(name, text, dir="auto", **attributes)


def _attribute(key: str, value: str | int | float) -> str:
    name = key.removesuffix("_").replace("_", "-")
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return f' {name}="{escaped(text)}"'
