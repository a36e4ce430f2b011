"""How to use the model that a run left: the same lines in the report and in the model card."""

from __future__ import annotations

import json
import shlex

from luthier.report import Report
from luthier.report.formats import run_path
from luthier.report.markup import Html, element, join


def snippets(report: Report) -> list[tuple[str, str, str]]:
    """Return (what it does, language, code) of each way to use the model."""
    run = run_path(report)
    quoted = shlex.quote(run)
    shell = "\n".join(
        (
            f'luthier predict {quoted} "Your text here"',
            f"luthier predict {quoted} --input new.jsonl --output predictions.jsonl",
            f"luthier evaluate {quoted} --data other.jsonl",
        )
    )
    python = f'import luthier\n\nmodel = luthier.load({_quoted(run)})\nmodel.predict(["Your text here"])'
    return [
        ("From the command line", "sh", shell),
        ("From Python", "python", python),
        ("In plain transformers", "python", _transformers(f"{run}/model")),
    ]


TWO_TEXTS = "Where a row has two texts (a pair, or a question and its context), a tab stands between them."


def usage(report: Report) -> Html:
    """Return the report's section on using the model."""
    parts = [
        join([element("h3", title), element("pre", element("code", code), tabindex=0, class_=language)])
        for title, language, code in snippets(report)
    ]
    return join([*parts[:1], element("p", TWO_TEXTS, class_="quiet"), *parts[1:]])


def _transformers(folder: str) -> str:
    return "\n".join(
        (
            "import transformers",
            "",
            f"folder = {_quoted(folder)}",
            "tokenizer = transformers.AutoTokenizer.from_pretrained(folder)",
            "config = transformers.AutoConfig.from_pretrained(folder)",
            "model = getattr(transformers, config.architectures[0]).from_pretrained(folder)",
        )
    )


def _quoted(text: str) -> str:
    """Return a Python string in double quotes."""
    return json.dumps(text, ensure_ascii=False)
