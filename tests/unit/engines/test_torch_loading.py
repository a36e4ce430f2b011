"""What the torch engine takes for a model, what it refuses, and that it does so in its own words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from engines.tiny_networks import save_tiny, tiny_config
from luthier.engines.engine import TrainingSetup
from luthier.engines.torch import ENGINE
from luthier.engines.torch.loading import quiet
from luthier.errors import InputError, SecurityError
from luthier.heads import CausalHead, Head, Seq2SeqHead, SequenceHead, SpanHead, TokenHead

HEAD = SequenceHead(3)


def load(folder: Path, head: Head = HEAD, *, seed: int | None = 0, **options: Any) -> Any:
    setup = None if seed is None else TrainingSetup(seed=seed)
    return ENGINE.load(folder, head, **{"device": "cpu", "precision": "float32", **options}, setup=setup)


@pytest.fixture
def headless(tmp_path: Path) -> Path:
    """A pretrained encoder without any head."""
    with quiet():
        transformers.AutoModel.from_config(tiny_config("bert")).save_pretrained(str(tmp_path / "base"))
    return tmp_path / "base"


@pytest.mark.parametrize("head", [HEAD, TokenHead(4), SpanHead()])
def test_a_missing_head_is_made_from_the_seed(headless: Path, head: Head) -> None:
    def weights(seed: int) -> torch.Tensor:
        model = load(headless, head, seed=seed)
        assert model.facts["head"] == "new"
        output = getattr(model.network, "classifier", None) or model.network.qa_outputs
        return output.weight.detach()

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


@pytest.mark.parametrize("head", [HEAD, TokenHead(4), SpanHead()])
def test_inference_without_a_trained_head_is_refused(headless: Path, head: Head) -> None:
    with pytest.raises(InputError, match="no trained head"):
        load(headless, head, seed=None)


def test_a_head_of_another_size_is_replaced_for_training_and_refused_for_inference(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path, "bert", SequenceHead(5))
    assert load(folder).facts["head"] == "new"
    with pytest.raises(InputError, match="no trained head"):
        load(folder, seed=None)


def test_a_head_for_other_labels_is_replaced_though_it_fits(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path, "bert", HEAD)
    config = json.loads((folder / "config.json").read_text())
    config |= {"id2label": {"0": "a", "1": "b", "2": "c"}, "label2id": {"a": 0, "b": 1, "c": 2}}
    (folder / "config.json").write_text(json.dumps(config))
    old = load_file(folder / "model.safetensors")["classifier.weight"]

    kept = load(folder, SequenceHead(3, labels=("a", "b", "c")))
    assert torch.equal(kept.network.classifier.weight, old)
    made = load(folder, SequenceHead(3, labels=("x", "y", "z")))
    assert made.facts["head"] == "new"
    assert not torch.equal(made.network.classifier.weight, old)
    assert made.network.classifier.weight.std() > 0
    with pytest.raises(InputError, match="another one"):
        load(folder, SequenceHead(3, labels=("x", "y", "z")), seed=None)


def test_loading_training_and_saving_write_nothing_to_the_terminal(
    headless: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    load(headless).save(tmp_path / "saved")
    load(save_tiny(tmp_path / "other", "deberta-v2", HEAD))
    assert capfd.readouterr() == ("", "")


def test_half_precision_weights_are_loaded_as_float32(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path, "bert", HEAD)
    tensors = {name: value.half() for name, value in load_file(folder / "model.safetensors").items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    assert {p.dtype for p in load(folder).network.parameters()} == {torch.float32}


def test_a_missing_encoder_weight_is_refused(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path, "bert", HEAD)
    tensors = load_file(folder / "model.safetensors")
    del tensors["bert.encoder.layer.1.output.dense.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"missing.*layer\.1\.output\.dense\.weight"):
        load(folder)


def test_a_weight_that_is_not_finite_is_refused(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path, "bert", HEAD)
    tensors = load_file(folder / "model.safetensors")
    tensors["bert.encoder.layer.0.output.dense.weight"][0, 0] = float("nan")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match="not finite"):
        load(folder)


def test_pickled_weights_are_refused_for_security(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path, "bert", HEAD)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(SecurityError, match=r"pickle \(pytorch_model.bin\)"):
        load(folder)


def test_a_model_with_code_of_its_own_is_refused_for_security(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path, "bert", HEAD)
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "mine", "auto_map": {"AutoConfig": "code.Config"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "code.py").write_text("raise SystemExit('ran')")
    with pytest.raises(SecurityError, match="code of its own"):
        load(folder)


def _empty(folder: Path) -> None:
    (folder / "config.json").unlink()


def _broken(folder: Path) -> None:
    (folder / "config.json").write_text("{")


def _listed(folder: Path) -> None:
    (folder / "config.json").write_text("[]")


def _unknown(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "abacus"}')


def _weightless(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def _torn(folder: Path) -> None:
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])


def _quantized(folder: Path) -> None:
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(values | {"quantization_config": {"quant_method": "gptq"}}))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_empty, "no config.json"),
        (_broken, "cannot be read"),
        (_listed, "no JSON object"),
        (_unknown, 'model_type "abacus"'),
        (_weightless, "no weights"),
        (_torn, "cannot be read"),
        (_quantized, "quantized"),
    ],
)
def test_a_folder_that_is_no_whole_model_is_refused(damage: Any, message: str, tmp_path: Path) -> None:
    damage(save_tiny(tmp_path, "bert", HEAD))
    with pytest.raises(InputError, match=message):
        load(tmp_path)


def test_a_head_that_the_family_lacks_is_refused(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path, "bert", HEAD)
    with pytest.raises(InputError, match="cannot have a Seq2SeqHead"):
        load(folder, Seq2SeqHead())
    with pytest.raises(InputError, match="cannot have a CausalHead"):
        load(save_tiny(tmp_path / "electra", "distilbert", HEAD), CausalHead())


@pytest.mark.parametrize(
    ("options", "message"),
    [({"device": "tpu"}, "device"), ({"precision": "int3"}, "train.precision")],
)
def test_unknown_device_and_precision_are_refused(options: dict[str, str], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        load(save_tiny(tmp_path, "bert", HEAD), **options)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has the device")
def test_a_device_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="this machine has none"):
        load(save_tiny(tmp_path, "bert", HEAD), device="cuda")
