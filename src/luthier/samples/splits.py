"""Stable splits: a hash of the text says where it goes, whatever its order."""

from __future__ import annotations

import hashlib


def hashed(text: str) -> int:
    """Return 64 bits that a text always has."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")
