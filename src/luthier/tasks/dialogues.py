"""Dialogues as rows write them: hub messages, ShareGPT, prompt and response, Alpaca's three fields."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from luthier.data.rows import Row

Role = Literal["system", "user", "assistant"]
_ROLES: Mapping[str, Role] = {
    "system": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "model": "assistant",
    "bot": "assistant",
}
_TOOLS = ("tool", "function", "observation", "ipython", "tool_calls", "function_call")
"""Roles of tools, and keys of turns that call one."""
_REASONING = ("reasoning_content", "reasoning", "thinking")
_SHAPES = ("messages", "conversations", "prompt", "instruction")
_NO_INPUT = {"", "noinput", "<noinput>", "no input", "n/a"}
"""What Alpaca's rows write where an instruction needs no input."""


@dataclass(frozen=True, slots=True)
class Message:
    """One turn."""

    role: Role
    content: str


def has_dialogue(row: Row) -> bool:
    """Whether a row holds a dialogue in one of the known shapes."""
    return any(row.get(shape) is not None for shape in _SHAPES)


def read_dialogue(row: Row) -> tuple[Message, ...]:
    """Return a row's turns: perhaps a system's, then the user's and the assistant's in turn.

    Without an answer the last turn is the user's.

    Raises:
        RowError: it is no dialogue; the error names file, line and column.
    """
    shape = next(shape for shape in _SHAPES if row.get(shape) is not None)
    if shape == "prompt":
        turns = [Message("user", row.text("prompt")), *_answer(row, "response")]
    elif shape == "instruction":
        asked, about = row.text("instruction"), row.get("input")
        if about is not None and not isinstance(about, str):
            raise row.error(f"found {type(about).__name__}, expected text", column="input")
        has_input = about is not None and about.strip().casefold() not in _NO_INPUT
        turns = [Message("user", f"{asked}\n\n{about}" if has_input else asked), *_answer(row, "output")]
    else:
        turns = _listed(row, shape)
    turns = [*_system(row, turns), *turns]
    _check(row, shape, turns)
    return tuple(turns)


def _system(row: Row, turns: list[Message]) -> list[Message]:
    """Return what a column of its own says for the system; a blank one says nothing."""
    text = row.get("system")
    if text is None or (isinstance(text, str) and not text.strip()):
        return []
    system = Message("system", row.text("system"))
    if not turns or turns[0].role != "system":
        return [system]
    if turns[0] != system:
        raise row.error("the dialogue begins with another instruction of the system", column="system")
    return []


def _answer(row: Row, column: str) -> list[Message]:
    return [] if row.get(column) is None else [Message("assistant", row.text(column))]


def _listed(row: Row, shape: str) -> list[Message]:
    values = row[shape]
    if isinstance(values, str):
        try:
            values = json.loads(values)
        except ValueError as error:
            raise row.error("found text that is no JSON, expected a list of turns", column=shape) from error
    if not isinstance(values, (list, tuple)):
        raise row.error(f"found {type(values).__name__}, expected a list of turns", column=shape)
    return [_turn(row, shape, number, value) for number, value in enumerate(values, 1)]


def _turn(row: Row, shape: str, number: int, value: Any) -> Message:
    who, what = ("role", "content") if shape == "messages" else ("from", "value")
    if not isinstance(value, Mapping):
        raise row.error(f"turn {number} is {type(value).__name__}, expected {{{who}, {what}}}", column=shape)
    name, content = value.get(who, value.get("role")), value.get(what, value.get("content"))
    role = _ROLES.get(name) if isinstance(name, str) else None
    if name in _TOOLS or any(value.get(key) for key in _TOOLS):
        raise row.error(f"turn {number} uses a tool; dialogues with tools cannot be learned", column=shape)
    if any(value.get(key) for key in _REASONING):
        fix = "Write it into the content, between <think> and </think>, or leave the key out."
        raise row.error(f"turn {number} keeps its reasoning apart, which would be lost", column=shape, fix=fix)
    if role is None:
        raise row.error(f"turn {number} has the role {name!r}; known are system, user and assistant", column=shape)
    if not isinstance(content, str):
        raise row.error(f"turn {number} holds {type(content).__name__}, expected text", column=shape)
    return Message(role, content)


def _check(row: Row, shape: str, turns: list[Message]) -> None:
    spoken = turns[1:] if turns and turns[0].role == "system" else turns
    if not spoken:
        raise row.error("nobody says anything", column=shape)
    for number, turn in enumerate(spoken):
        expected = "assistant" if number % 2 else "user"
        if turn.role != expected:
            place = number + 1 + len(turns) - len(spoken)
            raise row.error(f"turn {place} is the {turn.role}'s, where the {expected}'s should be", column=shape)
        if not turn.content.strip():
            raise row.error(f"a turn of the {turn.role} is empty", column=shape)
