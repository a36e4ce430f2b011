"""A task's tables as HTML: plain ones, bars, and the confusion grid."""

from __future__ import annotations

from collections.abc import Sequence

from luthier.report.formats import count, number
from luthier.report.markup import Html, element, escaped, join
from luthier.tasks.task import Table

MAX_CLASSES = 20
"""Classes of a confusion grid; above it the most frequent confusions are listed instead."""
_MAX_CONFUSIONS = 25

Cell = str | int | float | None


def draw_table(table: Table) -> Html:
    """Draw a table of the report as its kind says, with its title and note."""
    kinds = {"confusion": _confusion, "bars": _bars, "table": _plain}
    body = kinds[table.kind](table) if table.rows else element("p", "Nothing to show.", class_="quiet")
    note = element("p", table.note, class_="quiet") if table.note else Html("")
    return element("section", element("h4", _sentence(table.title)), note, body, class_="panel")


def data_table(columns: Sequence[str], rows: Sequence[Sequence[str | Html]], *, label: str, sortable: bool = False) -> Html:
    """Return a table whose first column heads its rows and whose other cells are figures.

    It scrolls inside its own frame where it is wider or longer than the page allows.
    """
    left = [index == 0 or (bool(rows) and not _is_figure(rows[0][index])) for index in range(len(columns))]
    head = join(
        element("th", name, scope="col", class_=None if first else "n") for name, first in zip(columns, left, strict=True)
    )
    body = join(element("tr", element("th", row[0], scope="row"), *(_figure(cell) for cell in row[1:])) for row in rows)
    table = element(
        "table", element("thead", element("tr", head)), element("tbody", body), class_="sortable" if sortable else None
    )
    return element("div", table, class_="scroll", role="region", aria_label=label, tabindex=0)


def cell_text(cell: Cell) -> str:
    """Return a cell as written: counts whole, other numbers with three decimals, a dash for nothing."""
    if cell is None:
        return "–"
    if isinstance(cell, float):
        return number(cell)
    return count(cell) if isinstance(cell, int) else cell


def _is_figure(cell: str | Html) -> bool:
    return not isinstance(cell, Html) or 'class="n' in cell.partition(">")[0]


def _figure(cell: str | Html) -> Html:
    return cell if isinstance(cell, Html) else element("td", cell, class_="n")


def _plain(table: Table) -> Html:
    rows = [[cell_text(row[0]), *(_cell(cell) for cell in row[1:])] for row in table.rows]
    return data_table(table.columns, rows, label=table.title, sortable=len(rows) > 3)


def _cell(cell: Cell) -> Html:
    """Return a table cell; a score has a thin bar under it."""
    if isinstance(cell, str):
        return element("td", cell, dir="auto")
    if isinstance(cell, float) and 0 <= cell <= 1:
        return element("td", cell_text(cell), class_="n score", style=f"--v:{cell:.3f}")
    return element("td", cell_text(cell), class_="n")


def _bars(table: Table) -> Html:
    values = [float(row[1]) if isinstance(row[1], (int, float)) else 0.0 for row in table.rows]
    largest = max([*values, 1.0 if all(isinstance(row[1], float) for row in table.rows) else 0.0]) or 1.0
    body: list[Html] = []
    for row, value in zip(table.rows, values, strict=True):
        bar = element("td", element("span", style=f"--v:{max(value, 0.0) / largest:.4f}"), class_="bar", aria_hidden="true")
        name = element("th", cell_text(row[0]), scope="row", dir="auto")
        body.append(element("tr", name, bar, element("td", cell_text(row[1]), class_="n")))
    head = element(
        "tr",
        element("th", table.columns[0], scope="col"),
        element("td", class_="bar", aria_hidden="true"),
        element("th", table.columns[1], scope="col", class_="n"),
    )
    return element("table", element("thead", head), element("tbody", *body), class_="bars")


def _confusion(table: Table) -> Html:
    if max(len(table.rows), len(table.columns) - 1) > MAX_CLASSES:
        return _confusions(table)
    corner = element("td", element("span", "gold ↓"), " ", element("span", "predicted →"), class_="corner")
    names = table.columns[1:]
    head = [corner, *(element("th", element("span", name, title=name), scope="col", class_="turned") for name in names)]
    body = [_confusion_row(names, row) for row in table.rows]
    grid = element("table", element("thead", element("tr", *head)), element("tbody", *body), class_="grid")
    key = (
        "A row is a gold label, a column a predicted one. Framed cells on the diagonal are right; "
        "the stronger the colour of a cell, the larger its share of its row."
    )
    frame = element("div", grid, class_="scroll fit", role="region", aria_label=table.title, tabindex=0)
    return join([frame, element("p", key, class_="quiet")])


def _confusion_row(names: Sequence[str], row: Sequence[Cell]) -> Html:
    gold = cell_text(row[0])
    counts = [int(cell) if isinstance(cell, (int, float)) else 0 for cell in row[1:]]
    total = sum(counts) or 1
    cells: list[Html] = []
    for name, value in zip(names, counts, strict=True):
        share = value / total
        level = 0 if not value else 1 + sum(share > edge for edge in (0.02, 0.1, 0.3, 0.6))
        right = name == gold
        said = f"gold {gold}, predicted {name}: {count(value)} of {count(total if any(counts) else 0)} ({share:.1%})"
        cells.append(
            element("td", count(value) if value else "·", class_=f"{'right' if right else 'wrong'} l{level}", title=said)
        )
    head = element("th", element("span", gold, title=gold), scope="row")
    return element("tr", head, *cells)


def _confusions(table: Table) -> Html:
    """List the most frequent confusions of a grid that would be too large to read."""
    pairs = [
        (int(cell), str(row[0]), name)
        for row in table.rows
        for name, cell in zip(table.columns[1:], row[1:], strict=True)
        if isinstance(cell, (int, float)) and cell and name != row[0]
    ]
    pairs.sort(key=lambda pair: (-pair[0], pair[1:]))
    rows = [[gold, element("td", name, dir="auto"), count(value)] for value, gold, name in pairs[:_MAX_CONFUSIONS]]
    more = (
        f"; the {_MAX_CONFUSIONS} most frequent of {count(len(pairs))} kinds of confusion"
        if len(pairs) > _MAX_CONFUSIONS
        else ""
    )
    said = f"{count(len(table.rows))} classes are too many for a grid, so this lists what was taken for what{more}."
    if not pairs:
        return element("p", "No class was taken for another one.", class_="quiet")
    return join([element("p", said, class_="quiet"), data_table(["gold", "predicted", "rows"], rows, label=table.title)])


def _sentence(title: str) -> Html:
    return escaped(title[:1].upper() + title[1:])
