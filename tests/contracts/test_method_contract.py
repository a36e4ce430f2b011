"""Every tuning method on every family and head of the table: it does what the table says, or refuses in a sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engines.tiny_networks import denominator_of, save_tiny, tiny_features, tiny_pairs
from luthier.data.features import Feature
from luthier.engines.engine import Choice, TrainingSetup
from luthier.engines.torch import ENGINE
from luthier.engines.torch.support import MERGED, SUPPORTED, rows
from luthier.errors import InputError
from luthier.heads import CausalHead, Head, Seq2SeqHead, SequenceHead, SpanHead, TokenHead

HEADS: dict[type[Head], Head] = {
    SequenceHead: SequenceHead(3),
    TokenHead: TokenHead(3),
    SpanHead: SpanHead(),
    CausalHead: CausalHead(),
    Seq2SeqHead: Seq2SeqHead(),
}
CASES = [(family, head, method) for family, heads in SUPPORTED.items() for head in heads for method in ENGINE.methods()]
OPTIONS = {"freeze": {"layers": 1}, "prompt": {"num_tokens": 3}, "prefix": {"num_tokens": 3}}
RATES = {"ia3": 3e-2, "prompt": 1e-1, "prefix": 1e-1}


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return a function that gives a family's folder, written once."""
    root = tmp_path_factory.mktemp("bases")

    def base(family: str, head: Head) -> Path:
        folder = root / f"{family}-{type(head).__name__}"
        return folder if folder.exists() else save_tiny(folder, family, head)

    return base


def features_for(head: Head) -> list[Feature]:
    if isinstance(head, Seq2SeqHead):
        return tiny_pairs([(9, 4), (3, 7), (14, 5), (5, 3)])
    return tiny_features(head, [9, 3, 14, 5])


def load(folder: Path, head: Head, method: str | None = None) -> Any:
    setup = TrainingSetup(method=Choice(method, OPTIONS.get(method, {}))) if method else None
    return ENGINE.load(folder, head, device="cpu", precision="float32", setup=setup)


def one_sentence(error: InputError) -> bool:
    return "\n" not in str(error) and str(error).count(". ") <= 1 and len(str(error)) < 250


def case_id(case: tuple[str, type[Head], str]) -> str:
    return f"{case[0]}-{case[1].__name__}-{case[2]}"


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_the_table_is_exactly_what_works(case: tuple[str, type[Head], str], bases: Any, tmp_path: Path) -> None:
    family, kind, method = case
    head = HEADS[kind]
    base = bases(family, head)
    if method not in SUPPORTED[family][kind]:
        with pytest.raises(InputError) as refused:
            load(base, head, method)
        assert one_sentence(refused.value)
        return
    model, features = load(base, head, method), features_for(head)
    assert 0 < model.facts["trainable_parameters"] <= model.facts["parameters"]
    before = model.losses(model.collate(features))[0].sum()
    train(model, head, features, rate=RATES.get(method, 1e-2))
    assert model.losses(model.collate(features))[0].sum() < 0.999 * before

    model.save(tmp_path / "saved")
    again = load(tmp_path / "saved", head)
    for one, other in zip(logits_of(model, features), logits_of(again, features), strict=True):
        np.testing.assert_array_equal(one, other)
    if method in ("prompt", "prefix"):
        with pytest.raises(InputError, match="cannot be merged") as refused:
            again.save_whole(tmp_path / "whole")
        assert one_sentence(refused.value)
        return
    again.save_whole(tmp_path / "whole")
    assert not (tmp_path / "whole" / "adapter_config.json").exists()
    for one, other in zip(logits_of(model, features), logits_of(load(tmp_path / "whole", head), features), strict=True):
        np.testing.assert_allclose(one, other, atol=2e-5 * max(1.0, np.abs(one).max()))


def train(model: Any, head: Head, features: list[Feature], *, rate: float) -> None:
    for _ in range(6):
        model.accumulate([model.collate(features[:1]), model.collate(features[1:])], denominator_of(head, features))
        model.update(rate, 1.0)


def logits_of(model: Any, features: list[Feature]) -> list[np.ndarray]:
    return [output.logits for output in model.outputs(model.collate(features))]


def test_the_printed_table_names_known_methods_alone() -> None:
    printed = list(rows())
    assert len(printed) == sum(len(heads) for heads in SUPPORTED.values())
    for family, head, methods in printed:
        assert set(methods) <= set(ENGINE.methods())
        assert set(MERGED) <= set(methods), f"{family} under {head} lacks an adapter that every family has"
