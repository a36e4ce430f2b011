"""Rows for each registered task; the contract suite asserts that none is missing."""

from luthier.data.rows import Row


def _rows(*values) -> list[Row]:
    return [Row(value, file="case.jsonl", line=number) for number, value in enumerate(values, 1)]


CASES: dict[str, dict[str, list[Row]]] = {
    "text-classification": {
        "single": _rows(
            {"text": "red blue", "label": "a"}, {"text": "old town", "label": "b"}, {"text": "green", "label": "a"},
        ),
        "pairs": _rows(
            {"text": "red", "text_pair": "blue town", "label": "same"}, {"text": "old", "text_pair": "who", "label": "other"},
        ),
        "several": _rows({"text": "red", "label": ["a", "b"]}, {"text": "blue", "label": []}, {"text": "old", "label": ["b"]}),
        "number": _rows({"text": "red", "label": 0.5}, {"text": "blue", "label": 2.0}, {"text": "old", "label": 7.25}),
        "chinese": _rows({"text": "房间很好", "label": 1}, {"text": "太差", "label": 0}),
    },
    "token-classification": {
        "words": _rows(
            {"tokens": ["Ada", "lives", "in", "Paris", "."], "tags": ["B-PER", "O", "O", "B-LOC", "O"]},
            {"tokens": ["Acme", "Inc", "works"], "tags": ["I-ORG", "I-ORG", "O"]},
            {"tokens": ["no", "names"], "tags": ["O", "O"]},
        ),
        "spans": _rows(
            {"text": "Ada lives in Paris.", "spans": [{"start": 0, "end": 3, "label": "PER"},
                                                      {"start": 13, "end": 18, "label": "LOC"}]},
            {"text": "no names", "spans": []},
        ),
        "chinese": _rows({"tokens": list("我在北京"), "tags": ["O", "O", "B-LOC", "I-LOC"]}),
    },
    "question-answering": {
        "squad": _rows(
            {"question": "who sings ?", "context": "ada sings in paris .", "answers": {"text": ["ada"], "answer_start": [0]}},
            {"question": "where ?", "context": "ada sings in paris .", "answers": {"text": ["paris"], "answer_start": [13]}},
        ),
        "no answer": _rows(
            {"question": "who sings ?", "context": "ada sings in paris .", "answer": "ada", "answer_start": 0},
            {"question": "when ?", "context": "ada sings in paris .", "is_impossible": True, "answers": []},
        ),
    },
}  # fmt: skip


def longer(row: Row) -> Row:
    """Return the row with sixty more words, which change no answer."""
    values = dict(row)
    for role in {"text", "text_pair", "context"} & set(values):
        values[role] += " red" * 60
    for role, word in (("tokens", "red"), ("tags", "O")):
        if role in values:
            values[role] = [*values[role], *[word] * 60]
    return row.renamed(values)
