"""An exported model at work. Run as a script:

    python -m luthier.engines.keras.scoring EXPORT HUB_FOLDER

reads pieces of batches from stdin and answers each on stdout (see luthier.engines.keras.wire), until stdin ends.
The model is loaded as anybody would load it, by Keras or by TensorFlow alone.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from luthier.engines.keras.backend import open_backend
from luthier.engines.keras.exported import KERAS_FILE, head_of
from luthier.engines.keras.wire import receive, send
from luthier.heads import Head

Call = Callable[[dict[str, np.ndarray]], np.ndarray]


def load(folder: Path) -> Call:
    """Return the exported model as a function of its inputs; both logits of a span are stacked, [R, L, 2]."""
    import tensorflow

    if (folder / KERAS_FILE).is_file():
        import keras

        model = keras.saving.load_model(folder / KERAS_FILE, compile=False)
        names = tuple(model.input)
        given = {name: tensorflow.TensorSpec([None, None], tensorflow.int32, name=name) for name in names}
        function: Any = tensorflow.function(lambda inputs: model(inputs, training=False), input_signature=[given])
    else:
        signature = tensorflow.saved_model.load(str(folder)).signatures["serving_default"]
        names = tuple(signature.structured_input_signature[1])

        def function(inputs: dict[str, Any]) -> Any:
            return signature(**inputs)

    def call(inputs: dict[str, np.ndarray]) -> np.ndarray:
        found = function({name: tensorflow.constant(inputs[name]) for name in names})
        if isinstance(found, dict) and "start_logits" in found:
            return np.stack([found["start_logits"], found["end_logits"]], axis=-1)
        return np.asarray(found["logits"] if isinstance(found, dict) else found)

    return call


def answer(call: Call, head: Head, request: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return ``sums`` and ``weights`` of the rows' losses where there is gold, else ``logits``."""
    from keras import ops

    from luthier.engines.keras.loss import row_losses

    inputs = {name.removeprefix("inputs."): array for name, array in request.items() if name.startswith("inputs.")}
    gold = {name.removeprefix("gold."): array for name, array in request.items() if name.startswith("gold.")}
    logits = call(inputs)
    if not gold:
        return {"logits": logits}
    sums, weights = row_losses(head, ops.convert_to_tensor(logits), inputs, gold, lambda chosen: chosen)
    return {"sums": np.asarray(sums), "weights": np.asarray(weights)}


def main(arguments: list[str]) -> int:
    """Answer until stdin ends."""
    export, hub = map(Path, arguments)
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever else a toolchain prints must not come between the replies
    open_backend("tensorflow", device="cpu", precision="float32")
    call, head = load(export), head_of(hub)
    while (request := receive(sys.stdin.buffer)) is not None:
        send(replies, answer(call, head, request))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
