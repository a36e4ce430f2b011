import itertools
import json
from collections import Counter

import numpy as np
import pytest

from luthier.baselines.question_answering import BestSentence, NoAnswer
from luthier.data.features import Feature
from luthier.data.rows import Row
from luthier.errors import InputError, RowError
from luthier.tasks.answers import CONTRADICTED, DROPPED, GUESSED, REPAIRED
from luthier.tasks.question_answering import QuestionAnswering, QuestionExample, question_word
from luthier.tasks.task import Output
from tiny_tokenizer import tiny_tokenizer

tokenizer = pytest.fixture(scope="module")(tiny_tokenizer)
CONTEXT = "ada sings in paris . bob works in rome ."


def row(**values) -> Row:
    return Row({"question": "who sings ?", "context": CONTEXT, **values}, file="q.json", line=7)


def parse(**values) -> QuestionExample:
    return QuestionAnswering().parse(row(**values))


@pytest.mark.parametrize(
    "values",
    [
        {"answers": {"text": ["ada"], "answer_start": [0]}},
        {"answers": [{"text": "ada", "answer_start": 0}]},
        {"answers": {"text": "ada", "answer_start": 0}},
        {"answer": "ada", "answer_start": 0},
        {"answer": "ada", "answer_start": "0"},
        {"answer": "ada", "answer_start": "0.0"},
        {"answer": "ada", "answer_start": ""},
        {"answer": "ada", "answers": None, "is_impossible": "False"},
        {"answers": {"text": np.array(["ada"]), "answer_start": np.array([0])}},
        {"answers": {"text": ["ada"]}},
        {"answer": "ada"},
        {"answers": "ada"},
        {"answers": ["ada"]},
    ],
)
def test_an_answer_is_read_in_every_usual_form(values):
    assert parse(**values).answers == ((0, "ada"),)
    assert parse(**values).remark == ""


@pytest.mark.parametrize(
    "values",
    [
        {"answers": {"text": [], "answer_start": []}},
        {"answers": []},
        {"is_impossible": True},
        {"is_impossible": 1.0, "answer": ""},
        {"answers": {"text": [""], "answer_start": [-1]}},
        {"answer": ""},
        {"answers": [], "is_impossible": True},
    ],
)
def test_no_answer_is_read_too(values):
    assert parse(**values).answers == ()


def test_an_answer_that_is_marked_as_impossible_is_left_out_and_remarked():
    example = parse(is_impossible="true", answer="ada")
    assert (example.answers, example.remark) == ((), CONTRADICTED)


def test_a_row_without_answer_columns_has_no_gold():
    example = parse()
    assert example.answers is None
    assert QuestionAnswering().gold(example) is None


@pytest.mark.parametrize(
    ("text", "start", "place", "remark"),
    [
        ("paris", 3, 13, REPAIRED),  # stands once, far or near
        ("ada", 35, 0, REPAIRED),
        ("in", 12, 10, REPAIRED),  # stands twice: the nearest
        ("in", 29, 31, REPAIRED),
        ("in", None, 5, GUESSED),
        ("ada", -4, 0, REPAIRED),
    ],
)
def test_a_wrong_offset_is_repaired_and_remarked(text, start, place, remark):
    example = parse(answers=[{"text": text, "answer_start": start}])
    assert example.answers == ((place, text),)
    assert example.remark == remark


def test_an_answer_that_stands_often_but_far_away_is_rejected():
    context = "red x red " + "y " * 60
    with pytest.raises(RowError, match=r"q\.json:7: .*stands 2 times .* not within 50 characters of its offset 90"):
        parse(context=context, answers=[{"text": "red", "answer_start": 90}])


def test_an_answer_that_is_not_in_the_context_is_rejected_unless_another_is():
    with pytest.raises(RowError, match='the answer "nobody" does not stand'):
        parse(answers=[{"text": "nobody", "answer_start": 0}])
    example = parse(answers=[{"text": "nobody", "answer_start": 0}, {"text": "ada", "answer_start": 0}])
    assert (example.answers, example.remark) == (((0, "ada"),), DROPPED)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"context": "", "answer": "a"}, 'column "context": the text is empty'),
        ({"question": " ", "answer": "a"}, 'column "question": the text is empty'),
        ({"question": None}, "there is no value"),
        ({"answers": 3}, "found int"),
        ({"answers": [3]}, "found int"),
        ({"answers": {"text": ["a"], "answer_start": [1, 2]}}, "of one length"),
        ({"answer": "ada", "answer_start": "x"}, "found 'x', expected a whole number"),
        ({"answer": "ada", "answer_start": 1.5}, "found 1.5"),
        ({"answer": "ada", "answer_start": "inf"}, "found 'inf'"),
        ({"answer": "ada", "answer_start": True}, "found True"),
        ({"answer": "ada", "is_impossible": "maybe"}, "found 'maybe', expected true or false"),
        ({"answer": "", "is_impossible": False}, "it is false, but there is no answer"),
    ],
)
def test_a_row_that_cannot_be_read_says_why(values, said):
    with pytest.raises(RowError, match=r"^q\.json:7: ") as caught:
        parse(**values)
    assert said in str(caught.value)


def test_questions_without_any_answer_teach_nothing():
    with pytest.raises(InputError, match="no question has an answer"):
        QuestionAnswering().fit([parse(answers=[])])


def perfect(features) -> list[Output]:
    outputs = []
    for feature in features:
        logits = np.full((2, feature.length), -9.0, dtype=np.float32)
        logits[0, feature.arrays["labels"][0]] = logits[1, feature.arrays["labels"][1]] = 9.0
        outputs.append(Output(feature, logits))
    return outputs


def test_long_contexts_become_windows_that_overlap_and_hold_every_token(tokenizer):
    context = " ".join(f"red {letter} blue" for letter in "abcdefghijklmnopqrstuvwxyz" * 2)
    start = context.index("red z blue")
    example = QuestionExample("who sings ?", context, ((start, "red z blue"),))
    task = QuestionAnswering(max_tokens=40, stride=12).fit([example])
    (features,) = task.encode([example], tokenizer, gold=True)
    assert len(features) > 3
    seen = [set(f.facts["starts"][f.facts["starts"] >= 0].tolist()) for f in features]
    assert set.union(*seen) == set(tokenizer.tokenize([context])[0].starts.tolist())
    assert all(len(first & second) == 12 for first, second in itertools.pairwise(seen[:-1]))
    assert all(feature.length <= 40 for feature in features)
    held = [feature for feature in features if feature.arrays["labels"].tolist() != [0, 0]]
    assert held
    for feature in held:
        first, last = feature.arrays["labels"]
        assert context[feature.facts["starts"][first] : feature.facts["ends"][last]] == "red z blue"
    assert task.decode(example, perfect(features))["answer"] == "red z blue"


def test_offsets_are_code_points_of_the_context(tokenizer):
    context = "😀 ada 北京 sings in paris"
    example = QuestionExample("where ?", context, ((context.index("paris"), "paris"),))
    task = QuestionAnswering().fit([example])
    (features,) = task.encode([example], tokenizer, gold=True)
    found = task.decode(example, perfect(features))
    assert (found["answer"], found["start"], found["end"]) == ("paris", context.index("paris"), len(context))


def test_a_question_longer_than_half_a_window_is_cut_and_counted_once(tokenizer):
    example = QuestionExample("red " * 50, "blue " * 60, ((0, "blue"),))
    task = QuestionAnswering(max_tokens=43, stride=4).fit([example])
    (features,) = task.encode([example], tokenizer, gold=True)
    assert [feature.cut for feature in features][:2] == [30, 0]


def logits_of(feature, null: float, start: int, end: int, score: float) -> Output:
    logits = np.full((2, feature.length), -20.0, dtype=np.float32)
    logits[:, 0] = null / 2
    logits[0, start], logits[1, end] = score / 2, score / 2
    return Output(feature, logits)


def test_no_answer_is_given_only_when_the_data_has_such_and_the_odds_say_so(tokenizer):
    answered, without = parse(answer="ada"), parse(answers=[])
    task = QuestionAnswering().fit([answered, without])
    (features,) = task.encode([answered], tokenizer, gold=True)
    first, last = features[0].arrays["labels"]
    sure, unsure = (task.decode(answered, [logits_of(features[0], null, first, last, 4.0)]) for null in (2.0, 6.0))
    assert (sure["answer"], sure["null_score"]) == ("ada", pytest.approx(-2))
    assert (unsure["answer"], unsure["start"], unsure["end"], unsure["null_score"]) == ("", None, None, pytest.approx(2))
    assert unsure["n_best"][0]["answer"] == "ada"
    always = QuestionAnswering().fit([answered])
    assert always.decode(answered, [logits_of(features[0], 6.0, first, last, 4.0)])["answer"] == "ada"


def test_the_threshold_is_tuned_on_validation(tokenizer):
    answered, without = parse(answer="ada"), parse(answers=[])
    task = QuestionAnswering().fit([answered, without])
    (features,) = task.encode([answered], tokenizer, gold=True)
    first, last = features[0].arrays["labels"]
    scored = [(answered, task.decode(answered, [logits_of(features[0], 7.0, first, last, 4.0)]))] * 3
    scored += [(without, task.decode(without, [logits_of(features[0], 9.0, first, last, 4.0)]))] * 2
    tuned = task.calibrate(scored)
    assert 3.0 <= tuned.null_threshold < 5.0
    again = tuned.decode(answered, [logits_of(features[0], 7.0, first, last, 4.0)])
    assert again["answer"] == "ada"


def test_answers_have_a_longest_length(tokenizer):
    example = QuestionExample("who ?", "red " * 30, ((0, "red"),))
    task = QuestionAnswering(max_answer_tokens=3).fit([example])
    (features,) = task.encode([example], tokenizer, gold=True)
    logits = np.zeros((2, features[0].length), dtype=np.float32)
    first = int(np.flatnonzero(features[0].facts["starts"] >= 0)[0])
    logits[0, first], logits[1, first + 10] = 9.0, 9.0
    for found in task.decode(example, [Output(features[0], logits)])["n_best"]:
        assert len(found["answer"].split()) <= 3


@pytest.mark.parametrize(
    ("question", "word"),
    [
        ("Who sings?", "who"),
        ("Whose song is it, and what is it?", "who"),
        ("Somewhat like whatever?", "other"),
        ("NBA是什么时候成立的？", "when"),
        ("故宫在什么地方？", "where"),
        ("有多少人？", "how"),
        ("他几乎忘了哪个城市？", "which"),
        ("In what year?", "what"),
        ("Name it.", "other"),
        ("谁在唱歌？", "who"),
        ("为什么？", "why"),
        ("What's up", "what"),
    ],
)
def test_questions_are_sorted_by_their_word(question, word):
    assert question_word(question) == word


def test_an_argument_is_question_tab_context():
    assert dict(QuestionAnswering().question("who ?\tada sings")) == {"question": "who ?", "context": "ada sings"}
    with pytest.raises(InputError, match="there is no context"):
        QuestionAnswering().question("who ?")


def test_an_excerpt_marks_gold_and_predicted_in_the_text_shown():
    start = 400
    context = "x " * 200 + "ada sings in paris" + " y" * 300
    example = QuestionExample("who ?", context, ((start, "ada"),))
    prediction = {"answer": "paris", "start": context.index("paris"), "end": context.index("paris") + 5, "score": 0.9}
    shown = QuestionAnswering().excerpt(example, prediction)
    assert {shown.text[mark.start : mark.end]: mark.kind for mark in shown.marks} == {"ada": "gold", "paris": "predicted"}
    assert shown.severity > 0


def test_a_repaired_offset_moves_the_label_too(tokenizer):
    (features,) = QuestionAnswering().encode([parse(answer="paris", answer_start=3)], tokenizer, gold=True)
    feature = features[0]
    first, last = feature.arrays["labels"]
    assert CONTEXT[feature.facts["starts"][first] : feature.facts["ends"][last]] == "paris"


def test_labels_are_those_of_the_tokens_that_the_answer_touches(tokenizer):
    context = "red rivers, old-town: 42 blue"
    (tokens,) = tokenizer.tokenize([context])
    spans = [(start, end) for start in range(len(context)) for end in range(start + 1, len(context) + 1)]
    examples = [QuestionExample("who ?", context, ((start, context[start:end]),)) for start, end in spans]
    for (start, end), (feature,) in zip(spans, QuestionAnswering().encode(examples, tokenizer, gold=True), strict=True):
        touched = [i for i in range(len(tokens)) if tokens.starts[i] < end and tokens.ends[i] > start]
        shift = int(np.flatnonzero(feature.facts["starts"] == 0)[0])
        wanted = [touched[0] + shift, touched[-1] + shift] if touched else [-100, -100]
        assert feature.arrays["labels"].tolist() == wanted


def test_an_answer_that_no_window_holds_whole_teaches_nothing(tokenizer):
    long = QuestionExample("who ?", "red " * 100, ((0, "red " * 90),))
    short = QuestionExample("who ?", "red " * 100, ((0, "red " * 90), (4, "red red")))
    task = QuestionAnswering(max_tokens=30, stride=8)
    of_long, of_short = task.encode([long, short], tokenizer, gold=True)
    assert {tuple(feature.arrays["labels"].tolist()) for feature in of_long} == {(-100, -100)}
    assert of_short[0].arrays["labels"].tolist() == [5, 6]  # the next reference, after [CLS] who ? [SEP] red
    assert of_short[-1].arrays["labels"].tolist() == [0, 0]


def test_a_large_overlap_never_makes_more_than_two_windows_of_one_stretch(tokenizer):
    example = QuestionExample("who ?", "red " * 100)
    (features,) = QuestionAnswering(max_tokens=25, stride=1000).encode([example], tokenizer, gold=False)
    assert len(features) == 9  # room for 20 tokens, 10 of them new


@pytest.mark.parametrize("options", [{"stride": -1}, {"max_answer_tokens": 0}, {"n_best": 0}, {"n_best": 21}])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        QuestionAnswering(**options)


@pytest.mark.parametrize("seed", range(20))
def test_the_n_best_are_those_of_a_search_through_every_span_of_every_window(tokenizer, seed):
    rng = np.random.default_rng(seed)
    context = " ".join(rng.choice(["red", "blue", "old", "x7", "ada,"], 40).tolist())
    example = QuestionExample("who ?", context, ())
    task = QuestionAnswering(max_tokens=24, stride=6, max_answer_tokens=4, n_best=20, has_no_answer=True)
    (features,) = task.encode([example], tokenizer, gold=False)
    outputs = [Output(feature, rng.normal(size=(2, feature.length)).astype(np.float32)) for feature in features]
    logits: dict[tuple[int, int], float] = {}
    for output in outputs:
        starts, ends = output.feature.facts["starts"], output.feature.facts["ends"]
        for first in np.flatnonzero(starts >= 0):
            for last in range(first, min(first + 4, len(starts))):
                if starts[last] >= 0:
                    span = int(starts[first]), int(ends[last])
                    logits[span] = max(logits.get(span, -99.0), float(output.logits[0, first] + output.logits[1, last]))
    best = sorted(logits, key=lambda span: -logits[span])[:20]
    null = min(float(output.logits[0, 0] + output.logits[1, 0]) for output in outputs)
    shares = np.exp([*(logits[span] for span in best), null])
    found = task.decode(example, outputs)
    assert [(item["start"], item["end"]) for item in found["n_best"]] == best
    assert [item["answer"] for item in found["n_best"]] == [context[start:end] for start, end in best]
    assert [item["score"] for item in found["n_best"]] == pytest.approx(shares[:-1] / shares.sum(), abs=2e-6)
    assert found["null_score"] == pytest.approx(null - logits[best[0]], abs=2e-6)
    assert found["answer"] == ("" if null > logits[best[0]] else context[slice(*best[0])])


def test_a_context_without_tokens_has_no_answer_and_stays_json(tokenizer):
    example = QuestionExample("who ?", "\u200b")
    task = QuestionAnswering()
    (features,) = task.encode([example], tokenizer, gold=False)
    found = task.decode(example, [Output(features[0], np.zeros((2, features[0].length), dtype=np.float32))])
    assert (found["answer"], found["start"], found["n_best"]) == ("", None, [])
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_an_answer_has_no_white_space_around_it_whatever_the_tokens_hold():
    arrays = {"input_ids": np.arange(3, dtype=np.int32)}
    facts = {"starts": np.array([-1, 0, 3], dtype=np.int32), "ends": np.array([-1, 3, 7], dtype=np.int32)}
    logits = np.array([[-9, -9, 9], [-9, -9, 9]], dtype=np.float32)
    found = QuestionAnswering().decode(QuestionExample("who ?", "by  Ada"), [Output(Feature(arrays, facts), logits)])
    assert (found["answer"], found["start"], found["end"]) == ("Ada", 4, 7)


def test_the_row_at_the_tuned_threshold_is_still_answered(tokenizer):
    answered, without = parse(answer="ada"), parse(answers=[])
    task = QuestionAnswering().fit([answered, without])
    (features,) = task.encode([answered], tokenizer, gold=True)
    first, last = features[0].arrays["labels"]
    outputs = [logits_of(features[0], 7.123456789, first, last, 4.0)]
    far = [logits_of(features[0], 9.0, first, last, 4.0)]
    tuned = task.calibrate([(answered, task.decode(answered, outputs)), (without, task.decode(without, far))])
    assert tuned.decode(answered, outputs)["answer"] == "ada"
    assert tuned.decode(without, far)["answer"] == ""


def test_rows_of_one_kind_do_not_move_the_threshold(tokenizer):
    answered = parse(answer="ada")
    task = QuestionAnswering(has_no_answer=True, null_threshold=1.5)
    (features,) = task.encode([answered], tokenizer, gold=True)
    first, last = features[0].arrays["labels"]
    assert task.calibrate([(answered, task.decode(answered, [logits_of(features[0], 7.0, first, last, 4.0)]))]) == task


def scored(task: QuestionAnswering, pairs) -> Counter:
    total: Counter = Counter()
    for example, answer in pairs:
        total.update(task.measure(example, {"answer": answer}))
    return total


def test_metrics_are_split_by_answerability_where_the_data_knows_both():
    answered, without = parse(answers=["ada sings", "ada"]), parse(answers=[])
    pairs = [(answered, "ada"), (answered, "bob"), (answered, "ada sings in"), (without, ""), (without, "rome")]
    task = QuestionAnswering(has_no_answer=True)
    total = scored(task, pairs)
    assert task.summarize(total) == pytest.approx(
        {"f1": (1 + 0.8 + 1) / 5, "exact_match": 2 / 5, "has_answer_f1": 1.8 / 3, "no_answer_accuracy": 0.5}
    )
    words, kinds = task.tables(total)
    assert words.rows == (("who", pytest.approx(0.4), pytest.approx(0.56), 5),)
    assert [(name, rows) for name, _, _, rows in kinds.rows] == [("answerable", 3), ("unanswerable", 2)]
    assert set(QuestionAnswering().summarize(scored(QuestionAnswering(), pairs[:3]))) == {"f1", "exact_match"}


def test_rows_without_an_answer_are_named_where_training_had_none():
    examples = [parse(answer="ada"), parse(answers=[]), parse(answers=[])]
    assert "test: 2 rows have no answer" in QuestionAnswering().notes(examples, "test")[0]
    assert QuestionAnswering().notes(examples[:1], "test") == ()
    assert QuestionAnswering(has_no_answer=True).notes(examples, "test") == ()


def test_far_apart_spans_are_shown_in_two_pieces():
    context = "ada " + "x " * 1000 + "paris " + "y " * 1000
    place = context.index("paris")
    prediction = {"answer": "paris", "start": place, "end": place + 5, "score": 0.9}
    shown = QuestionAnswering().excerpt(QuestionExample("who ?", context, ((0, "ada"),)), prediction)
    assert len(shown.text) < 400
    assert {shown.text[mark.start : mark.end]: mark.kind for mark in shown.marks} == {"ada": "gold", "paris": "predicted"}
    right = QuestionAnswering().excerpt(QuestionExample("who ?", context, ((place, "paris"),)), prediction)
    assert [(right.text[mark.start : mark.end], mark.kind) for mark in right.marks] == [("paris", "both")]
    assert (right.severity, right.note) == (0, "who ?")


def test_the_sentence_baseline_takes_the_sentence_with_the_rarest_shared_words():
    context = "The town is old. The river is long!  Ada lives by the river of Rome. 北京是首都。红色很好。"
    baseline = BestSentence()
    baseline.fit([QuestionExample("", context), QuestionExample("", "The river is red. The river is blue.")])
    for question, answer in (("Who lives in Rome?", "Ada lives by the river of Rome."), ("哪里是首都", "北京是首都。")):
        found = baseline.predict(QuestionExample(question, context))
        assert found["answer"] == answer == context[found["start"] : found["end"]]
    assert baseline.predict(QuestionExample("who ?", " ... "))["answer"] == "..."


def test_no_answer_is_a_baseline_only_where_the_data_knows_it():
    names = [baseline.name for baseline in QuestionAnswering(has_no_answer=True).baselines()]
    assert names == ["best_sentence", "no_answer"]
    assert [baseline.name for baseline in QuestionAnswering().baselines()] == ["best_sentence"]
    assert NoAnswer().predict(parse())["start"] is None
