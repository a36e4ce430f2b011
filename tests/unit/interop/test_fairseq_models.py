"""fairseq's checkpoints as models of Luthier: the same numbers, whatever the transformer is made of."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import fairseq_files
from fairseq_files import KINDS, Tiny, with_settings
from luthier.data.features import Feature
from luthier.engines.engine import Choice, TrainingSetup
from luthier.engines.torch.model import TorchModel
from luthier.errors import InputError, SecurityError
from luthier.generation import GenerationOptions
from luthier.heads import CausalHead, Head, Seq2SeqHead
from luthier.interop.fairseq.architecture import architecture_of
from luthier.interop.fairseq.checkpoint import read_checkpoint
from luthier.interop.fairseq.hub_form import architecture_of_config, fairseq_weights, hub_config, write_model


def head_of(kind: Tiny) -> Head:
    return CausalHead() if kind.lm else Seq2SeqHead()


def hub_folder(path: Path, kind: Tiny, *, old: bool = False) -> Path:
    """Convert a checkpoint without its tokenizer."""
    checkpoint = read_checkpoint(fairseq_files.write(path / "fairseq", kind, old=old))
    (path / "hub").mkdir()
    write_model(architecture_of(checkpoint), checkpoint.weights, path / "hub")
    return path / "hub"


def load(folder: Path, kind: Tiny, setup: TrainingSetup | None = None) -> TorchModel:
    return TorchModel.load(folder, head_of(kind), device="cpu", precision="float32", setup=setup)


def features(kind: Tiny) -> list[Feature]:
    rng = np.random.default_rng(3)
    rows = []
    for source, target in ((7, 4), (3, 9), (12, 2), (5, 5)):
        if kind.lm:
            ids = rng.integers(4, 16, source).astype(np.int32)
            rows.append(Feature({"input_ids": ids, "labels": np.append([-100], ids[1:]).astype(np.int32)}))
        else:
            ids = np.append(rng.integers(4, 16, source), 2).astype(np.int32)
            rows.append(Feature({"input_ids": ids, "labels": np.append(rng.integers(4, 13, target), 2).astype(np.int32)}))
    return rows


def reference(kind: Tiny, weights: dict[str, torch.Tensor], row: Feature) -> torch.Tensor:
    """Return a row's loss."""
    ids, labels = row.arrays["input_ids"].tolist(), row.arrays["labels"].tolist()
    if kind.lm:
        logits = fairseq_files.logits(kind, weights, None, ids[:-1])
        labels = labels[1:]
    else:
        logits = fairseq_files.logits(kind, weights, ids, [2, *labels[:-1]])
    return torch.nn.functional.cross_entropy(logits, torch.tensor(labels), reduction="sum")


@pytest.mark.parametrize("old", [False, True], ids=["cfg", "args"])
@pytest.mark.parametrize("name", KINDS)
def test_a_checkpoint_computes_what_fairseq_computes(name: str, old: bool, tmp_path: Path):
    kind = KINDS[name]
    model = load(hub_folder(tmp_path, kind, old=old), kind)
    rows = features(kind)
    losses, weights = model.losses(model.collate(rows))
    expected = [float(reference(kind, fairseq_files.weights(kind), row)) for row in rows]
    assert np.abs(losses - expected).max() < 1e-4
    assert weights.tolist() == [(row.arrays["labels"] != -100).sum() for row in rows]


@pytest.mark.parametrize("name", KINDS)
def test_it_saves_and_loads_in_the_hubs_format_without_a_change(name: str, tmp_path: Path):
    kind = KINDS[name]
    model = load(hub_folder(tmp_path, kind), kind)
    model.save(tmp_path / "saved")
    again = load(tmp_path / "saved", kind)
    rows = features(kind)
    assert np.array_equal(model.losses(model.collate(rows))[0], again.losses(again.collate(rows))[0])
    before, after = model.network.state_dict(), again.network.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)


@pytest.mark.parametrize("name", KINDS)
def test_weights_and_settings_come_back_as_they_were(name: str, tmp_path: Path):
    kind = KINDS[name]
    checkpoint = read_checkpoint(fairseq_files.write(tmp_path / "fairseq", kind))
    architecture = architecture_of(checkpoint)
    assert architecture_of_config(hub_config(architecture)) == architecture
    (tmp_path / "hub").mkdir()
    write_model(architecture, checkpoint.weights, tmp_path / "hub")
    back = fairseq_weights(architecture, load(tmp_path / "hub", kind).network.state_dict())
    assert back.keys() == checkpoint.weights.keys()
    assert all(torch.equal(back[key], checkpoint.weights[key]) for key in back)


@pytest.mark.parametrize("name", KINDS)
def test_fsmt_is_taken_where_it_is_exact_and_our_own_class_packs(name: str, tmp_path: Path):
    kind = KINDS[name]
    folder = hub_folder(tmp_path, kind)
    stock = name in ("post-norm, all shared", "post-norm, nothing shared")
    assert (json.loads((folder / "config.json").read_text())["model_type"] == "fsmt") is stock
    assert str(load(folder, kind).facts["batching"]).startswith("length buckets" if stock else "packed")


@pytest.mark.parametrize("name", KINDS)
def test_training_moves_it_as_the_reference_would_and_leaves_positions_alone(name: str, tmp_path: Path):
    """Gradients are held against those of autograd through the reference."""
    kind = KINDS[name]
    setup = TrainingSetup(method=Choice("full", {}), optimizer=Choice("adamw", {}), weight_decay=0.0, seed=0)
    model = load(hub_folder(tmp_path, kind), kind, setup)
    rows = features(kind)
    weights = {key: value.clone().requires_grad_() for key, value in fairseq_files.weights(kind).items()}
    shared = {"decoder.output_projection.weight"} if kind.share_output or kind.share_all else set()
    shared |= {"encoder.embed_tokens.weight"} if kind.share_all else set()
    for key in shared:
        weights[key] = weights["decoder.embed_tokens.weight"]
    torch.stack([reference(kind, weights, row) for row in rows]).sum().backward()
    model.accumulate([model.collate(rows)], 1.0).item()
    architecture = architecture_of(read_checkpoint(tmp_path / "fairseq" / "checkpoint.pt"))
    gradients = fairseq_weights(
        architecture, {key: value.grad for key, value in model.network.named_parameters() if value.grad is not None}
    )
    for key, found in gradients.items():
        expected = weights[key].grad
        assert expected is not None
        assert (found - expected).abs().max() <= 1e-4 * max(1.0, float(expected.abs().max())), key
    trained = [key for key in weights if weights[key].grad is not None]
    assert set(trained) == set(gradients)
    model.update(1e-3, None).item()
    for key in model.network.state_dict():
        if key.endswith("embed_positions.weight") and not kind.learned:
            assert torch.equal(model.network.state_dict()[key], load(tmp_path / "hub", kind).network.state_dict()[key])


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("name", KINDS)
def test_writing_with_a_cache_and_in_a_batch_is_writing_by_the_reference(name: str, beams: int, tmp_path: Path):
    kind = KINDS[name]
    model = load(hub_folder(tmp_path, kind), kind)
    weights = fairseq_files.weights(kind)
    prompts = [row.arrays["input_ids"] for row in features(kind)]
    written: list[list[int]] = [[] for _ in prompts]
    options = GenerationOptions(max_new_tokens=6, num_beams=beams)
    for steps in model.generate([Feature({"input_ids": ids}) for ids in prompts], options):
        for step in steps:
            if step.token is not None:
                written[step.index].append(step.token)
    for ids, tokens in zip(prompts, written, strict=True):
        expected = greedy(kind, weights, ids.tolist()) if beams == 1 else None
        assert tokens == expected if expected is not None else len(tokens) > 0


def greedy(kind: Tiny, weights: dict[str, torch.Tensor], ids: list[int]) -> list[int]:
    written: list[int] = []
    while len(written) < 6:
        inputs = [*ids, *written] if kind.lm else [2, *written]
        logits = fairseq_files.logits(kind, weights, None if kind.lm else ids, inputs)[-1]
        logits[[1] if written else [1, 2]] = -torch.inf  # fairseq never writes padding, and at least one token
        token = int(logits.argmax())
        if token == 2:
            break
        written.append(token)
    return written


REFUSED = {
    "adaptive_softmax_cutoff": ("100,200", "adaptive softmax"),
    "adaptive_input": (True, "adaptive input"),
    "cross_self_attention": (True, "cross-self-attention"),
    "no_cross_attention": (True, "no attention to its source"),
    "encoder_layers_to_keep": ("0,2", "pruned"),
    "decoder_layerdrop": (0.2, "LayerDrop"),
    "quant_noise_pq": (0.1, "quantization noise"),
    "scale_heads": (True, "NormFormer"),
    "no_token_positional_embeddings": (True, "no positions"),
    "alignment_layer": (4, "alignments"),
    "base_layers": (1, "BASE"),
    "activation_fn": ("swish", "swish"),
    "decoder_input_dim": (16, "different widths"),
    "arch": ("lightconv_iwslt_de_en", "lightconv"),
    "task": ("multilingual_translation", "multilingual_translation"),
    "decoder_attention_heads": (None, "how many heads"),
    "decoder_learned_pos": (True, "positions of its decoder"),
}


@pytest.mark.parametrize("setting", REFUSED)
def test_what_is_computed_in_another_way_is_refused_by_its_name(setting: str, tmp_path: Path):
    value, named = REFUSED[setting]
    path = fairseq_files.write(tmp_path, with_settings(Tiny(), **{setting: value}))
    with pytest.raises(InputError, match=named) as caught:
        architecture_of(read_checkpoint(path))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def changed(path: Path, change) -> Path:
    from luthier.interop.weights import read_pickle

    state = read_pickle(path)
    change(state)
    torch.save(state, path)
    return path


def without_a_layer(state) -> None:
    for key in [key for key in state["model"] if key.startswith("encoder.layers.0.")]:
        del state["model"][key]


def test_damaged_checkpoints_are_refused_in_one_sentence(tmp_path: Path):
    cases = {
        "no-model": (lambda state: state.pop("model"), "no checkpoint of fairseq"),
        "no-settings": (lambda state: state.pop("cfg"), "says nothing of its model"),
        "nan": (lambda state: state["model"]["encoder.layers.0.fc1.weight"].fill_(float("nan")), "not finite"),
        "layer": (without_a_layer, "layers of its encoder"),
        "table": (lambda state: state["model"].pop("encoder.embed_tokens.weight"), "encoder.embed_tokens.weight is missing"),
        "number": (lambda state: state["model"].update({"x": 3}), "is no tensor"),
        "strange": (lambda state: state["model"].update({"encoder.moe.weight": torch.ones(1)}), "encoder.moe.weight"),
        "missing": (lambda state: state["model"].pop("decoder.layers.0.fc2.bias"), "decoder.layers.0.fc2.bias"),
    }  # fmt: skip
    for name, (change, said) in cases.items():
        path = changed(fairseq_files.write(tmp_path / name, Tiny()), change)
        with pytest.raises(InputError, match=said):
            architecture_of(read_checkpoint(path))


def test_tables_that_should_be_one_and_differ_are_refused(tmp_path: Path):
    path = fairseq_files.write(tmp_path, Tiny(joined=True, share_all=True))
    changed(path, lambda state: state["model"].update({"encoder.embed_tokens.weight": torch.ones(16, 8)}))
    with pytest.raises(InputError, match="should be the same"):
        architecture_of(read_checkpoint(path))


def test_names_of_the_oldest_files_are_understood(tmp_path: Path):
    """Projections in one matrix, numbered norms, and the output layer under another name."""
    kind = Tiny()
    path = fairseq_files.write(tmp_path / "new", kind)
    new = read_checkpoint(path).weights

    def age(state) -> None:
        model = state["model"]
        for at in ("encoder.layers.0.self_attn", "decoder.layers.0.encoder_attn"):
            for part in ("weight", "bias"):
                model[f"{at}.in_proj_{part}"] = torch.cat([model.pop(f"{at}.{letter}_proj.{part}") for letter in "qkv"])
        for number, name in enumerate(("self_attn_layer_norm", "encoder_attn_layer_norm", "final_layer_norm")):
            for part in ("weight", "bias"):
                model[f"decoder.layers.0.layer_norms.{number}.{part}"] = model.pop(f"decoder.layers.0.{name}.{part}")
        model["decoder.embed_out"] = model.pop("decoder.output_projection.weight")

    old = read_checkpoint(changed(path, age)).weights
    assert old.keys() == new.keys()
    assert all(torch.equal(old[key], new[key]) for key in new)


def test_half_precision_becomes_float32(tmp_path: Path):
    path = fairseq_files.write(tmp_path, Tiny())
    changed(path, lambda state: state.update(model={key: value.half() for key, value in state["model"].items()}))
    assert {value.dtype for value in read_checkpoint(path).weights.values()} == {torch.float32}


def test_a_checkpoint_with_a_payload_is_refused(tmp_path: Path):
    path = fairseq_files.write(tmp_path, Tiny())
    changed(path, lambda state: state["cfg"].update(model=Path))
    with pytest.raises(SecurityError, match="pathlib"):
        read_checkpoint(path)
