import pytest

from luthier.data.rows import Row
from luthier.errors import RowError
from luthier.tasks.tagged_text import INSIDE_WORD, NO_SCHEME, TRIMMED, TaggedText
from luthier.tasks.token_classification import TokenClassification
from luthier.tasks.words import join_words, words_of


def parsed(**values) -> TaggedText:
    return TokenClassification().parse(Row(values, file="a.jsonl", line=3))


def tagged(sentence: str) -> TaggedText:
    """Read ``ada/B-PER sings/O``."""
    pairs = [word.rsplit("/", 1) for word in sentence.split()]
    return parsed(tokens=[word for word, _ in pairs], tags=[tag for _, tag in pairs])


def span(start: int, end: int, label: str = "LOC", **more) -> dict:
    return {"start": start, "end": end, "label": label, **more}


def cut(text: str, places) -> list[str]:
    return [text[start:end] for start, end in places]


def test_words_and_tags_become_a_text_with_character_spans():
    example = parsed(tokens=["In", "New", "York", "."], tags=["O", "B-LOC", "I-LOC", "O"])
    assert example.text == "In New York ."
    assert cut(example.text, example.words) == ["In", "New", "York", "."]
    assert example.entities == ((3, 11, "LOC"),)


def test_no_blank_stands_between_two_chinese_or_japanese_characters():
    text, places = join_words(["我", "在", "北京", "，", "用", "Python", "3", "写", "한국", "어"])
    assert text == "我在北京，用 Python 3 写 한국 어"
    assert cut(text, places) == ["我", "在", "北京", "，", "用", "Python", "3", "写", "한국", "어"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("It's 3.5%  now.", ["It", "'", "s", "3", ".", "5", "%", "now", "."]),
        ("我用Python3写。", ["我", "用", "Python3", "写", "。"]),
        ("東京タワー", ["東", "京", "タ", "ワ", "ー"]),
        ("cafe\u0301s hier", ["cafe\u0301s", "hier"]),
        ("हिन्दी में", ["हिन्दी", "में"]),
        ("a😀 b", ["a", "😀", "b"]),
        ("ไป", ["ไ", "ป"]),
    ],
)
def test_a_text_is_cut_into_words(text, words):
    assert cut(text, words_of(text)) == words


def test_a_text_with_spans_gives_what_tagged_words_give():
    by_spans = parsed(text="ada lives in rome", spans=[span(13, 17), span(0, 3, "PER")])
    assert by_spans == tagged("ada/B-PER lives/O in/O rome/B-LOC")
    assert parsed(text="ada lives in rome", spans=[[13, 17, "LOC"], [0, 3, "PER"]]) == by_spans


def test_a_span_may_begin_inside_a_word_and_the_row_says_so():
    example = parsed(text="the iPhone7", spans=[span(4, 10, "THING")])
    assert cut(example.text, example.words) == ["the", "iPhone", "7"]
    assert example.remark == INSIDE_WORD


def test_white_space_at_the_borders_of_a_span_is_left_out_and_the_row_says_so():
    example = parsed(text="in rome now", spans=[span(2, 8)])
    assert example.entities == ((3, 7, "LOC"),)
    assert example.remark == TRIMMED


@pytest.mark.parametrize("values", [{"text": "in rome"}, {"tokens": ["in", "rome"]}, {"text": "in rome", "spans": None}])
def test_a_row_for_prediction_has_no_gold(values):
    example = parsed(**values)
    assert example.entities is None
    assert TokenClassification().gold(example) is None


def test_a_row_without_entities_has_gold():
    assert TokenClassification().gold(parsed(text="in town", spans=[])) == {"entities": []}
    assert TokenClassification().gold(tagged("in/O town/O")) == {"entities": []}


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, "there are neither tokens nor a text"),
        ({"tokens": []}, 'column "tokens": found nothing'),
        ({"tokens": "a b"}, 'found "a b", expected a list of words'),
        ({"tokens": ["a", ""]}, "word 2 is nothing"),
        ({"tokens": ["a", " \t"]}, "word 2 is"),
        ({"tokens": ["a", 7]}, "word 2 is 7"),
        ({"tokens": ["a"], "tags": ["O", "O"]}, 'column "tags": 2 tags for 1 tokens'),
        ({"tokens": ["a"], "tags": "O"}, 'found "O", expected a list of tags'),
        ({"tokens": ["a"], "tags": [3]}, "tag 1 is 3, expected a name"),
        ({"tokens": ["a"], "tags": ["PER"]}, 'found the tag "PER"'),
        ({"text": " "}, 'column "text": the text is empty'),
        ({"text": "a", "tags": ["O"]}, "no tokens that they belong to"),
        ({"text": "a b", "spans": "LOC"}, 'column "spans": found "LOC"'),
        ({"text": "a b", "spans": [[0, 1]]}, "expected {start, end, label} or [start, end, label]"),
        ({"text": "a b", "spans": [["LOC", 0, 1]]}, "expected two whole numbers"),
        ({"text": "a b", "spans": [span(0, 4)]}, "0 to 4 does not lie in the text of 3"),
        ({"text": "a b", "spans": [span(-1, 1)]}, "does not lie"),
        ({"text": "a b", "spans": [span(1, 1)]}, "does not lie"),
        ({"text": "a b", "spans": [span(1, 2)]}, "1 to 2 is blank"),
        ({"text": "a b", "spans": [span(0, 1), span(0, 3)]}, "the spans at 0 and 0 overlap"),
        ({"text": "a b", "spans": [span(0, "1")]}, "expected two whole numbers"),
        ({"text": "a b", "spans": [span(0, 1, "")]}, "expected two whole numbers and a name"),
        ({"text": "a b", "spans": [span(0, 1, text="b")]}, 'stands "a", not "b"'),
    ],
)
def test_a_row_that_cannot_be_used_names_file_line_and_reason(values, said):
    with pytest.raises(RowError, match=r"^a\.jsonl:3: ") as caught:
        parsed(**values)
    assert said in str(caught.value)


def test_tags_that_break_every_scheme_are_read_and_the_row_says_so():
    example = tagged("in/O ada/I-PER rome/B-LOC")
    assert example.entities == ((3, 6, "PER"), (7, 11, "LOC"))
    assert example.remark == NO_SCHEME
