r"""Dialogues as a model reads them, by its own chat template, and the parts of them that it must learn to write.

Few templates mark what the assistant writes, so it is found in the text that they render. For each answer:

    text    <|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello<|im_end|>\n
    prompt  <|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n                      the turns before it, rendered
    marked  <|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n\ue000<|im_end|>\n     the answer made one character

The answer begins where the prompt ends, which must be the beginning of the text. It ends where that begins which
follows the character in ``marked``, and which must be the end of the text. The marker that ends the turn belongs to
it. What any content says, markers included, cannot move these places.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np

from luthier.errors import InputError, RowError, SecurityError

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
_LAST_MARK = 0xF8FF
"""Unicode's private use area: templates leave its characters alone."""

Span = tuple[int, int]
_Messages = Sequence[Mapping[str, str]]


class Turn(Protocol):
    """One turn of a dialogue."""

    @property
    def role(self) -> str: ...
    @property
    def content(self) -> str: ...


class ChatTemplate:
    """A model's chat template.

    A system's turn is put before the first user's text, with an empty line between them, where the template refuses
    it, leaves it out of whole dialogues or places it elsewhere than at the beginning (Gemma, Phi-3, Mistral). Where
    the template writes nothing at the end of an answer (Falcon), ``eos_token`` is added to the last one: else the
    model would never learn to stop. ``notes`` says so.

    Args:
        template: jinja, as a tokenizer's config holds it. It runs in transformers' sandbox.
        special_tokens: ``bos_token``, ``eos_token`` and so on, as templates name them.
    """

    def __init__(self, template: str, special_tokens: Mapping[str, str]) -> None:
        self.template = template
        self._special_tokens = dict(special_tokens)

    def render(self, dialogue: Sequence[Turn]) -> str:
        """Return a whole dialogue as the model reads it.

        Raises:
            RowError: the template refuses it.
            InputError: it is no jinja.
            SecurityError: it tries what the sandbox forbids.
        """
        return self._whole(self._messages(dialogue))

    def prompt(self, dialogue: Sequence[Turn]) -> str:
        """Return a dialogue up to where the assistant begins to write; raises as ``render`` does."""
        return self._run(self._messages(dialogue), prompt=True)

    def spans(self, dialogue: Sequence[Turn]) -> list[Span]:
        """Return the stretches of ``render(dialogue)`` that the model must learn to write, in code points.

        One for each turn of the assistant: from where it begins to write, right after the prompt, to the end of its
        turn. The marker that ends the turn belongs to it, since the model must learn to stop; the line break that
        some templates write after the marker does not.

        Raises:
            RowError: the template refuses the dialogue, or leaves out or rewrites what the assistant says.
            InputError: the stretches cannot be told for this template, whatever is said.
        """
        messages = self._messages(dialogue)
        text = self._whole(messages)
        mark = _unused(text, messages)
        spans = []
        for index, message in enumerate(messages):
            if message["role"] == "assistant":
                spans.append(self._span(messages, index, text, mark))
        return spans

    def check(self) -> None:
        """Find the spans of made-up dialogues of one, two and three turns, with a system's turn or without one.

        Raises:
            InputError: the spans of neither can be told.
        """
        for system in (False, True):
            try:
                for turns in (1, 2, 3):
                    self.spans([_Probe(*turn) for turn in _dialogue(turns, system=system)])
                return
            except RowError as error:
                refusal = error
        raise self._unknown(refusal.what) from refusal

    @functools.cached_property
    def notes(self) -> tuple[str, ...]:
        """What users should know of how this template is read, a sentence each."""
        notes = []
        if self._folds_system:
            notes.append("The chat template has no place for a system's turn: it goes before the first user's text.")
        if self._is_bare:
            remedy = f"{self._appended} is added to the last one" if self._appended else "the model will not learn to stop"
            notes.append(f"The chat template writes nothing after an answer: {remedy}.")
        messages = self._sample(1)
        prompt = self._run(messages[:-1], prompt=True)
        if not self._whole(messages).startswith(prompt):
            ending = repr(prompt[-24:])
            notes.append(f"Finished answers do not begin as prompts end ({ending}): they are learned from their first word.")
        return tuple(notes)

    @functools.cached_property
    def end_marker(self) -> str:
        """The token that ends the assistant's last turn, or nothing.

        Raises:
            InputError: it cannot be told.
        """
        markers: list[str] = re.findall(self._marker, self._closing)
        return markers[-1] if markers else ""

    def _span(self, messages: _Messages, index: int, text: str, mark: str) -> Span:
        """Return the span of one answer; see the module."""
        marked = [*messages[:index], _message("assistant", mark), *messages[index + 1 :]]
        before, hit, after = self._whole(marked).partition(mark)
        prompt = self._run(messages[:index], prompt=True)
        # A prompt may begin the answer (DeepSeek-R1's "<think>") where finished answers do not have that.
        start = len(prompt) if text.startswith(prompt) else len(before)
        end = len(text) - len(after)
        found = bool(hit) and text.startswith(before[:start]) and text.endswith(after) and start <= end
        said = text[min(start, len(before)) : end]
        if not found or _letters(messages[index]["content"]) not in _letters(said):
            raise RowError(
                f"the model's chat template leaves out or rewrites a part of the assistant's turn {index + 1}",
                fix="Most templates do that to reasoning between <think> and </think>, above all in earlier turns: "
                "take it out, or give each answer a row of its own.",
            )
        closing = self._closing
        return start, end + (len(closing) if after.startswith(closing) else 0)

    @functools.cached_property
    def _closing(self) -> str:
        """What ends an answer: its marker, with the blanks before it.

        Markers that follow one another count up to ``eos_token``, else the first alone does; it must then stand after
        an earlier answer too, where it cannot be the beginning of what comes next.
        """
        last, earlier = self._tail(1), self._tail(2)
        run = re.match(rf"\s*(?:{self._marker})*", last)
        eos = self._special_tokens.get("eos_token", "")
        if run and eos and eos in run.group():
            return run.group()[: run.group().index(eos) + len(eos)]
        first = re.match(rf"\s*(?:{self._marker})", last)
        if first and earlier.startswith(first.group()):
            return first.group()
        if last.strip():
            raise self._unknown("where the assistant's turn ends cannot be told")
        return ""

    def _tail(self, turns: int) -> str:
        """Return what stands after the first answer of a made-up dialogue."""
        messages = self._sample(turns)
        answer = next(message["content"] for message in messages if message["role"] == "assistant")
        return self._whole(messages).partition(answer)[2]

    @functools.cached_property
    def _marker(self) -> str:
        eos = self._special_tokens.get("eos_token", "")
        return rf"{re.escape(eos)}|<[^<>\s]+>" if eos else r"<[^<>\s]+>"

    @functools.cached_property
    def _is_bare(self) -> bool:
        """Whether the template writes nothing after the last answer."""
        messages = self._sample(1)
        return not self._run(messages).rpartition(messages[-1]["content"])[2].strip()

    @functools.cached_property
    def _appended(self) -> str:
        return self._special_tokens.get("eos_token", "") if self._is_bare else ""

    @functools.cached_property
    def _folds_system(self) -> bool:
        """Whether a system's turn must be put before the first user's text."""
        try:
            for turns in (1, 2):
                messages = [_message(*turn) for turn in _dialogue(turns, system=True)]
                system, user = messages[0]["content"], messages[1]["content"]
                for text in (self._run(messages), self._run(messages[:-1], prompt=True)):
                    if text.count(system) != 1 or text.index(system) > text.find(user):
                        return True
        except RowError:
            return True
        return False

    def _messages(self, dialogue: Sequence[Turn]) -> _Messages:
        messages = [_message(turn.role, turn.content) for turn in dialogue]
        if messages[0]["role"] == "system" and len(messages) > 1 and self._folds_system:
            system, user, *others = messages
            both = "\n\n".join(part for part in (system["content"], user["content"]) if part.strip())
            return [_message("user", both), *others]
        return messages

    def _sample(self, turns: int) -> _Messages:
        """Return a made-up dialogue that the template takes."""
        messages = [_message(*turn) for turn in _dialogue(turns, system=False)]
        try:
            self._run(messages)
        except RowError:
            return [_message(*turn) for turn in _dialogue(turns, system=True)]
        return messages

    def _whole(self, messages: _Messages) -> str:
        text = self._run(messages)
        return text + self._appended if messages[-1]["role"] == "assistant" else text

    def _run(self, messages: _Messages, *, prompt: bool = False) -> str:
        from jinja2 import TemplateError, TemplateSyntaxError
        from jinja2.exceptions import SecurityError as SandboxError
        from transformers.utils.chat_template_utils import render_jinja_template

        try:
            rendered, _ = render_jinja_template(
                conversations=[list(messages)],
                chat_template=self.template,
                add_generation_prompt=prompt,
                **self._special_tokens,
            )
        except TemplateSyntaxError as error:
            raise InputError(f"the model's chat template is no jinja: {error}", where="model") from error
        except SandboxError as error:
            raise SecurityError(f"model: its chat template tries what is forbidden: {error}") from error
        except (TemplateError, TypeError, ValueError, AttributeError, LookupError, ArithmeticError) as error:
            raise RowError(f"the model's chat template refuses a dialogue: {error}") from error
        text: str = rendered[0]
        return text

    def _unknown(self, reason: str) -> InputError:
        return InputError(
            f"the mask of learned tokens cannot be built for this model's chat template: {reason}",
            where="model",
            fix="Learn the whole dialogue: task.train_on=all; or choose another model.",
        )


class _Probe:
    """A made-up turn."""

    def __init__(self, role: str, content: str) -> None:
        self.role, self.content = role, content


def _dialogue(turns: int, *, system: bool) -> Iterator[tuple[str, str]]:
    """Yield the roles and contents of a made-up dialogue; each content is one character that no template writes."""
    roles = [*(["system"] if system else []), *(["user", "assistant"] * turns)]
    return ((role, chr(_FIRST_MARK + index)) for index, role in enumerate(roles))


def _unused(text: str, messages: _Messages) -> str:
    """Return a private character that stands nowhere in a dialogue."""
    used = {*text, *(letter for message in messages for letter in message["content"])}
    for code in range(_FIRST_MARK, _LAST_MARK + 1):
        if chr(code) not in used:
            return chr(code)
    raise RowError("the dialogue uses every character of Unicode's private use area")


def _letters(text: str) -> str:
    """Return a text without its white space, which templates trim and add."""
    return "".join(text.split())


def _message(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def trained_tokens(starts: np.ndarray, ends: np.ndarray, spans: Sequence[Span]) -> np.ndarray:
    """Return which tokens are learned, bool [T]: those that begin inside a span and stand for some of its text.

    Args:
        starts, ends: int [T], the code points of each token. Tokens may share a character. A tokenizer that leaves
            blanks out of its offsets gives blank tokens no width: they then stand for what follows the token before.
        spans: the stretches of the text that are learned.
    """
    reached = np.maximum.accumulate(np.concatenate([[0], ends[:-1]])) if len(ends) else ends
    begins = np.where(ends > starts, starts, np.minimum(starts, reached))
    inside = np.zeros(len(starts), dtype=bool)
    for start, end in spans:
        inside |= (begins >= start) & (begins < end)
    return inside & (ends > begins)
