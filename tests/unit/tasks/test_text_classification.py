import json

import numpy as np
import pytest

from luthier.data.rows import Row
from luthier.errors import InputError, RowError
from luthier.heads import IGNORED
from luthier.tasks.task import Output
from luthier.tasks.text_classification import TextClassification, TextExample
from tiny_tokenizer import tiny_tokenizer, write_tokenizer

tokenizer = pytest.fixture(scope="module")(tiny_tokenizer)


def row(**values) -> Row:
    return Row(values, file="a.csv", line=3)


def fitted(labels, **options) -> TextClassification:
    task = TextClassification(**options)
    return task.fit([task.parse(row(text="some text", label=label)) for label in labels])


@pytest.mark.parametrize(
    ("values", "label"),
    [([1, 1.0, "1", " 1 "], "1"), ([True, "True"], "True"), (["a b", " a b"], "a b"), ([0.5, "0.5"], "0.5")],
)
def test_one_label_has_one_name_however_it_is_written(values, label):
    assert {TextClassification().parse(row(text="t", label=value)).gold for value in values} == {label}


def test_labels_are_learned_in_order_of_number_or_name():
    assert fitted(["10", "9", "1", "9"]).labels == ("1", "9", "10")
    assert fitted(["b", "10", "a"]).labels == ("10", "a", "b")


@pytest.mark.parametrize(
    ("labels", "objective"),
    [
        (["a", "b"], "cross_entropy"),
        ([1, 2, 3], "cross_entropy"),
        ([0.5, 1, 2], "squared_error"),
        ([["a"], ["a", "b"], []], "binary_cross_entropy"),
    ],
)
def test_the_objective_is_told_by_the_labels(labels, objective):
    assert fitted(labels).objective == objective


@pytest.mark.parametrize(
    ("labels", "said"),
    [(["a", "a"], 'every label is "a"'), ([], "there is no label"), ([str(n) + "x" for n in range(60)], "60 different labels")],
)
def test_labels_that_tell_nothing_are_refused(labels, said):
    with pytest.raises(InputError, match=said):
        fitted(labels)


def test_many_labels_are_taken_when_the_objective_is_said():
    assert len(fitted([f"l{n}" for n in range(60)], objective="cross_entropy").labels) == 60


def test_numbers_that_are_all_equal_are_refused():
    with pytest.raises(InputError, match="the same number"):
        fitted(["1.5", "1.5"], objective="squared_error")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"text": "", "label": "a"}, 'column "text": the text is empty'),
        ({"text": "  \n", "label": "a"}, "the text is empty"),
        ({"text": None, "label": "a"}, "there is no value"),
        ({"text": 3, "label": "a"}, "found int, expected text"),
        ({"text": "t", "label": {"a": 1}}, 'column "label": found dict'),
        ({"text": "t", "label": float("nan")}, "found nan"),
        ({"text": "t", "text_pair": " ", "label": "a"}, 'column "text_pair": the text is empty'),
        ({"text": "t", "label": ["a", " "]}, 'column "label": a label is empty'),
        ({"text": "t", "label": ["a", None]}, "found NoneType"),
    ],
)
def test_a_row_that_cannot_be_used_names_file_line_and_column(values, said):
    with pytest.raises(RowError, match=r"^a\.csv:3: ") as caught:
        TextClassification().parse(row(**values))
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("objective", "label", "said"),
    [
        ("cross_entropy", [], "found 0 labels, expected one"),
        ("cross_entropy", ["a", "b"], "found 2 labels, expected one"),
        ("squared_error", ["1", "2"], "found 2 labels, expected one"),
        ("squared_error", "many", 'found "many", expected a number'),
        ("squared_error", "1e999", "expected a number"),
    ],
)
def test_a_label_that_the_objective_cannot_learn_is_refused(objective, label, said):
    with pytest.raises(RowError, match=said):
        TextClassification(objective=objective).parse(row(text="t", label=label))


@pytest.mark.parametrize(("objective", "gold"), [("cross_entropy", "a"), ("binary_cross_entropy", ("a",))])
def test_one_label_and_a_list_of_one_are_the_same(objective, gold):
    task = TextClassification(objective=objective)
    assert task.parse(row(text="t", label="a")).gold == task.parse(row(text="t", label=["a"])).gold == gold


@pytest.mark.parametrize("values", [{}, {"label": None}, {"label": ""}, {"label": " \t"}])
def test_a_text_for_prediction_has_no_gold(values):
    example = TextClassification().parse(row(text="t", **values))
    assert TextClassification().gold(example) is None


def test_a_share_of_numbers_can_be_held_out():
    from luthier.data.splitting import split_by_share
    from luthier.units import Share

    task = TextClassification()
    examples = [task.parse(row(text=f"t{n}", label=n + 0.5)) for n in range(100)]
    strata = [task.stratum(example) for example in examples]
    assert split_by_share([example.text for example in examples], strata, Share.parse("10%")).sum() == 10
    assert task.stratum(TextExample("t", None, "3")) == "3"


def test_a_cell_of_several_labels_is_split():
    task = TextClassification(separator=",", objective="binary_cross_entropy")
    assert task.parse(row(text="t", label="3, 27,3")).gold == ("3", "27")
    assert task.parse(row(text="t", label="")).gold == ()


def test_weights_are_balanced_or_named():
    assert fitted(["a", "a", "a", "b"], class_weights="balanced").weights == (4 / 6, 2.0)
    assert fitted(["a", "b"], class_weights={"b": 3}).weights == (1.0, 3.0)


@pytest.mark.parametrize(
    ("labels", "weights", "said"),
    [
        (["a", "b"], {"c": 3}, 'no row has the label "c"'),
        (["a", "b"], {"a": 0}, 'found 0 for "a"; a weight is more than 0'),
        (["a", "b"], {"a": float("nan")}, "a weight is more than 0"),
        ([0.5, 1.5], "balanced", "numbers have no classes"),
    ],
)
def test_weights_that_make_no_sense_are_refused(labels, weights, said):
    with pytest.raises(InputError, match=said):
        fitted(labels, class_weights=weights)


@pytest.mark.parametrize("first", [5, 40])
@pytest.mark.parametrize("second", [0, 4, 40])
def test_a_feature_is_as_long_as_allowed_and_counts_what_was_cut(tokenizer, first, second):
    task = fitted(["a", "b"], max_tokens=20)
    example = TextExample("red " * first, "blue " * second if second else None, "a")
    (feature,) = task.encode([example], tokenizer, gold=True)[0]
    special = 3 if second else 2
    assert feature.length == min(20, first + second + special)
    assert feature.cut == max(0, first + second + special - 20)


def test_the_longer_text_of_a_pair_gives_way(tokenizer):
    task = fitted(["a", "b"], max_tokens=20)
    (feature,) = task.encode([TextExample("red " * 40, "blue " * 4, "a")], tokenizer, gold=True)[0]
    blue = tokenizer.tokenize(["blue"])[0].ids[0]
    assert int((feature.arrays["input_ids"] == blue).sum()) == 4


def test_features_are_those_of_transformers(tokenizer, tmp_path):
    """The same ids, types and truncation as a call of its own tokenizer."""
    from transformers import AutoTokenizer

    write_tokenizer(tmp_path)
    hub = AutoTokenizer.from_pretrained(tmp_path)
    rng = np.random.default_rng(0)
    for _ in range(200):
        first, second = ("red " * rng.integers(1, 30), "blue " * rng.integers(1, 30))
        limit, pair = int(rng.integers(6, 40)), second if rng.random() < 0.7 else None
        task = fitted(["a", "b"], max_tokens=limit)
        (feature,) = task.encode([TextExample(first, pair)], tokenizer, gold=False)[0]
        expected = hub(first, pair, truncation="longest_first", max_length=limit)
        assert feature.arrays["input_ids"].tolist() == expected["input_ids"]
        assert feature.arrays["token_type_ids"].tolist() == expected["token_type_ids"]


def test_an_unknown_label_is_masked_counted_as_wrong_and_named(tokenizer):
    task = fitted(["a", "b"])
    example = TextExample("red", None, "z")
    (feature,) = task.encode([example], tokenizer, gold=True)[0]
    assert feature.arrays["labels"].tolist() == [IGNORED]
    total = task.measure(example, {"label": "a", "score": 1.0, "scores": {"a": 1.0, "b": 0.0}})
    assert task.summarize(total)["accuracy"] == 0
    assert '"z"' in task.notes([example], "test")[0]


def test_only_the_commonest_unknown_labels_are_named_one_by_one():
    examples = [TextExample("t", None, f"z{n}") for n in range(15)] + [TextExample("t", None, "z14")]
    notes = fitted(["a", "b"]).notes(examples, "test")
    assert '"z14"' in notes[0]
    assert "here 2" in notes[0]
    assert len(notes) == 11
    assert "5 more labels" in notes[-1]
    assert fitted(["a", "b"]).notes([TextExample("t", None, "a")], "test") == []


def output(feature, logits) -> list[Output]:
    return [Output(feature, np.asarray(logits, dtype=np.float32))]


def test_scores_are_probabilities_and_the_best_label_wins(tokenizer):
    task = fitted(["a", "b", "c"])
    example = TextExample("red")
    (feature,) = task.encode([example], tokenizer, gold=False)[0]
    prediction = task.decode(example, output(feature, [1.0, 3.0, 2.0]))
    assert prediction["label"] == "b"
    assert sum(prediction["scores"].values()) == pytest.approx(1, abs=1e-5)
    assert prediction["score"] == prediction["scores"]["b"]


def test_a_number_comes_back_in_its_own_unit(tokenizer):
    task = fitted([100.0, 200.5, 300.0], objective="squared_error")
    example = TextExample("red", None, "200.5")
    (feature,) = task.encode([example], tokenizer, gold=True)[0]
    prediction = task.decode(example, output(feature, feature.arrays["labels"]))
    assert prediction["value"] == pytest.approx(200.5, rel=1e-5)


@pytest.mark.parametrize("labels", [["a", "b", "c"], [["a"], ["b", "c"], []]])
def test_the_loss_is_that_of_torch(tokenizer, labels):
    import torch
    from torch.nn import functional

    rng = np.random.default_rng(0)
    task = fitted(labels)
    total: dict[str, float] = {}
    expected, count = 0.0, 0
    for gold in labels * 10:
        example = task.parse(row(text="red", label=gold))
        (feature,) = task.encode([example], tokenizer, gold=True)[0]
        logits = rng.normal(scale=4, size=3)
        for key, value in task.measure(example, task.decode(example, output(feature, logits))).items():
            total[key] = total.get(key, 0) + value
        target = torch.tensor(feature.arrays["labels"])
        if target.is_floating_point():
            loss = functional.binary_cross_entropy_with_logits(torch.tensor(logits), target.double(), reduction="sum")
        else:
            loss = functional.cross_entropy(torch.tensor(logits)[None], target.long())
        expected, count = expected + float(loss), count + len(target)
    assert task.summarize(total)["loss"] == pytest.approx(expected / count, rel=1e-4)


def test_thresholds_are_those_with_the_best_f1_a_label():
    from sklearn.metrics import f1_score

    rng = np.random.default_rng(0)
    task = fitted([["a"], ["b"]])
    scored = []
    for _ in range(300):
        gold = tuple(label for label in ("a", "b") if rng.random() < 0.3)
        scores = {label: float(np.clip((label in gold) * 0.2 + rng.random() * 0.6, 0, 1)) for label in ("a", "b")}
        scored.append((TextExample("t", None, gold), {"labels": [], "scores": scores}))
    tuned = task.calibrate(scored)
    for place, label in enumerate(("a", "b")):
        truth = [label in example.gold for example, _ in scored]
        values = [prediction["scores"][label] for _, prediction in scored]
        best = max(f1_score(truth, np.asarray(values) >= threshold) for threshold in values)
        found = f1_score(truth, np.asarray(values) >= tuned.thresholds[place])
        assert found == pytest.approx(best)


def test_thresholds_stay_as_they_are_where_nothing_says_better():
    task = fitted([["a"], ["b"]])
    assert task.calibrate([]) == task
    scored = [(TextExample("t", None, ("a",)), {"labels": [], "scores": {"a": 0.25, "b": 0.25}})]
    assert task.calibrate(scored).thresholds[1] == 0.5
    assert fitted(["a", "b"]).calibrate([]) == fitted(["a", "b"])


def test_a_tab_parts_a_pair_only_where_pairs_were_learned():
    assert dict(fitted(["a", "b"]).question("x\ty")) == {"text": "x\ty"}
    task = TextClassification()
    pairs = task.fit([task.parse(row(text="t", text_pair="u", label=label)) for label in "ab"])
    assert dict(pairs.question("x\ty")) == {"text": "x", "text_pair": "y"}


def test_options_survive_being_saved():
    task = fitted([["a"], ["b"]], class_weights={"a": 2.0}, separator="|", max_tokens=64)
    assert TextClassification.from_json(json.loads(json.dumps(task.to_json()))) == task


def test_an_untuned_model_lends_its_labels():
    task = TextClassification().adopt({"id2label": {"1": "good", "0": "bad", "10": "x", "2": "so"}})
    assert task.labels == ("bad", "good", "so", "x")
    assert task.objective == "cross_entropy"


def test_the_confusion_matrix_counts_every_pair():
    task = fitted(["a", "b/c"])
    total: dict[str, float] = {}
    for gold, found in [("a", "a"), ("a", "b/c"), ("b/c", "b/c"), ("z", "a")]:
        counts = task.measure(TextExample("t", None, gold), {"label": found, "score": 1.0, "scores": {}})
        for key, value in counts.items():
            total[key] = total.get(key, 0) + value
    table = task.tables(total)[1]
    assert table.rows == (("a", 1, 1, 0), ("b/c", 0, 1, 0), ("z", 1, 0, 0))


def test_the_confidence_table_compares_scores_with_what_is_right():
    task = fitted(["a", "b"])
    total: dict[str, float] = {}
    for gold, score in [("a", 0.92), ("b", 0.98), ("a", 1.0), ("a", 0.55)]:
        for key, value in task.measure(TextExample("t", None, gold), {"label": "a", "score": score, "scores": {}}).items():
            total[key] = total.get(key, 0) + value
    rows = task.tables(total)[2].rows
    assert [(name, count) for name, _, _, count in rows] == [("0.5 to 0.6", 1), ("0.9 to 1.0", 3)]
    assert rows[1][1:3] == (pytest.approx(2.9 / 3), pytest.approx(2 / 3))


def test_many_labels_show_those_that_are_confused_most():
    task = fitted([f"l{n:02}" for n in range(30)])
    total = {f"~cell/{json.dumps(['l07', 'l09'])}": 5.0}
    table = task.tables(total)[1]
    assert len(table.rows) == 20
    assert {"l07", "l09"} <= {r[0] for r in table.rows}
    assert "of 30" in table.note
