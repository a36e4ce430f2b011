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
    "translation": {
        "pairs": _rows(
            {"source": "the red town and the blue river", "target": "la ville rouge et la rivière bleue"},
            {"source": "who lives in paris ?", "target": "qui habite à paris ?"},
        ),
        "chinese": _rows({"source": "a good town , and long", "target": "一个 好 的 小镇 ， 很 长"}),
    },
    "summarization": {
        "pairs": _rows(
            {"source": "ada sings in rome . bob works . it was long .", "target": "ada sings and bob works ."},
            {"source": "the old town is green . no river .", "target": "a green town ."},
        ),
    },
    "text-generation": {
        "documents": _rows({"text": "the old town is green . no river ."}, {"text": "ada sings in rome . bob works ."}),
        "messages": _rows(
            {"messages": [{"role": "user", "content": "who sings ?"}, {"role": "assistant", "content": "ada sings ."}]},
            {"messages": [{"role": "system", "content": "short ."}, {"role": "user", "content": "where ?"},
                          {"role": "assistant", "content": "in paris ."}, {"role": "user", "content": "and bob ?"},
                          {"role": "assistant", "content": "in rome ."}]},
        ),
        "prompts": _rows({"prompt": "who sings ?", "response": "ada sings ."}),
        "alpaca": _rows({"instruction": "who sings ?", "output": "ada sings ."}),
        "sharegpt": _rows(
            {"conversations": [{"from": "human", "value": "who sings ?"}, {"from": "gpt", "value": "ada sings ."}]},
        ),
    },
}  # fmt: skip


def longer(row: Row) -> Row:
    """Return the row with sixty more words, which change no answer."""
    values = dict(row)
    for role in {"text", "text_pair", "context", "source", "prompt", "instruction"} & set(values):
        values[role] += " red" * 60
    for role, key in (("messages", "content"), ("conversations", "value")):
        if role in values:
            first, *others = values[role]
            values[role] = [{**first, key: first[key] + " red" * 60}, *others]
    for role, word in (("tokens", "red"), ("tags", "O")):
        if role in values:
            values[role] = [*values[role], *[word] * 60]
    return row.renamed(values)
