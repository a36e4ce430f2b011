"""Writing with the torch engine gives what transformers' own generate gives, and stops when it is told to."""

from pathlib import Path

import numpy as np
import pytest
import torch

from luthier.data.features import Feature
from luthier.engines.torch.loading import quiet
from luthier.engines.torch.model import TorchModel
from luthier.generation import GenerationOptions
from luthier.heads import CausalHead, Seq2SeqHead

LENGTHS = (5, 12, 9, 4, 15)
SIZES = {"vocab_size": 90, "pad_token_id": 1, "eos_token_id": 0}


def decoder(**options):
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(
        LlamaConfig(**SIZES, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
                    num_key_value_heads=2, max_position_embeddings=64, initializer_range=0.3, bos_token_id=2, **options)
    )  # fmt: skip


def encoder_decoder():
    from transformers import MarianConfig, MarianMTModel

    return MarianMTModel(
        MarianConfig(**SIZES, d_model=32, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4,
                     decoder_attention_heads=4, encoder_ffn_dim=48, decoder_ffn_dim=48, max_position_embeddings=64,
                     decoder_start_token_id=1, forced_eos_token_id=None, init_std=0.3)
    )  # fmt: skip


def t5():
    from transformers import T5Config, T5ForConditionalGeneration

    sizes = {**SIZES, "pad_token_id": 0, "eos_token_id": 1}
    return T5ForConditionalGeneration(
        T5Config(**sizes, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4, decoder_start_token_id=0)
    )


FAMILIES = {"decoder": decoder, "encoder-decoder": encoder_decoder, "t5": t5}


@pytest.fixture(scope="module", params=list(FAMILIES))
def pair(request, tmp_path_factory):
    """A network of transformers, and the same loaded by the engine."""
    with torch.random.fork_rng(), quiet():
        torch.manual_seed(0)
        network = FAMILIES[request.param]().eval()
        folder = tmp_path_factory.mktemp(request.param)
        network.save_pretrained(folder)
    return network, loaded(folder, network)


def loaded(folder: Path, network) -> TorchModel:
    head = Seq2SeqHead() if network.config.is_encoder_decoder else CausalHead()
    return TorchModel.load(folder, head, device="cpu", precision="float32")


def prompts() -> list[Feature]:
    rng = np.random.default_rng(0)
    return [Feature({"input_ids": rng.integers(3, 90, length).astype(np.int32)}) for length in LENGTHS]


def ids_of(model: TorchModel, features, options: GenerationOptions, **others) -> list[list[int]]:
    found: list[list[int]] = [[] for _ in features]
    for steps in model.generate(features, options, **others):
        for step in steps:
            if step.token is not None:
                found[step.index].append(step.token)
    return found


def reference(network, feature: Feature, **options) -> list[int]:
    ids = torch.tensor(feature.arrays["input_ids"])[None].long()
    with quiet():
        out = network.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=12, **options)
    found = out[0].tolist()[1 if network.config.is_encoder_decoder else ids.shape[1] :]
    end = network.config.eos_token_id
    return found[: found.index(end)] if end in found else found


@pytest.mark.parametrize("num_beams", [1, 3])
def test_a_padded_batch_writes_what_transformers_writes_alone(pair, num_beams):
    network, model = pair
    options = GenerationOptions(max_new_tokens=12, num_beams=num_beams)
    assert ids_of(model, prompts(), options) == [reference(network, one, num_beams=num_beams) for one in prompts()]


def test_drawing_is_a_function_of_the_seed(pair):
    _, model = pair
    first, again, other = (
        ids_of(model, prompts(), GenerationOptions(max_new_tokens=12, temperature=1.5, seed=seed)) for seed in (1, 1, 2)
    )
    assert first == again != other


def test_the_likeliest_token_alone_is_left_by_top_k_1_and_by_a_tiny_top_p(pair):
    _, model = pair
    greedy = ids_of(model, prompts(), GenerationOptions(max_new_tokens=6))
    for limits in ({"top_k": 1}, {"top_p": 1e-6}):
        assert ids_of(model, prompts(), GenerationOptions(max_new_tokens=6, temperature=1.0, **limits)) == greedy


def test_an_end_that_is_given_ends_a_text(pair):
    _, model = pair
    greedy = ids_of(model, prompts(), GenerationOptions(max_new_tokens=6))
    end = greedy[0][2]
    ended = ids_of(model, prompts(), GenerationOptions(max_new_tokens=6), end_ids=[end])
    assert ended == [ids[: ids.index(end)] if end in ids else ids for ids in greedy]


def test_stopped_ends_one_text_and_not_the_others(pair):
    _, model = pair
    greedy = ids_of(model, prompts(), GenerationOptions(max_new_tokens=6))
    found = ids_of(
        model, prompts(), GenerationOptions(max_new_tokens=6), stopped=lambda index, ids: index == 1 and len(ids) == 2
    )
    assert found == [ids[:2] if index == 1 else ids for index, ids in enumerate(greedy)]


def test_a_closed_iterator_computes_nothing_more_and_gives_the_network_back(pair):
    _, model = pair
    calls = []
    handle = model.network.register_forward_pre_hook(lambda *_: calls.append(1))
    before = model.network.config._attn_implementation
    steps = model.generate(prompts(), GenerationOptions(max_new_tokens=12))
    next(steps)
    steps.close()
    handle.remove()
    assert len(calls) == 1
    assert model.network.config._attn_implementation == before


def test_a_feature_may_lower_the_limit(pair):
    _, model = pair
    features = prompts()
    short = Feature(features[0].arrays, {"max_new_tokens": np.asarray([2], dtype=np.int32)})
    assert len(ids_of(model, [short, features[1]], GenerationOptions(max_new_tokens=6))[0]) <= 2


def test_a_decoder_writes_no_further_than_its_positions(tmp_path):
    with torch.random.fork_rng(), quiet():
        torch.manual_seed(0)
        network = decoder().eval()
        network.save_pretrained(tmp_path)
    long = Feature({"input_ids": np.arange(60, dtype=np.int32) % 80 + 3})
    (ids,) = ids_of(loaded(tmp_path, network), [long], GenerationOptions(max_new_tokens=50))
    assert len(ids) <= 4


def test_a_decoder_begins_with_the_prefix_that_is_forced(tmp_path):
    with torch.random.fork_rng(), quiet():
        torch.manual_seed(0)
        network = encoder_decoder().eval()
        network.save_pretrained(tmp_path)
    model = loaded(tmp_path, network)
    (plain,) = prompts()[:1]
    forced = Feature({**plain.arrays, "decoder_prefix": np.asarray([7], dtype=np.int32)})
    for num_beams in (1, 3):
        found = ids_of(model, [forced], GenerationOptions(max_new_tokens=5, num_beams=num_beams))[0]
        ids = torch.tensor(plain.arrays["input_ids"])[None].long()
        with quiet():
            expected = network.generate(
                ids, attention_mask=torch.ones_like(ids), decoder_input_ids=torch.tensor([[1, 7]]),
                do_sample=False, num_beams=num_beams, max_new_tokens=5,
            )  # fmt: skip
        assert found == [token for token in expected[0, 2:].tolist() if token != 0]
