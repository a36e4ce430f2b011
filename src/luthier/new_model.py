"""A new small model: a vocabulary trained on the training split, and random weights; as a folder like any other model's.

``model: {name: new, architecture: marian, layers: 3, hidden_size: 256}``
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from luthier.errors import InputError

_PAD, _END, _UNKNOWN = "<pad>", "</s>", "<unk>"
_DOCUMENT = "<|endoftext|>"


def new(
    *,
    architecture: Literal["marian", "llama"],
    vocabulary: int = 8000,
    tokenizer: Literal["sentencepiece", "bpe"] = "sentencepiece",
    layers: int = 3,
    hidden_size: int = 256,
    heads: int = 4,
    intermediate_size: int | None = None,
    dropout: float = 0.1,
    max_positions: int = 512,
) -> Callable[[Path, Iterable[str], int], None]:
    """Return what makes the folder of such a model: (folder, texts of the training split, seed).

    Args:
        architecture: marian, an encoder-decoder of ``layers`` layers each; llama, a decoder.
        vocabulary: tokens at most; a small training split gives fewer.
        tokenizer: pieces by a unigram model as SentencePiece makes them (Kudo, 2018), or by merges (BPE).
        layers: of the encoder and of the decoder alike.
        hidden_size: the width; a multiple of ``heads``.
        heads: of attention.
        intermediate_size: the width inside the feed-forward layers; 4 times ``hidden_size`` by default.
        dropout: in training; a decoder has none.
        max_positions: the longest sequence.

    Raises:
        ValueError: sizes that do not go together.
    """
    sizes = {
        "vocabulary": vocabulary,
        "layers": layers,
        "hidden_size": hidden_size,
        "heads": heads,
        "max_positions": max_positions,
    }
    for name, value in sizes.items():
        if value < 1:
            raise ValueError(f"{name} is {value}; it must be 1 or more")
    if hidden_size % (2 * heads):
        raise ValueError(f"hidden_size is {hidden_size}; it must be a multiple of twice the number of heads, {heads}")
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout is {dropout}; it must be from 0 to below 1")
    inner = intermediate_size or 4 * hidden_size
    common = {"layers": layers, "hidden_size": hidden_size, "heads": heads, "inner": inner, "positions": max_positions}

    def make(folder: Path, texts: Iterable[str], seed: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        if architecture == "marian":
            size = _write_pieces(folder, texts, vocabulary, tokenizer, max_positions)
            _write_marian(folder, size, seed, dropout=dropout, **common)
        else:
            size = _write_bytes(folder, texts, vocabulary, max_positions)
            _write_llama(folder, size, seed, **common)

    return make


def check_new(options: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return the options with their types applied, and the problems found."""
    from luthier.config import option_problems

    checked, problems = option_problems(new, options, path="model")
    if not problems:
        try:
            new(**checked)
        except ValueError as error:
            problems = [f"model: {error}."]
    return checked, problems


def _write_pieces(folder: Path, texts: Iterable[str], vocabulary: int, kind: str, positions: int) -> int:
    """Train and write a tokenizer of pieces, one vocabulary for both sides; return its size."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

    special = [_PAD, _END, _UNKNOWN]
    trainer: Any
    if kind == "sentencepiece":
        backend = Tokenizer(models.Unigram())
        trainer = trainers.UnigramTrainer(
            vocab_size=vocabulary, special_tokens=special, unk_token=_UNKNOWN, show_progress=False
        )
    else:
        backend = Tokenizer(models.BPE(unk_token=_UNKNOWN))
        trainer = trainers.BpeTrainer(vocab_size=vocabulary, special_tokens=special, show_progress=False)
    backend.normalizer = normalizers.NFKC()
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    _train(backend, trainer, texts)
    backend.post_processor = processors.TemplateProcessing(
        single=f"$A {_END}", pair=f"$A $B {_END}", special_tokens=[(_END, backend.token_to_id(_END))]
    )
    _save(backend, folder, {"pad_token": _PAD, "eos_token": _END, "unk_token": _UNKNOWN}, positions)
    return int(backend.get_vocab_size())


def _write_bytes(folder: Path, texts: Iterable[str], vocabulary: int, positions: int) -> int:
    """Train and write a tokenizer of merged bytes, so that every text has tokens; return its size."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=[_DOCUMENT], initial_alphabet=alphabet, show_progress=False
    )
    _train(backend, trainer, texts)
    _save(backend, folder, dict.fromkeys(("pad_token", "eos_token", "bos_token"), _DOCUMENT), positions)
    return int(backend.get_vocab_size())


def _train(backend: Any, trainer: Any, texts: Iterable[str]) -> None:
    try:
        backend.train_from_iterator(texts, trainer)
    except Exception as error:  # the trainer's own kinds of errors are not public
        raise InputError(
            f"no vocabulary can be made of the training split: {error}",
            where="model",
            fix="Lower model.vocabulary, or give more text.",
        ) from error


def _save(backend: Any, folder: Path, tokens: Mapping[str, str], positions: int) -> None:
    backend.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": positions,
        "model_input_names": ["input_ids", "attention_mask"],
        **tokens,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")


def _write_marian(
    folder: Path, size: int, seed: int, *, layers: int, hidden_size: int, heads: int, inner: int, positions: int, dropout: float
) -> None:
    from transformers import MarianConfig, MarianMTModel

    config = MarianConfig(
        vocab_size=size, d_model=hidden_size, encoder_layers=layers, decoder_layers=layers, encoder_attention_heads=heads,
        decoder_attention_heads=heads, encoder_ffn_dim=inner, decoder_ffn_dim=inner, max_position_embeddings=positions,
        dropout=dropout, activation_function="relu", scale_embedding=True, pad_token_id=0, eos_token_id=1,
        decoder_start_token_id=0, forced_eos_token_id=None, share_encoder_decoder_embeddings=True,
    )  # fmt: skip
    _write_network(folder, MarianMTModel, config, seed)


def _write_llama(
    folder: Path, size: int, seed: int, *, layers: int, hidden_size: int, heads: int, inner: int, positions: int
) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=size, hidden_size=hidden_size, num_hidden_layers=layers, num_attention_heads=heads,
        num_key_value_heads=heads, intermediate_size=inner, max_position_embeddings=positions, tie_word_embeddings=True,
        bos_token_id=0, eos_token_id=0, pad_token_id=0,
    )  # fmt: skip
    _write_network(folder, LlamaForCausalLM, config, seed)


def _write_network(folder: Path, kind: Any, config: Any, seed: int) -> None:
    """Write random weights, drawn as fairseq draws them: the width's inverse root for embeddings, Xavier's for matrices.

    transformers draws everything with 0.02, which trains several times slower from nothing.
    """
    import torch

    from luthier.engines.torch.loading import quiet

    with torch.random.fork_rng(devices=[]), quiet():
        torch.manual_seed(seed)
        network = kind(config)
        embeddings = network.get_input_embeddings().weight
        for name, parameter in network.named_parameters():
            if parameter is embeddings:
                torch.nn.init.normal_(parameter, 0.0, 1 / math.sqrt(embeddings.shape[1]))
            elif parameter.dim() == 2 and "embed_positions" not in name:
                torch.nn.init.xavier_uniform_(parameter)
        with torch.no_grad():
            embeddings[config.pad_token_id] = 0.0
        network.tie_weights()
        network.save_pretrained(str(folder))


def texts_of(pairs: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Yield what goes in and what comes out of each example."""
    for pair in pairs:
        yield from (text for text in pair if text)
