"""Tiny networks of several families with random weights, as folders in the hub's format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from luthier.data.features import Feature
from luthier.heads import IGNORED, CausalHead, Head, SequenceHead, SpanHead, TokenHead

VOCABULARY = 120
PAD = 1

CLASSES = {
    SequenceHead: "AutoModelForSequenceClassification",
    TokenHead: "AutoModelForTokenClassification",
    SpanHead: "AutoModelForQuestionAnswering",
    CausalHead: "AutoModelForCausalLM",
}


def tiny_config(family: str, *, dropout: float = 0.0) -> Any:
    """Return a config of two layers. Weights are drawn large, so that what attention does is seen in the results."""
    from transformers import AutoConfig

    sizes: dict[str, Any] = {"vocab_size": VOCABULARY, "pad_token_id": PAD, "initializer_range": 0.2}
    if family == "distilbert":
        sizes |= {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48, "max_position_embeddings": 80}
        sizes |= {"dropout": dropout, "attention_dropout": dropout, "seq_classif_dropout": dropout, "qa_dropout": dropout}
    elif family == "gpt2":
        sizes |= {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 80, "bos_token_id": 0, "eos_token_id": 0}
        sizes |= {"resid_pdrop": dropout, "embd_pdrop": dropout, "attn_pdrop": dropout}
    else:
        sizes |= {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
        sizes |= {"max_position_embeddings": 80}
        sizes |= {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    if family == "modernbert":
        sizes = {key: value for key, value in sizes.items() if not key.endswith("dropout_prob")}
        sizes |= {"cls_token_id": 2, "sep_token_id": 3, "bos_token_id": 2, "eos_token_id": 3, "local_attention": 8}
        sizes |= {"initializer_cutoff_factor": 3.0}
    if family == "electra":
        sizes |= {"embedding_size": 16}
    if family == "deberta-v2":
        sizes |= {"relative_attention": True, "position_buckets": 8, "pos_att_type": ["p2c", "c2p"]}
    return AutoConfig.for_model(family, **sizes)


def save_tiny(folder: Path, family: str, head: Head, *, dropout: float = 0.0, seed: int = 0) -> Path:
    """Write a network with this head into ``folder``."""
    import torch
    import transformers

    from luthier.engines.torch.loading import quiet

    config = tiny_config(family, dropout=dropout)
    if isinstance(head, SequenceHead | TokenHead):
        config.num_labels = head.num_labels
    with quiet(), torch.random.fork_rng():
        torch.manual_seed(seed)
        getattr(transformers, CLASSES[type(head)]).from_config(config).save_pretrained(str(folder))
    return folder


def tiny_features(head: Head, lengths: list[int], *, seed: int = 0, types: bool = False) -> list[Feature]:
    """Return features with gold; token ids leave out the padding id."""
    rng = np.random.default_rng(seed)
    features = []
    for length in lengths:
        arrays = {"input_ids": rng.integers(2, VOCABULARY, length).astype(np.int32)}
        if types:
            arrays["token_type_ids"] = (np.arange(length) > length // 2).astype(np.int32)
        arrays["labels"] = _labels(head, arrays["input_ids"], rng)
        features.append(Feature(arrays))
    return features


def _labels(head: Head, ids: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    if isinstance(head, SequenceHead):
        return rng.integers(head.num_labels, size=1).astype(np.int32)
    if isinstance(head, SpanHead):
        return np.sort(rng.integers(len(ids), size=2)).astype(np.int32)
    labels = rng.integers(head.num_labels, size=len(ids)) if isinstance(head, TokenHead) else ids.copy()
    labels[rng.random(len(ids)) < 0.3] = IGNORED
    labels[0] = IGNORED
    labels[1] = 2
    return labels.astype(np.int32)


def denominator_of(head: Head, features: list[Feature]) -> float:
    """Return the weight of all targets, as the feature store counts it."""
    return sum(head.objective.targets(feature.arrays["labels"])[1] * feature.weight for feature in features)
