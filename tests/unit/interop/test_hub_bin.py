"""Hub folders with ``pytorch_model.bin``: read as weights alone, and kept as safetensors."""

import json
import os
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from luthier.engines.torch.loading import load_network
from luthier.errors import InputError, SecurityError
from luthier.heads import SequenceHead
from luthier.model_source import resolve_model
from tiny_tokenizer import write_model


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LUTHIER_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def pickled(folder: Path) -> dict[str, torch.Tensor]:
    """Write a model, and its weights as the hub did before safetensors; return the weights."""
    write_model(folder)
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(OrderedDict(weights), folder / "pytorch_model.bin")
    return weights


def test_a_folder_is_converted_once_and_loads(tmp_path: Path, cache: Path, capsys: pytest.CaptureFixture[str]):
    weights = pickled(tmp_path / "model")
    folder = resolve_model(str(tmp_path / "model")).folder
    assert folder.parent == cache / "models"
    converted = load_file(folder / "model.safetensors")
    assert converted.keys() == weights.keys()
    assert all(torch.equal(converted[name], weights[name]) for name in weights)
    assert {path.name for path in folder.iterdir()} == {
        "model.safetensors", *(path.name for path in (tmp_path / "model").iterdir() if path.name != "pytorch_model.bin")
    }  # fmt: skip
    assert load_network(folder, SequenceHead(2), seed=0).unused == load_network(folder, SequenceHead(2), seed=0).unused
    capsys.readouterr()
    assert resolve_model(str(tmp_path / "model")).folder == folder
    assert capsys.readouterr().err == ""


def test_weights_in_several_files_are_put_together(tmp_path: Path):
    weights = pickled(tmp_path / "model")
    names = sorted(weights)
    (tmp_path / "model" / "pytorch_model.bin").unlink()
    where = {}
    for number, part in enumerate((names[::2], names[1::2]), 1):
        file = f"pytorch_model-0000{number}-of-00002.bin"
        torch.save({name: weights[name] for name in part}, tmp_path / "model" / file)
        where |= dict.fromkeys(part, file)
    index = tmp_path / "model" / "pytorch_model.bin.index.json"
    index.write_text(json.dumps({"weight_map": where}), encoding="utf-8")
    folder = resolve_model(str(tmp_path / "model")).folder
    assert load_file(folder / "model.safetensors").keys() == weights.keys()
    assert not list(folder.glob("*.bin*"))
    for bad, said in ((json.dumps({"weight_map": {"a": "../../secret.bin"}}), "is not there"), ("{", "cannot be read")):
        index.write_text(bad, encoding="utf-8")
        with pytest.raises(InputError, match=said):
            resolve_model(str(tmp_path / "model"))


def test_tensors_that_share_memory_are_each_written(tmp_path: Path):
    pickled(tmp_path / "model")
    table = torch.arange(6.0)
    torch.save({"a": table, "b": table, "c": table[2:]}, tmp_path / "model" / "pytorch_model.bin")
    converted = load_file(resolve_model(str(tmp_path / "model")).folder / "model.safetensors")
    assert {name: value.tolist() for name, value in converted.items()} == {
        "a": table.tolist(), "b": table.tolist(), "c": table[2:].tolist()
    }  # fmt: skip


def test_safetensors_beside_it_are_taken_and_the_pickle_is_never_opened(tmp_path: Path):
    write_model(tmp_path / "model")
    (tmp_path / "model" / "pytorch_model.bin").write_bytes(b"cposix\nsystem\n.")
    assert resolve_model(str(tmp_path / "model")).folder == tmp_path / "model"


class Payload:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch '{self.marker}'",)


def test_a_payload_is_refused_and_nothing_is_kept(tmp_path: Path, cache: Path):
    pickled(tmp_path / "model")
    torch.save({"a": torch.ones(1), "b": Payload(tmp_path / "marker")}, tmp_path / "model" / "pytorch_model.bin")
    with pytest.raises(SecurityError, match=r"pytorch_model\.bin"):
        resolve_model(str(tmp_path / "model"))
    assert not (tmp_path / "marker").exists()
    assert not list((cache / "models").iterdir())


def test_what_is_no_dictionary_of_tensors_is_refused(tmp_path: Path):
    pickled(tmp_path / "model")
    torch.save([torch.ones(1)], tmp_path / "model" / "pytorch_model.bin")
    with pytest.raises(InputError, match="no dictionary of tensors"):
        resolve_model(str(tmp_path / "model"))
