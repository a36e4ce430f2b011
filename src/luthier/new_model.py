"""A new small model: a vocabulary trained on the training split, and random weights; as a folder like any other model's.

``model: {name: new, architecture: marian, layers: 3, hidden_size: 256}``

The same texts and the same seed give the same bytes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from luthier.errors import InputError

Architecture = Literal["marian", "bart", "t5", "llama", "gpt2", "bert"]
Vocabulary = Literal["sentencepiece", "bpe"]

_NUM_BYTES = 256
_SCORE_STEP = 1e-4
"""The trainer's own distance between the scores of characters that are in no piece."""


@dataclass(frozen=True, slots=True)
class _Family:
    """What architectures have in common.

    Attributes:
        special: tokens by role; the first ids are theirs, in this order.
        single, pair: how one sequence and two stand among special tokens; empty: as they are.
        vocabulary: the kind that such models usually have.
    """

    special: Mapping[str, str]
    single: str
    pair: str
    vocabulary: Vocabulary

    @property
    def tokens(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self.special.values()))


_TRANSLATORS = _Family(
    {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}, "$A </s>", "$A $B </s>", "sentencepiece"
)
_WRITERS = _Family(
    {"pad_token": "<|endoftext|>", "eos_token": "<|endoftext|>", "bos_token": "<|endoftext|>", "unk_token": "<unk>"},
    "", "", "bpe",
)  # fmt: skip
_READERS = _Family(
    {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"},
    "[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1", "sentencepiece",
)  # fmt: skip
_FAMILIES: Mapping[Architecture, _Family] = {
    "marian": _TRANSLATORS, "bart": _TRANSLATORS, "t5": _TRANSLATORS, "llama": _WRITERS, "gpt2": _WRITERS, "bert": _READERS,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class NewModel:
    """The plan of a new model; see :func:`new`."""

    architecture: Architecture
    vocabulary: int
    tokenizer: Vocabulary
    layers: int
    hidden_size: int
    heads: int
    intermediate_size: int
    dropout: float
    max_positions: int

    def make(self, folder: Path, texts: Iterable[str], seed: int) -> None:
        """Write the folder: tokenizer and weights in the hub's format.

        Args:
            folder: is made where it is missing.
            texts: those of the training split.
            seed: of the weights.

        Raises:
            InputError: the texts have more characters than the vocabulary has room for.
        """
        folder.mkdir(parents=True, exist_ok=True)
        family = _FAMILIES[self.architecture]
        backend = _trained(self.tokenizer, texts, self.vocabulary, family)
        _save(backend, folder, family, self.max_positions)
        _write_network(folder, self, int(backend.get_vocab_size()), seed)


def new(
    *,
    architecture: Architecture,
    vocabulary: int = 8000,
    tokenizer: Vocabulary | None = None,
    layers: int = 3,
    hidden_size: int = 256,
    heads: int = 4,
    intermediate_size: int | None = None,
    dropout: float | None = None,
    max_positions: int = 512,
) -> NewModel:
    """Return the plan of a new model.

    Args:
        architecture: marian, bart and t5 are encoder-decoders, llama and gpt2 decoders, bert is an encoder.
        vocabulary: tokens at most; a small training split gives fewer.
        tokenizer: sentencepiece, pieces by a unigram model (Kudo, 2018) of text in NFKC, or bpe, merged bytes
            (Radford et al., 2019), which leave no character unknown. Default: bpe for decoders, else sentencepiece.
        layers: of the encoder and of the decoder alike.
        hidden_size: the width; a multiple of twice ``heads``.
        heads: of attention.
        intermediate_size: the width inside the feed-forward layers; 4 times ``hidden_size`` by default.
        dropout: in training; 0.1 by default. A llama has none.
        max_positions: tokens of the longest sequence.

    Raises:
        ValueError: sizes that do not go together.
    """
    family = _FAMILIES[architecture]
    plan = NewModel(
        architecture, vocabulary, tokenizer or family.vocabulary, layers, hidden_size, heads,
        4 * hidden_size if intermediate_size is None else intermediate_size,
        (0.0 if architecture == "llama" else 0.1) if dropout is None else dropout, max_positions,
    )  # fmt: skip
    for name in ("layers", "hidden_size", "heads", "intermediate_size", "max_positions"):
        if getattr(plan, name) < 1:
            raise ValueError(f"{name} is {getattr(plan, name)}; it must be 1 or more")
    least = len(family.tokens) + (_NUM_BYTES if plan.tokenizer == "bpe" else 1)
    if vocabulary < least:
        raise ValueError(f"vocabulary is {vocabulary}; {plan.tokenizer} for a {architecture} begins with {least} tokens")
    if hidden_size % (2 * heads):
        raise ValueError(f"hidden_size is {hidden_size}; it must be a multiple of twice the number of heads, {heads}")
    if not 0 <= plan.dropout < 1:
        raise ValueError(f"dropout is {dropout}; it must be from 0 to below 1")
    if architecture == "llama" and plan.dropout:
        raise ValueError(f"dropout is {dropout}; a llama has none")
    return plan


def check_new(options: Mapping[str, Any]) -> tuple[NewModel | None, list[str]]:
    """Return the plan, or None and the problems found."""
    from luthier.config import option_problems

    checked, problems = option_problems(new, options, path="model")
    if problems:
        return None, problems
    try:
        return new(**checked), []
    except ValueError as error:
        return None, [f"model: {error}."]


def texts_of(pairs: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Yield what goes in and what comes out of each example."""
    for pair in pairs:
        yield from (text for text in pair if text)


def _trained(kind: Vocabulary, texts: Iterable[str], size: int, family: _Family) -> Any:
    """Return a trained tokenizer of the ``tokenizers`` library."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    special = list(family.tokens)
    if kind == "bpe":
        backend = Tokenizer(models.BPE())
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.decoder = decoders.ByteLevel()
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        backend.train_from_iterator(
            texts,
            trainers.BpeTrainer(vocab_size=size, special_tokens=special, initial_alphabet=alphabet, show_progress=False),
        )
    else:
        backend = Tokenizer(models.Unigram())
        backend.normalizer = normalizers.NFKC()
        backend.pre_tokenizer = pre_tokenizers.Metaspace()
        backend.decoder = decoders.Metaspace()
        unknown = family.special["unk_token"]
        trainer = trainers.UnigramTrainer(vocab_size=size, special_tokens=special, unk_token=unknown, show_progress=False)
        try:
            backend.train_from_iterator(texts, trainer)
        except Exception as error:  # the library raises nothing narrower
            raise InputError(
                f"{size} tokens are too few for the training split ({str(error)[:1].lower()}{str(error)[1:]})",
                where="model.vocabulary",
                fix="Raise it, or take model.tokenizer=bpe, which writes rare characters as bytes.",
            ) from error
        backend = _settled(backend, num_special=len(special))
    return _framed(backend, family)


def _settled(backend: Any, *, num_special: int) -> Any:
    """Return a unigram tokenizer without what chance has left in it.

    The trainer adds up in the order of a hash table that differs from run to run: the scores of pieces differ in
    their last digits, and those of characters that are in no other piece are dealt out in that order.
    """
    from tokenizers import Tokenizer

    spec = json.loads(backend.to_str())
    vocabulary = spec["model"]["vocab"]
    pieces = vocabulary[num_special:]
    lowest = min((score for _, score in pieces), default=0.0)
    characters = sum(len(piece) == 1 for piece, _ in pieces)

    def settle(piece: str, score: float) -> float:
        steps = (score - lowest) / _SCORE_STEP
        dealt = len(piece) == 1 and steps < characters and abs(steps - round(steps)) < 1e-5
        return round(lowest if dealt else score, 4)

    settled = sorted(([piece, settle(piece, score)] for piece, score in pieces), key=lambda pair: (-pair[1], pair[0]))
    spec["model"]["vocab"] = [*vocabulary[:num_special], *settled]
    return Tokenizer.from_str(json.dumps(spec))


def _framed(backend: Any, family: _Family) -> Any:
    from tokenizers import processors

    if family.single:
        ids = [(token, backend.token_to_id(token)) for token in family.tokens]
        backend.post_processor = processors.TemplateProcessing(single=family.single, pair=family.pair, special_tokens=ids)
    return backend


def _save(backend: Any, folder: Path, family: _Family, positions: int) -> None:
    backend.save(str(folder / "tokenizer.json"))
    types = ["token_type_ids"] if ":1" in family.pair else []
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": positions,
        "model_input_names": ["input_ids", *types, "attention_mask"],
        **family.special,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")


def _write_network(folder: Path, plan: NewModel, size: int, seed: int) -> None:
    """Write a network of random weights with a vocabulary of ``size`` tokens."""
    import torch

    from luthier.engines.torch.loading import quiet

    with torch.random.fork_rng(devices=[]), quiet():
        torch.manual_seed(seed)
        network = _NETWORKS[plan.architecture](plan, size)
        network.save_pretrained(str(folder))


def _marian(plan: NewModel, size: int) -> Any:
    from transformers import MarianConfig, MarianMTModel

    return _widened(MarianMTModel(MarianConfig(**_encoder_decoder(plan, size), share_encoder_decoder_embeddings=True)))


def _bart(plan: NewModel, size: int) -> Any:
    from transformers import BartConfig, BartForConditionalGeneration

    return _widened(BartForConditionalGeneration(BartConfig(**_encoder_decoder(plan, size), bos_token_id=None)))


def _encoder_decoder(plan: NewModel, size: int) -> dict[str, Any]:
    """Return what Marian's and BART's configs share; the decoder begins with padding, as Marian's does."""
    return {
        "vocab_size": size, "d_model": plan.hidden_size, "encoder_layers": plan.layers, "decoder_layers": plan.layers,
        "encoder_attention_heads": plan.heads, "decoder_attention_heads": plan.heads,
        "encoder_ffn_dim": plan.intermediate_size, "decoder_ffn_dim": plan.intermediate_size,
        "max_position_embeddings": plan.max_positions, "dropout": plan.dropout, "activation_function": "relu",
        "scale_embedding": True, "pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0,
        "forced_eos_token_id": None,
    }  # fmt: skip


def _widened(network: Any) -> Any:
    """Draw weights anew as fairseq does: the width's inverse root for embeddings, Xavier's for matrices.

    A small translator begins to learn sooner so than from transformers' own 0.02 (width 128: a loss of 4.9 against 5.2
    after 100 steps), and goes on alike (both 4.1 after 200).
    """
    from torch.nn import init

    embeddings = network.get_input_embeddings().weight
    for name, parameter in network.named_parameters():
        if parameter is embeddings:
            init.normal_(parameter, 0.0, 1 / math.sqrt(embeddings.shape[1]))
            init.zeros_(parameter.data[network.config.pad_token_id])
        elif parameter.dim() == 2 and "embed_positions" not in name:
            init.xavier_uniform_(parameter)
    network.tie_weights()
    return network


def _t5(plan: NewModel, size: int) -> Any:
    from transformers import T5Config, T5ForConditionalGeneration

    config = T5Config(
        vocab_size=size, d_model=plan.hidden_size, d_kv=plan.hidden_size // plan.heads, d_ff=plan.intermediate_size,
        num_layers=plan.layers, num_decoder_layers=plan.layers, num_heads=plan.heads, dropout_rate=plan.dropout,
        pad_token_id=0, eos_token_id=1, decoder_start_token_id=0,
    )  # fmt: skip
    return T5ForConditionalGeneration(config)


def _llama(plan: NewModel, size: int) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=size, hidden_size=plan.hidden_size, num_hidden_layers=plan.layers, num_attention_heads=plan.heads,
        num_key_value_heads=plan.heads, intermediate_size=plan.intermediate_size,
        max_position_embeddings=plan.max_positions, tie_word_embeddings=True, bos_token_id=0, eos_token_id=0,
        pad_token_id=None,  # named, its embedding would stay zero, and here it begins every document
    )  # fmt: skip
    return LlamaForCausalLM(config)


def _gpt2(plan: NewModel, size: int) -> Any:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=size, n_embd=plan.hidden_size, n_layer=plan.layers, n_head=plan.heads, n_inner=plan.intermediate_size,
        n_positions=plan.max_positions, resid_pdrop=plan.dropout, embd_pdrop=plan.dropout, attn_pdrop=plan.dropout,
        bos_token_id=0, eos_token_id=0, pad_token_id=0,
    )  # fmt: skip
    return GPT2LMHeadModel(config)


def _bert(plan: NewModel, size: int) -> Any:
    from transformers import BertConfig, BertModel

    config = BertConfig(
        vocab_size=size, hidden_size=plan.hidden_size, num_hidden_layers=plan.layers, num_attention_heads=plan.heads,
        intermediate_size=plan.intermediate_size, max_position_embeddings=plan.max_positions,
        hidden_dropout_prob=plan.dropout, attention_probs_dropout_prob=plan.dropout, pad_token_id=0,
    )  # fmt: skip
    return BertModel(config)


_NETWORKS: Mapping[Architecture, Callable[[NewModel, int], Any]] = {
    "marian": _marian, "bart": _bart, "t5": _t5, "llama": _llama, "gpt2": _gpt2, "bert": _bert,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class UnmadeTokenizer:
    """A new model's tokenizer before its vocabulary is trained: all that it knows is the model's limit."""

    limit: int

    def limit_for(self, wanted: int | None, *, default: int) -> int:
        """See luthier.tokenizer.Tokenizer."""
        if wanted is not None and wanted > self.limit:
            what = f"found {wanted}; this model takes at most {self.limit} tokens"
            raise InputError(what, where="task.max_tokens", fix=f"Lower it, or say model.max_positions={wanted}.")
        return min(default, self.limit) if wanted is None else wanted
