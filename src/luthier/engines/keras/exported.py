"""``luthier export`` to Keras and TensorFlow, as the process sees it that asks for it: that one may run torch, or neither.

Writing and reading back happen in processes of their own, each with TensorFlow under Keras.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np

from luthier.data.features import Feature
from luthier.engines.keras import TENSORFLOW
from luthier.engines.keras.batch import KerasBatch, Piece, Pieces, Shapes
from luthier.engines.keras.export_readme import readme
from luthier.engines.keras.hub_folder import read_config, set_head
from luthier.engines.keras.wire import receive, send
from luthier.errors import InputError
from luthier.heads import Head, SequenceHead, SpanHead
from luthier.model_source import model_limit
from luthier.runs import task_of
from luthier.tasks.task import Output

Format = Literal["file", "saved-model"]
KERAS_FILE = "model.keras"
_MICRO_TOKENS = 4096


def head_of(folder: Path) -> Head:
    """Return the head of a model folder that Luthier has written."""
    where = folder / "luthier.json"
    head: Head = task_of(json.loads(where.read_text(encoding="utf-8")), where=str(where)).head
    return head


def keras_file(hub: Path, made: Path) -> Any:
    """Write ``model.keras`` and open it; see ``opened``."""
    return opened("file", hub, made)


def saved_model(hub: Path, made: Path) -> Any:
    """Write a SavedModel and open it; see ``opened``."""
    return opened("saved-model", hub, made)


@contextmanager
def opened(format: Format, hub: Path, made: Path) -> Iterator[ExportedModel]:
    """Write a model folder in another form, load that in a new process, and give it as what computes losses and logits.

    Args:
        format: a ``.keras`` file or a SavedModel.
        hub: the whole model in the hub's format, with luthier.json.
        made: an empty folder.

    Raises:
        InputError: TensorFlow or Keras is not installed, or KerasHub has no such model.
    """
    TENSORFLOW.methods()
    _write(format, hub, made)
    (made / "README.md").write_text(readme(format, head_of(hub), read_config(hub).to_dict()), encoding="utf-8")
    with tempfile.TemporaryFile() as said:
        child = subprocess.Popen(
            [sys.executable, "-m", "luthier.engines.keras.scoring", str(made), str(hub)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said, env=_surroundings(),
        )  # fmt: skip
        try:
            yield ExportedModel(hub, child, said)
        finally:
            if child.stdin:
                child.stdin.close()
            if child.stdout:
                child.stdout.close()
            child.wait()


def _write(format: Format, hub: Path, made: Path) -> None:
    command = [sys.executable, "-m", "luthier.engines.keras.exporting", format, str(hub), str(made)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=_surroundings(), check=False)
    if done.returncode == InputError.exit_code:
        raise InputError(done.stderr.strip().splitlines()[-1], where="--to", fix="Choose --to safetensors.")
    if done.returncode:
        raise RuntimeError(f"the process that writes the export ended with {done.returncode}:\n{done.stderr[-4000:]}")


def _surroundings() -> dict[str, str]:
    # A GPU stays with the process that asks: TensorFlow would take all of its memory.
    return {**os.environ, "KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}


class ExportedModel:
    """An exported model in its process: that part of a Model that scoring asks for.

    Args:
        hub: the same model in the hub's format, for its config.
        child: runs ``luthier.engines.keras.scoring``.
        said: what it writes to stderr.
    """

    def __init__(self, hub: Path, child: subprocess.Popen[bytes], said: IO[bytes]) -> None:
        self._child, self._said = child, said
        self._head = head_of(hub)
        config = read_config(hub)
        set_head(config, self._head)
        self._pieces = Pieces(self._head, config, Shapes.usual(model_limit(hub)))

    @property
    def micro_tokens(self) -> int:
        return _MICRO_TOKENS

    def collate(self, features: Sequence[Feature]) -> KerasBatch:
        """See Model.collate."""
        return self._pieces.batch(features)

    def losses(self, batch: KerasBatch) -> tuple[np.ndarray, np.ndarray]:
        """See Model.losses."""
        sums = np.zeros(batch.num_sequences, dtype=np.float32)
        weights = np.zeros(batch.num_sequences, dtype=np.float32)
        for piece in batch.pieces:
            order, found = list(piece.order), self._asked(piece, piece.gold or {})
            sums[order], weights[order] = found["sums"][: len(order)], found["weights"][: len(order)]
        return sums, weights

    def outputs(self, batch: KerasBatch) -> list[Output]:
        """See Model.outputs."""
        logits: list[np.ndarray] = [np.zeros(0, dtype=np.float32)] * len(batch.features)
        for piece in batch.pieces:
            results = self._asked(piece, {})["logits"]
            for row, (place, length) in enumerate(zip(piece.order, piece.lengths, strict=True)):
                array = results[row] if isinstance(self._head, SequenceHead) else results[row, :length]
                logits[place] = array.T if isinstance(self._head, SpanHead) else array
        return [Output(feature, array) for feature, array in zip(batch.features, logits, strict=True)]

    def _asked(self, piece: Piece, gold: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        arrays = {f"inputs.{name}": array for name, array in piece.inputs.items()}
        try:
            send(self._child.stdin, arrays | {f"gold.{name}": array for name, array in gold.items()})  # type: ignore[arg-type]
            answer = receive(self._child.stdout)  # type: ignore[arg-type]
        except BrokenPipeError:
            answer = None
        if answer is None:
            self._said.seek(0)
            raise RuntimeError(f"the exported model cannot be used:\n{self._said.read()[-4000:].decode(errors='replace')}")
        return answer
