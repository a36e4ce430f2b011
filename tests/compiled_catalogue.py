"""Compiled gettext catalogues, written by hand as the format describes them."""

import struct
from collections.abc import Mapping

HEADER = "Content-Type: text/plain; charset=UTF-8\nPlural-Forms: nplurals=2; plural=(n > 1);\n"


def compiled(messages: Mapping[str, str], *, header: str = HEADER, charset: str = "utf-8", order: str = "<") -> bytes:
    r"""Return a .mo file. A key is ``context\4msgid\0msgid_plural``, a text ``first\0second``."""
    pairs = sorted((key.encode(charset), text.encode(charset)) for key, text in {"": header, **messages}.items())
    start = 28 + 16 * len(pairs)
    tables, strings = [b"", b""], b""
    for side in (0, 1):
        for pair in pairs:
            tables[side] += struct.pack(f"{order}2I", len(pair[side]), start + len(strings))
            strings += pair[side] + b"\0"
    head = struct.pack(f"{order}7I", 0x950412DE, 0, len(pairs), 28, 28 + 8 * len(pairs), 0, 0)
    return head + tables[0] + tables[1] + strings
