import numpy as np
import pytest

from luthier.baselines.text_classification import (
    MajorityClass,
    MajorityLabels,
    MeanValue,
    TfidfLogisticRegression,
    TfidfOneVsRest,
    TfidfRidge,
    baselines_for,
)
from luthier.tasks.text_classification import TextExample

WORDS = ["red", "blue", "green", "old", "town", "river", "long", "short"]


def texts(count: int, seed: int = 0) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, size=6)) for _ in range(count)]


def test_each_objective_has_a_trivial_and_a_linear_baseline():
    names = {objective: [baseline.name for baseline in baselines_for(objective)] for objective in
             ("cross_entropy", "binary_cross_entropy", "squared_error")}  # fmt: skip
    assert names == {
        "cross_entropy": ["majority", "tfidf_logistic_regression"],
        "binary_cross_entropy": ["majority", "tfidf_logistic_regression"],
        "squared_error": ["mean", "tfidf_ridge"],
    }


def test_the_majority_is_the_most_frequent_label_with_its_share():
    baseline = MajorityClass()
    baseline.fit([TextExample("t", None, label) for label in "abba" + "b"])
    assert baseline.predict(TextExample("x")) == {"label": "b", "score": 0.6, "scores": {"a": 0.4, "b": 0.6}}


def test_the_majority_of_lists_is_what_more_than_half_have_or_the_most_frequent():
    baseline = MajorityLabels()
    baseline.fit([TextExample("t", None, gold) for gold in [("a", "b"), ("a", "c"), ("a", "b"), ()]])
    assert baseline.predict(TextExample("x")) == {"labels": ["a"], "scores": {"a": 0.75, "b": 0.5, "c": 0.25}}
    baseline.fit([TextExample("t", None, gold) for gold in [("a",), ("b",), ("b",), (), ()]])
    assert baseline.predict(TextExample("x"))["labels"] == ["b"]


def test_the_mean_is_the_mean():
    baseline = MeanValue()
    baseline.fit([TextExample("t", None, gold) for gold in ("1", "2", "6")])
    assert baseline.predict(TextExample("x")) == {"value": 3.0}


def test_a_word_that_tells_the_label_is_learned():
    baseline = TfidfLogisticRegression()
    rows = [TextExample(text, None, "red" if "red" in text.split() else "other") for text in texts(200)]
    baseline.fit(rows)
    assert sum(baseline.predict(row)["label"] == row.gold for row in rows) > 180
    assert sum(baseline.predict(rows[0])["scores"].values()) == pytest.approx(1)


def test_the_second_text_of_a_pair_counts_too():
    baseline = TfidfLogisticRegression()
    baseline.fit([TextExample("same", second, second) for second in ("red", "blue") * 5])
    assert baseline.predict(TextExample("same", "blue"))["label"] == "blue"


def test_several_labels_are_as_in_one_vs_rest_of_scikit_learn():
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier
    from sklearn.preprocessing import MultiLabelBinarizer

    rows = [TextExample(text, None, tuple(sorted({word for word in text.split() if word < "o"}))) for text in texts(100)]
    baseline = TfidfOneVsRest()
    baseline.fit(rows)
    binarizer = MultiLabelBinarizer()
    truth = binarizer.fit_transform([row.gold for row in rows])
    model = OneVsRestClassifier(LogisticRegression(max_iter=200, class_weight="balanced", solver="liblinear"))
    expected = model.fit(baseline._words.transform([row.text for row in rows]), truth).predict_proba(
        baseline._words.transform(texts(20, seed=1))
    )
    for text, probabilities in zip(texts(20, seed=1), expected, strict=True):
        prediction = baseline.predict(TextExample(text))
        assert prediction["scores"] == pytest.approx(dict(zip(binarizer.classes_, probabilities, strict=True)), rel=1e-6)
        assert prediction["labels"] == [label for label, score in prediction["scores"].items() if score >= 0.5]


def test_a_label_that_every_row_has_is_always_predicted():
    baseline = TfidfOneVsRest()
    baseline.fit([TextExample("red", None, ("a",)), TextExample("blue", None, ("a", "b"))])
    assert baseline.predict(TextExample("green"))["scores"]["a"] == 1.0


def test_a_number_is_learned_from_words():
    baseline = TfidfRidge()
    rows = [TextExample(text, None, str(text.split().count("red"))) for text in texts(200)]
    baseline.fit(rows)
    found = [baseline.predict(row)["value"] for row in rows]
    assert np.corrcoef(found, [float(row.gold) for row in rows])[0, 1] > 0.9


@pytest.mark.parametrize("first", ["!!!", "\N{SLIGHTLY SMILING FACE}"])
def test_texts_of_signs_alone_can_be_learned(first):
    baseline = TfidfLogisticRegression()
    baseline.fit([TextExample(first, None, "a"), TextExample("??", None, "b")])
    assert baseline.predict(TextExample(first))["label"] == "a"


def test_chinese_characters_are_words():
    baseline = TfidfLogisticRegression()
    baseline.fit([TextExample("房间很好", None, "good"), TextExample("服务太差", None, "bad")])
    assert baseline.predict(TextExample("好"))["label"] == "good"
