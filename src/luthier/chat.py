"""Dialogues as a model reads them, by its own chat template, and the parts of them that it must learn to write.

Few templates mark the assistant's parts, so they are found in what is rendered. Every content is replaced by a
character of its own from Unicode's private use area, and what the template writes around those characters is its
skeleton. The real text must then be the skeleton with the contents put back, to the character, or the template is
refused. Nothing that a content says can therefore move the mask.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np

from luthier.errors import InputError

DEFAULT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'system' %}{{ message['content'] + '\\n\\n' }}"
    "{% elif message['role'] == 'user' %}{{ 'User: ' + message['content'] + '\\n' }}"
    "{% else %}{{ 'Assistant: ' + message['content'] + (eos_token or '') + '\\n' }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)
"""For models that have no template of their own, such as GPT-2."""

_FIRST_MARK = 0xE000
_MARKER = re.compile(r"\s*<[^<>\s]+>")
_TRIMS: tuple[Callable[[str], str], ...] = (str, str.strip, str.rstrip, str.lstrip)
"""What templates do to a content before they write it."""

Span = tuple[int, int]


class Turn(Protocol):
    """One turn of a dialogue."""

    @property
    def role(self) -> str: ...
    @property
    def content(self) -> str: ...


class ChatTemplate:
    """A model's chat template.

    Args:
        template: jinja, as a tokenizer's config holds it. It runs in transformers' sandbox.
        special_tokens: ``bos_token``, ``eos_token`` and so on, as templates name them.

    Raises:
        InputError: it is no jinja.
    """

    def __init__(self, template: str, special_tokens: Mapping[str, str]) -> None:
        self.template = template
        self._special_tokens = dict(special_tokens)
        self._trims: tuple[Callable[[str], str], ...] = _TRIMS

    @functools.cached_property
    def _takes_system(self) -> bool:
        """Whether it takes a system's turn at all; Gemma's does not."""
        try:
            self._run([_message("system", "\ue000"), _message("user", "\ue001")])
        except InputError:
            return False
        return True

    @functools.cached_property
    def end_marker(self) -> str:
        """What the template writes at the end of the assistant's last turn: a token that stands for it, or nothing."""
        tail = self._run([_message("user", "\ue000"), _message("assistant", "\ue001")]).rpartition("\ue001")[2]
        match = _MARKER.match(tail)
        return match.group().strip() if match else ""

    def _run(self, messages: Sequence[Mapping[str, str]], *, prompt: bool = False) -> str:
        from jinja2 import TemplateError
        from transformers.utils.chat_template_utils import render_jinja_template

        try:
            rendered, _ = render_jinja_template(
                conversations=[list(messages)],
                chat_template=self.template,
                add_generation_prompt=prompt,
                **self._special_tokens,
            )
        except (TemplateError, TypeError, AttributeError) as error:
            raise InputError(f"the model's chat template refuses a dialogue: {error}") from error
        text: str = rendered[0]
        return text

    def _messages(self, dialogue: Sequence[Turn]) -> list[dict[str, str]]:
        """Return plain messages; a system's turn goes before the first user's text where the template has no place for it."""
        messages = [_message(turn.role, turn.content) for turn in dialogue]
        if messages[0]["role"] == "system" and not self._takes_system:
            system, *messages = messages
            if not messages:
                return [_message("user", system["content"])]
            messages[0] = _message("user", f"{system['content']}\n\n{messages[0]['content']}")
        return messages

    def render(self, dialogue: Sequence[Turn]) -> str:
        """Return a whole dialogue as the model reads it.

        Raises:
            InputError: the template refuses it.
        """
        return self._run(self._messages(dialogue))

    def prompt(self, dialogue: Sequence[Turn]) -> str:
        """Return a dialogue up to where the assistant begins to write."""
        return self._run(self._messages(dialogue), prompt=True)

    def spans(self, dialogue: Sequence[Turn]) -> list[Span]:
        """Return the stretches of ``render(dialogue)`` that the model must learn to write, in code points.

        One for each turn of the assistant: from where it begins to write to the end of its turn, with the token
        that ends it, since the model must learn to stop.

        Raises:
            InputError: they cannot be told for this template.
        """
        messages = self._messages(dialogue)
        text = self._run(messages)
        marked = [_message(message["role"], chr(_FIRST_MARK + index)) for index, message in enumerate(messages)]
        skeleton = self._run(marked)
        places = [skeleton.find(chr(_FIRST_MARK + index)) for index in range(len(messages))]
        contents = self._contents(skeleton, messages, text)
        if contents is None:
            raise InputError(
                "the learned part of a dialogue cannot be told: the model's chat template changes what is said",
                where="model",
                fix="Learn the whole dialogue: task.train_on=all; or choose another model.",
            )
        shift = np.cumsum([0, *(len(contents[index]) - 1 for index in range(len(messages)))])
        order = {index: rank for rank, index in enumerate(sorted(range(len(messages)), key=lambda index: places[index]))}
        spans = []
        for index, message in enumerate(messages):
            if message["role"] != "assistant":
                continue
            before, after = int(shift[order[index]]), int(shift[order[index] + 1])
            start = self._start(marked, index, skeleton, places[index])
            spans.append((start + before, places[index] + 1 + len(self._ending(skeleton, places[index])) + after))
        return spans

    def _contents(self, skeleton: str, messages: Sequence[Mapping[str, str]], text: str) -> dict[int, str] | None:
        """Return each content as the template writes it; None where the skeleton and they do not make the text."""
        marks = re.compile(f"[{chr(_FIRST_MARK)}-{chr(_FIRST_MARK + len(messages) - 1)}]")
        if sorted(marks.findall(skeleton)) != [chr(_FIRST_MARK + index) for index in range(len(messages))]:
            return None
        for assistant in self._trims:
            for other in self._trims:
                contents = {
                    index: (assistant if message["role"] == "assistant" else other)(message["content"])
                    for index, message in enumerate(messages)
                }
                parts = marks.split(skeleton)
                found = [contents[ord(mark) - _FIRST_MARK] for mark in marks.findall(skeleton)]
                whole = "".join(part + content for part, content in zip(parts, [*found, ""], strict=True))
                if whole == text:
                    ordered = sorted(range(len(messages)), key=lambda index: skeleton.find(chr(_FIRST_MARK + index)))
                    return {rank: contents[index] for rank, index in enumerate(ordered)}
        return None

    def _start(self, marked: Sequence[Mapping[str, str]], index: int, skeleton: str, place: int) -> int:
        """Return where in the skeleton the assistant begins to write this turn."""
        prompt = self._run(marked[:index], prompt=True)
        if skeleton.startswith(prompt) and len(prompt) <= place:
            return len(prompt)
        # What follows once more turns are there may change what stands before: then the opening is looked for.
        opening = prompt[len(self._run(marked[:index])) :] if prompt.startswith(self._run(marked[:index])) else ""
        found = skeleton.rfind(opening, 0, place) if opening else -1
        last = max((skeleton.rfind(chr(_FIRST_MARK + other), 0, place) for other in range(len(marked))), default=-1)
        return found + len(opening) if found > last else place

    def _ending(self, skeleton: str, place: int) -> str:
        """Return what ends the assistant's turn at a place of the skeleton."""
        match = _MARKER.match(skeleton, place + 1)
        return match.group() if match and self.end_marker and match.group().strip() == self.end_marker else ""


def _message(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def trained_tokens(starts: np.ndarray, ends: np.ndarray, spans: Sequence[Span]) -> np.ndarray:
    """Return which tokens are learned, bool [T]: those that begin inside a span and are not empty.

    Args:
        starts, ends: int [T], the code points of each token.
        spans: the stretches of the text that are learned.
    """
    inside = np.zeros(len(starts), dtype=bool)
    for start, end in spans:
        inside |= (starts >= start) & (starts < end)
    return inside & (ends > starts)
