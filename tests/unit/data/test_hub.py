"""Data sets and models of the hub, from local folders: the same code paths without a network."""

from pathlib import Path

import pytest

from luthier.data.sources import open_source
from luthier.errors import InputError
from luthier.model_source import resolve_model
from tiny_tokenizer import write_model

datasets = pytest.importorskip("datasets")


def test_a_hub_data_set_gives_rows_with_the_names_of_its_classes(tmp_path: Path):
    features = datasets.Features({
        "text": datasets.Value("string"),
        "label": datasets.ClassLabel(names=["bad", "good"]),
        "tags": datasets.Sequence(datasets.ClassLabel(names=["O", "B-PER"])),
    })  # fmt: skip
    rows = {"text": ["a", "b"], "label": [1, 0], "tags": [[0, 1], []]}
    (tmp_path / "set" / "data").mkdir(parents=True)
    datasets.Dataset.from_dict(rows, features=features).to_parquet(tmp_path / "set" / "data" / "test-00000.parquet")
    source = open_source(f"hf:{tmp_path / 'set'}:test")
    found = [dict(row) for row in source.rows()]
    assert found == [{"text": "a", "label": "good", "tags": ["O", "B-PER"]}, {"text": "b", "label": "bad", "tags": []}]
    assert source.digest() == open_source(f"hf:{tmp_path / 'set'}:test").digest()


@pytest.mark.parametrize("spec", ["hf:", "hf:a:b:c:d", "hf:a::b"])
def test_a_spec_that_names_no_data_set_is_refused(spec: str):
    with pytest.raises(InputError, match="this names no hub data set"):
        open_source(spec)


def test_a_data_set_that_is_not_there_is_refused(tmp_path: Path):
    with pytest.raises(InputError, match="the data set cannot be loaded"):
        list(open_source(f"hf:{tmp_path / 'nothing'}").rows())


def test_a_model_of_the_hub_is_taken_from_the_hubs_cache(tmp_path: Path, monkeypatch):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    store = tmp_path / "models--someone--tiny"
    write_model(store / "snapshots" / "0123abc")
    (store / "refs").mkdir()
    (store / "refs" / "main").write_text("0123abc", encoding="utf-8")
    for name in ("someone/tiny", "hf:someone/tiny"):
        source = resolve_model(name)
        assert source.found_as == "hub"
        assert source.folder == store / "snapshots" / "0123abc"
    with pytest.raises(InputError, match="is not in the hub's cache"):
        resolve_model("someone/other")


def test_a_name_that_is_nothing_says_what_there_is(tmp_path: Path):
    with pytest.raises(InputError, match='Did you mean "minilm"'):
        resolve_model("minilmm")
    with pytest.raises(InputError, match="there is nothing at"):
        resolve_model(str(tmp_path / "no" / "where.pt"))
    with pytest.raises(InputError, match=r'there is no file "checkpoint.pt"'):
        resolve_model("fairseq:checkpoint.pt")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"there is no config\.json in this folder"):
        resolve_model(str(tmp_path / "empty"))
