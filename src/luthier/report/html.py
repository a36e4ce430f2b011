"""report.html: one self-contained page. Each section is one function; an empty section is left out."""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from importlib import resources
from pathlib import Path

from luthier.metrics import Score, gain
from luthier.report import Curve, Report, SplitSummary
from luthier.report.charts import Dot, interval_chart, line_chart
from luthier.report.excerpts import draw_excerpts
from luthier.report.formats import (
    baseline_name,
    bytes_text,
    count,
    headline_score,
    interval,
    main_split,
    metric_name,
    metric_value,
    number,
    plural,
    rate,
    score_text,
    seconds_text,
)
from luthier.report.markup import Html, element, escaped, join
from luthier.report.tables import data_table, draw_table
from luthier.report.usage import usage

_OUTCOMES = ("used", "truncated", "skipped", "rejected")


def write_html(report: Report, path: Path) -> None:
    """Write the report as one HTML file that asks nothing of any network."""
    path.write_text(page(report), encoding="utf-8")


def page(report: Report) -> str:
    """Return the whole page."""
    sections = [section for section in _sections(report) if section is not None]
    links = (element("li", element("a", title, href=f"#{slug}")) for slug, title, _ in sections)
    parts = [
        element("nav", element("ol", *links), aria_label="Sections"),
        element(
            "main",
            _head(report),
            *(element("section", element("h2", title), body, id=slug) for slug, title, body in sections),
            element("footer", element("p", f"Made by Luthier, {_date(report.created)}. This file needs no network.")),
        ),
    ]
    script = resources.files("luthier.report").joinpath("script.js").read_text("utf-8")
    style = resources.files("luthier.report").joinpath("style.css").read_text("utf-8")
    allowed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{allowed}'; img-src data:; base-uri 'none'"
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("link", rel="icon", href="data:,"),
        element("title", f"{report.name}: {report.task.replace('-', ' ')} report"),
        element("style", Html(style)),
    )
    body = element("body", *parts, element("script", Html(script)))
    return f"<!doctype html>\n{element('html', head, body, lang='en')}\n"


def _sections(report: Report) -> Iterator[tuple[str, str, Html] | None]:
    """Yield (slug, title, body) of each section, None where there is nothing to say."""
    for slug, title, draw in (
        ("scores", "Scores", _scores),
        ("details", "Right and wrong", _details),
        ("errors", "Worst errors", _errors),
        ("training", "Training", _training),
        ("data", "Data", _data),
        ("settings", "Settings", _settings),
        ("use", "Use this model", usage),
    ):
        body = draw(report)
        yield (slug, title, body) if body else None


def _head(report: Report) -> Html:
    """The verdict first, then the headline score beside the baselines, then what must not be missed."""
    kicker = element(
        "p",
        report.task.replace("-", " "),
        element("i", " · "),
        report.model,
        element("i", " · "),
        _date(report.created),
        class_="kicker",
    )
    notes = Html("")
    if report.notes:
        items = element("ul", *(element("li", note) for note in report.notes))
        notes = element("aside", element("h2", "Before you rely on it"), items, class_="notes", aria_label="Notes")
    return element(
        "header", kicker, element("h1", report.name), element("p", report.verdict, class_="verdict"), _hero(report), notes
    )


def _hero(report: Report) -> Html:
    score, split = headline_score(report), main_split(report)
    if score is None or split is None:
        return Html("")
    metric = report.headline
    span = interval(metric, score)
    figure = [
        element("p", f"{metric_name(metric)}, {split} split", class_="label"),
        element("p", metric_value(metric, score.value), class_="big"),
        element("p", f"95% interval {span}" if span else "no interval was computed", class_="label"),
        element("p", f"over {_units(report, split, score.n)}", class_="quiet"),
    ]
    dots = [_dot("this model", metric, score, ours=True)]
    dots += [_dot(baseline_name(name), metric, scores[metric]) for name, scores in _ranked(report)]
    chart = interval_chart(
        dots,
        name="hero",
        title=f"{metric_name(metric)} of this model and of simpler methods",
        description="; ".join(str(dot) for dot in dots),
    )
    key = f"Dot: {metric_name(metric)} on the {split} split. Bar: its 95% interval."
    drawing = element("figure", chart, element("figcaption", key))
    return element("div", element("div", *figure, class_="figure"), drawing, class_="hero")


def _dot(name: str, metric: str, score: Score, *, ours: bool = False) -> Dot:
    return Dot(name, score.value, score.low, score.high, metric_value(metric, score.value), interval(metric, score), ours)


def _units(report: Report, split: str, units: int) -> str:
    """Return ``2,189 rows``, or documents where rows share one: then fewer units than rows were resampled."""
    rows = sum(summary.used + summary.truncated for summary in report.splits if summary.name == split)
    return plural(units, "document" if units < rows else "row")


def _ranked(report: Report) -> list[tuple[str, Mapping[str, Score]]]:
    """Return the baselines that have the headline metric, best first."""
    having = [(name, scores) for name, scores in report.baselines.items() if report.headline in scores]
    return sorted(having, key=lambda item: -gain(report.headline, item[1][report.headline].value))


def _scores(report: Report) -> Html:
    """One table a split: every metric with its interval, on the main split beside the baselines."""
    main, parts = main_split(report), []
    for split in sorted(report.scores, key=lambda name: name != main):
        scores = report.scores[split]
        others = list(report.baselines.items()) if split == main else []
        columns = ["metric", "this model", "95% interval", *(baseline_name(name) for name, _ in others)]
        rows = [
            [
                metric_name(metric),
                metric_value(metric, score.value),
                interval(metric, score) or "–",
                *(score_text(metric, values[metric]) if metric in values else "–" for _, values in others),
            ]
            for metric, score in scores.items()
        ]
        title = element("h3", f"{split[:1].upper()}{split[1:]} split")
        parts.append(join([title, data_table(columns, rows, label=f"scores, {split} split")]))
    if parts:
        key = "Intervals are 95% bootstrap intervals: how far the score would move on other rows of the same kind."
        parts.append(element("p", key, class_="quiet"))
    return join(parts)


def _details(report: Report) -> Html:
    """The task's tables: the main split's open, those of the others folded."""
    main, parts = main_split(report), []
    for split in sorted(report.tables, key=lambda name: name != main):
        if not report.tables[split]:
            continue
        panels = element("div", *(draw_table(table) for table in report.tables[split]), class_="panels")
        if split == main:
            parts.append(join([element("h3", f"{split[:1].upper()}{split[1:]} split"), panels]))
        else:
            parts.append(element("details", element("summary", f"The same for the {split} split"), panels))
    return join(parts)


def _errors(report: Report) -> Html:
    return draw_excerpts(report.excerpts) if report.scores else Html("")


def _training(report: Report) -> Html:
    """What training took, and its curves."""
    training = report.training
    known = [
        ("rows seen", "examples", count),
        ("steps", "steps", count),
        ("tokens", "tokens", count),
        ("time in the loop", "seconds", seconds_text),
        ("tokens a second", "tokens_per_second", count),
        ("peak memory", "peak_memory_bytes", bytes_text),
    ]
    facts = [(name, write(training[key])) for name, key, write in known if isinstance(training.get(key), (int, float))]
    strip = element("dl", *(element("div", element("dt", name), element("dd", value)) for name, value in facts), class_="strip")
    first = ("loss", f"validation {report.headline}", "learning_rate")
    ranked = sorted(report.curves, key=lambda curve: first.index(curve.name) if curve.name in first else len(first))
    last = max((step for curve in ranked for step, _ in curve.points), default=1)
    charts = [_curve(curve, f"curve-{index}", last) for index, curve in enumerate(ranked)]
    parts = [strip] if facts else []
    if charts:
        parts.append(element("div", *charts[:3], class_="charts"))
    if charts[3:]:
        more = element("summary", plural(len(charts) - 3, "more curve"))
        parts.append(element("details", more, element("div", *charts[3:], class_="charts")))
    losses = training["loss"].get("per_epoch", []) if isinstance(training.get("loss"), Mapping) else []
    if losses:
        parts.append(
            element("p", f"Mean training loss by epoch: {', '.join(number(loss) for loss in losses)}.", class_="quiet")
        )
    return join(parts)


def _curve(curve: Curve, name: str, last: int) -> Html:
    metric = curve.name.removeprefix("validation ")
    spoken = metric_name(metric) if metric == curve.name else f"validation {metric_name(metric)}"
    title = "Training loss" if curve.name == "loss" else f"{spoken[:1].upper()}{spoken[1:]}"
    points = [(step, value) for step, value in curve.points if math.isfinite(value)]
    smooth = curve.name == "loss" and len(points) > 60
    said = ["by optimizer step"]
    said += ["thick: running mean"] if smooth else []
    said += [f"{plural(len(curve.points) - len(points), 'value')} not finite"] if len(points) < len(curve.points) else []
    rated = metric == "learning_rate"
    write, axis = (rate, rate) if rated else (partial(metric_value, metric), None)
    chart = (
        line_chart(points, last=max(last, 1), name=name, title=title, write=write, axis=axis, smooth=smooth) if points else ""
    )
    return element("figure", element("figcaption", element("b", title), "; ".join(said)), element("div", chart, class_="plot"))


def _data(report: Report) -> Html:
    """What became of every input row, and what was found in the data."""
    parts: list[Html] = []
    if report.splits:
        items = (element("li", element("span", class_=f"swatch {name}"), name) for name in _OUTCOMES)
        parts.append(element("ul", *items, class_="legend"))
        parts.append(element("div", *(_ledger_bar(split) for split in report.splits), class_="ledger"))
        columns = ["split", "rows", *_OUTCOMES, "tokens", "targets", "tokens cut"]
        rows = [
            [split.name] + [count(getattr(split, key)) for key in ("rows", *_OUTCOMES, "tokens", "targets", "cut_tokens")]
            for split in report.splits
        ]
        parts.append(data_table(columns, rows, label="what became of every input row"))
        said = (
            "Every input row is one of the four; ledger.parquet names each by file and line. Truncated rows are used, but cut."
        )
        parts.append(element("p", said, class_="quiet"))
    reasons = [
        [reason, element("td", split.name), count(rows)] for split in report.splits for reason, rows in split.reasons.items()
    ]
    if reasons:
        parts += [element("h3", "Reasons in the ledger"), data_table(["reason", "split", "rows"], reasons, label="reasons")]
    if report.findings:
        found = (
            element(
                "li",
                element("b", f"{finding.title}: {count(finding.count)}"),
                element("span", *_joined(finding.places), class_="places") if finding.places else "",
            )
            for finding in report.findings
        )
        parts += [element("h3", "Found in the data"), element("ul", *found, class_="findings")]
    return join(parts)


def _ledger_bar(split: SplitSummary) -> Html:
    values = [(name, getattr(split, name)) for name in _OUTCOMES]
    said = f"{split.name}: " + ", ".join(f"{count(value)} {name}" for name, value in values)
    shown = (
        element("span", class_=name, style=f"flex-grow:{value}", title=f"{name}: {count(value)}")
        for name, value in values
        if value
    )
    bar = element("div", *shown, class_="stack", role="img", aria_label=said)
    return element("div", element("span", split.name), bar, element("span", plural(split.rows, "row"), class_="n"))


def _joined(places: Sequence[str]) -> Iterator[Html]:
    for index, place in enumerate(places):
        yield escaped(", " if index else " ")
        yield element("code", place)


def _settings(report: Report) -> Html:
    """Every setting as it was resolved, and what the engine made of it."""
    blocks = []
    for title, values in (("Resolved settings", report.settings), ("What the engine resolved", report.facts)):
        if values:
            rows = [
                element(
                    "tr",
                    element("th", key.replace("_", " ") if values is report.facts else key, scope="row"),
                    element("td", _setting(value)),
                )
                for key, value in values.items()
            ]
            blocks.append(element("div", element("h3", title), element("table", element("tbody", *rows), class_="pairs")))
    return element("div", *blocks, class_="columns") if blocks else Html("")


def _setting(value: str | int) -> str:
    return count(value) if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _date(created: str) -> str:
    return created.replace("T", " ").replace("+00:00", " UTC")
