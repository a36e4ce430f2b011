"""Write tiny presets as KerasHub does, and what it computes with them. Run as a script: a process has one back end of Keras.

python keras_preset_checks.py FOLDER
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from luthier.engines.keras.backend import open_backend

open_backend("tensorflow", device="cpu", precision="float32")
import keras  # noqa: E402  after the back end was chosen
import keras_hub  # noqa: E402

TEXTS = ["The quick brown fox.", "it's naïve, 12345 times\nover!", "中文的句子 and English", "", "unbelievably ÜBER"]
SIZES = {"vocabulary_size": 300, "num_layers": 2, "hidden_dim": 16, "intermediate_dim": 24}
ENCODER = {**SIZES, "num_heads": 2, "max_sequence_length": 20}
DECODER = {**SIZES, "num_query_heads": 2, "num_key_value_heads": 1}
BACKBONES: dict[str, dict[str, Any]] = {
    "Bert": {**ENCODER, "num_segments": 3},
    "DistilBert": ENCODER,
    "Roberta": ENCODER,
    "GPT2": ENCODER,
    "Bart": ENCODER,
    "Llama3": {**DECODER, "rope_max_wavelength": 50_000, "layer_norm_epsilon": 1e-3},
    "Qwen": {**DECODER, "tie_word_embeddings": True},
    # KerasHub forgets to pass this on to two of its norms, which have 1e-5 always.
    "Qwen3": {**DECODER, "head_dim": 12, "layer_norm_epsilon": 1e-5},
}
WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "the",
    "quick",
    "br",
    "##own",
    "fox",
    ".",
    "it",
    "'",
    "s",
    "na",
    "##i",
    "##ve",
]
WORDS += [",", "中", "文", "and", "english", "un", "##believ", "##ably", "!", "1", "##2", "##3"]
SPECIAL = {
    "Roberta": ["<s>", "<pad>", "</s>", "<mask>"],
    "Bart": ["<s>", "<pad>", "</s>"],
    "GPT2": ["<|endoftext|>"],
    "Llama3": ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"],
    "Qwen": ["<|endoftext|>"],
    "Qwen3": ["<|endoftext|>", "<|im_end|>"],
}


def tokenizer(name: str) -> Any:
    kind = getattr(keras_hub.models, f"{name}Tokenizer")
    if name in ("Bert", "DistilBert"):
        return kind(vocabulary=WORDS, lowercase=True, strip_accents=True)
    from tokenizers.pre_tokenizers import ByteLevel

    merges = ["t h", "h e", "th e", "Ġ q", "b r", "o w", "Ġ b", "Ã ¯"]
    symbols = [*SPECIAL[name], *sorted(ByteLevel.alphabet()), *(merge.replace(" ", "") for merge in merges)]
    return kind(vocabulary={symbol: number for number, symbol in enumerate(symbols)}, merges=merges)


def states(name: str, backbone: Any, ids: np.ndarray) -> np.ndarray:
    ones = np.ones_like(ids)
    if name == "Bart":
        inputs = {
            f"{side}_{what}": given
            for side in ("encoder", "decoder")
            for what, given in (("token_ids", ids), ("padding_mask", ones))
        }
        return np.asarray(backbone(inputs)["decoder_sequence_output"])
    inputs = {"token_ids": ids, "padding_mask": ones, **({"segment_ids": ids % 3} if name == "Bert" else {})}
    found = backbone(inputs)
    return np.asarray(found["sequence_output"] if isinstance(found, dict) else found)


def main(folder: Path) -> None:
    ids = np.random.default_rng(0).integers(5, 300, (2, 9)).astype(np.int32)
    expected: dict[str, Any] = {}
    for number, (name, options) in enumerate(BACKBONES.items()):
        keras.utils.set_random_seed(number)
        backbone = getattr(keras_hub.models, f"{name}Backbone")(**options, dtype="float32")
        rng = np.random.default_rng(number)
        for variable in backbone.weights:  # biases and norms too, which begin as 0 and 1
            variable.assign(variable + 0.1 * rng.standard_normal(variable.shape))
        made = tokenizer(name)
        backbone.save_to_preset(str(folder / name))
        made.save_to_preset(str(folder / name))
        tokens = [[int(token) for token in made(text)] for text in TEXTS]
        expected[name] = {"states": states(name, backbone, ids).tolist(), "tokens": tokens}
    (folder / "expected.json").write_text(
        json.dumps({"ids": ids.tolist(), "texts": TEXTS, "kinds": expected}), encoding="utf-8"
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
