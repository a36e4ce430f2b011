from pathlib import Path

import numpy as np

from luthier.data.features import Feature, FeatureStore
from luthier.data.row_store import RowStore
from luthier.data.rows import Row
from luthier.heads import CrossEntropy, TokenHead


def test_a_store_gives_back_what_was_written_with_counts(tmp_path: Path):
    rng = np.random.default_rng(0)

    def feature() -> Feature:
        size = int(rng.integers(1, 30))
        labels = rng.integers(-1, 3, size=size)
        labels[labels < 0] = -100
        ids = rng.integers(0, 90, size=size).astype(np.int32)
        return Feature({"input_ids": ids, "labels": labels.astype(np.int32)}, {"words": np.arange(size)}, cut=int(size > 20))

    grouped = [[feature() for _ in range(int(rng.integers(0, 4)))] for _ in range(900)]
    store = FeatureStore.write(tmp_path / "f.arrow", grouped, TokenHead(3, CrossEntropy(weights=(1.0, 2.0, 0.5))))
    flat = [(group, item) for group, items in enumerate(grouped) for item in items]
    assert len(store) == len(flat) > 1024, "more than one chunk"
    for index, (group, item) in enumerate(flat):
        read = store[index]
        assert read.group == group == store.groups[index]
        assert read.cut == item.cut
        for name, array in item.arrays.items():
            np.testing.assert_array_equal(read.arrays[name], array)
        np.testing.assert_array_equal(read.facts["words"], item.facts["words"])
        used = item.arrays["labels"][item.arrays["labels"] >= 0]
        assert store.num_targets[index] == len(used)
        assert store.weights[index] == sum((1.0, 2.0, 0.5)[label] for label in used)
    expected = np.unique(np.concatenate([item.arrays["input_ids"] for _, item in flat]))
    np.testing.assert_array_equal(store.used_ids, expected)


def test_an_empty_store_is_empty(tmp_path: Path):
    assert len(FeatureStore.write(tmp_path / "f.arrow", [[], []], TokenHead(2))) == 0


def test_rows_come_back_with_their_place(tmp_path: Path):
    rows = [
        Row({"text": f"t{i}", "label": [i, None]}, file="a.csv", line=i + 2, document="d" if i % 2 else None)
        for i in range(1200)
    ]
    store = RowStore.write(tmp_path / "r.arrow", rows)
    assert len(store) == 1200
    for index in (0, 511, 512, 1199, 3):
        row = store[index]
        assert (dict(row), row.file, row.line, row.document) == (
            dict(rows[index]), "a.csv", index + 2, rows[index].document,
        )  # fmt: skip
