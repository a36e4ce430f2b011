"""KerasHub's presets, as any engine and plain transformers read them: against KerasHub itself, in a process of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from luthier.engines.torch.loading import quiet
from luthier.errors import InputError
from luthier.model_source import resolve_model

TESTS = Path(__file__).parents[1]
KINDS = ("Bert", "DistilBert", "Roberta", "GPT2", "Bart", "Llama3", "Qwen", "Qwen3")

pytestmark = pytest.mark.skipif(
    any(find_spec(package) is None for package in ("tensorflow", "keras_hub", "tensorflow_text")),
    reason="KerasHub is not installed",
)


@pytest.fixture(scope="module")
def presets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("presets")
    surroundings = {**os.environ, "PYTHONPATH": str(TESTS), "KERAS_BACKEND": "tensorflow"}
    command = [sys.executable, str(TESTS / "engines" / "keras_preset_checks.py"), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, env=surroundings, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return folder


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LUTHIER_CACHE", str(tmp_path_factory.getbasetemp() / "preset-cache"))


@pytest.mark.parametrize("kind", KINDS)
def test_the_numbers_and_tokens_are_those_of_keras_hub(kind: str, presets: Path):
    known = json.loads((presets / "expected.json").read_text(encoding="utf-8"))
    source = resolve_model(f"keras:{presets / kind}")
    with quiet():
        network = transformers.AutoModel.from_pretrained(str(source.folder)).eval()
        tokenizer = transformers.AutoTokenizer.from_pretrained(str(source.folder))
    ids = torch.tensor(known["ids"])
    given: dict[str, Any] = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    given |= {"token_type_ids": ids % 3} if kind == "Bert" else {}
    given |= {"decoder_input_ids": ids} if kind == "Bart" else {}
    with torch.no_grad():
        found = network(**given).last_hidden_state
    np.testing.assert_allclose(found.numpy(), np.asarray(known["kinds"][kind]["states"]), atol=1e-4)
    for text, tokens in zip(known["texts"], known["kinds"][kind]["tokens"], strict=True):
        assert tokenizer(text, add_special_tokens=False)["input_ids"] == tokens, text


def test_what_was_converted_is_not_converted_again(presets: Path, capfd: pytest.CaptureFixture[str]):
    first = resolve_model(f"keras:{presets / 'Bert'}").folder
    capfd.readouterr()
    assert resolve_model(f"keras:{presets / 'Bert'}").folder == first
    assert "converting" not in capfd.readouterr().err


def damaged(presets: Path, folder: Path, name: str, change: Any) -> str:
    shutil.copytree(presets / "Bert", folder)
    path = folder / name
    if change is None:
        path.unlink()
    elif isinstance(change, bytes):
        path.write_bytes(change)
    else:
        path.write_text(json.dumps(change(json.loads(path.read_text(encoding="utf-8")))), encoding="utf-8")
    return f"keras:{folder}"


def another_class(values: Any) -> Any:
    return {**values, "module": "os", "class_name": "system", "registered_name": "system"}


def another_size(values: Any) -> Any:
    return {**values, "config": {**values["config"], "hidden_dim": 32}}


def no_heads(values: Any) -> Any:
    return {**values, "config": {key: value for key, value in values["config"].items() if key != "num_heads"}}


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("config.json", None, "no config.json"),
        ("config.json", b"{", "damaged"),
        ("config.json", another_class, '"system" cannot be read'),
        ("config.json", another_size, "weights cannot be read"),
        ("config.json", no_heads, '"num_heads"'),
        ("model.weights.h5", None, "no model.weights.h5"),
        ("model.weights.h5", b"not a table", "weights cannot be read"),
        ("tokenizer.json", None, "no tokenizer.json"),
        ("tokenizer.json", lambda values: {**values, "config": ["lowercase"]}, "no tokenizer.json"),
        ("assets/tokenizer/vocabulary.txt", None, "vocabulary is not there"),
        ("assets/tokenizer/vocabulary.txt", b"[PAD]\n[UNK]\nword\n", r'no "\[CLS\]"'),
        ("assets/tokenizer/vocabulary.txt", b"[PAD]\n[PAD]\n", "twice"),
        ("assets/tokenizer/vocabulary.txt", b"[PAD]\n\xff\n", "not UTF-8"),
    ],
)
def test_a_damaged_preset_is_refused_in_a_sentence(name: str, change: Any, said: str, presets: Path, tmp_path: Path):
    with pytest.raises(InputError, match=said):
        resolve_model(damaged(presets, tmp_path / "preset", name, change))


def test_no_folder_is_said(tmp_path: Path):
    with pytest.raises(InputError, match="there is no folder"):
        resolve_model(f"keras:{tmp_path / 'nothing'}")
