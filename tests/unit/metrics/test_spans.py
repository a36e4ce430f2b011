import random
import warnings
from itertools import pairwise

import pytest

from luthier.metrics import classification as metrics
from luthier.metrics.spans import SCHEMES, error_kinds, schemes_of_tags, span_counts, spans_of_tags, tag_parts, tags_of_spans

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from seqeval.metrics import f1_score, precision_score, recall_score
    from seqeval.metrics.sequence_labeling import get_entities

LABELS = ("PER", "LOC", "x-y", "a/b")


def random_tags(rng: random.Random, prefixes: str) -> list[str]:
    return ["O" if rng.random() < 0.3 else f"{rng.choice(prefixes)}-{rng.choice(LABELS)}" for _ in range(rng.randint(1, 12))]


@pytest.mark.parametrize("prefixes", ["BI", "I", "BIES"])
def test_random_tags_are_read_as_seqeval_reads_them(prefixes):
    rng = random.Random(0)
    for _ in range(2000):
        tags = random_tags(rng, prefixes)
        assert spans_of_tags(tags) == [(start, last + 1, label) for label, start, last in get_entities(tags)]


WANTED = [(1, 3, "PER"), (3, 4, "PER"), (5, 6, "LOC"), (6, 8, "PER")]


@pytest.mark.parametrize(
    "tags",
    [
        "O I-PER I-PER B-PER O I-LOC I-PER I-PER",
        "O B-PER I-PER B-PER O B-LOC B-PER I-PER",
        "O B-PER E-PER S-PER O S-LOC B-PER E-PER",
        "O B-PER L-PER U-PER O U-LOC B-PER L-PER",
    ],
    ids=["IOB1", "IOB2", "BIOES", "BILOU"],
)
def test_the_same_entities_are_read_from_every_scheme(tags):
    assert spans_of_tags(tags.split()) == WANTED


RULES = {
    "IOB2": {"O": "O B", "B": "O B I", "I": "O B I"},
    "BIOES": {"O": "O B S", "B": "I E", "I": "I E", "E": "O B S", "S": "O B S"},
    "BILOU": {"O": "O B U", "B": "I L", "I": "I L", "L": "O B U", "U": "O B U"},
    "BMES": {"O": "O B S", "B": "M E", "M": "M E", "E": "O B S", "S": "O B S"},
}


def allowed(tags: list[str], scheme: str) -> bool:
    """Walk through the tags, asking of each neighbour whether it may follow: an oracle for schemes_of_tags."""
    parts = [("O", ""), *(tag_parts(tag) for tag in tags), ("O", "")]
    for (before, label), (after, other) in pairwise(parts):
        if scheme == "IOB1":
            if after not in "OIB" or (after == "B" and (before == "O" or label != other)):
                return False
            continue
        if before not in RULES[scheme] or after not in RULES[scheme][before].split():
            return False
        if after in "IMEL" and label != other:
            return False
    return True


@pytest.mark.parametrize("prefixes", ["BI", "BIES", "BILU", "BMES"])
def test_a_row_of_tags_names_the_schemes_that_allow_it(prefixes):
    rng = random.Random(2)
    seen = set()
    for _ in range(3000):
        labels = rng.sample(LABELS, rng.choice([1, 1, 2]))
        tags = ["O" if rng.random() < 0.3 else f"{rng.choice(prefixes)}-{rng.choice(labels)}" for _ in range(rng.randint(1, 5))]
        expected = tuple(scheme for scheme in SCHEMES if allowed(tags, scheme))
        assert schemes_of_tags(tags, spans_of_tags(tags)) == expected
        seen.add(expected)
    assert () in seen
    assert SCHEMES in seen
    assert len(seen) > 2


def test_bmes_marks_the_inside_with_m():
    assert spans_of_tags(["B-PER", "M-PER", "E-PER", "S-PER"]) == [(0, 3, "PER"), (3, 4, "PER")]


def test_a_prefix_alone_is_an_entity_without_a_name():
    assert spans_of_tags(["O", "B", "I", "O", "I"]) == [(1, 3, "_"), (4, 5, "_")]


@pytest.mark.parametrize("tag", ["", "PER", "o", "B-", "B_PER", "X-PER", "-PER", "0", "BPER"])
def test_a_tag_of_no_scheme_is_refused(tag):
    with pytest.raises(ValueError, match=f"^{tag}$"):
        tag_parts(tag)
    with pytest.raises(ValueError, match=f"^{tag}$"):
        spans_of_tags(["O", tag])


def test_entities_written_as_tags_are_read_back():
    rng = random.Random(1)
    for _ in range(500):
        tags = random_tags(rng, "BIES")
        spans = spans_of_tags(tags)
        written = tags_of_spans(spans, len(tags))
        assert spans_of_tags(written) == spans
        assert set(written) <= {"O", *(f"{prefix}-{label}" for prefix in "BI" for label in LABELS)}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.UndefinedMetricWarning")
@pytest.mark.parametrize("seed", range(20))
def test_the_figures_equal_those_of_seqeval(seed):
    rng = random.Random(seed)
    gold = [random_tags(rng, "BI" if seed % 2 else "BIES") for _ in range(seed * 3 + 1)]
    found = [[tag if rng.random() < 0.7 else rng.choice(["O", "B-PER", "I-LOC", "I-PER"]) for tag in tags] for tags in gold]
    total: dict[str, float] = {}
    for wanted, predicted in zip(gold, found, strict=True):
        for key, value in span_counts(spans_of_tags(wanted), spans_of_tags(predicted)).items():
            total[key] = total.get(key, 0.0) + value
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = (precision_score(gold, found), recall_score(gold, found), f1_score(gold, found))
        macro = f1_score(gold, found, average="macro")
    assert metrics.micro(total) == pytest.approx(expected, abs=1e-12)
    assert metrics.macro_f1(total) == pytest.approx(macro, abs=1e-12)


@pytest.mark.parametrize(
    ("gold", "found", "kinds"),
    [
        ([(0, 4, "A")], [(0, 4, "A")], {}),
        ([(0, 4, "A")], [], {"missed": 1}),
        ([], [(0, 4, "A")], {"spurious": 1}),
        ([(0, 4, "A")], [(0, 6, "A")], {"boundary": 1}),
        ([(0, 4, "A")], [(0, 4, "B")], {"type": 1}),
        ([(0, 4, "A")], [(2, 6, "B")], {"both": 1}),
        ([(0, 6, "A")], [(0, 3, "B"), (3, 6, "C")], {"both": 1}),
        ([(0, 9, "A")], [(0, 4, "B"), (5, 9, "A")], {"boundary": 1}),
        ([(0, 4, "A"), (5, 9, "A")], [(0, 9, "A")], {"boundary": 2}),
        ([(0, 4, "A")], [(4, 6, "A")], {"missed": 1, "spurious": 1}),
    ],
)
def test_an_error_is_counted_once_by_its_kind(gold, found, kinds):
    assert error_kinds(gold, found) == kinds
