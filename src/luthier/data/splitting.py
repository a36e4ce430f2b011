"""A validation split by share: stable whatever the order of the rows, stratified, and never cutting a group."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from luthier.units import Share


def split_by_share(keys: Sequence[str], strata: Sequence[str], share: Share) -> np.ndarray:
    """Return which rows are held out, as a boolean array [N].

    Rows with the same key (the same input, or the same document) go together. Groups are taken in the order
    of a hash of their key, stratum by stratum, until the stratum's share is reached as nearly as its groups
    allow; a group belongs to the stratum of its first row by hash order of the strata it spans.

    Args:
        keys: what must not stand on both sides.
        strata: the class that is kept in proportion.
        share: a share, or a number of rows over all strata.
    """
    groups: dict[str, list[int]] = defaultdict(list)
    for row, key in enumerate(keys):
        groups[key].append(row)
    by_stratum: dict[str, list[str]] = defaultdict(list)
    for key, rows in groups.items():
        by_stratum[min(strata[row] for row in rows)].append(key)
    fraction = share.value / 100 if share.unit == "%" else min(1.0, share.value / max(1, len(keys)))
    held = np.zeros(len(keys), dtype=bool)
    for members in by_stratum.values():
        wanted = fraction * sum(len(groups[key]) for key in members)
        taken = 0
        for key in sorted(members, key=_hash):
            size = len(groups[key])
            if abs(taken + size - wanted) > abs(taken - wanted):
                break
            held[groups[key]] = True
            taken += size
    return held


def _hash(key: str) -> bytes:
    return hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=16).digest()
