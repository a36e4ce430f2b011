"""What heads that write ask of a tokenizer: targets, languages, documents, special tokens."""

from pathlib import Path

import numpy as np
import pytest

from luthier.errors import InputError
from luthier.new_model import new
from luthier.tokenizer import HubTokenizer

TEXTS = ["the red town", "a green river", "la ville rouge"]


def saved(kind: str, folder: Path, **values) -> Path:
    """Write a tokenizer of transformers with a tiny vocabulary."""
    import transformers

    special = ["<s>", "<pad>", "</s>", "<unk>"]
    pieces = [*special, "▁", *"abcdefghijklmnopqrstuvwxyz"]
    getattr(transformers, kind)(vocab={piece: number for number, piece in enumerate(pieces)}, **values).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def many_languages(tmp_path_factory) -> Path:
    codes = ["eng_Latn", "fra_Latn", "zho_Hans", "zho_Hant"]
    return saved("NllbTokenizer", tmp_path_factory.mktemp("nllb"), merges=[], additional_special_tokens=codes)


@pytest.fixture(scope="module", params=["marian", "llama"])
def own(request, tmp_path_factory) -> tuple[str, HubTokenizer]:
    folder = tmp_path_factory.mktemp(request.param)
    new(architecture=request.param, vocabulary=300, layers=1, hidden_size=8, heads=2).make(folder, TEXTS, 0)
    return request.param, HubTokenizer(folder)


def test_a_target_ends_with_the_end_and_begins_with_its_language(many_languages: Path):
    tokenizer = HubTokenizer(many_languages, languages=("eng_Latn", "fra_Latn"))
    before, after = tokenizer.target_affixes
    assert tokenizer.decode(before, special=True).strip() == "fra_Latn"
    assert tokenizer.decode(after, special=True).strip() == "</s>"
    source = tokenizer.join(tokenizer.ids_of(["a b"])[0]).arrays["input_ids"]
    assert "eng_Latn" in tokenizer.decode(source, special=True)
    assert "fra_Latn" not in tokenizer.decode(source, special=True)


def test_ids_of_a_target_are_those_that_transformers_gives(many_languages: Path):
    from transformers import AutoTokenizer

    hub = AutoTokenizer.from_pretrained(many_languages, src_lang="eng_Latn", tgt_lang="zho_Hans")
    tokenizer = HubTokenizer(many_languages, languages=("eng_Latn", "zho_Hans"))
    before, after = tokenizer.target_affixes
    ours = np.concatenate([before, tokenizer.ids_of(["abc de"], target=True)[0], after]).tolist()
    assert ours == hub(text_target="abc de")["input_ids"]


def test_a_model_of_many_languages_must_be_told_which(many_languages: Path):
    with pytest.raises(InputError, match=r"task\.source_language.*must be told"):
        HubTokenizer(many_languages)
    with pytest.raises(InputError, match=r"task\.target_language.*no language \"deu_Latn\""):
        HubTokenizer(many_languages, languages=("eng_Latn", "deu_Latn"))


def test_a_short_code_is_enough_where_it_fits_one_language_alone(many_languages: Path):
    before, _ = HubTokenizer(many_languages, languages=("eng", "fra")).target_affixes
    assert HubTokenizer(many_languages, languages=("eng_Latn", "fra_Latn")).target_affixes[0].tolist() == before.tolist()
    with pytest.raises(InputError, match="zho"):
        HubTokenizer(many_languages, languages=("eng", "zho"))


def test_languages_are_nothing_to_a_model_of_one_pair(own):
    _, tokenizer = own
    before, after = tokenizer.target_affixes
    assert len(before) == 0
    assert len(after) == 1


def test_a_document_begins_and_ends_with_what_parts_documents(own):
    kind, tokenizer = own
    before, after = tokenizer.document_affixes
    expected = "<|endoftext|>" if kind == "llama" else "</s>"
    assert tokenizer.decode(before, special=True).strip() == tokenizer.decode(after, special=True).strip() == expected


def test_text_comes_back_from_its_ids(own):
    _, tokenizer = own
    for text, ids in zip(TEXTS, tokenizer.ids_of(TEXTS), strict=True):
        assert tokenizer.decode(ids) == text


def test_a_special_token_has_an_id_and_other_text_has_none(own):
    kind, tokenizer = own
    marker = "<|endoftext|>" if kind == "llama" else "</s>"
    assert tokenizer.special_id(marker) == int(tokenizer.document_affixes[1][0])
    assert tokenizer.special_id("the") is None
    assert tokenizer.special_id("<|im_end|>") is None
