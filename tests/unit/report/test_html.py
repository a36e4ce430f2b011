import base64
import dataclasses
import hashlib
import re
from itertools import pairwise
from pathlib import Path

import pytest

import sample_reports as samples
from luthier.metrics import Score
from luthier.report import Curve, Finding, Report
from luthier.report.html import page, write_html
from luthier.tasks.task import Excerpt, Mark, Table
from page_tree import Node, Tree

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)> \u202egnp.exe\u202c \x1b[31m `a` & b"


def read(report: Report) -> Node:
    return Tree(page(report)).root


def hostile() -> Report:
    """A report that holds the hostile text wherever a user's text can stand."""
    table = Table(HOSTILE, (HOSTILE, HOSTILE), ((HOSTILE, 0.5), (HOSTILE, HOSTILE)), note=HOSTILE)
    bars = Table(HOSTILE, (HOSTILE, HOSTILE), ((HOSTILE, 3),), kind="bars")
    grid = Table(HOSTILE, (HOSTILE, HOSTILE), ((HOSTILE, 3),), kind="confusion")
    score = Score(0.5, 0.4, 0.6, 10)
    return dataclasses.replace(
        samples.classification(),
        **dict.fromkeys(("name", "task", "model", "verdict", "created"), HOSTILE),
        settings={HOSTILE: HOSTILE, "output": HOSTILE},
        facts={HOSTILE: HOSTILE},
        splits=[dataclasses.replace(samples.classification().splits[0], name=HOSTILE, reasons={HOSTILE: 1})],
        findings=[Finding(HOSTILE, 2, (HOSTILE,))],
        curves=[Curve(HOSTILE, ((1, 2.0), (2, 1.0)))],
        scores={HOSTILE: {"accuracy": score, HOSTILE: score}},
        baselines={HOSTILE: {"accuracy": score}},
        tables={HOSTILE: [table, bars, grid]},
        excerpts=[Excerpt(HOSTILE, HOSTILE, HOSTILE, 1.0, (Mark(0, 8, HOSTILE, "gold"),), note=HOSTILE)],
        notes=[HOSTILE],
    )


REPORTS = [samples.classification, samples.tagging, samples.answering, samples.bare, hostile]


@pytest.mark.parametrize("make", REPORTS)
def test_the_page_is_well_formed(make):
    root = read(make())
    assert [child.tag for child in root.children if isinstance(child, Node)] == ["html"]
    assert root.all("html")[0].attributes["lang"] == "en"
    ids = [node.attributes["id"] for node in root.all() if "id" in node.attributes]
    assert len(ids) == len(set(ids))
    assert {link.attributes["href"].removeprefix("#") for link in root.all("a")} <= set(ids)


@pytest.mark.parametrize("make", REPORTS)
def test_the_page_asks_nothing_of_a_network(make):
    text = page(make())
    assert "@import" not in text
    assert "url(" not in text
    for node in Tree(text).root.all():
        assert "src" not in node.attributes
        assert node.attributes.get("href", "#").startswith(("#", "data:,"))
        assert node.tag not in ("iframe", "object", "embed", "form", "base", "img")


@pytest.mark.parametrize("make", REPORTS)
def test_headings_are_in_order_and_tables_and_pictures_can_be_read_aloud(make):
    root = read(make())
    levels = [int(node.tag[1]) for node in root.all() if re.fullmatch("h[1-6]", node.tag)]
    assert levels.count(1) == 1
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert all(node.attributes["scope"] in ("row", "col") for node in root.all("th"))
    charts = root.all("svg", "chart")
    for chart in charts:
        assert chart.attributes["role"] == "img"
        assert [child.tag for child in chart.children if isinstance(child, Node)][:2] == ["title", "desc"]
        assert all(len(chart.all(tag)[0].text) > 3 for tag in ("title", "desc"))


def test_what_users_wrote_is_text_and_nothing_else():
    root = read(hostile())
    assert len(root.all("script")) == 1
    assert not root.all("img")
    assert not [name for node in root.all() for name in node.attributes if name.startswith("on")]
    text = page(hostile())
    assert "\u202e" not in text
    assert "\x1b" not in text
    assert "<script>alert(1)</script>" in root.all("h1")[0].text
    assert "[U+202E]" in root.all("h1")[0].text


def test_only_the_pages_own_script_may_run():
    root = read(samples.classification())
    policy = next(
        n.attributes["content"] for n in root.all("meta") if n.attributes.get("http-equiv") == "Content-Security-Policy"
    )
    digest = base64.b64encode(hashlib.sha256(root.all("script")[0].text.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'")


def test_a_text_that_utf8_cannot_hold_is_written_all_the_same(tmp_path: Path):
    report = dataclasses.replace(samples.bare(), name="a\ud800b", notes=["nul \x00"])
    write_html(report, tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "a[U+D800]b" in text
    assert "nul [U+0000]" in text


def sections(report: Report) -> list[str]:
    main = read(report).all("main")[0]
    return [node.attributes["id"] for node in main.children if isinstance(node, Node) and node.tag == "section"]


def test_every_section_is_there_and_an_empty_one_is_not():
    assert sections(samples.classification()) == ["scores", "details", "errors", "training", "data", "settings", "use"]
    assert sections(samples.bare()) == ["use"]
    assert "training" not in sections(dataclasses.replace(samples.tagging(), curves=[], training={}))


def test_without_baselines_the_model_stands_alone():
    root = read(dataclasses.replace(samples.classification(), baselines={}))
    assert [node.text for node in root.all("text", "name")] == ["this model"]
    assert root.all("p", "big")[0].text == "0.962"


def test_without_a_score_there_is_no_chart_and_no_list_of_errors():
    root = read(samples.bare())
    assert not root.all("svg")
    assert not root.all("div", "hero")
    assert root.all("p", "verdict")[0].text == "There is no score."


def test_only_a_validation_split_is_the_main_split():
    report = samples.classification()
    report = dataclasses.replace(report, scores={"validation": report.scores["validation"]})
    root = read(report)
    assert root.all("p", "big")[0].text == "0.960"
    assert "accuracy, validation split" in root.all("div", "hero")[0].text


def test_a_headline_without_an_interval_says_so():
    report = dataclasses.replace(samples.bare(), scores={"test": {"accuracy": Score(0.5, None, None, 4)}})
    assert "no interval was computed" in read(report).all("div", "hero")[0].text


def rows_of(table: Node) -> list[list[str]]:
    return [[cell.text for cell in row.all() if cell.tag in ("td", "th")] for row in table.all("tbody")[0].all("tr")]


def test_the_scores_on_the_page_are_the_reports():
    report = samples.classification()
    tables = [div.all("table")[0] for div in read(report).all("div", "scroll")]
    test, validation = tables[0], tables[1]
    assert rows_of(test) == [
        ["accuracy", "0.962", "0.954 to 0.970", "0.495 (0.474 to 0.515)", "0.941 (0.931 to 0.951)"],
        ["macro F1", "0.921", "0.901 to 0.940", "0.083 (0.080 to 0.085)", "0.861 (0.830 to 0.890)"],
        ["loss", "0.152", "0.130 to 0.171", "–", "–"],
    ]
    assert rows_of(validation)[0] == ["accuracy", "0.960", "0.942 to 0.974"]


def test_baselines_stand_from_the_best_down():
    names = [node.text for node in read(samples.classification()).all("text", "name")]
    assert names == ["this model", "TF-IDF with logistic regression", "majority class"]


def test_the_ledger_on_the_page_is_the_reports():
    report = samples.classification()
    root = read(report)
    table = next(div for div in root.all("div", "scroll") if "every input row" in div.attributes["aria-label"])
    for row, split in zip(rows_of(table.all("table")[0]), report.splits, strict=True):
        numbers = [
            split.rows,
            split.used,
            split.truncated,
            split.skipped,
            split.rejected,
            split.tokens,
            split.targets,
            split.cut_tokens,
        ]
        assert [int(cell.replace(",", "")) for cell in row[1:]] == numbers
    first = root.all("div", "stack")[0]
    assert [node.attributes["style"] for node in first.all("span")] == [
        "flex-grow:4820",
        "flex-grow:112",
        "flex-grow:2",
        "flex-grow:3",
    ]
    assert len(root.all("div", "stack")[1].all("span")) == 2  # nothing is drawn for none


def test_the_confusion_grid_holds_every_count_and_frames_what_is_right():
    table = samples.confusion()
    root = read(samples.classification())
    grid = root.all("table", "grid")[0]
    cells = [[cell.text.replace(",", "") for cell in row.all("td")] for row in grid.all("tbody")[0].all("tr")]
    assert cells == [[str(value) if value else "·" for value in row[1:]] for row in table.rows]
    for index, row in enumerate(grid.all("tbody")[0].all("tr")):
        assert [at for at, cell in enumerate(row.all("td")) if "right" in cell.attributes["class"]] == [index]
    assert grid.all("td", "right")[0].attributes["title"].startswith("gold acq, predicted acq: 671 of 696 (96.4%)")


def test_the_stronger_the_colour_the_larger_the_share():
    names = ("a", "b", "c", "d", "e", "f")
    table = Table("t", ("gold", *names), (("a", 0, 1, 9, 20, 40, 70),), kind="confusion")
    report = dataclasses.replace(samples.classification(), tables={"test": [table]})
    levels = [cell.attributes["class"].split()[1] for cell in read(report).all("table", "grid")[0].all("tbody")[0].all("td")]
    assert levels == ["l0", "l1", "l2", "l3", "l3", "l4"]


def test_more_than_twenty_classes_become_a_list_of_confusions():
    names = tuple(f"c{at}" for at in range(40))
    rows = tuple(
        (name, *(90 if at == other else 40 - at if other == (at + 1) % 40 else 0 for other in range(40)))
        for at, name in enumerate(names)
    )
    report = dataclasses.replace(
        samples.classification(), tables={"test": [Table("confusion", ("gold", *names), rows, kind="confusion")]}
    )
    root = read(report)
    assert not root.all("table", "grid")
    listed = rows_of(
        next(div for div in root.all("div", "scroll") if div.attributes["aria-label"] == "confusion").all("table")[0]
    )
    assert listed[:2] == [["c0", "c1", "40"], ["c1", "c2", "39"]]
    assert len(listed) == 25
    assert "25 most frequent of 40 kinds" in root.all("section", "panel")[0].text


def test_bars_are_as_long_as_their_numbers():
    bars = read(samples.tagging()).all("table", "bars")[0]
    lengths = [float(node.attributes["style"].removeprefix("--v:")) for node in bars.all("span")]
    assert lengths == pytest.approx([61 / 97, 48 / 97, 1.0, 72 / 97], abs=1e-4)
    assert [row[-1] for row in rows_of(bars)] == ["61", "48", "97", "72"]


def test_a_table_without_rows_says_that_there_is_nothing():
    report = dataclasses.replace(samples.classification(), tables={"test": [Table("by class", ("class", "F1"), ())]})
    assert "Nothing to show." in read(report).all("section", "panel")[0].text


def test_a_value_that_is_not_finite_is_left_out_of_a_curve_and_said():
    curve = Curve("loss", ((1, 2.0), (2, float("nan")), (3, 1.0)))
    figures = read(dataclasses.replace(samples.classification(), curves=[curve])).all("figure")
    assert "1 value not finite" in figures[-1].text
    only = Curve("loss", ((1, float("inf")),))
    assert "1 value not finite" in read(dataclasses.replace(samples.classification(), curves=[only])).all("figure")[-1].text


def luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(first: str, second: str) -> float:
    light, dark = sorted((luminance(first), luminance(second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def mixed(first: str, second: str, share: float) -> str:
    pairs = [(int(first[at : at + 2], 16), int(second[at : at + 2], 16)) for at in (1, 3, 5)]
    return "#" + "".join(f"{round(a * share + b * (1 - share)):02x}" for a, b in pairs)


@pytest.mark.parametrize("mode", [0, 1], ids=["light", "dark"])
def test_text_can_be_read_in_light_and_dark(mode: int):
    style = read(samples.bare()).all("style")[0].text
    blocks = re.findall(r":root \{(.*?)\}", style, re.DOTALL)
    colours = dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", blocks[0])) | dict(
        re.findall(r"--(\w+): (#[0-9a-f]{6})", blocks[mode])
    )
    for ground in ("paper", "card", "wash"):
        for ink in ("ink", "soft", "ours", "other", "good", "bad", "warn"):
            assert contrast(colours[ink], colours[ground]) >= 4.5, (ink, ground)
    strongest = max(int(share) for share in re.findall(r"var\(--hue\) (\d+)%", style)) / 100
    for hue in ("ours", "other"):
        assert contrast(colours["ink"], mixed(colours[hue], colours["card"], strongest)) >= 4.5
        assert contrast(colours["card"], colours[hue]) >= 4.5
