"""Quantities that carry their unit: ``3 epochs``, ``500 steps``, ``32 examples``, ``10%``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar, Self

_NUMBER = re.compile(r"^\s*([0-9][0-9_]*(?:\.[0-9]+)?)\s*(k|K|M)?\s*(%|[A-Za-z]+)?\s*$")
_SCALE = {None: 1, "k": 1_000, "K": 1_000, "M": 1_000_000}


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number with a unit. Subclasses say which units they take."""

    value: float
    unit: str

    units: ClassVar[tuple[str, ...]] = ()
    example: ClassVar[str] = ""

    @classmethod
    def parse(cls, text: object) -> Self:
        """Read ``"3 epochs"``.

        Raises:
            ValueError: not a positive number with one of the units of this class.
        """
        if isinstance(text, cls):
            return text
        match = _NUMBER.match(text) if isinstance(text, str) else None
        unit = cls._unit(match.group(3)) if match and match.group(3) else None
        if match is None or unit is None:
            raise ValueError(f'found {text!r}; write a number with its unit ({", ".join(cls.units)}), such as "{cls.example}"')
        value = float(match.group(1).replace("_", "")) * _SCALE[match.group(2)]
        if unit != "%" and value != int(value) and unit != "epochs":
            raise ValueError(f"found {text!r}; {unit} come in whole numbers")
        if value <= 0:
            raise ValueError(f"found {text!r}; it must be more than 0")
        if unit == "%" and value > 100:
            raise ValueError(f"found {text!r}; a share is at most 100%")
        return cls(value, unit)

    @classmethod
    def _unit(cls, word: str) -> str | None:
        return next((unit for unit in cls.units if word.lower() in (unit, unit.removesuffix("s"))), None)

    def __str__(self) -> str:
        number = f"{self.value:g}" if self.value != int(self.value) else str(int(self.value))
        return f"{number}%" if self.unit == "%" else f"{number} {self.unit if self.value != 1 else self.unit.removesuffix('s')}"


class Duration(Quantity):
    """How long: epochs or optimizer steps."""

    units = ("epochs", "steps")
    example = "3 epochs"

    def steps(self, steps_per_epoch: int) -> int:
        """Return the number of optimizer steps, at least 1."""
        steps = self.value * steps_per_epoch if self.unit == "epochs" else self.value
        return max(1, round(steps))


class BatchSize(Quantity):
    """How much goes into one optimizer step: examples (source rows) or tokens."""

    units = ("examples", "tokens")
    example = "32 examples"


class MicroBatch(Quantity):
    """How many tokens are computed at once; more of them in a step are accumulated."""

    units = ("tokens",)
    example = "4096 tokens"


class Warmup(Quantity):
    """A part of the whole training: a share, steps or epochs. ``0%`` is none."""

    units = ("%", "steps", "epochs")
    example = "10%"

    @classmethod
    def parse(cls, text: object) -> Self:
        if isinstance(text, str) and re.fullmatch(r"\s*0+(\.0+)?\s*(%|steps|epochs)\s*", text):
            return cls(0.0, "%")
        return super().parse(text)

    def steps(self, total: int, steps_per_epoch: int) -> int:
        """Return the number of warm-up steps, at most ``total``."""
        if self.unit == "%":
            return round(total * self.value / 100)
        return min(total, round(self.value * (steps_per_epoch if self.unit == "epochs" else 1)))


class Share(Quantity):
    """A share of the rows, or a number of them."""

    units = ("%", "examples", "rows")
    example = "10%"

    def count(self, total: int) -> int:
        """Return the number of rows out of ``total``, rounded to the nearest."""
        return min(total, round(total * self.value / 100) if self.unit == "%" else int(self.value))
