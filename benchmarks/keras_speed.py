"""The engine tensorflow beside KerasHub's own task and ``fit``, which pads every text to the longest of the data set.

``python -m benchmarks.keras_speed``, in one process with TensorFlow: ``fit`` leads, and before each of its batches Luthier
takes the same step. Both sides have MiniLM's weights, the same rows in the same order, float32, AdamW and clipping. Time is
processor time; the first steps are dropped, and with them most of the compiling. The ratio of a step needs no tokens.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.bench import LuthierSide
from benchmarks.results import quartiles, table, write
from benchmarks.stock import planned, useful_tokens
from benchmarks.workloads import Workload, workloads

_DROPPED = 10
_BAR = 1.5
COLUMNS = ("work", "padded to: Luthier, fit", "fit, tokens/cpu s", "Luthier, tokens/cpu s", "ratio (quartiles)", "bar")


def arrays(side: LuthierSide, rows: list[int], longest: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return what KerasHub's classifier takes, [rows, longest], and the classes [rows]."""
    inputs = {name: np.zeros((len(rows), longest), dtype=np.int32) for name in ("token_ids", "segment_ids", "padding_mask")}
    for place, row in enumerate(rows):
        ids = side.features[row].arrays["input_ids"]
        inputs["token_ids"][place, : len(ids)] = ids
        inputs["padding_mask"][place, : len(ids)] = 1
    return inputs, np.asarray([int(side.features[row].arrays["labels"][0]) for row in rows], dtype=np.int32)


def fit_beside(side: LuthierSide, *, classes: int, steps: int) -> list[float]:
    """Train KerasHub's task, with a step of Luthier's before each of its own; return its processor seconds a step."""
    import keras
    import keras_hub

    seconds: list[float] = []

    class Interleaved(keras.callbacks.Callback):  # type: ignore[misc]
        began = 0.0

        def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
            side.step()
            self.began = time.process_time()

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            seconds.append(time.process_time() - self.began)

    members = planned(side.features, side.settings, steps)
    longest = int(side.features.lengths.max())
    inputs, labels = arrays(side, [row for rows in members for row in rows], longest)
    task = keras_hub.models.BertTextClassifier.from_preset(
        str(side.assembly.source.folder), num_classes=classes, preprocessor=None
    )
    task.compile(
        optimizer=keras.optimizers.AdamW(side.settings.learning_rate, weight_decay=0.0, global_clipnorm=1.0),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    task.fit(inputs, labels, batch_size=len(members[0]), shuffle=False, verbose=0, callbacks=[Interleaved()])
    return seconds


def measure(workload: Workload, scratch: Path, *, steps: int) -> list[str]:
    """Return the table's row."""
    workload = dataclasses.replace(workload, values={**workload.values, "engine": "tensorflow"})
    side = LuthierSide(workload, scratch, "float32", steps)
    theirs = fit_beside(side, classes=side.data.task.head.num_labels, steps=steps)[_DROPPED:]
    ours = side.seconds[_DROPPED:]
    chosen = planned(side.features, side.settings, steps)[_DROPPED:]
    tokens = useful_tokens(side.features, chosen)
    ratios = [other / one for one, other in zip(ours, theirs, strict=True)]
    return [
        workload.name, f"its lengths; {int(side.features.lengths.max())}", f"{tokens / sum(theirs):.0f}",
        f"{tokens / sum(ours):.0f}", f"**{statistics.median(ratios):.2f}** ({quartiles(ratios)})", str(_BAR),
    ]  # fmt: skip


def main() -> None:
    """Measure AG News' lengths and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=50)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="luthier-bench-") as folder:
        (workload,) = (one for one in workloads(Path(folder)) if one.name == "ag-news")
        text = table(COLUMNS, [measure(workload, Path(folder) / "run", steps=options.steps)])
    print(text)
    how = f"{options.steps} steps in one process, the first {_DROPPED} dropped; float32, batch 32; medians of steps."
    write("The engine tensorflow beside KerasHub", "python -m benchmarks.keras_speed", f"{how}\n\n{text}")


if __name__ == "__main__":
    main()
