"""What a family is, and what the writers share."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

Turns = Sequence[tuple[str, str]]
Pieces = list[tuple[str, bool]]

ALTERNATE = """
{%- for message in messages if message.role != 'system' -%}
  {%- if (message.role == 'user') != loop.index is odd -%}{{ raise_exception('user and assistant take turns') }}{%- endif -%}
{%- endfor -%}"""
NO_SYSTEM = "{%- if messages[0].role == 'system' -%}{{ raise_exception('no system role') }}{%- endif -%}"


@dataclass(frozen=True)
class Family:
    """A chat template with its special tokens and its writer; ``marker`` is the token that ends a dialogue's last turn."""

    name: str
    template: str
    write: Callable[[Turns], Pieces]
    bos: str = "<s>"
    eos: str = "</s>"
    marker: str = "</s>"
    added: tuple[str, ...] = ()

    @property
    def special_tokens(self) -> dict[str, str]:
        return {"bos_token": self.bos, "eos_token": self.eos}


def folded(turns: Turns) -> Turns:
    """Put the system's text before the first user's, with an empty line between them."""
    if turns[0][0] != "system":
        return turns
    (_, system), (_, user), *rest = turns
    return [("user", f"{system}\n\n{user}"), *rest]


def apart(turns: Turns) -> tuple[str | None, Turns]:
    return (turns[0][1], turns[1:]) if turns[0][0] == "system" else (None, turns)
