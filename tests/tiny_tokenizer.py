"""A tiny BERT tokenizer in the hub's folder format, made anew for each test module that wants one."""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

from luthier.tokenizer import HubTokenizer

_COLOURS = "red blue green white black river long short old town good bad"
_NAMES = "ada bob paris rome acme inc who what when where"
_SMALL = "sings lives works in the and for he she it is was are of to a an on at by from with not no yes . , ? ! ' -"
WORDS = f"{_COLOURS} {_NAMES} {_SMALL}".split()


def write_tokenizer(folder: Path) -> None:
    """Write a WordPiece tokenizer that knows WORDS, letters and digits."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, *letters, *(f"##{letter}" for letter in letters)]
    ids = {word: number for number, word in enumerate(dict.fromkeys(vocabulary))}
    backend = Tokenizer(models.WordPiece(ids, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.BertProcessing(("[SEP]", ids["[SEP]"]), ("[CLS]", ids["[CLS]"]))
    folder.mkdir(parents=True, exist_ok=True)
    backend.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 128, "pad_token": "[PAD]", "unk_token": "[UNK]",
              "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]",
              "model_input_names": ["input_ids", "token_type_ids", "attention_mask"]}  # fmt: skip
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")


def tiny_tokenizer() -> Iterator[HubTokenizer]:
    """Yield the tokenizer; use as a pytest fixture."""
    with tempfile.TemporaryDirectory() as folder:
        write_tokenizer(Path(folder))
        yield HubTokenizer(Path(folder))


def write_model(folder: Path, *, layers: int = 2, hidden: int = 32) -> None:
    """Write a tiny random BERT with the tokenizer above."""
    import torch
    from transformers import BertConfig, BertModel

    write_tokenizer(folder)
    torch.manual_seed(0)
    config = BertConfig(vocab_size=160, hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=4,
                        intermediate_size=2 * hidden, max_position_embeddings=128)  # fmt: skip
    BertModel(config).save_pretrained(folder)
