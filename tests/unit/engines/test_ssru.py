"""The recurrent decoder computes its recurrence however it is run: at once, token by token, padded, packed, reloaded."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from engines.tiny_networks import PAD, denominator_of, tiny_config, tiny_pairs
from luthier.data.features import Feature
from luthier.engines.engine import TrainingSetup
from luthier.engines.torch import ENGINE, ssru
from luthier.engines.torch.loading import quiet
from luthier.generation import GenerationOptions
from luthier.heads import Seq2SeqHead
from parity.one_at_a_time import assert_same_gradients, keep_computed

HEAD = Seq2SeqHead()
END = 2
LENGTHS = [(5, 7), (12, 3), (40, 33), (7, 8), (33, 60), (6, 5), (17, 20), (2, 1)]


def a_network() -> Any:
    """Return a new network, drawn from the present state of torch's generator."""
    sizes = tiny_config("marian", forced_eos_token_id=None).to_dict()
    del sizes["model_type"]
    with quiet():
        return ssru.MarianSSRUForConditionalGeneration(ssru.MarianSSRUConfig(**sizes))


@pytest.fixture(scope="module")
def network() -> Any:
    """A tiny network whose output layer has a bias: no text holds padding, and some end early."""
    ssru.register()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = a_network().eval()
        made.final_logits_bias.normal_()
        made.final_logits_bias[0, PAD], made.final_logits_bias[0, END] = -1e4, 3.5
        for layer in made.model.decoder.layers:
            layer.self_attn.forget.bias.data.normal_()
    return made


@pytest.fixture(scope="module")
def folder(network: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ssru")
    with quiet():
        network.save_pretrained(path)
    return path


def recurrence(unit: ssru.SSRU, rows: np.ndarray) -> np.ndarray:
    """Return outputs [T, H] of one sequence as Kim et al. (2019) write them, one number after another."""
    given, forget = (layer.weight.detach().numpy().astype(np.float64) for layer in (unit.input, unit.forget))
    bias = unit.forget.bias.detach().numpy()
    cell, outputs = np.zeros(rows.shape[1]), []
    for row in rows.astype(np.float64):
        kept = 1 / (1 + np.exp(-(forget @ row + bias)))
        cell = kept * cell + (1 - kept) * (given @ row)
        outputs.append(np.where(cell > 0, cell, 0))
    return np.array(outputs)


def a_unit(width: int = 6) -> ssru.SSRU:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return ssru.SSRU(width, 0)


def test_the_unit_is_the_recurrence():
    unit, rows = a_unit(), np.random.default_rng(0).standard_normal((3, 9, 6)).astype(np.float32)
    outputs, weights = unit(torch.tensor(rows))
    assert weights is None
    for found, sequence in zip(outputs.detach().numpy(), rows, strict=True):
        np.testing.assert_allclose(found, recurrence(unit, sequence), atol=1e-6)
    assert (outputs == 0).any()
    assert (outputs > 0).any()


def test_in_16_bits_the_state_still_moves_by_small_steps():
    """A cell that keeps nearly all: each step is less than half a bfloat16 step and would be lost."""
    unit = a_unit(1)
    with torch.no_grad():
        unit.input.weight.fill_(1.0)
        unit.forget.weight.fill_(0.0)
        unit.forget.bias.fill_(6.0)
    rows = torch.ones(1, 400, 1)
    expected = recurrence(unit, rows[0].numpy())[-1, 0]
    outputs, _ = unit.bfloat16()(rows.bfloat16())
    assert outputs.dtype == torch.bfloat16
    assert outputs[0, -1, 0].item() == pytest.approx(expected, rel=0.01)


def test_a_new_network_has_finite_weights_of_the_families_own_kind():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = a_network()
    for layer in made.model.decoder.layers:
        unit = layer.self_attn
        assert isinstance(unit, ssru.SSRU)
        assert not unit.forget.bias.any()
        assert 0.17 < unit.input.weight.std().item() < 0.23  # init_std is 0.2
    assert made.get_output_embeddings().weight is made.get_input_embeddings().weight


def sources() -> tuple[torch.Tensor, torch.Tensor]:
    """Return ids and mask of three sources, padded on the right."""
    rows = [feature.arrays["input_ids"] for feature in tiny_pairs([(9, 1), (4, 1), (14, 1)])]
    ids = torch.full((3, 14), PAD)
    for place, row in enumerate(rows):
        ids[place, : len(row)] = torch.tensor(row)
    return ids, ids.ne(PAD).long()


@pytest.mark.parametrize("num_beams", [1, 4])
def test_with_and_without_its_cache_it_writes_the_same(network: Any, num_beams: int):
    ids, mask = sources()
    options = {"num_beams": num_beams, "do_sample": False, "max_new_tokens": 14, "output_scores": True}
    with quiet(), torch.no_grad():
        cached, plain = (
            network.generate(ids, attention_mask=mask, use_cache=use, return_dict_in_generate=True, **options)
            for use in (True, False)
        )
    assert cached.sequences.tolist() == plain.sequences.tolist()
    for one, other in zip(cached.scores, plain.scores, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)
    assert len({tuple(row) for row in cached.sequences.tolist()}) == 3, "what is written does not depend on the source"
    for row, source in enumerate(ids):
        alone = source[: int(mask[row].sum())][None]
        with quiet(), torch.no_grad():
            found = network.generate(alone, attention_mask=torch.ones_like(alone), use_cache=True, **options)
        width = found.shape[1]
        assert found[0].tolist() == cached.sequences[row, :width].tolist()
        assert set(cached.sequences[row, width:].tolist()) <= {PAD}


def test_several_tokens_at_once_go_on_from_the_cache(network: Any):
    ids, mask = sources()
    targets = torch.randint(4, 100, (3, 9), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        whole = network(input_ids=ids, attention_mask=mask, decoder_input_ids=targets, use_cache=False).logits
        encoded = network.get_encoder()(input_ids=ids, attention_mask=mask)
        cache, parts = None, []
        for cut in (slice(0, 4), slice(4, 5), slice(5, 9)):
            given = {"encoder_outputs": encoded, "attention_mask": mask, "decoder_input_ids": targets[:, cut]}
            output = network(**given, cache=cache, use_cache=True)
            cache = output.cache
            parts.append(output.logits)
    assert cache.get_seq_length() == 9
    torch.testing.assert_close(torch.cat(parts, 1), whole, atol=1e-5, rtol=1e-5)


def test_padding_on_the_right_changes_nothing_before_it(network: Any):
    ids, mask = sources()
    targets = torch.randint(4, 100, (3, 6), generator=torch.Generator().manual_seed(0))
    padded = torch.cat([targets, torch.full((3, 5), PAD)], 1)
    wider, seen = torch.cat([ids, torch.full((3, 4), PAD)], 1), torch.cat([mask, mask.new_zeros(3, 4)], 1)
    with torch.no_grad():
        short = network(input_ids=ids, attention_mask=mask, decoder_input_ids=targets).logits
        long = network(input_ids=wider, attention_mask=seen, decoder_input_ids=padded).logits
    torch.testing.assert_close(long[:, :6], short, atol=1e-5, rtol=1e-5)


def one_at_a_time(folder: Path, features: list[Feature]) -> tuple[list[float], dict[str, Any]]:
    """Return the loss of each pair and the gradients of their mean, by the plain network without packing."""
    with quiet():
        plain: Any = transformers.AutoModelForSeq2SeqLM.from_pretrained(folder, attn_implementation="eager").eval()
    keep_computed(plain)
    losses = []
    for feature in features:
        ids, labels = (torch.tensor(feature.arrays[name])[None].long() for name in ("input_ids", "labels"))
        loss = plain(input_ids=ids, labels=labels).loss * labels.numel()
        losses.append(loss.item())
        (loss / denominator_of(HEAD, features)).backward()
    return losses, {name: parameter.grad for name, parameter in plain.named_parameters()}


@pytest.mark.parametrize("checkpointing", [False, True])
def test_packed_rows_give_the_losses_and_gradients_of_one_pair_at_a_time(folder: Path, checkpointing: bool):
    features = tiny_pairs(LENGTHS)
    setup = TrainingSetup(gradient_checkpointing=checkpointing)
    model: Any = ENGINE.load(folder, HEAD, device="cpu", precision="float32", setup=setup)
    assert model.facts["batching"] == "packed"
    assert model.facts["head"] == "from the checkpoint"
    expected, gradients = one_at_a_time(folder, features)

    sums, counts = model.losses(model.collate(features))
    np.testing.assert_allclose(sums, expected, rtol=1e-5)
    assert counts.tolist() == [target for _, target in LENGTHS]
    loss = model.accumulate([model.collate(features)], denominator_of(HEAD, features)).item()
    assert loss == pytest.approx(sum(expected) / sum(counts), rel=1e-5)
    assert_same_gradients({name: p.grad for name, p in model.network.named_parameters()}, gradients)


def test_a_packed_model_trains_saves_and_comes_back(folder: Path, tmp_path: Path):
    features = tiny_pairs(LENGTHS)
    model: Any = ENGINE.load(folder, HEAD, device="cpu", precision="float32", setup=TrainingSetup())
    losses = []
    for _ in range(4):
        losses.append(model.accumulate([model.collate(features)], denominator_of(HEAD, features)).item())
        model.update(3e-3, 1.0)
    assert losses[-1] < losses[0]
    model.save(tmp_path / "saved")

    again: Any = ENGINE.load(tmp_path / "saved", HEAD, device="cpu", precision="float32")
    for mine, theirs in zip(model.losses(model.collate(features)), again.losses(again.collate(features)), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    with quiet():
        plain: Any = transformers.AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "saved").eval()
    assert type(plain) is ssru.MarianSSRUForConditionalGeneration
    trained = {name: value.tolist() for name, value in model.network.state_dict().items()}
    assert {name: value.tolist() for name, value in plain.state_dict().items()} == trained
    assert trained["final_logits_bias"] != [[0.0] * len(trained["final_logits_bias"][0])]


@pytest.mark.parametrize("num_beams", [1, 4])
def test_the_engine_writes_what_the_plain_network_writes(network: Any, folder: Path, num_beams: int):
    model: Any = ENGINE.load(folder, HEAD, device="cpu", precision="float32")
    features = [Feature({"input_ids": feature.arrays["input_ids"]}) for feature in tiny_pairs(LENGTHS)]
    options = GenerationOptions(max_new_tokens=10, num_beams=num_beams)
    found: list[list[int]] = [[] for _ in features]
    for step in (step for steps in model.generate(features, options) for step in steps):
        found[step.index] += [] if step.token is None else [step.token]
    for written, feature in zip(found, features, strict=True):
        ids = torch.tensor(feature.arrays["input_ids"])[None].long()
        with quiet(), torch.no_grad():
            given = {"attention_mask": torch.ones_like(ids), "num_beams": num_beams, "do_sample": False}
            row = network.generate(ids, **given, max_new_tokens=10)[0].tolist()[1:]
        assert written == (row[: row.index(END)] if END in row else row)


def test_transformers_saves_and_loads_it_by_its_own_names(network: Any, folder: Path, tmp_path: Path):
    config = transformers.AutoConfig.from_pretrained(folder)
    assert (config.model_type, config.architectures) == ("marian-ssru", ["MarianSSRUForConditionalGeneration"])
    with quiet():
        again = ssru.MarianSSRUForConditionalGeneration.from_pretrained(folder)
        again.save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()
    own, loaded = network.state_dict(), again.state_dict()
    assert own.keys() == loaded.keys()
    assert all(torch.equal(value, loaded[name]) for name, value in own.items())
    assert any("self_attn.forget.bias" in name for name in own)
    assert not any("decoder" in name and "self_attn.k_proj" in name for name in own)
    ssru.register()  # a second time does nothing
