"""A tokenizer's vocabulary beside what transformers knows of it: an encoder-decoder's second one, and unknown pieces.

``target_tokenizer.json`` in a model's folder is the tokenizer of what the model writes, where that differs from what it
reads. ``unknown`` in tokenizer_config.json, such as ``{"from": [4048, 4048], "id": 3}``, says from which id on the pieces
of sources and of targets only lead to longer ones, and as what they count: the model has no rows for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from luthier.errors import InputError

TARGET_FILE = "target_tokenizer.json"


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """One side's.

    Attributes:
        backend: a ``tokenizers.Tokenizer``.
        rows: ids from here on are ``unknown``; None: there are none.
    """

    backend: Any
    rows: int | None = None
    unknown: int = 0

    def ids_of(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Return the ids of texts, int32, without special tokens."""
        # The fast one leaves out offsets; the ids are the same.
        encodings = self.backend.encode_batch_fast(list(texts), add_special_tokens=False)
        return [self.known(encoding.ids) for encoding in encodings]

    def known(self, ids: Sequence[int]) -> np.ndarray:
        """Return ids, int32, with the unknown id in place of those that the model has no row for."""
        array = np.asarray(ids, dtype=np.int32)
        if self.rows is not None:
            array[array >= self.rows] = self.unknown
        return array

    def decode(self, ids: np.ndarray, *, special: bool) -> str:
        """Return the text of ids; with ``special`` the special tokens stand in it."""
        text: str = self.backend.decode(ids.tolist(), skip_special_tokens=not special)
        return text


def read_vocabularies(folder: Path, hub: Any) -> tuple[Vocabulary, Vocabulary]:
    """Return the source's and the target's vocabulary of a fast tokenizer; mostly they are one.

    Args:
        hub: transformers' tokenizer of the folder.

    Raises:
        InputError: the target's file is damaged.
    """
    said = hub.init_kwargs.get("unknown") or {}
    rows, unknown = said.get("from", (None, None)), said.get("id", 0)
    source = Vocabulary(hub.backend_tokenizer, rows[0], unknown)
    path = folder / TARGET_FILE
    if not path.is_file():
        return source, source
    from tokenizers import Tokenizer as Backend

    try:
        backend = Backend.from_file(str(path))
    except Exception as error:  # tokenizers raises nothing narrower
        raise InputError(
            "the target's tokenizer is damaged", where=str(path), fix="Convert or copy the model again."
        ) from error
    backend.encode_special_tokens = hub.backend_tokenizer.encode_special_tokens
    return source, Vocabulary(backend, rows[1], unknown)
