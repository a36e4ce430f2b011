"""README.md of a run folder: a model card in the hub's form."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from luthier.metrics import Score
from luthier.report import Report
from luthier.report.formats import (
    baseline_name,
    count,
    headline_score,
    interval,
    main_split,
    metric_name,
    metric_value,
    plural,
    score_text,
    visible,
)
from luthier.report.usage import TWO_TEXTS, snippets

_HUB_ID = re.compile(r"^[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*$")


def model_card(report: Report) -> str:
    """Return the card: YAML front matter, then what the model is, how good, from what, and how to use it."""
    parts = [_front_matter(report), f"# {_inline(report.name)}", _what(report), *_scores(report), *_data(report)]
    parts += ["## Use", *(f"{title}:\n\n```{language}\n{code}\n```" for title, language, code in snippets(report)), TWO_TEXTS]
    parts += [*_settings(report), "## Limits", _limits(report)]
    return "\n\n".join(parts) + "\n"


def _front_matter(report: Report) -> str:
    import yaml

    values: dict[str, object] = {"library_name": "transformers", "pipeline_tag": report.task}
    base = base_model(report.model)
    if base is not None:
        values["base_model"] = base
    values["tags"] = ["luthier"]
    split = main_split(report)
    if split is not None:
        values["metrics"] = list(report.scores[split])
    return f"---\n{yaml.safe_dump(values, sort_keys=False, allow_unicode=True)}---"


def base_model(model: str) -> str | None:
    """Return the hub id of the model that was tuned, or None where it has none: a sample, or a folder, which goes first."""
    if model.startswith("hf:"):
        return model.removeprefix("hf:")
    return model if _HUB_ID.match(model) and not Path(model).exists() else None


def _what(report: Report) -> str:
    score, split = headline_score(report), main_split(report)
    said = f"`{_code(report.model)}` fine-tuned for {report.task.replace('-', ' ')} with Luthier, {report.created[:10]}."
    if score is None or split is None:
        return f"{said}\n\n{_inline(report.verdict)}"
    headline = f"On the {split} split: **{metric_name(report.headline)} {score_text(report.headline, score)}**."
    return f"{said} {headline}\n\n{_inline(report.verdict)}"


def _scores(report: Report) -> list[str]:
    """One table a split; on the main split each baseline has a column."""
    main, parts = main_split(report), []
    for split in sorted(report.scores, key=lambda name: name != main):
        scores = report.scores[split]
        others = list(report.baselines.items()) if split == main else []
        columns = ["metric", "this model", "95% interval", *(baseline_name(name) for name, _ in others)]
        rows = [_row(metric, score, [values for _, values in others]) for metric, score in scores.items()]
        parts.append(f"### {split[:1].upper()}{split[1:]} split\n\n{_table(columns, rows)}")
    return ["## Scores", *parts, "Intervals are 95% bootstrap intervals."] if parts else []


def _row(metric: str, score: Score, others: Sequence[Mapping[str, Score]]) -> list[str]:
    beside = [score_text(metric, values[metric]) if metric in values else "–" for values in others]
    return [metric_name(metric), metric_value(metric, score.value), interval(metric, score) or "–", *beside]


def _data(report: Report) -> list[str]:
    if not report.splits:
        return []
    keys = ("rows", "used", "truncated", "skipped", "rejected", "tokens")
    rows = [[split.name, *(count(getattr(split, key)) for key in keys)] for split in report.splits]
    parts = ["## Data", _table(["split", *keys], rows)]
    if report.findings:
        parts.append("\n".join(f"- {_inline(finding.title)}: {count(finding.count)}" for finding in report.findings))
    return parts


def _settings(report: Report) -> list[str]:
    rows = [[f"`{_code(key)}`", f"`{_code(str(value))}`"] for key, value in {**report.settings, **report.facts}.items()]
    return ["## Settings", _table(["setting", "value"], rows)] if rows else []


def _limits(report: Report) -> str:
    cut = sum(split.truncated for split in report.splits)
    lines = [
        "The scores hold for rows like those of the split that they were measured on; on other text expect less.",
        "The base model's own licence and limits apply, and so do those of the training data.",
        *(
            [f"{plural(cut, 'row')} had text beyond the model's limit; what was cut had no part in training or scores."]
            if cut
            else []
        ),
        *report.notes,
    ]
    return "\n".join(f"- {_inline(line)}" for line in lines)


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(_cell(cell) for cell in line)} |" for line in lines)


def _cell(text: str) -> str:
    return text if text.startswith("`") else _inline(text)


def _inline(text: str) -> str:
    """Return user text as Markdown that shows it as it is, on one line."""
    return re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", " ".join(visible(text).split()))


def _code(text: str) -> str:
    return " ".join(visible(text).split()).replace("`", "'").replace("|", "\\|")
