"""Charts as inline SVG.

Text must stay readable from 360 px on, so nothing is scaled: x is in percent of the width, y in pixels.
Only a line's path lives in a nested picture that stretches; its stroke does not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from luthier.report.formats import count, number
from luthier.report.markup import Html, element, join

MAX_POINTS = 300
"""Points of a drawn line; more are averaged in equal stretches."""


_MAX_NAME = 34
"""Characters of a name that stand beside a number on a narrow screen."""


@dataclass(frozen=True, slots=True)
class Dot:
    """One line of an interval chart. ``text`` and ``span`` are value and interval as written; ``ours`` is the tuned model."""

    name: str
    value: float
    low: float | None
    high: float | None
    text: str
    span: str
    ours: bool = False

    def __str__(self) -> str:
        return f"{self.name}: {self.text}{f' ({self.span})' if self.span else ''}"


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Return round numbers from at or below ``low`` to at or above ``high``, at most ``most`` + 2 of them."""
    if not high > low:
        pad = abs(low) * 0.1 or 1.0
        low, high = low - pad, high + pad
    rough = (high - low) / most
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * factor for factor in (1, 2, 2.5, 5, 10) if unit * factor >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)]


def interval_chart(dots: Sequence[Dot], *, name: str, title: str, description: str) -> Html:
    """Draw values with their intervals, one above the other, on one scale.

    Args:
        dots: from the top down.
        name: makes the ids on the page unique.
    """
    ends = [end for dot in dots for end in (dot.low, dot.value, dot.high) if end is not None]
    marks = ticks(min(ends), max(ends), most=4)
    if max(ends) <= 1:  # a share cannot be more than 1
        marks = [mark for mark in marks if mark <= 1] or marks
    row, base = 50, 50 * len(dots) + 4

    def x(value: float) -> float:
        return 3 + 94 * (value - marks[0]) / (marks[-1] - marks[0])

    parts: list[Html] = []
    for mark in marks:
        parts.append(_line(x(mark), 0, x(mark), base, "grid"))
        parts.append(_text(x(mark), base + 18, _evenly(mark, marks), "tick", anchor="middle"))
    for index, dot in enumerate(dots):
        y = index * row + 36
        whose = "ours" if dot.ours else "other"
        shown = dot.name if len(dot.name) <= _MAX_NAME else dot.name[: _MAX_NAME - 1] + "…"
        span = element("tspan", f" ({dot.span})", class_="span") if dot.span else ""
        parts.append(_text(0, y - 16, shown, f"name {whose}"))
        parts.append(_text(100, y - 16, join([dot.text, span]), f"figure {whose}", anchor="end"))
        parts.append(_line(0, y, 100, y, "track"))
        if dot.low is not None and dot.high is not None:
            parts.append(_line(x(dot.low), y, x(dot.high), y, f"interval {whose}"))
        circle = element("circle", cx=f"{x(dot.value):.2f}%", cy=y, r=6, class_=f"dot {whose}")
        parts.append(element("g", element("title", str(dot)), circle))
    return _picture(parts, name=name, title=title, description=description, height=base + 26)


def line_chart(
    points: Sequence[tuple[int, float]],
    *,
    last: int,
    name: str,
    title: str,
    write: Callable[[float], str],
    axis: Callable[[float], str] | None = None,
    smooth: bool = False,
    height: int = 180,
) -> Html:
    """Draw a line over optimizer steps, with axes, ticks and a hover title for each point.

    Args:
        points: (step, value), ascending, all finite, at least one.
        last: the step at the right end, at least 1; the left end is step 0.
        name: makes the ids on the page unique.
        write: how a value is written; ``axis``: how a tick is, default with as many decimals as its neighbours.
        smooth: draw the points thin, and their running mean over them.
    """
    drawn = thinned(points)
    values = [value for _, value in points]
    marks = ticks(min(values), max(values))

    def x(step: float) -> float:
        return 100.0 * step / last

    def y(value: float) -> float:
        return height * (1 - (value - marks[0]) / (marks[-1] - marks[0]))

    parts = [_line(0, y(mark), 100, y(mark), "grid") for mark in marks]
    for mark in marks:
        said = axis(mark) if axis else _evenly(mark, marks)
        parts.append(_text(0, y(mark) + 4, said, "tick", anchor="end", dx=-8))
    for step in ticks(0, last, most=4):
        if step > last or step != int(step):
            continue
        anchor = "end" if x(step) > 94 else "middle"
        parts.append(_text(x(step), height + 20, count(step), "tick", anchor=anchor))
        parts.append(_line(x(step), height, x(step), height + 5, "axis"))
    parts.append(_line(0, height, 100, height, "axis"))
    if smooth:
        parts.append(_path(drawn, x, y, height, "line raw"))
        drawn = _smoothed(drawn)
    parts.append(_path(drawn, x, y, height, "line"))
    if len(points) <= 30:
        parts += [element("circle", cx=f"{x(s):.2f}%", cy=y(v), r=3.5, class_="dot ours") for s, v in points]
    parts.append(_hover(thinned(points, 100), x, height, write))
    description = (
        f"From {write(points[0][1])} at step {count(points[0][0])} to {write(points[-1][1])} at step {count(points[-1][0])}; "
        f"lowest {write(min(values))}, highest {write(max(values))}."
    )
    return _picture(parts, name=name, title=title, description=description, height=height + 28)


def _evenly(mark: float, marks: Sequence[float]) -> str:
    """Write a tick with as many decimals as the finest of its neighbours needs."""
    digits = max(len(f"{other:.6f}".rstrip("0").partition(".")[2]) for other in marks)
    return number(mark, digits)


def thinned(points: Sequence[tuple[int, float]], most: int = MAX_POINTS) -> list[tuple[int, float]]:
    """Return at most ``most`` points: means of equal stretches, each at its last step."""
    if len(points) <= most:
        return list(points)
    edges = [len(points) * index // most for index in range(most + 1)]
    stretches = [points[start:end] for start, end in pairwise(edges)]
    return [(stretch[-1][0], sum(value for _, value in stretch) / len(stretch)) for stretch in stretches]


def _smoothed(points: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """Return the mean over a window of a twentieth of the points around each."""
    half = max(1, len(points) // 40)
    windows = [points[max(0, at - half) : at + half + 1] for at in range(len(points))]
    return [(point[0], sum(v for _, v in window) / len(window)) for point, window in zip(points, windows, strict=True)]


def _path(
    points: Sequence[tuple[int, float]], x: Callable[[float], float], y: Callable[[float], float], height: int, class_: str
) -> Html:
    line = "M" + "L".join(f"{x(step) * 10:.1f} {y(value):.1f}" for step, value in points)
    path = element("path", d=line, class_=class_, vector_effect="non-scaling-stroke")
    box = {"viewBox": f"0 0 1000 {height}", "preserveAspectRatio": "none"}
    return element("svg", path, x=0, y=0, width="100%", height=height, overflow="visible", **box)


def _hover(
    points: Sequence[tuple[int, float]], x: Callable[[float], float], height: int, write: Callable[[float], str]
) -> Html:
    """Return invisible stripes, one a point, that name it when pointed at."""
    places = [x(step) for step, _ in points]
    stripes: list[Html] = []
    for index, (step, value) in enumerate(points):
        left = (places[index - 1] + places[index]) / 2 if index else 0.0
        right = (places[index] + places[index + 1]) / 2 if index + 1 < len(points) else 100.0
        title = element("title", f"step {count(step)}: {write(value)}")
        stripes.append(
            element("rect", title, x=f"{left:.2f}%", y=0, width=f"{right - left:.2f}%", height=height, class_="stripe")
        )
    return join(stripes)


def _picture(parts: Sequence[Html], *, name: str, title: str, description: str, height: int) -> Html:
    head = (element("title", title, id=f"{name}-title"), element("desc", description, id=f"{name}-desc"))
    return element(
        "svg",
        *head,
        *parts,
        role="img",
        aria_labelledby=f"{name}-title {name}-desc",
        width="100%",
        height=height,
        class_="chart",
    )


def _line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Html:
    return element("line", x1=f"{x1:.2f}%", y1=round(y1, 1), x2=f"{x2:.2f}%", y2=round(y2, 1), class_=class_)


def _text(x: float, y: float, text: str, class_: str, *, anchor: str = "start", dx: int | None = None) -> Html:
    return element("text", text, x=f"{x:.2f}%", y=round(y, 1), class_=class_, text_anchor=anchor, dx=dx)
