import json
import warnings

import numpy as np
import pytest

from luthier.baselines.token_classification import MostFrequentTag
from luthier.data.rows import Row
from luthier.errors import InputError
from luthier.heads import IGNORED
from luthier.tasks.tagged_text import TaggedText, entities_of
from luthier.tasks.task import Output
from luthier.tasks.token_classification import TokenClassification
from tiny_tokenizer import tiny_tokenizer

tokenizer = pytest.fixture(scope="module")(tiny_tokenizer)


def parsed(**values) -> TaggedText:
    return TokenClassification().parse(Row(values, file="a.jsonl", line=3))


def tagged(sentence: str) -> TaggedText:
    """Read ``ada/B-PER sings/O``."""
    pairs = [word.rsplit("/", 1) for word in sentence.split()]
    return parsed(tokens=[word for word, _ in pairs], tags=[tag for _, tag in pairs])


def fitted(*examples: TaggedText, **options) -> TokenClassification:
    return TokenClassification(**options).fit(examples or [tagged("ada/B-PER lives/O in/O rome/B-LOC")])


def span(start: int, end: int, label: str = "LOC", **more) -> dict:
    return {"start": start, "end": end, "label": label, **more}


def cut(text: str, places) -> list[str]:
    return [text[start:end] for start, end in places]


def test_classes_are_learned_in_order():
    assert fitted().labels == ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")


@pytest.mark.parametrize(
    ("sentences", "scheme"),
    [
        (["ada/B-PER bob/I-PER", "rome/B-LOC"], "IOB2"),
        (["ada/I-PER bob/B-PER", "rome/I-LOC"], "IOB1"),
        (["ada/B-PER bob/E-PER", "rome/S-LOC"], "BIOES"),
        (["ada/B-PER bob/L-PER", "rome/U-LOC"], "BILOU"),
        (["in/O"] * 3 + ["rome/I-LOC"], "IOB1"),
        (["rome/B-LOC", "ada/B-PER", "rome/I-LOC"], "IOB2"),
    ],
)
def test_the_scheme_of_the_tags_is_learned_and_the_classes_are_iob2_in_any_case(sentences, scheme):
    task = fitted(*map(tagged, sentences))
    assert task.scheme == scheme
    assert {label[0] for label in task.labels} == set("OBI")


def test_rows_with_spans_have_no_scheme():
    assert fitted(parsed(text="in rome", spans=[span(3, 7)])).scheme == ""


def test_a_split_in_another_scheme_is_read_and_said():
    task = fitted(tagged("ada/B-PER lives/O in/O rome/B-LOC"))
    other = tagged("ada/I-PER bob/B-PER")
    assert task.notes([other], "test") == ["test: the tags are written in IOB1, those of training in IOB2; both are read."]
    assert task.notes([tagged("in/O"), tagged("rome/B-LOC")], "test") == []


def test_rows_without_any_entity_teach_nothing():
    with pytest.raises(InputError, match="no entity in any row"):
        fitted(tagged("in/O town/O"))


def test_only_the_first_token_of_a_word_is_labelled(tokenizer):
    task = fitted()
    (feature,) = task.encode([tagged("ada/B-PER zyx/I-PER rome/B-LOC")], tokenizer, gold=True)[0]
    none = IGNORED
    assert feature.facts["words"].tolist() == [-1, 0, 1, -1, -1, 2, -1]
    assert feature.arrays["labels"].tolist() == [none, 3, 4, none, none, 1, none]
    assert feature.arrays["labels"].dtype == feature.facts["words"].dtype == np.int32


def test_what_prediction_sees_is_the_same_without_gold(tokenizer):
    task = fitted(max_tokens=12)
    examples = [tagged("ada/B-PER zyx/O " * 9), tagged("rome/B-LOC")]
    with_gold = task.encode(examples, tokenizer, gold=True)
    without = task.encode(examples, tokenizer, gold=False)
    for left, right in zip(with_gold, without, strict=True):
        for first, second in zip(left, right, strict=True):
            assert set(second.arrays) == {"input_ids", "token_type_ids"}
            assert all(np.array_equal(first.arrays[name], second.arrays[name]) for name in second.arrays)
            assert np.array_equal(first.facts["words"], second.facts["words"])


def random_example(rng: np.random.Generator, num_words: int, longest: int) -> TaggedText:
    words = ["".join(rng.choice(list("abc"), rng.integers(1, longest + 1))) for _ in range(num_words)]
    tags = rng.choice(["O", "B-PER", "I-PER", "B-LOC", "I-LOC"], num_words)
    return parsed(tokens=words, tags=tags.tolist())


@pytest.mark.parametrize("longest", [1, 5, 9])
@pytest.mark.parametrize("stride", [0, 3, 64])
def test_every_word_of_a_long_text_belongs_to_exactly_one_window(tokenizer, stride, longest):
    rng = np.random.default_rng(stride + longest)
    task = fitted(max_tokens=12, stride=stride)
    for num_words in (1, 9, 10, 11, 40, 97):
        example = random_example(rng, num_words, longest)
        features = task.encode([example], tokenizer, gold=True)[0]
        owned = [word for feature in features for word in feature.facts["words"].tolist() if word >= 0]
        assert owned == list(range(num_words))
        tokens = tokenizer.tokenize_words([cut(example.text, example.words)])[0]
        starts = {int(place) for place in np.flatnonzero(np.diff(tokens.words, prepend=-1))}
        covered: set[int] = set()
        for feature in features:
            assert feature.length <= 12
            assert feature.cut == 0
            inner = feature.arrays["input_ids"][1:-1]
            begins = [at for at in starts if np.array_equal(tokens.ids[at : at + len(inner)], inner)]
            assert begins
            assert any(at + len(inner) in {*starts, len(tokens)} for at in begins)
            covered.update(*(range(at, at + len(inner)) for at in begins))
        assert covered == set(range(len(tokens)))


def test_windows_overlap_by_the_stride_and_a_word_goes_where_it_has_more_context(tokenizer):
    task = fitted(max_tokens=12, stride=4)
    features = task.encode([parsed(tokens=["red"] * 22)], tokenizer, gold=False)[0]
    owned = [[int(word) for word in feature.facts["words"] if word >= 0] for feature in features]
    assert owned == [list(range(8)), list(range(8, 14)), list(range(14, 22))]
    assert [feature.length for feature in features] == [12, 12, 12]


def test_of_a_word_longer_than_a_window_the_rest_is_cut_and_counted(tokenizer):
    task = fitted(max_tokens=12)
    example = tagged(f"red/O {'a' * 25}/B-PER blue/O")
    features = task.encode([example], tokenizer, gold=True)[0]
    assert sum(feature.cut for feature in features) == 15
    assert [word for feature in features for word in feature.facts["words"].tolist() if word >= 0] == [0, 1, 2]
    assert task.decode(example, oracle(task, features))["entities"][0]["text"] == "a" * 25


def oracle(task: TokenClassification, features) -> list[Output]:
    """Return logits that point at the labels, and elsewhere at something wrong."""
    outputs = []
    for feature in features:
        labels = np.where(feature.arrays["labels"] == IGNORED, 1, feature.arrays["labels"])
        outputs.append(Output(feature, 8 * np.eye(len(task.labels), dtype=np.float32)[labels]))
    return outputs


@pytest.mark.parametrize("max_tokens", [12, 30, 128])
def test_logits_that_are_right_give_the_gold_entities(tokenizer, max_tokens):
    rng = np.random.default_rng(max_tokens)
    examples = [random_example(rng, num_words, 4) for num_words in range(1, 60)]
    task = fitted(max_tokens=max_tokens)
    total: dict[str, float] = {}
    for example, features in zip(examples, task.encode(examples, tokenizer, gold=True), strict=True):
        prediction = task.decode(example, oracle(task, features))
        found = [{key: entity[key] for key in ("start", "end", "label", "text")} for entity in prediction["entities"]]
        assert {"entities": found} == task.gold(example)
        for key, value in task.measure(example, prediction).items():
            total[key] = total.get(key, 0.0) + value
    assert task.summarize(total) == {"f1": 1.0, "precision": 1.0, "recall": 1.0, "macro_f1": 1.0}


def test_the_score_of_an_entity_is_the_mean_probability_of_its_words(tokenizer):
    task = fitted()
    example = parsed(text="ada zyx lives")
    (feature,) = task.encode([example], tokenizer, gold=False)[0]
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(feature.length, 5)).astype(np.float32)
    logits[1, 3] = logits[2, 4] = 4.0
    logits[5, 0] = 9.0
    prediction = task.decode(example, [Output(feature, logits)])
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    (entity,) = prediction["entities"]
    assert entity == {"start": 0, "end": 7, "label": "PER", "text": "ada zyx", "score": entity["score"]}
    assert entity["score"] == pytest.approx((shares[1, 3] + shares[2, 4]) / 2, abs=1e-5)
    assert json.loads(json.dumps(prediction)) == prediction


def test_a_word_without_a_token_is_outside(tokenizer):
    task = fitted()
    example = parsed(tokens=["ada", "\u200d", "rome"])
    assert cut(example.text, example.words)[1] == "\u200d"
    (feature,) = task.encode([example], tokenizer, gold=False)[0]
    assert feature.facts["words"].tolist() == [-1, 0, 2, -1]
    logits = np.tile(np.asarray([0, 0, 0, 5, 0], dtype=np.float32), (4, 1))
    found = task.decode(example, [Output(feature, logits)])["entities"]
    assert [entity["text"] for entity in found] == ["ada", "rome"]


def test_a_label_that_training_has_not_seen_is_masked_missed_and_named(tokenizer):
    task = fitted()
    example = tagged("acme/B-ORG in/O rome/B-LOC")
    (feature,) = task.encode([example], tokenizer, gold=True)[0]
    assert feature.arrays["labels"].tolist() == [IGNORED, IGNORED, 0, 1, IGNORED]
    total = task.measure(example, {"entities": [span(8, 12)]})
    assert total["fn/ORG"] == total["~error/missed"] == 1
    assert task.summarize(total)["recall"] == 0.5
    assert task.notes([example], "test") == [
        'test: the label "ORG" of 1 entities is unknown to training; they count as missed.'
    ]
    assert ("ORG", 0.0, 0.0, 0.0, 1) in task.tables(total)[0].rows


def test_entities_that_begin_inside_a_word_are_noted():
    example = parsed(text="the iPhone7", spans=[span(4, 10, "THING")])
    assert "inside a word" in fitted(example).notes([example], "test")[0]


def test_tables_show_each_label_and_each_kind_of_error():
    task = fitted()
    example = tagged("ada/B-PER lives/O in/O rome/B-LOC")
    total = task.measure(example, {"entities": [span(0, 3), span(4, 9), span(10, 17)]})
    by_label, by_kind = task.tables(total)
    assert by_label.rows == (("LOC", 0.0, 0.0, 0.0, 1), ("PER", 0.0, 0.0, 0.0, 1))
    assert by_kind.kind == "bars"
    assert by_kind.rows == (("boundary", 1), ("type", 1), ("both", 0), ("missed", 0), ("spurious", 1))


def test_the_figures_of_a_split_equal_those_of_seqeval():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from seqeval.metrics import f1_score, precision_score, recall_score

    rng = np.random.default_rng(0)
    task = fitted()
    gold, found = [], []
    total: dict[str, float] = {}
    for num_words in range(1, 40):
        tags = rng.choice(["O", "B-PER", "I-PER", "B-LOC", "I-LOC"], (2, num_words)).tolist()
        tags[1] = [right if keep else other for right, other, keep in zip(*tags, rng.random(num_words) < 0.6, strict=True)]
        gold.append(tags[0])
        found.append(tags[1])
        example = parsed(tokens=["ada"] * num_words, tags=tags[0])
        for key, value in task.measure(example, entities_of(example, tags[1], [1.0] * num_words)).items():
            total[key] = total.get(key, 0.0) + value
    expected = {
        "f1": f1_score(gold, found),
        "precision": precision_score(gold, found),
        "recall": recall_score(gold, found),
        "macro_f1": f1_score(gold, found, average="macro"),
    }
    assert task.summarize(total) == pytest.approx(expected, abs=1e-12)
    assert 0 < expected["f1"] < 1


def test_no_counts_at_all_give_zeros():
    assert set(fitted().summarize({}).values()) == {0.0}


def test_an_excerpt_marks_what_is_right_missed_and_wrong():
    task = fitted()
    example = tagged("ada/B-PER lives/O in/O rome/B-LOC")
    excerpt = task.excerpt(example, {"entities": [span(0, 3, "PER", score=0.9), span(4, 9, "LOC", score=0.5)]})
    assert [(mark.start, mark.end, mark.label, mark.kind) for mark in excerpt.marks] == [
        (0, 3, "PER", "both"),
        (4, 9, "LOC", "predicted"),
        (13, 17, "LOC", "gold"),
    ]
    assert (excerpt.gold, excerpt.predicted) == ("ada (PER), rome (LOC)", "ada (PER), lives (LOC)")
    assert excerpt.severity == 1.5
    assert excerpt.note == "1 missed, 1 spurious"
    right = task.excerpt(example, {"entities": [span(0, 3, "PER", score=0.9), span(13, 17, score=0.9)]})
    assert right.severity == 0


def test_a_row_is_told_apart_by_text_and_entities():
    task = fitted()
    same, other = tagged("ada/B-PER sings/O"), tagged("ada/B-LOC sings/O")
    assert task.identity(same) == task.identity(parsed(text="ada sings", spans=[span(0, 3, "PER")]))
    assert task.identity(same)[0] == task.identity(other)[0]
    assert task.identity(same)[1] != task.identity(other)[1]
    assert (task.stratum(same), task.stratum(other), task.stratum(tagged("in/O"))) == ("PER", "LOC", "")


def test_a_question_is_a_text():
    task = fitted()
    assert task.parse(task.question("ada sings")).words == ((0, 3), (4, 9))


def test_a_fitted_task_survives_json():
    task = fitted(max_tokens=40, stride=7)
    assert TokenClassification.from_json(json.loads(json.dumps(task.to_json()))) == task


def test_an_untuned_model_lends_its_classes(tokenizer):
    task = TokenClassification().adopt({"id2label": {"0": "O", "10": "E-LOC", "2": "S-LOC", "1": "PER"}})
    assert task.labels == ("O", "I-PER", "S-LOC", "E-LOC")
    example = parsed(text="ada rome")
    (feature,) = task.encode([example], tokenizer, gold=False)[0]
    logits = np.eye(4, dtype=np.float32)[[0, 1, 2, 0]]
    assert [entity["label"] for entity in task.decode(example, [Output(feature, logits)])["entities"]] == ["PER", "LOC"]


@pytest.mark.parametrize("names", [{"0": "LABEL_0", "1": "LABEL_1"}, {}])
def test_a_model_that_is_no_tagger_is_refused(names):
    with pytest.raises(InputError, match='no class of the model is "O"'):
        TokenClassification().adopt({"id2label": names})


def test_the_baseline_gives_each_word_its_most_frequent_tag():
    baseline = MostFrequentTag()
    baseline.fit([tagged("rome/B-LOC rome/B-LOC rome/O ada/B-PER bob/I-PER"), tagged("ada/B-PER ada/B-PER ada/B-LOC")])
    example = tagged("ada/B-PER bob/I-PER likes/O rome/B-LOC")
    assert baseline.predict(example) == {
        "entities": [
            {"start": 0, "end": 7, "label": "PER", "text": "ada bob", "score": 0.875},
            {"start": 14, "end": 18, "label": "LOC", "text": "rome", "score": 0.666667},
        ]
    }


def test_a_stride_below_zero_is_refused():
    with pytest.raises(ValueError, match="0 or more tokens"):
        TokenClassification(stride=-1)
