"""The engines tensorflow and jax against torch: each in a process of its own, since Keras takes one back end a process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from luthier.errors import InputError

TESTS = Path(__file__).parents[1]
LIKE_TORCH_FIRST = 1e-4
LIKE_TORCH_LAST = 1e-3


def run_alone(engine: str, *arguments: str, cache: Path) -> subprocess.CompletedProcess[str]:
    """Run Python on a process of its own; XLA compiles quickly rather than well, and the same thing only once."""
    surroundings = {
        **os.environ,
        "PYTHONPATH": str(TESTS),
        "LUTHIER_KERAS_ENGINE": engine,
        "XLA_FLAGS": "--xla_backend_optimization_level=0",
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, env=surroundings, check=False)


@pytest.fixture(scope="module", params=["tensorflow", "jax"])
def engine(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    missing = [package for package in (name, "keras", "keras_hub") if find_spec(package) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    return name


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("compiled")


@pytest.fixture(scope="module")
def found(engine: str, compiled: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return what tests/engines/keras_checks.py measures."""
    output = tmp_path_factory.mktemp(engine) / "found.json"
    done = run_alone(engine, str(TESTS / "engines" / "keras_checks.py"), engine, str(output), cache=compiled)
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(output.read_text(encoding="utf-8"))


def test_the_contract_of_engines_holds(engine: str, compiled: Path):
    # The objectives are compared below; here it is the loop's side that counts, for which one of them will do.
    chosen = f"{engine} and not (classes or weighted or labels or value or spans)"
    suite = str(TESTS / "contracts" / "test_engine_contract.py")
    done = run_alone(engine, "-m", "pytest", "-p", "no:cacheprovider", "-k", chosen, suite, cache=compiled)
    assert done.returncode == 0, done.stdout[-4000:]
    assert "passed" in done.stdout
    assert "skipped" not in done.stdout


def test_training_goes_as_under_torch(found: Any):
    for case, result in found["training"].items():
        assert result["logits"] < LIKE_TORCH_FIRST, case
        assert result["first"] < LIKE_TORCH_FIRST, case
        assert result["last"] < LIKE_TORCH_LAST, case


def test_the_script_of_a_run_makes_its_steps_in_pytorch(compiled: Path, tmp_path: Path):
    done = run_alone(
        "tensorflow", str(TESTS / "engines" / "keras_script_checks.py"), "tensorflow", str(tmp_path), cache=compiled
    )
    assert done.returncode == 0, done.stderr[-4000:]


def test_scores_are_those_of_torch_under_every_objective(found: Any):
    for case, result in found["scores"].items():
        assert result["losses"] < LIKE_TORCH_FIRST, case
        assert result["logits"] < LIKE_TORCH_FIRST, case
        assert result["saved"] == 0, case


def test_what_was_saved_predicts_the_same_under_plain_transformers(found: Any):
    for case, result in found["training"].items():
        assert result["reloaded"] < LIKE_TORCH_FIRST, case
        assert result["same_predictions"], case
        assert {"config.json", "model.safetensors"} <= set(result["files"]), case


def test_bodies_saved_without_a_head_are_read_and_written_back_to_the_bit(found: Any):
    assert found["bodies"] == {"bert": True, "roberta": True, "distilbert": True}


def test_each_method_moves_what_it_says_and_nothing_else(found: Any):
    for method, result in found["methods"].items():
        assert result["unchanged_at_first"] < LIKE_TORCH_FIRST, method
        assert result["reloaded"] < LIKE_TORCH_FIRST, method
    moved = {method: result["moved"] for method, result in found["methods"].items()}
    assert moved["head"] == ["classifier.bias", "classifier.weight"]
    assert not [name for name in moved["freeze"] if "embeddings" in name or ".layer.0." in name]
    assert [name for name in moved["freeze"] if ".layer.1." in name]
    products = [name for name in moved["lora"] if not name.startswith("classifier.")]
    assert len(products) == 2 * 6  # queries, keys, values, their result, and the two of feed-forward
    assert all(name.endswith(".weight") and "LayerNorm" not in name for name in products)


def test_dropout_is_a_function_of_the_step(found: Any):
    one, again = found["dropout"]["same_step"]
    assert one == again
    assert len({one, found["dropout"]["next_step"], found["dropout"]["none"]}) == 3


def test_text_is_written_with_these_weights(found: Any):
    assert found["writing"]["here"] == found["writing"]["torch"]
    assert len(found["writing"]["here"]) == 6


def test_what_cannot_be_is_refused_in_a_sentence_that_says_what_can(found: Any):
    said = found["refusals"]
    assert "one back end a process" in said["other_engine"]
    for kind in ("electra", "t5"):
        assert f'no models of the kind "{kind}"' in said[kind]
        assert "engine=torch" in said[kind]
    assert "scale_attn_by_inverse_layer_idx: True" in said["config"]
    assert "float32 only" in said["precision"]
    assert "no trained head for this task" in said["no_head"]
    assert 'no option "dropout"' in said["option"]
    assert "no config.json" in said["empty"]
    assert all("\n" not in sentence for sentence in said.values())


@pytest.mark.parametrize("name", ["tensorflow", "jax"])
def test_without_its_packages_an_engine_says_what_to_install(name: str, monkeypatch: pytest.MonkeyPatch):
    from luthier.engines import ENGINES

    monkeypatch.setattr("luthier.engines.keras.find_spec", lambda package: None)
    with pytest.raises(InputError, match=rf'pip install "luthier\[{name}\]"') as refused:
        ENGINES.get(name).methods()
    assert "\n" not in str(refused.value)
