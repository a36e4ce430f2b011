import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from luthier.errors import InputError
from luthier.tokenizer import HubTokenizer

TEXTS = [
    "Ada lives in New York, near the old river.",
    "It isn't far: 3.5 km to naïve cafés!",
    "我用 Python 写 北京 東京タワー",
    "hello  world (again) and again",
    "😀😀 so near, 𝒳 e\u0301, the old river 😀",
]
SENTENCES = [
    ["Ada", "isn't", "in", "York", "(", "3.5", ")", "!"],
    ["我", "用", "Python", "写", "。"],
    ["New York", "-", "naïve", "cafés", "U.S.-based", "😀"],
    ["x"],
    ["\u200e", "x", "\u200b", "\ufffd"],
    ["[SEP]", "</s>", "<mask>", "x"],
    ["\u200e"],
]


def byte_level() -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", "<|endoftext|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=special, initial_alphabet=alphabet, show_progress=False)
    backend.train_from_iterator(TEXTS * 3, trainer)
    return backend


def word_piece() -> Any:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

    backend = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer()
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    backend.train_from_iterator(
        TEXTS * 3, trainers.WordPieceTrainer(vocab_size=150, special_tokens=special, show_progress=False)
    )
    return backend


def unigram(special: list[str], unknown: str) -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    backend = Tokenizer(models.Unigram())
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=120, special_tokens=special, unk_token=unknown, show_progress=False)
    backend.train_from_iterator(TEXTS * 3, trainer)
    return backend


@cache
def trained(family: str) -> Any:
    """Return the family's own tokenizer class over a vocabulary trained on TEXTS."""
    import transformers

    if family == "bert":
        vocabulary = json.loads(word_piece().to_str())["model"]["vocab"]
        return transformers.BertTokenizer(vocab=vocabulary)
    if family in ("roberta", "gpt2"):
        model = json.loads(byte_level().to_str())["model"]
        kind = transformers.RobertaTokenizer if family == "roberta" else transformers.GPT2Tokenizer
        return kind(vocab=model["vocab"], merges=[tuple(pair) for pair in model["merges"]])
    if family == "xlm-roberta":
        model = json.loads(unigram(["<s>", "<pad>", "</s>", "<unk>", "<mask>"], "<unk>").to_str())["model"]
        return transformers.XLMRobertaTokenizer(vocab=[tuple(piece) for piece in model["vocab"]])
    model = json.loads(unigram(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"], "[UNK]").to_str())["model"]
    return transformers.DebertaV2Tokenizer(vocab=[tuple(piece) for piece in model["vocab"]])


FAMILIES = ["bert", "roberta", "gpt2", "xlm-roberta", "deberta-v2"]


@pytest.fixture(scope="module", params=FAMILIES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp(request.param)
    trained(request.param).save_pretrained(str(path))
    return path


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> HubTokenizer:
    return HubTokenizer(folder, model_limit=64)


@pytest.fixture(scope="module")
def hub(folder: Path) -> Any:
    """What transformers makes of the folder."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(str(folder))


@pytest.fixture(scope="module")
def word_hub(folder: Path) -> Any:
    """What transformers makes of it for words: byte-level tokenizers want to be told of the blank."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(str(folder), add_prefix_space=True)


def test_words_become_the_tokens_that_transformers_gives(tokenizer, word_hub):
    for words, found in zip(SENTENCES, tokenizer.tokenize_words(SENTENCES), strict=True):
        expected = word_hub(words, is_split_into_words=True, add_special_tokens=False)
        assert found.ids.tolist() == expected["input_ids"]
        assert found.words.tolist() == expected.word_ids(0)
        assert found.ids.dtype == found.words.dtype == np.int32


def test_words_with_special_tokens_are_what_transformers_gives(tokenizer, word_hub):
    for words, found in zip(SENTENCES, tokenizer.tokenize_words(SENTENCES), strict=True):
        expected = word_hub(words, is_split_into_words=True)
        joined = tokenizer.join(found.ids)
        assert joined.arrays["input_ids"].tolist() == expected["input_ids"]
        shift = joined.first
        assert expected.word_ids(0)[shift : shift + len(found)] == found.words.tolist()


def test_a_text_becomes_the_tokens_and_offsets_that_transformers_gives(tokenizer, hub):
    for text, found in zip(TEXTS, tokenizer.tokenize(TEXTS), strict=True):
        expected = hub(text, add_special_tokens=False, return_offsets_mapping=True)
        assert found.ids.tolist() == expected["input_ids"]
        assert list(zip(found.starts.tolist(), found.ends.tolist(), strict=True)) == expected["offset_mapping"]


def test_offsets_count_code_points(tokenizer):
    text = TEXTS[-1]
    (tokens,) = tokenizer.tokenize([text])
    covered = {place for start, end in zip(tokens.starts, tokens.ends, strict=True) for place in range(start, end)}
    # BERT drops the accent, and with it its place.
    assert {place for place, character in enumerate(text) if not character.isspace() and character != "\u0301"} <= covered
    assert max(tokens.ends) == len(text)


@pytest.mark.parametrize("pair", [False, True])
def test_joined_sequences_are_what_transformers_gives(tokenizer, hub, pair):
    for first, second in zip(TEXTS, reversed(TEXTS), strict=True):
        left, right = tokenizer.tokenize([first, second])
        joined = tokenizer.join(left.ids, right.ids if pair else None)
        expected = hub(first, second if pair else None)
        assert {name: array.tolist() for name, array in joined.arrays.items()} == {
            name: expected[name] for name in expected if name != "attention_mask"
        }
        sides = expected.sequence_ids(0)
        assert joined.first == sides.index(0)
        assert joined.second == (sides.index(1) if pair else -1)
        assert tokenizer.num_special(pair=pair) == sides.count(None)


def test_an_empty_sequence_leaves_the_special_tokens(tokenizer, hub):
    nothing = np.zeros(0, dtype=np.int32)
    assert len(tokenizer.join(nothing).arrays["input_ids"]) == tokenizer.num_special()
    assert tokenizer.tokenize([]) == tokenizer.tokenize_words([]) == []


def test_words_do_not_change_how_texts_are_tokenized(folder):
    fresh = HubTokenizer(folder)
    before = [tokens.ids.tolist() for tokens in fresh.tokenize(TEXTS)]
    fresh.tokenize_words(SENTENCES)
    assert [tokens.ids.tolist() for tokens in fresh.tokenize(TEXTS)] == before


def test_a_saved_tokenizer_gives_the_same_tokens(tokenizer, tmp_path):
    tokenizer.save(tmp_path)
    again = HubTokenizer(tmp_path)
    for left, right in zip(tokenizer.tokenize(TEXTS), again.tokenize(TEXTS), strict=True):
        assert left.ids.tolist() == right.ids.tolist()
    for left, right in zip(tokenizer.tokenize_words(SENTENCES), again.tokenize_words(SENTENCES), strict=True):
        assert left.ids.tolist() == right.ids.tolist()


def test_the_limit_is_what_was_asked_for_or_the_least_that_holds(tokenizer):
    assert tokenizer.limit_for(None, default=512) == 64
    assert tokenizer.limit_for(None, default=40) == 40
    assert tokenizer.limit_for(20, default=512) == 20
    with pytest.raises(InputError, match="at most 64 tokens"):
        tokenizer.limit_for(65, default=512)


def test_a_limit_without_room_for_text_is_refused(tokenizer):
    with pytest.raises(InputError, match="special tokens alone"):
        tokenizer.limit_for(1, default=512)


def test_a_folder_without_a_tokenizer_is_refused(tmp_path):
    with pytest.raises(InputError, match="no tokenizer that can be read"):
        HubTokenizer(tmp_path)
