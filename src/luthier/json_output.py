"""The option ``--json`` and what it prints."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

import typer

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]


def print_json(values: Any) -> None:
    """Print a document on stdout."""
    sys.stdout.write(json.dumps(values, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
