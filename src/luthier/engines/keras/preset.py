"""The weights of a KerasHub preset, written in the hub's format. Run as a process, which has a back end of its own:

python -m luthier.engines.keras.preset tensorflow PRESET FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

from luthier.errors import InputError
from luthier.interop.keras_preset import read_sizes

_ZERO = ("token_type_embeddings.weight", "final_logits_bias")
"""What transformers' classes have and KerasHub's lack; of no effect where all is 0."""


def convert(preset: Path, folder: Path) -> None:
    """Write ``model.safetensors`` into a folder that holds the config already.

    Raises:
        InputError: the weights are damaged, of other sizes, or hold values that are not finite.
    """
    import keras_hub

    from luthier.engines.keras.families import FAMILIES
    from luthier.engines.keras.hub_folder import HubWeights, read_config, write_folder
    from luthier.engines.keras.network import converter_of

    config = read_config(folder)
    del config.labelled
    described = config.to_dict()
    family = FAMILIES[described["model_type"]]
    _, sizes = read_sizes(preset)
    parts = preset / "model.weights.json"
    try:
        backbone = getattr(keras_hub.models, sizes.pop("class_name"))(**sizes, dtype="float32")
    except (ValueError, TypeError) as error:
        raise InputError(f"its sizes make no model: {str(error).splitlines()[0]}") from error
    try:
        backbone.load_weights(str(parts if parts.is_file() else preset / "model.weights.h5"))
    except (ValueError, OSError, KeyError, TypeError) as error:
        raise InputError(f"its weights cannot be read: {str(error).splitlines()[0]}") from error
    expected = _tensors(config)
    files = HubWeights(folder, family.prefix, tensors=expected)
    converter_of(described).convert_weights(backbone, files, described)
    body = []
    for variable in backbone.weights:
        values = np.asarray(variable, dtype=np.float32)
        if not np.isfinite(values).all():
            raise InputError(f"its weight {variable.path} holds values that are not finite")
        if variable.path not in files.places:
            raise InputError(f"its weight {variable.path} has no place in transformers' model")
        body.append((files.places[variable.path], values))
    written = {place.name.removeprefix(family.prefix) for place, _ in body}
    rest = {name: values for name, values in expected.items() if name.removeprefix(family.prefix) not in written}
    others = {name: values for name, values in rest.items() if name.endswith(_ZERO)}
    tied = {"lm_head.weight"} if config.tie_word_embeddings else set()
    lost = [name for name in rest if name not in others and name not in tied and ".embed_tokens." not in name]
    if lost:
        raise InputError(f"it has no values for {lost[0]}")
    write_folder(folder, config, body, others, files.remainder())


def _tensors(config: Any) -> dict[str, np.ndarray]:
    """Return zeros in the shapes of the tensors that transformers' class has; no memory is taken before they are touched."""
    import torch
    import transformers

    kind = getattr(transformers, config.architectures[0])
    options = {"add_pooling_layer": False} if config.model_type == "roberta" else {}  # KerasHub's has none
    with torch.device("meta"):
        shapes = {name: tuple(tensor.shape) for name, tensor in kind(config, **options).state_dict().items()}
    return {name: np.zeros(shape, dtype=np.float32) for name, shape in shapes.items() if not name.endswith("_ids")}


def main(arguments: list[str]) -> int:
    """Convert one preset; what stands in the way is said on stderr."""
    from luthier.engines.keras.backend import open_backend

    engine, preset, folder = arguments
    try:
        open_backend(engine, device="cpu", precision="float32")
        convert(Path(preset), Path(folder))
    except InputError as error:
        sys.stderr.write(f"{error.what}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
