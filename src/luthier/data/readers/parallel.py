"""Parallel text: two files, whose lines belong together. ``train.{en,fr}`` names both, the source first.

It is no registered reader, since a reader reads one file: :mod:`luthier.data.sources` finds the braces.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import zip_longest

from luthier.data.readers.file import DataFile
from luthier.data.rows import Row
from luthier.errors import InputError

_BRACES = re.compile(r"\{([^{}]*,[^{}]*)\}")


def sides(spec: str) -> tuple[str, str] | None:
    """Return the source's and the target's path of ``train.{en,fr}``; None where there are no braces with a comma.

    Raises:
        InputError: the braces do not name two different files.
    """
    found = _BRACES.findall(spec)
    if not found:
        return None
    names = found[0].split(",")
    if len(found) > 1 or len(names) != 2 or not all(names) or names[0] == names[1]:
        raise InputError(
            "these braces do not name the two sides of parallel text",
            where=spec,
            fix="Write train.{en,fr}, the source first; files of another kind are given as a list.",
        )
    before, after = _BRACES.split(spec)[::2]
    return before + names[0] + after, before + names[1] + after


def read_parallel(source: DataFile, target: DataFile) -> Iterator[Row]:
    r"""Yield one row a line with ``source`` and ``target``; file and line are the source's.

    Only ``\n`` and ``\r\n`` end a line, as for the tools that align such files: any other character that some
    take for a line's end stays in the text. Blanks at the end of a line are stripped. A line that is blank on both sides
    is no row; blank on one side it is a row with an empty text.

    Raises:
        InputError: the files have different numbers of lines, or one is damaged.
    """
    pairs = zip_longest(_lines(source), _lines(target))
    for number, (given, wanted) in enumerate(pairs, 1):
        if given is None or wanted is None:
            longer = number + sum(1 for _ in pairs)
            lengths = (number - 1, longer) if given is None else (longer, number - 1)
            raise InputError(
                f"{source.name} has {lengths[0]} lines, {target.name} {lengths[1]}; they must agree",
                where=f"{(target if given is None else source).name}:{number}",
                fix="Line n of one file translates line n of the other: get or align them again.",
            )
        row = {"source": given.rstrip(), "target": wanted.rstrip()}
        if row["source"] or row["target"]:
            yield Row(row, file=source.name, line=number)


def _lines(file: DataFile) -> Iterator[str]:
    r"""Yield the lines of a file; what a lone ``\r`` parted is put together again."""
    held = ""
    for piece in file.lines():
        held += piece
        if held.endswith("\n"):
            yield held
            held = ""
    if held:
        yield held
