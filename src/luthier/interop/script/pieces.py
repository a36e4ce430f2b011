"""Python source from pieces of text: files of this package with optional lines, constants, and the imports that they need.

A piece is Python but for three things: ``#: if NAME``, ``#: else`` and ``#: end`` stand around lines that depend on a
flag; ``@word@`` is replaced; and ``@@name@@`` on a line of its own is another piece.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

WIDTH = 128
"""Of a line; longer lists get a line for each item."""

_INCLUDED = re.compile(r"^@@(\w+)@@\n", re.MULTILINE)
_IMPORTS = (
    ("import itertools", r"\bitertools\."),
    ("import json", r"\bjson\."),
    ("import math", r"\bmath\."),
    ("import re", r"\bre\."),
    ("import string", r"\bstring\."),
    ("import sys", r"\bsys\."),
    ("import time", r"\btime\."),
    ("import unicodedata", r"\bunicodedata\."),
    ("from collections import Counter", r"\bCounter\("),
    ("from pathlib import Path", r"\bPath\("),
    ("", ""),
    ("import numpy as np", r"\bnp\."),
    ("import torch", r"\btorch\."),
    ("import transformers", r"\btransformers\."),
    ("from peft import LoraConfig, get_peft_model", r"\bLoraConfig\("),
    ("from rouge_score.rouge_scorer import RougeScorer", r"\bRougeScorer\("),
    ("from sacrebleu.metrics import BLEU, CHRF", r"\bBLEU\("),
)
"""Import lines in their order, each with what shows that a script needs it; an empty one parts the groups."""
_SCORES = ("accuracy_score", "f1_score", "mean_absolute_error", "precision_score", "r2_score", "recall_score")


def piece(name: str, flags: Mapping[str, bool], words: Mapping[str, str]) -> str:
    """Return a piece of this package with its flags and words filled in.

    Args:
        name: of the file, without its suffix.
        flags: what ``#: if`` may name.
        words: what stands between two ``@``.

    Raises:
        KeyError: the piece names a flag or a word that is not given.
    """
    text = (files(__package__) / f"{name}.py.txt").read_text(encoding="utf-8")
    text = _INCLUDED.sub(lambda match: piece(match.group(1), flags, words).lstrip("\n"), text)
    return re.sub(r"@(\w+)@", lambda match: words[match.group(1)], _chosen(text, flags))


def _chosen(text: str, flags: Mapping[str, bool]) -> str:
    """Return the lines whose flags are set."""
    kept: list[str] = []
    states: list[bool] = []
    for line in text.splitlines(keepends=True):
        if not line.startswith("#: "):
            if all(states):
                kept.append(line)
            continue
        command, _, name = line[3:].strip().partition(" ")
        if command == "if":
            states.append(flags[name])
        elif command == "else":
            states[-1] = not states[-1]
        else:
            states.pop()
    return "".join(kept)


def constant(name: str, value: Any, comment: str = "") -> str:
    """Return the line, or the lines, that give a constant its value."""
    line = f"{name} = {literal(value)}" + (f"  # {comment}" if comment else "")
    if len(line) <= WIDTH or not isinstance(value, (list, tuple, dict)):
        return line
    brackets = "{}" if isinstance(value, dict) else "()" if isinstance(value, tuple) else "[]"
    items = [f"{literal(k)}: {literal(v)}" for k, v in value.items()] if isinstance(value, dict) else map(literal, value)
    inside = "".join(f"    {item},\n" for item in items)
    return (f"# {comment[:1].upper()}{comment[1:]}.\n" if comment else "") + f"{name} = {brackets[0]}\n{inside}{brackets[1]}"


def literal(value: Any) -> str:
    """Return a plain value as Python writes it, with double quotes."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{literal(key)}: {literal(item)}" for key, item in value.items()) + "}"
    if isinstance(value, tuple):
        return "(" + ", ".join(map(literal, value)) + (",)" if len(value) == 1 else ")")
    if isinstance(value, list):
        return "[" + ", ".join(map(literal, value)) + "]"
    return repr(value)


def imports_for(body: str, *, scores: str) -> str:
    """Return the import lines that a body needs.

    Args:
        body: the rest of the script.
        scores: the module of ``f1_score`` and its like.
    """
    lines = [line for line, sign in _IMPORTS if not line or re.search(sign, body)]
    found = [name for name in _SCORES if re.search(rf"\b{name}\(", body)]
    if found:
        lines.append(f"from {scores} import {', '.join(found)}")
    lines.append("from torch.nn import functional")
    return "\n".join(lines)
