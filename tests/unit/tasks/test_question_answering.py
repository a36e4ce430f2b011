import numpy as np
import pytest

from luthier.data.rows import Row
from luthier.errors import InputError, RowError
from luthier.tasks.answers import DROPPED, GUESSED, REPAIRED
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
        {"is_impossible": "true", "answer": "ada"},
        {"answer": ""},
        {"answers": [], "is_impossible": True},
    ],
)
def test_no_answer_is_read_too(values):
    assert parse(**values).answers == ()


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
    with pytest.raises(RowError, match=r"q\.json:7: .*does not stand in the context at 90"):
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
