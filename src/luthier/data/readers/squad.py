"""SQuAD files, versions 1.1 and 2.0 (Rajpurkar et al., 2016 and 2018)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from luthier.data.readers import reader
from luthier.data.readers.file import DataFile
from luthier.data.readers.json_files import flaw_in, is_squad, loads
from luthier.data.rows import Row
from luthier.errors import InputError, RowError


@reader("squad")
def read_squad(file: DataFile) -> Iterator[Row | RowError]:
    """Yield one row a question: id, question, context, answers, is_impossible. Rows are numbered from 1.

    The title of an article is the document of its rows.
    """
    try:
        value = loads(file.text())
    except ValueError as error:
        raise InputError(f"this is no JSON ({error})", where=file.name) from error
    if not is_squad(value):
        what = 'there is no "data" with articles and their "paragraphs"'
        raise InputError(what, where=file.name, fix="Is it another format? See data.format.")
    number = 0
    for place, article in enumerate(value["data"], 1):
        title = article.get("title") if isinstance(article, dict) else None
        document = title if isinstance(title, str) and title else str(place)
        paragraphs = article.get("paragraphs") if isinstance(article, dict) else None
        if not isinstance(paragraphs, list):
            number += 1
            yield RowError(f'article {place} has no array "paragraphs"', where=f"{file.name}:{number}")
            continue
        for paragraph in paragraphs:
            questions = paragraph.get("qas") if isinstance(paragraph, dict) else None
            if not isinstance(questions, list):
                number += 1
                yield RowError(f'a paragraph of "{document}" has no array "qas"', where=f"{file.name}:{number}")
                continue
            for question in questions:
                number += 1
                yield _question(question, paragraph, file, number, document)


def _question(question: Any, paragraph: dict[str, Any], file: DataFile, number: int, document: str) -> Row | RowError:
    where = f"{file.name}:{number}"
    flaw = flaw_in(question) or flaw_in(paragraph.get("context"))
    if flaw is not None:
        return RowError(flaw, where=where)
    if not isinstance(question, dict):
        return RowError("a question is no object", where=where)
    values: dict[str, Any] = {"question": question.get("question"), "context": paragraph.get("context")}
    if "id" in question:
        values["id"] = question["id"]
    if "answers" in question:
        values["answers"] = question["answers"]
    if "is_impossible" in question:
        values["is_impossible"] = question["is_impossible"]
    return Row(values, file=file.name, line=number, document=document)
