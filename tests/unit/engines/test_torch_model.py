"""The torch engine's Model beyond the contract: what it loads, trains, says and writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from engines.tiny_networks import VOCABULARY, denominator_of, save_tiny, tiny_features
from luthier.data.features import Feature
from luthier.engines.engine import Choice, TrainingSetup
from luthier.engines.torch import ENGINE
from luthier.engines.torch.loading import quiet
from luthier.heads import CausalHead, Head, SequenceHead, SpanHead, TokenHead

HEAD = SequenceHead(3, labels=("sad", "neutral", "glad"))
LENGTHS = [5, 12, 5, 21, 11]


def load(folder: Path, head: Head = HEAD, *, inference: bool = False, **setup: Any) -> Any:
    return ENGINE.load(folder, head, device="cpu", precision="float32", setup=None if inference else TrainingSetup(**setup))


def step(model: Any, features: list[Feature], head: Head = HEAD, *, rate: float = 1e-2, clip: float | None = 1.0) -> None:
    model.accumulate([model.collate(features)], denominator_of(head, features))
    model.update(rate, clip)


def logits_of(model: Any, features: list[Feature]) -> list[np.ndarray]:
    return [output.logits for output in model.outputs(model.collate(features))]


@pytest.mark.parametrize("family", ["bert", "deberta-v2"])
@pytest.mark.parametrize(
    ("head", "auto"),
    [
        (HEAD, "AutoModelForSequenceClassification"),
        (TokenHead(3, labels=("O", "B-PER", "I-PER")), "AutoModelForTokenClassification"),
        (SpanHead(), "AutoModelForQuestionAnswering"),
    ],
)
def test_a_saved_model_gives_the_same_logits_in_plain_transformers(family: str, head: Head, auto: str, tmp_path: Path) -> None:
    features = tiny_features(head, LENGTHS)
    used = np.unique(np.concatenate([feature.arrays["input_ids"] for feature in features[:2]]))
    model = load(save_tiny(tmp_path / "base", family, head), head, used_ids=used)
    step(model, features[:2], head)
    model.save(tmp_path / "model")
    step(model, features[:2], head, rate=0.0)  # saving leaves it able to go on

    with quiet():
        network: Any = getattr(transformers, auto).from_pretrained(str(tmp_path / "model"))
    for output in model.outputs(model.collate(features)):
        with torch.no_grad():
            plain = network(torch.tensor(output.feature.arrays["input_ids"])[None].long())
        expected = torch.stack([plain.start_logits, plain.end_logits], 1) if isinstance(head, SpanHead) else plain.logits
        np.testing.assert_allclose(output.logits, expected[0].numpy(), atol=1e-5, rtol=1e-5)


def test_the_saved_config_names_labels_and_class_but_not_our_attention(tmp_path: Path) -> None:
    model = load(save_tiny(tmp_path / "base", "bert", TokenHead(3)))
    model.save(tmp_path / "model")
    text = (tmp_path / "model" / "config.json").read_text()
    assert "luthier" not in text
    config = transformers.AutoConfig.from_pretrained(str(tmp_path / "model"))
    assert config.architectures == ["BertForSequenceClassification"]
    assert config.id2label == {0: "sad", 1: "neutral", 2: "glad"}
    assert config.label2id == {"sad": 0, "neutral": 1, "glad": 2}
    assert str(config.dtype).removeprefix("torch.") == "float32"
    assert [entry.name for entry in (tmp_path / "model").glob("*.safetensors")] == ["model.safetensors"]


def test_only_the_rows_that_occur_are_trained_and_nothing_else_changes(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path, "roberta", HEAD)
    features = tiny_features(HEAD, LENGTHS)
    used = np.unique(np.concatenate([feature.arrays["input_ids"] for feature in features]))
    whole, reduced = load(folder), load(folder, used_ids=used)
    assert reduced.facts["trainable_parameters"] == whole.facts["trainable_parameters"] - 32 * (VOCABULARY - len(used) - 1)
    assert reduced.facts["parameters"] == whole.facts["parameters"]
    unseen = [Feature({"input_ids": np.arange(2, 40, dtype=np.int32)})]
    for _ in range(3):
        step(whole, features)
        step(reduced, features)
        for one, other in zip(logits_of(whole, features + unseen), logits_of(reduced, features + unseen), strict=True):
            np.testing.assert_allclose(one, other, atol=1e-5)


def test_updates_are_those_of_clipped_adamw(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path, "bert", HEAD)
    model = load(folder, weight_decay=0.1)
    with quiet():
        plain: Any = transformers.AutoModelForSequenceClassification.from_pretrained(str(folder))
    decaying = {name for name, p in plain.named_parameters() if p.dim() == 2 and "embeddings" not in name}
    assert "bert.pooler.dense.weight" in decaying
    groups = [
        {"params": [p for name, p in plain.named_parameters() if name in decaying], "weight_decay": 0.1},
        {"params": [p for name, p in plain.named_parameters() if name not in decaying], "weight_decay": 0.0},
    ]
    adamw = torch.optim.AdamW(groups, lr=1e-3)
    for seed in range(4):
        (feature,) = tiny_features(HEAD, [9], seed=seed)
        model.accumulate([model.collate([feature])], 1.0)
        norm = model.update(1e-3, 0.5).item()
        plain.eval()
        plain(
            torch.tensor(feature.arrays["input_ids"])[None].long(), labels=torch.tensor(feature.arrays["labels"]).long()
        ).loss.backward()
        expected = torch.nn.utils.clip_grad_norm_(plain.parameters(), 0.5).item()
        adamw.step()
        adamw.zero_grad()
        assert norm == pytest.approx(expected, rel=1e-4)
        assert norm > 0.5, "nothing was clipped, so the test shows nothing"
    ours = dict(model.network.named_parameters())
    for name, parameter in plain.named_parameters():
        if "key.bias" not in name:  # its gradient is zero but for rounding, and Adam scales that up
            torch.testing.assert_close(ours[name], parameter, atol=2e-5, rtol=1e-4)


def test_dropout_is_a_function_of_seed_and_step(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path, "bert", HEAD, dropout=0.3)
    features = tiny_features(HEAD, LENGTHS)

    def loss(seed: int, steps: int) -> float:
        model = load(folder, seed=seed)
        for _ in range(steps):
            step(model, features, rate=0.0)
        state = torch.get_rng_state()
        value = model.accumulate([model.collate(features)], 5.0).item()
        assert torch.equal(state, torch.get_rng_state()), "the global generator was touched"
        torch.rand(1)
        return value

    assert loss(0, 0) == loss(0, 0)
    assert len({loss(0, 0), loss(1, 0), loss(0, 1)}) == 3


def test_recomputed_activations_draw_the_same_dropout(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path, "bert", HEAD, dropout=0.3)
    features = tiny_features(HEAD, LENGTHS)
    norms = []
    for recompute in (False, True):
        model = load(folder, gradient_checkpointing=recompute)
        model.accumulate([model.collate(features)], 5.0)
        norms.append(model.update(0.0, None).item())
    assert norms[1] == pytest.approx(norms[0], rel=1e-5)


def test_a_saved_state_brings_the_weights_back(tmp_path: Path) -> None:
    features = tiny_features(HEAD, LENGTHS)
    model = load(save_tiny(tmp_path, "bert", HEAD), used_ids=np.arange(60))
    before = logits_of(model, features)
    model.save_state(tmp_path / "state")
    short = [f for f in tiny_features(HEAD, [4, 6]) if not f.arrays["input_ids"].__setitem__(slice(None), 7)]
    step(model, short)
    assert not np.array_equal(before, logits_of(model, features))
    model.load_state(tmp_path / "state")
    np.testing.assert_array_equal(before, logits_of(model, features))


def test_a_state_of_another_method_is_refused(tmp_path: Path) -> None:
    from luthier.errors import InputError

    folder = save_tiny(tmp_path / "base", "bert", HEAD)
    load(folder, method=Choice("head")).save_state(tmp_path / "state")
    with pytest.raises(InputError, match="another model or method"):
        load(folder).load_state(tmp_path / "state")


def trained_names(model: Any) -> set[str]:
    return {name for name, parameter in model.network.named_parameters() if parameter.requires_grad}


def test_the_head_method_trains_pooler_and_classifier_alone(tmp_path: Path) -> None:
    model = load(save_tiny(tmp_path, "bert", HEAD, dropout=0.5), method=Choice("head"))
    expected = {f"{part}.{kind}" for part in ("bert.pooler.dense", "classifier") for kind in ("weight", "bias")}
    assert trained_names(model) == expected
    assert "frozen" in model.facts
    features = tiny_features(HEAD, LENGTHS)
    before = {name: p.clone() for name, p in model.network.named_parameters()}
    step(model, features)
    changed = {name for name, p in model.network.named_parameters() if not torch.equal(p, before[name])}
    assert changed == expected
    assert not any(module.training for name, module in model.network.named_modules() if name.startswith("bert.encoder"))


@pytest.mark.parametrize("family", ["bert", "distilbert", "roberta"])
def test_freeze_keeps_embeddings_and_the_lowest_layers(family: str, tmp_path: Path) -> None:
    model = load(save_tiny(tmp_path, family, HEAD), method=Choice("freeze", {"layers": 1}))
    names = trained_names(model)
    assert names
    assert not any("embeddings" in name or ".layer.0." in name for name in names)
    assert any(".layer.1." in name for name in names)


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        (Choice("freeze"), "needs its option"),
        (Choice("freeze", {"layers": 9}), "this model has 2 layers"),
        (Choice("freeze", {"depth": 1}), r'no option "depth" \(it has: layers: int\)'),
        (Choice("frieze"), 'Did you mean "freeze"'),
    ],
)
def test_a_method_that_cannot_be_used_is_refused(choice: Choice, message: str, tmp_path: Path) -> None:
    from luthier.errors import InputError

    with pytest.raises(InputError, match=message):
        load(save_tiny(tmp_path, "bert", HEAD), method=choice)


def test_a_decoder_gives_the_logits_of_transformers(tmp_path: Path) -> None:
    head = CausalHead()
    model = load(save_tiny(tmp_path, "gpt2", head), head, inference=True)
    (output,) = model.outputs(model.collate(tiny_features(head, [7])))
    with quiet(), torch.no_grad():
        network: Any = transformers.AutoModelForCausalLM.from_pretrained(str(tmp_path))
        expected = network(torch.tensor(output.feature.arrays["input_ids"])[None].long()).logits[0]
    np.testing.assert_allclose(output.logits, expected.numpy(), atol=1e-5)


def test_vocabulary_logits_are_made_in_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from luthier.engines.torch import loss

    head, features = CausalHead(), tiny_features(CausalHead(), LENGTHS)
    folder = save_tiny(tmp_path, "gpt2", head)
    norms = []
    for size in (1 << 26, 4 * VOCABULARY * 5):
        monkeypatch.setattr(loss, "_CHUNK_BYTES", size)
        model = load(folder, head)
        seen: list[int] = []
        model.network.lm_head.register_forward_hook(lambda _, inputs, __, seen=seen: seen.append(len(inputs[0])))
        model.accumulate([model.collate(features)], 10.0)
        norms.append(model.update(0.0, None).item())
        assert max(seen) < sum(LENGTHS), "logits were made where there are no labels"
    assert max(seen) == 5
    assert norms[1] == pytest.approx(norms[0], rel=1e-5)


def test_facts_say_what_was_resolved(tmp_path: Path) -> None:
    facts = load(save_tiny(tmp_path, "bert", HEAD)).facts
    assert facts["device"] == "cpu"
    assert facts["precision"] == "float32"
    assert facts["batching"] == "packed"
    assert facts["parameters"] == facts["trainable_parameters"]
    assert facts["head"] == "from the checkpoint"


def test_bfloat16_keeps_float32_weights_and_gradients(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path, "bert", HEAD)
    features = tiny_features(HEAD, LENGTHS)
    model: Any = ENGINE.load(folder, HEAD, device="cpu", precision="bfloat16", setup=TrainingSetup())
    model.accumulate([model.collate(features)], 5.0)
    assert {p.dtype for p in model.network.parameters()} == {torch.float32}
    assert {p.grad.dtype for p in model.network.parameters()} == {torch.float32}
    near = zip(logits_of(model, features), logits_of(load(folder), features), strict=True)
    assert all(logits.dtype == np.float32 and 0 < np.abs(logits - exact).max() < 0.1 for logits, exact in near)


def test_the_micro_batch_shrinks_with_the_model_and_stays_within_bounds() -> None:
    from types import SimpleNamespace

    from luthier.engines.torch.memory import micro_tokens

    small = SimpleNamespace(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48)
    huge = SimpleNamespace(hidden_size=65536, num_hidden_layers=400, num_attention_heads=64, intermediate_size=262144)
    cpu = torch.device("cpu")
    assert micro_tokens(small, cpu, training=True) == 4096
    assert micro_tokens(huge, cpu, training=True) == 512
