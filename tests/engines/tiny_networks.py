"""Tiny networks of several families with random weights, as folders in the hub's format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from luthier.data.features import Feature
from luthier.heads import IGNORED, CausalHead, Head, Seq2SeqHead, SequenceHead, SpanHead, TokenHead

VOCABULARY = 120
PAD = 1

CLASSES = {
    SequenceHead: "AutoModelForSequenceClassification",
    TokenHead: "AutoModelForTokenClassification",
    SpanHead: "AutoModelForQuestionAnswering",
    CausalHead: "AutoModelForCausalLM",
    Seq2SeqHead: "AutoModelForSeq2SeqLM",
}
DECODERS = ("llama", "mistral", "qwen3", "gemma2", "gemma3_text", "granite", "cohere")
T5_KIND = ("t5", "mt5", "umt5")
BART_KIND = ("bart", "marian", "mbart", "m2m_100", "pegasus", "fsmt")
WINDOW = 8
"""Of the decoders that have one."""


def tiny_config(family: str, *, dropout: float = 0.0, **others: Any) -> Any:
    """Return a config of two layers. Weights are drawn large, so that what attention does is seen in the results."""
    from transformers import AutoConfig

    if family in DECODERS:
        return AutoConfig.for_model(family, **_decoder_sizes(family, dropout) | others)
    if family in T5_KIND + BART_KIND:
        return AutoConfig.for_model(family, **_pair_sizes(family, dropout) | others)
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
    return AutoConfig.for_model(family, **sizes | others)


def _decoder_sizes(family: str, dropout: float) -> dict[str, Any]:
    sizes: dict[str, Any] = {"vocab_size": VOCABULARY, "pad_token_id": PAD, "bos_token_id": 2, "eos_token_id": 3}
    sizes |= {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8}
    sizes |= {"intermediate_size": 48, "max_position_embeddings": 128, "initializer_range": 0.2, "attention_dropout": dropout}
    if family == "mistral":
        sizes |= {"sliding_window": WINDOW}
    if family.startswith("gemma"):
        sizes |= {"sliding_window": WINDOW, "layer_types": ["sliding_attention", "full_attention"]}
    if family == "granite":
        sizes |= {"logits_scaling": 3.0, "embedding_multiplier": 2.0, "residual_multiplier": 0.5}
    if family == "cohere":
        sizes |= {"logit_scale": 0.25}
    return sizes


def _pair_sizes(family: str, dropout: float) -> dict[str, Any]:
    if family in T5_KIND:
        sizes: dict[str, Any] = {"vocab_size": VOCABULARY, "pad_token_id": 0, "decoder_start_token_id": 0, "d_model": 32}
        sizes |= {"num_layers": 2, "num_decoder_layers": 2, "num_heads": 4, "d_kv": 8, "d_ff": 48, "dropout_rate": dropout}
        return sizes
    sizes = {"vocab_size": VOCABULARY, "pad_token_id": PAD, "bos_token_id": 0, "eos_token_id": 2, "d_model": 32}
    sizes |= {"decoder_start_token_id": PAD if family == "marian" else 2, "init_std": 0.2, "max_position_embeddings": 90}
    for side in ("encoder", "decoder"):
        sizes |= {f"{side}_layers": 2, f"{side}_attention_heads": 4, f"{side}_ffn_dim": 48}
    sizes |= {"dropout": dropout, "attention_dropout": dropout, "activation_dropout": dropout}
    if family == "fsmt":
        del sizes["vocab_size"]
        sizes |= {"langs": ["en", "de"], "src_vocab_size": VOCABULARY, "tgt_vocab_size": VOCABULARY}
    return sizes


def save_tiny(folder: Path, family: str, head: Head, *, dropout: float = 0.0, seed: int = 0, **others: Any) -> Path:
    """Write a network with this head into ``folder``; ``others`` go into its config."""
    import torch
    import transformers

    from luthier.engines.torch.loading import quiet

    config = tiny_config(family, dropout=dropout, **others)
    if isinstance(head, SequenceHead | TokenHead):
        config.num_labels = head.num_labels
    with quiet(), torch.random.fork_rng():
        torch.manual_seed(seed)
        network = getattr(transformers, CLASSES[type(head)]).from_config(config)
        if isinstance(getattr(network, "final_logits_bias", None), torch.Tensor):
            network.final_logits_bias.normal_()
        network.save_pretrained(str(folder))
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


def tiny_pairs(lengths: list[tuple[int, int]], *, seed: int = 0) -> list[Feature]:
    """Return features with a source and a target of these lengths; both end with the token 2."""
    rng = np.random.default_rng(seed)
    features = []
    for source, target in lengths:
        arrays = {"input_ids": rng.integers(4, VOCABULARY, source), "labels": rng.integers(4, VOCABULARY, target)}
        for array in arrays.values():
            array[-1] = 2
        features.append(Feature({name: array.astype(np.int32) for name, array in arrays.items()}))
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
