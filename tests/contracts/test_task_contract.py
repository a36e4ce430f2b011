"""What every task keeps, whatever it is about."""

import json
from collections import Counter
from itertools import chain

import numpy as np
import pytest

from contracts.task_cases import CASES, longer
from luthier.errors import RowError
from luthier.generation import Written
from luthier.heads import IGNORED, SequenceHead, SpanHead, SquaredError, TokenHead, writes
from luthier.inference import prompt_of
from luthier.metrics import LOWER_IS_BETTER
from luthier.tasks import TASKS
from luthier.tasks.task import Output, Task
from tiny_tokenizer import tiny_tokenizer

tokenizer = pytest.fixture(scope="module")(tiny_tokenizer)
EVERY = [(name, case) for name in CASES for case in CASES[name]]
PREDICTION_KEYS = {
    "text-classification": [{"label", "score", "scores"}, {"labels", "scores"}, {"value"}],
    "token-classification": [{"entities"}],
    "question-answering": [{"answer", "start", "end", "score", "null_score", "n_best"}],
    **{name: [{"text", "finish_reason"}] for name in ("translation", "summarization", "text-generation")},
}


def test_every_task_has_cases():
    assert set(CASES) == set(TASKS) == set(PREDICTION_KEYS)


named = pytest.mark.parametrize(("name", "which"), EVERY)


@pytest.fixture(params=EVERY, ids=lambda pair: " ".join(pair))
def case(request):
    name, which = request.param
    kind = TASKS.get(name)
    examples = [kind().parse(row) for row in CASES[name][which]]
    task = kind().fit(examples)
    return task, [task.parse(row) for row in CASES[name][which]]


def perfect(task: Task, features, example=None) -> list[Output]:
    """Logits that say the labels loudly; under a head that writes the gold text, at no loss."""
    gold = task.gold(example) if example is not None and writes(task.head) else None
    written = None if gold is None else Written(gold["text"], "stop")
    outputs = []
    for feature in features:
        labels = feature.arrays["labels"]
        head = task.head
        if writes(head):
            weight = float((labels != IGNORED).sum())
            outputs.append(Output(feature, np.zeros(0, dtype=np.float32), (0.0, weight), written))
            continue
        if isinstance(head, SequenceHead):
            if isinstance(head.objective, SquaredError):
                logits = labels.astype(np.float32)
            elif labels.dtype == np.float32:
                logits = labels * 20 - 10
            else:
                logits = np.eye(head.num_labels)[labels[0]] * 20
        elif isinstance(head, TokenHead):
            logits = np.eye(head.num_labels)[np.maximum(labels, 0)] * 20
        else:
            assert isinstance(head, SpanHead)
            logits = np.zeros((2, feature.length))
            logits[0, labels[0]] = logits[1, labels[1]] = 20
        outputs.append(Output(feature, logits.astype(np.float32)))
    return outputs


def test_perfect_logits_give_a_perfect_headline(case, tokenizer):
    task, examples = case
    total: Counter = Counter()
    for example, features in zip(examples, task.encode(examples, tokenizer, gold=True), strict=True):
        total.update(task.measure(example, task.decode(example, perfect(task, features, example))))
    best = {"bleu": 100.0}.get(task.headline, 0.0 if task.headline in LOWER_IS_BETTER else 1.0)
    assert task.summarize(total)[task.headline] == pytest.approx(best)


def test_what_prediction_sees_is_what_training_saw_without_labels(case, tokenizer):
    task, examples = case
    with_gold, without = (task.encode(examples, tokenizer, gold=gold) for gold in (True, False))
    for whole, second in zip(chain.from_iterable(with_gold), chain.from_iterable(without), strict=True):
        first = prompt_of(whole)
        assert set(whole.arrays) == {*second.arrays, "labels"}
        for name in second.arrays:
            # Of a document that is scored, only a beginning is given.
            seen = second.arrays[name][: len(first.arrays[name])] if "prompt_ids" in whole.facts else second.arrays[name]
            np.testing.assert_array_equal(first.arrays[name], seen)
        assert set(first.facts) >= set(second.facts)
        assert first.cut == second.cut


def test_features_are_short_enough_and_of_plain_types(case, tokenizer):
    task, examples = case
    for features in task.encode(examples, tokenizer, gold=True):
        assert features
        for feature in features:
            assert feature.length <= task.limit(tokenizer)
            assert all(array.ndim == 1 and array.dtype in (np.int32, np.float32) for array in feature.arrays.values())
            assert all(array.ndim == 1 and np.issubdtype(array.dtype, np.integer) for array in feature.facts.values())


@named
def test_what_does_not_fit_is_windowed_or_counted_as_cut(name, which, tokenizer):
    task = TASKS.get(name)(max_tokens=20)
    task = task.fit([task.parse(row) for row in CASES[name][which]])
    examples = [task.parse(longer(row)) for row in CASES[name][which]]
    for features in task.encode(examples, tokenizer, gold=True):
        assert all(feature.length <= 20 for feature in features)
        assert len(features) > 1 or features[0].cut > 0


@named
@pytest.mark.parametrize("bad", ["", " \n", 7])
def test_a_bad_cell_is_refused_by_file_line_and_column(name, which, bad):
    task = TASKS.get(name)()
    tried = 0
    for number, row in enumerate(CASES[name][which], 1):
        for column in task.columns:
            if column.name in row and not column.gold:
                tried += 1
                with pytest.raises(RowError, match=rf'^case\.jsonl:{number}: column "{column.name}": '):
                    task.parse(row.renamed({**row, column.name: bad}))
    assert tried


@named
def test_a_row_without_anything_to_go_on_is_refused_by_file_and_line(name, which):
    task = TASKS.get(name)()
    for number, row in enumerate(CASES[name][which], 1):
        gold = {column.name: row[column.name] for column in task.columns if column.gold and column.name in row}
        with pytest.raises(RowError, match=rf"^case\.jsonl:{number}: "):
            task.parse(row.renamed(gold))


def test_predictions_are_json_with_the_keys_of_the_design(case, tokenizer):
    task, examples = case
    for example, features in zip(examples, task.encode(examples, tokenizer, gold=True), strict=True):
        prediction = task.decode(example, perfect(task, features, example))
        assert json.loads(json.dumps(prediction, allow_nan=False)) == prediction
        # Where a text was scored, its loss stands beside it.
        assert set(prediction) - {"loss", "targets", "bytes"} in PREDICTION_KEYS[task.name]
        json.dumps(task.gold(example), allow_nan=False)


def test_counts_add_up_and_nothing_gives_no_nan(case, tokenizer):
    task, examples = case
    empty = task.summarize({})
    assert task.headline in empty
    assert all(np.isfinite(value) for value in empty.values())
    for example, features in zip(examples, task.encode(examples, tokenizer, gold=True), strict=True):
        counts = task.measure(example, task.decode(example, perfect(task, features, example)))
        twice = {key: 2 * value for key, value in counts.items()}
        once, doubled = task.summarize(counts), task.summarize(twice)
        assert set(once) >= set(empty)
        assert all(once[name] == pytest.approx(doubled[name]) for name in once)


def test_a_task_survives_being_saved(case):
    task, _ = case
    text = json.dumps(task.to_json())
    assert type(task).from_json(json.loads(text)) == task


def test_a_row_for_prediction_needs_no_gold(case, tokenizer):
    task, _ = case
    gold = {column.name for column in task.columns if column.gold}
    assert gold
    rows = [row for rows in CASES[task.name].values() for row in rows if gold & set(row)]
    assert rows
    for row in rows:
        bare = row.renamed({role: value for role, value in row.items() if role not in gold})
        example = task.parse(bare)
        assert task.gold(example) is None
        assert task.encode([example], tokenizer, gold=False)[0]


def test_every_table_and_excerpt_can_be_made(case, tokenizer):
    task, examples = case
    total: Counter = Counter()
    for example, features in zip(examples, task.encode(examples, tokenizer, gold=True), strict=True):
        prediction = task.decode(example, perfect(task, features, example))
        total.update(task.measure(example, prediction))
        shown = task.excerpt(example, prediction)
        assert shown.severity == pytest.approx(0, abs=1e-4)
        assert all(0 <= mark.start < mark.end <= len(shown.text) for mark in shown.marks)
        assert all(isinstance(part, str) for part in task.identity(example))
        assert isinstance(task.stratum(example), str)
    for table in task.tables(total):
        assert all(len(line) == len(table.columns) for line in table.rows)


def test_baselines_predict_in_the_form_of_the_model(case):
    task, examples = case
    # Nothing simple answers in a dialogue: there the model before tuning is the one to beat.
    assert task.baselines() or getattr(task, "form", None) == "dialogue"
    for baseline in task.baselines():
        baseline.fit(examples)
        total: Counter = Counter()
        for example in examples:
            prediction = baseline.predict(example)
            assert set(prediction) - {"loss", "bytes"} in PREDICTION_KEYS[task.name]
            total.update(task.measure(example, prediction))
        assert 0 <= task.summarize(total)[task.headline] <= 100
