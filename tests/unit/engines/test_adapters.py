"""Adapters on the torch engine: what is trained, what is written, who else can read it, and what is refused."""

from __future__ import annotations

import functools
import inspect
import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from engines.tiny_networks import denominator_of, save_tiny, tiny_features, tiny_pairs
from luthier.config import option_problems
from luthier.data.features import Feature
from luthier.engines.engine import Choice, TrainingSetup
from luthier.engines.torch import ENGINE, adapters
from luthier.engines.torch.loading import quiet
from luthier.errors import InputError, SecurityError
from luthier.generation import GenerationOptions
from luthier.heads import CausalHead, Head, Seq2SeqHead, SequenceHead, SpanHead, TokenHead
from luthier.model_source import model_config, model_limit, resolve_model

HEAD = SequenceHead(3, labels=("sad", "neutral", "glad"))
CAUSAL = CausalHead()
LENGTHS = [9, 3, 14, 5]
OPTIONS: dict[str, dict[str, Any]] = {"prompt": {"num_tokens": 3}, "prefix": {"num_tokens": 3}}
AUTO = {
    SequenceHead: "AutoModelForSequenceClassification",
    TokenHead: "AutoModelForTokenClassification",
    SpanHead: "AutoModelForQuestionAnswering",
    CausalHead: "AutoModelForCausalLM",
    Seq2SeqHead: "AutoModelForSeq2SeqLM",
}


def load(folder: Path, head: Head, name: str | None = None, *, precision: str = "float32", **options: Any) -> Any:
    method = Choice(name, {**OPTIONS.get(name, {}), **options}) if name else None
    setup = TrainingSetup(method=method, seed=7) if method else None
    return ENGINE.load(folder, head, device="cpu", precision=precision, setup=setup)


def features_for(head: Head) -> list[Feature]:
    if isinstance(head, Seq2SeqHead):
        return tiny_pairs([(9, 4), (3, 7), (14, 5)])
    return tiny_features(head, LENGTHS)


def train(model: Any, head: Head, *, steps: int = 3, rate: float = 1e-2) -> None:
    features = features_for(head)
    for _ in range(steps):
        model.accumulate([model.collate(features)], denominator_of(head, features))
        model.update(rate, 1.0)


def logits_of(model: Any, features: list[Feature]) -> list[np.ndarray]:
    return [output.logits for output in model.outputs(model.collate(features))]


def trained(folder: Path, head: Head, name: str, **options: Any) -> Any:
    model = load(folder, head, name, **options)
    train(model, head)
    return model


# What is trained.


@pytest.mark.parametrize(
    ("family", "head", "names"),
    [
        ("bert", HEAD, {"query", "key", "value", "intermediate.dense", "output.dense"}),
        ("llama", CAUSAL, {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}),
        ("gpt2", CAUSAL, {"c_attn", "c_proj", "c_fc"}),
        ("t5", Seq2SeqHead(), {"q", "k", "v", "o", "wi", "wo"}),
        ("marian", Seq2SeqHead(), {"q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"}),
    ],
)
def test_auto_targets_are_the_linear_layers_of_the_blocks(family: str, head: Head, names: set[str], tmp_path: Path) -> None:
    model = load(save_tiny(tmp_path, family, head), head, "lora", rank=2)
    fact = model.facts["adapter"]
    layers = 4 if isinstance(head, Seq2SeqHead) else 2
    assert fact == f"lora on {', '.join(sorted(names))} ({layers} layers)"
    adapted = {name for name, module in model.network.named_modules() if hasattr(module, "lora_A") and module.lora_A}
    linear = (torch.nn.Linear, transformers.pytorch_utils.Conv1D)
    plain = getattr(transformers, AUTO[type(head)]).from_config(model.network.config)
    blocks = ("layer.", "layers.", ".h.", "block.")
    expected = {
        name for name, module in plain.named_modules() if isinstance(module, linear) and any(part in name for part in blocks)
    }
    assert adapted == expected


def test_named_targets_are_taken_and_unknown_ones_refused(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path, "llama", CAUSAL)
    model = load(folder, CAUSAL, "lora", targets=["q_proj", "mlp.up_proj"])
    assert model.facts["adapter"] == "lora on mlp.up_proj, q_proj (2 layers)"
    for name in ("qproj", "lm_head", "embed_tokens"):
        with pytest.raises(InputError, match=f'no linear layer of a block is called "{name}"'):
            load(folder, CAUSAL, "lora", targets=[name])


def test_the_frozen_base_does_not_move_and_a_new_head_is_trained_in_full(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path, "bert", HEAD)
    model = load(folder, HEAD, "lora")
    before = {name: value.clone() for name, value in model.network.state_dict().items()}
    train(model, HEAD)
    after = model.network.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert all(".lora_" in name or ".modules_to_save." in name for name in moved)
    assert {"classifier.modules_to_save.default.weight", "classifier.modules_to_save.default.bias"} <= moved
    assert any(".pooler." in name for name in moved), "a pooler stands after the encoder: it is trained with the head"


def test_parameters_are_those_of_base_and_adapter(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path, "llama", CAUSAL)
    whole, model = load(folder, CAUSAL, "full"), load(folder, CAUSAL, "lora", rank=2, targets=["q_proj"])
    pairs = 2 * (2 * 32 + 32 * 2)  # in two layers: rank by input, output by rank
    assert model.facts["trainable_parameters"] == pairs
    assert model.facts["parameters"] == whole.facts["parameters"] + pairs
    head = load(save_tiny(tmp_path / "bert", "bert", TokenHead(3)), TokenHead(3), "ia3")
    plain = load(tmp_path / "bert", TokenHead(3), "full")
    factors = 2 * (32 + 32 + 48)  # keys, values, inner width
    assert head.facts["parameters"] == plain.facts["parameters"] + factors, "the replaced head is counted twice"
    assert head.facts["trainable_parameters"] == factors + 3 * 32 + 3


def test_a_fresh_adapter_changes_nothing_and_depends_on_the_seed_alone(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path, "llama", CAUSAL)
    features = features_for(CAUSAL)
    base = logits_of(load(folder, CAUSAL), features)
    state = torch.get_rng_state()
    first, second = load(folder, CAUSAL, "lora"), load(folder, CAUSAL, "lora")
    assert torch.equal(state, torch.get_rng_state()), "the global generator was touched"
    for one, other in zip(base, logits_of(first, features), strict=True):
        np.testing.assert_array_equal(one, other)
    train(first, CAUSAL)
    train(second, CAUSAL)
    for one, other in zip(logits_of(first, features), logits_of(second, features), strict=True):
        np.testing.assert_array_equal(one, other)


def test_dropout_of_lora_is_a_function_of_the_step(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path, "llama", CAUSAL)
    features = features_for(CAUSAL)

    def losses(dropout: float) -> list[float]:
        model = trained(folder, CAUSAL, "lora", dropout=dropout)
        return [model.accumulate([model.collate(features)], 1.0).item() for _ in range(2)]

    dropped, plain = losses(0.5), losses(0.0)
    assert dropped[0] == dropped[1] == losses(0.5)[0]
    assert dropped[0] != plain[0]


def test_rslora_divides_by_the_root_of_the_rank(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path, "llama", CAUSAL)

    def scaling(name: str, **options: Any) -> float:
        model = load(folder, CAUSAL, name, **options)
        return float(next(module.scaling["default"] for module in model.network.modules() if hasattr(module, "lora_A")))

    assert scaling("lora", rank=4) == 2.0
    assert scaling("lora", rank=4, alpha=2) == 0.5
    assert scaling("rslora", rank=4, alpha=8) == 4.0


@pytest.mark.parametrize(("option", "value"), [("rank", 0), ("dropout", 1.0), ("dropout", -0.1), ("targets", [])])
def test_bad_options_are_refused(option: str, value: Any, tmp_path: Path) -> None:
    folder = save_tiny(tmp_path, "llama", CAUSAL)
    with pytest.raises(InputError, match=f"method.{option}"):
        load(folder, CAUSAL, "lora", **{option: value})


def test_the_signature_of_a_method_is_the_schema_of_its_options() -> None:
    methods = ENGINE.methods()
    good = {"rank": 4, "alpha": 8, "targets": ["q_proj"], "base_bits": 4}
    assert option_problems(methods["lora"], good, path="method") == ({**good, "alpha": 8.0}, [])
    for bad in ({"base_bits": 3}, {"targets": "q_proj"}, {"rank": "many"}, {"ranks": 4}):
        _, problems = option_problems(methods["lora"], bad, path="method")
        assert problems
        assert all(problem.startswith(f"method.{next(iter(bad))}") for problem in problems)
    assert not option_problems(methods["prefix"], {"num_tokens": 5}, path="method")[1]
    assert set(inspect.signature(methods["dora"]).parameters) == set(inspect.signature(methods["lora"]).parameters)


@pytest.mark.parametrize("layers", [0, 1, 2, 3])
def test_freeze_counts_through_encoder_and_decoder(layers: int, tmp_path: Path) -> None:
    head = Seq2SeqHead()
    model = load(save_tiny(tmp_path, "bart", head), head, "freeze", layers=layers)
    body = model.network.model
    stack = [*body.encoder.layers, *body.decoder.layers]
    states = [{p.requires_grad for p in layer.parameters()} for layer in stack]
    assert states == [{False}] * layers + [{True}] * (4 - layers)
    assert not any(p.requires_grad for name, p in model.network.named_parameters() if "embed" in name)


def test_freeze_knows_the_number_of_layers(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has 2 layers"):
        load(save_tiny(tmp_path, "llama", CAUSAL), CAUSAL, "freeze", layers=3)
    with pytest.raises(InputError, match="nothing to train"):
        load(save_tiny(tmp_path / "bart", "bart", Seq2SeqHead()), Seq2SeqHead(), "freeze", layers=4)


# What is written.


def test_the_folder_holds_an_adapter_in_float32_and_no_base(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "base", "bert", HEAD)
    trained(folder, HEAD, "lora").save(tmp_path / "out")
    assert {entry.name for entry in (tmp_path / "out").iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
        "base_config.json",
    }
    values = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert values["base_model_name_or_path"] == str(folder.resolve())
    assert {value.dtype for value in load_file(tmp_path / "out" / "adapter_model.safetensors").values()} == {torch.float32}
    source = resolve_model(str(tmp_path / "out"))
    assert source.folder == tmp_path / "out"
    assert model_limit(source.folder) == 80
    assert model_config(source.folder)["id2label"] == {"0": "sad", "1": "neutral", "2": "glad"}
    (tmp_path / "run").mkdir()
    shutil.copytree(tmp_path / "out", tmp_path / "run" / "model")
    assert resolve_model(str(tmp_path / "run")).folder == tmp_path / "run" / "model"


WRITTEN = [
    ("llama", CAUSAL, "lora"),
    ("llama", CAUSAL, "dora"),
    ("gpt2", CAUSAL, "ia3"),
    ("bert", HEAD, "lora"),
    ("bert", HEAD, "dora"),
    ("roberta", TokenHead(3), "rslora"),
    ("electra", SpanHead(), "ia3"),
    ("bart", Seq2SeqHead(), "lora"),
]


@pytest.mark.parametrize(("family", "head", "name"), WRITTEN)
def test_plain_transformers_loads_base_and_adapter(family: str, head: Head, name: str, tmp_path: Path) -> None:
    model = trained(save_tiny(tmp_path / "base", family, head), head, name)
    model.save(tmp_path / "out")
    options = {} if isinstance(head, CausalHead | Seq2SeqHead) else {"config": base_config(tmp_path / "out")}
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network = getattr(transformers, AUTO[type(head)]).from_pretrained(str(tmp_path / "out"), **options)
    same_as_alone(model, network, head)


def base_config(folder: Path) -> Any:
    return transformers.AutoConfig.from_pretrained(str(folder / "base_config.json"))


def same_as_alone(model: Any, network: Any, head: Head, *, cut: int = 0) -> None:
    """Hold a model's outputs against those of a network that is given one sequence at a time."""
    network.eval()
    features = features_for(head)
    for feature, ours in zip(features, logits_of(model, features), strict=True):
        given = {"input_ids": torch.tensor(feature.arrays["input_ids"])[None].long()}
        given["attention_mask"] = torch.ones_like(given["input_ids"])
        if isinstance(head, Seq2SeqHead):
            start = network.config.decoder_start_token_id
            given["decoder_input_ids"] = torch.tensor([[start, *feature.arrays["labels"][:-1]]]).long()
        with torch.no_grad():
            output = network(**given)
        spans = isinstance(head, SpanHead)
        theirs = (torch.stack([output.start_logits, output.end_logits], dim=-1) if spans else output.logits)[0][cut:]
        np.testing.assert_allclose(ours, (theirs.T if spans else theirs).numpy(), atol=1e-4)


def take_past_key_values(network: Any) -> None:
    """Let peft, which is the oracle here, call a model by the name that transformers gave up for ``cache`` in 5.24."""
    forward = network.forward

    @functools.wraps(forward)
    def renamed(*args: Any, past_key_values: Any = None, **kwargs: Any) -> Any:
        return forward(*args, **kwargs) if past_key_values is None else forward(*args, cache=past_key_values, **kwargs)

    own = inspect.signature(forward)
    added = inspect.Parameter("past_key_values", inspect.Parameter.KEYWORD_ONLY, default=None)
    named = [parameter for parameter in own.parameters.values() if parameter.kind is not inspect.Parameter.VAR_KEYWORD]
    renamed.__signature__ = own.replace(parameters=[*named, added])  # type: ignore[attr-defined]
    network.forward = renamed


VIRTUAL = [
    ("llama", CAUSAL, "prompt"),
    ("qwen3", CAUSAL, "prefix"),
    ("gemma3_text", CAUSAL, "prefix"),
    ("mistral", CAUSAL, "prompt"),
    ("gpt2", SequenceHead(3), "prompt"),
    ("bert", HEAD, "prompt"),
    ("bert", HEAD, "prefix"),
    ("roberta", HEAD, "prompt"),
    ("roberta", TokenHead(3), "prompt"),
    ("roberta", TokenHead(3), "prefix"),
    ("electra", SpanHead(), "prompt"),
    ("electra", SpanHead(), "prefix"),
    ("distilbert", TokenHead(3), "prompt"),
    ("bart", Seq2SeqHead(), "prompt"),
    ("bart", Seq2SeqHead(), "prefix"),
    ("t5", Seq2SeqHead(), "prompt"),
    ("t5", Seq2SeqHead(), "prefix"),
]


@pytest.mark.parametrize(("family", "head", "name"), VIRTUAL)
def test_virtual_tokens_give_what_peft_gives(family: str, head: Head, name: str, tmp_path: Path) -> None:
    model = trained(save_tiny(tmp_path / "base", family, head), head, name)
    assert model.facts["batching"] == "length buckets (with virtual tokens)"
    model.save(tmp_path / "out")
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        kind = getattr(transformers, AUTO[type(head)])
        base = kind.from_pretrained(str(tmp_path / "base"), config=base_config(tmp_path / "out"))
        take_past_key_values(base)
        network = peft.PeftModel.from_pretrained(base, str(tmp_path / "out"))
    shown = name == "prompt" and isinstance(head, TokenHead | SpanHead | CausalHead)
    same_as_alone(model, network, head, cut=3 if shown else 0)


@pytest.mark.parametrize("name", ["lora", "dora", "ia3", "prompt", "prefix"])
def test_a_saved_state_goes_on_to_the_same_bits(name: str, tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "base", "bert", HEAD, dropout=0.1)
    whole, first, second = (load(folder, HEAD, name) for _ in range(3))
    train(whole, HEAD, steps=4)
    train(first, HEAD, steps=2)
    first.save_state(tmp_path / "state")
    saved = load_file(tmp_path / "state" / "state.safetensors")
    weights = sum(value.numel() for key, value in saved.items() if key.startswith("weight:"))
    assert weights == whole.facts["trainable_parameters"], "more or less than what is trained was saved"
    second.load_state(tmp_path / "state")
    train(second, HEAD, steps=2)
    features = features_for(HEAD)
    for one, other in zip(logits_of(whole, features), logits_of(second, features), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", ["lora", "dora", "ia3", "prompt", "prefix"])
def test_an_adapter_that_changes_nothing_is_an_error(name: str, tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "base", "bert", HEAD)
    model = load(folder, HEAD, name)
    train(model, HEAD, rate=0.0)
    with pytest.raises(InputError, match="changes nothing"):
        model.save(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_trained_head_does_not_hide_an_adapter_that_changes_nothing(tmp_path: Path) -> None:
    model = load(save_tiny(tmp_path / "base", "bert", HEAD), HEAD, "lora")
    for name, parameter in model.network.named_parameters():
        if ".lora_A." in name or "modules_to_save" in name:
            parameter.data += 1.0
    with pytest.raises(InputError, match="changes nothing"):
        model.save(tmp_path / "out")


# What is read.


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    model = trained(save_tiny(tmp_path / "base", "bert", HEAD), HEAD, "lora")
    model.save(tmp_path / "out")
    return tmp_path / "out"


def test_a_missing_base_is_named(saved: Path) -> None:
    base = saved.parent / "base"
    base.rename(saved.parent / "elsewhere")
    with pytest.raises(InputError, match=r"base model is missing.*base"):
        load(saved, HEAD)


def test_labels_other_than_those_it_was_trained_with_are_refused(saved: Path) -> None:
    with pytest.raises(InputError, match="another one than this task's"):
        load(saved, SequenceHead(3, labels=("a", "b", "c")))
    with pytest.raises(InputError):
        load(saved, SequenceHead(4))


@pytest.mark.parametrize("damage", ["not finite", "missing", "unused", "resized", "cut"])
def test_every_tensor_is_checked(saved: Path, damage: str) -> None:
    path = saved / "adapter_model.safetensors"
    tensors = load_file(path)
    name = sorted(tensors)[0]
    if damage == "not finite":
        tensors[name][0, 0] = torch.nan
    elif damage == "missing":
        del tensors[name]
    elif damage == "unused":
        tensors["base_model.model.other.lora_A.weight"] = tensors[name].clone()
    elif damage == "resized":
        tensors[name] = tensors[name][:1].clone()
    save_file(tensors, path)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(InputError, match=r"finite|missing, unused or of another size|cannot be read"):
        load(saved, HEAD)


def test_a_pickle_and_an_unknown_kind_are_refused(saved: Path) -> None:
    (saved / "adapter_model.safetensors").rename(saved / "adapter_model.bin")
    with pytest.raises(SecurityError, match="pickle"):
        load(saved, HEAD)
    values = json.loads((saved / "adapter_config.json").read_text())
    (saved / "adapter_config.json").write_text(json.dumps({**values, "peft_type": "ADALORA"}))
    with pytest.raises(InputError, match="ADALORA"):
        load(saved, HEAD)


def test_training_on_top_of_an_adapter_asks_for_a_merge(saved: Path) -> None:
    with pytest.raises(InputError, match="Merge it first"):
        load(saved, HEAD, "lora")


def test_a_head_that_the_base_lacks_comes_with_the_adapter(tmp_path: Path) -> None:
    with quiet():
        config = transformers.AutoConfig.for_model(
            "distilbert", vocab_size=120, dim=32, n_layers=2, n_heads=4, hidden_dim=48, max_position_embeddings=80
        )
        transformers.AutoModel.from_config(config).save_pretrained(str(tmp_path / "base"))
    model = trained(tmp_path / "base", HEAD, "lora")
    assert model.facts["head"] == "new"
    model.save(tmp_path / "out")
    again = load(tmp_path / "out", HEAD)
    assert again.facts["head"] == "from the checkpoint"
    features = features_for(HEAD)
    for one, other in zip(logits_of(model, features), logits_of(again, features), strict=True):
        np.testing.assert_array_equal(one, other)


def test_loading_training_saving_and_merging_write_nothing_to_the_terminal(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ("lora", "ia3", "prefix"):
        model = trained(save_tiny(tmp_path / name, "gpt2", CAUSAL), CAUSAL, name)
        model.save(tmp_path / f"{name}-out")
        again = load(tmp_path / f"{name}-out", CAUSAL)
        if name != "prefix":
            again.save_whole(tmp_path / f"{name}-whole")
    assert capfd.readouterr() == ("", "")


# Virtual tokens in use.


@pytest.mark.parametrize("name", ["prompt", "prefix"])
@pytest.mark.parametrize("family", ["gpt2", "llama", "mistral"])
def test_writing_after_virtual_tokens_is_the_likeliest_next_token(family: str, name: str, tmp_path: Path) -> None:
    model = trained(save_tiny(tmp_path, family, CAUSAL), CAUSAL, name)
    prompts = [Feature({"input_ids": feature.arrays["input_ids"]}) for feature in features_for(CAUSAL)]
    written: dict[int, list[int]] = {}
    for steps in model.generate(prompts, GenerationOptions(max_new_tokens=5)):
        for step in steps:
            if step.token is not None:
                written.setdefault(step.index, []).append(step.token)
    assert len(written) == len(prompts)
    for index, prompt in enumerate(prompts):
        ids = prompt.arrays["input_ids"].tolist()
        for token in written[index]:
            (logits,) = logits_of(model, [Feature({"input_ids": np.asarray(ids, dtype=np.int32)})])
            assert token == int(logits[-1].argmax())
            ids.append(token)


@pytest.mark.parametrize(("family", "limit"), [("bert", 70), ("roberta", 68)])
def test_texts_that_leave_no_positions_to_virtual_tokens_are_refused(family: str, limit: int, tmp_path: Path) -> None:
    folder = save_tiny(tmp_path, family, HEAD)
    model = load(folder, HEAD, "prompt", num_tokens=10)
    fits, long = tiny_features(HEAD, [limit, limit + 1])
    model.outputs(model.collate([fits]))
    with pytest.raises(InputError, match=f"Set max_tokens of the task to {limit} or less"):
        model.collate([long])
    with pytest.raises(InputError, match=r"do not fit into the model's [78]. positions"):
        load(folder, HEAD, "prefix", num_tokens=80)


def test_gradient_checkpointing_works_with_lora_and_is_refused_with_virtual_tokens(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path, "llama", CAUSAL)
    features = features_for(CAUSAL)
    norms = []
    for recompute in (False, True):
        setup = TrainingSetup(method=Choice("lora", {"dropout": 0.2}), gradient_checkpointing=recompute)
        model = ENGINE.load(folder, CAUSAL, device="cpu", precision="float32", setup=setup)
        model.accumulate([model.collate(features)], 1.0)
        norms.append(model.update(1e-2, None).item())
    assert norms[0] == pytest.approx(norms[1], rel=1e-5)
    setup = TrainingSetup(method=Choice("prefix", {"num_tokens": 3}), gradient_checkpointing=True)
    with pytest.raises(InputError, match='the method "prefix" cannot do that'):
        ENGINE.load(folder, CAUSAL, device="cpu", precision="float32", setup=setup)


# Frozen weights in bfloat16.


@pytest.mark.parametrize(("family", "head"), [("llama", CAUSAL), ("gpt2", CAUSAL), ("bert", HEAD), ("t5", Seq2SeqHead())])
@pytest.mark.parametrize("name", ["lora", "ia3", "prefix"])
def test_frozen_products_stored_in_bfloat16_give_the_same_bits(
    family: str, head: Head, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save_tiny(tmp_path, family, head)
    stored = trained(folder, head, name, precision="bfloat16")
    halves = [p for p in stored.network.parameters() if p.dtype == torch.bfloat16]
    assert halves
    assert not any(p.requires_grad for p in halves)
    monkeypatch.setattr(adapters, "store_products_in_bfloat16", lambda network: None)
    plain = trained(folder, head, name, precision="bfloat16")
    assert not any(p.dtype == torch.bfloat16 for p in plain.network.parameters())
    for one, other in zip(logits_of(stored, features_for(head)), logits_of(plain, features_for(head)), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_model_merged_from_bfloat16_has_the_base_in_full(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "base", "llama", CAUSAL)
    model = trained(folder, CAUSAL, "lora", precision="bfloat16", targets=["q_proj"])
    model.save_whole(tmp_path / "whole")
    base, whole = load_file(folder / "model.safetensors"), load_file(tmp_path / "whole" / "model.safetensors")
    assert base.keys() == whole.keys()
    for name, value in base.items():
        assert torch.equal(value, whole[name]) == ("q_proj" not in name), name
