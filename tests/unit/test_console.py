import dataclasses
import io
from pathlib import Path
from types import SimpleNamespace

import pytest

import sample_reports as samples
from luthier.console import (
    ConsoleObserver,
    open_console,
    show_data,
    show_doctor,
    show_evaluation,
    show_next,
    show_predictions,
    show_samples,
    show_scores,
    show_settings,
)
from luthier.events import Event
from luthier.report import SplitSummary
from luthier.tasks.task import Excerpt


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.delenv("FORCE_COLOR", raising=False)


def lines(show, *values) -> list[str]:
    stream = io.StringIO()
    show(*values, file=stream)
    return [line.rstrip() for line in stream.getvalue().splitlines()]


def words(show, *values) -> str:
    return " ".join(" ".join(lines(show, *values)).split())


REPORT = samples.classification()


def test_the_data_table_holds_every_count_in_sixty_columns():
    found = lines(show_data, REPORT.splits, REPORT.findings, REPORT.notes)
    assert all(len(line) <= 60 for line in found)
    assert found[2].split() == ["split", "rows", "used", "truncated", "skipped", "rejected", "tokens"]
    for line, split in zip(found[3:6], REPORT.splits, strict=True):
        name, *counts = line.split()
        assert name == split.name
        expected = [split.rows, split.used, split.truncated, split.skipped, split.rejected, split.tokens]
        assert [int(count.replace(",", "")) for count in counts] == expected


def test_truncation_reasons_findings_and_notes_are_said():
    said = words(show_data, REPORT.splits, REPORT.findings, REPORT.notes)
    assert "train: 18,422 tokens of 112 rows lie beyond the limit and are cut" in said
    assert 'train: 3 rows: column "label" is empty' in said
    assert "rows that stand more than once: 41 (train.csv:17, train.csv:2203, train.csv:4417)" in said
    assert "note: The test split has 1 label that training never saw: coffee." in said


def test_only_the_first_reasons_are_listed_and_the_rest_counted():
    split = SplitSummary("train", 99, 0, 0, 0, 99, 0, 0, 0, {f"reason {at}": 11 for at in range(9)})
    said = words(show_data, [split], [], [])
    assert "reason 5" in said
    assert "reason 6" not in said
    assert "3 more reasons in the ledger" in said


def test_settings_and_facts_stand_in_columns():
    found = lines(show_settings, REPORT.settings, REPORT.facts)
    assert "  train.learning_rate  3e-4" in found
    assert "  precision             bfloat16 (avx512_bf16)" in found
    assert "  parameters            22,713,728" in found


def test_the_score_stands_beside_the_baselines_with_its_interval_and_the_verdict():
    found = lines(show_scores, REPORT)
    assert all(len(line) <= 60 for line in found)
    at = {line[:31].strip(): line[31:].split() for line in found}
    assert at["this model"] == ["0.962", "0.954", "to", "0.970"]
    assert at["TF-IDF with logistic regression"] == ["0.941", "0.931", "to", "0.951"]
    assert at["majority class"] == ["0.495", "0.474", "to", "0.515"]
    said = words(show_scores, REPORT)
    assert "Accuracy on the test split" in said
    assert "also: macro F1 0.921, loss 0.152" in said
    assert said.endswith(REPORT.verdict)


def test_without_a_score_the_verdict_alone_is_printed():
    assert words(show_scores, samples.bare()) == "There is no score."


def test_predictions_show_the_text_and_the_gold_answer_where_it_differs():
    found = [Excerpt("Shares\n fell  today", "acq", "acq", 0.0), Excerpt("x" * 500, "a", "", 1.0, note="Who?")]
    said = lines(show_predictions, found)
    assert said[2:4] == ["Shares fell today", "  -> acq"]
    assert said[-2:] == ["  Who?", "  -> (nothing)   (gold: a)"]
    assert sum(line.count("x") for line in said) == 160


def test_a_users_text_can_neither_style_nor_steer_the_terminal():
    said = "\n".join(lines(show_predictions, [Excerpt("[bold]a[/bold] :smile: \x1b[31m \u202e", "a", "a", 0.0)]))
    assert "[bold]a[/bold] :smile: [U+001B][31m [U+202E]" in said


def test_commands_are_never_wrapped():
    folder = Path("runs") / ("a very long name " * 5).strip()
    said = lines(show_next, folder)
    assert f"  report    {folder}/report.html" in said
    assert f"  predict   luthier predict '{folder}' \"Your text here\"" in said


def test_an_evaluation_prints_scores_and_tables_but_no_grid():
    report = samples.classification()
    said = words(show_evaluation, report.scores["test"], report.splits[2], [], [], report.tables["test"])
    assert "accuracy 0.962 0.954 to 0.970" in said
    assert "money-fx 0.870 0.885 0.875 116" in said
    assert "Confusion" not in said


def test_samples_are_listed_with_what_they_are_where_from_and_whether_here():
    common = {"licence": "MIT", "source": "pack==1.0", "task": "any"}
    said = words(
        show_samples,
        [
            {**common, "name": "minilm", "kind": "model", "description": "a BERT", "download_bytes": 83e6, "fetched": True},
            {**common, "name": "news", "kind": "data", "description": "stories", "download_bytes": 0, "fetched": False},
        ],
    )
    assert "minilm a BERT" in said
    assert "pack==1.0, 83 MB; licence MIT; here" in said
    assert "news any: stories" in said
    assert "luthier samples fetch news" in said


def test_the_doctor_says_what_is_missing_and_how_to_get_it():
    from luthier.doctor import Finding

    said = lines(show_doctor, [Finding("python", "ok", "3.11"), Finding("datasets", "note", "not installed", "pip install x")])
    assert said == ["ok       python: 3.11", "note     datasets: not installed", "         pip install x"]


def test_a_stream_that_cannot_hold_a_character_does_not_end_the_run():
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    show_predictions([Excerpt("中文", "a", "a", 0.0)], file=stream)
    stream.flush()
    assert b"??" in raw.getvalue()


def test_no_color_is_respected(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLORTERM", "")

    class Tty(io.StringIO):
        def isatty(self) -> bool:
            return True

    def colours() -> bool:
        stream = Tty()
        open_console(stream).print("x", style="cyan")
        return "\x1b[36m" in stream.getvalue()

    monkeypatch.delenv("NO_COLOR", raising=False)
    assert colours()
    monkeypatch.setenv("NO_COLOR", "1")
    assert not colours()


def test_an_observer_prints_a_whole_run_and_each_note_once():
    stream = io.StringIO()
    observer = ConsoleObserver(stream)
    report = dataclasses.replace(
        REPORT, notes=[*REPORT.notes, "Something new."], samples=[Excerpt("some text", "acq", "acq", 0.0)]
    )
    observer.stage("reading the data")
    observer.data(report.splits, report.findings, REPORT.notes)
    observer.settings(report.settings, report.facts)
    observer.event(Event("started", 0, {"total_steps": 2, "steps_per_epoch": 2, "epochs": 1.0, "rows": 64}))
    observer.event(Event("finished", 2, {"reason": "done", "best_step": None, "seconds": 1.0}))
    observer.report(report, SimpleNamespace(folder=Path("runs/news")))
    text = " ".join(stream.getvalue().split())
    order = [
        "reading the data ...",
        "Data",
        "coffee",
        "Settings",
        "Training",
        "64 rows, 1 epoch, 2 steps",
        "trained 2 steps in 1.0 s",
    ]
    order += ["0.962", "Fine-tuning was worth it", "Something new.", "some text", "-> acq", "runs/news/report.html"]
    places = [text.index(part) for part in order]
    assert places == sorted(places)
    assert text.count("coffee") == 1


def test_an_estimate_gives_a_range():
    stream = io.StringIO()
    ConsoleObserver(stream).estimate(
        {"steps": 465, "seconds": [100, 160], "memory_bytes": 1.9e9, "tokens_per_second": 16000.2, "loss": 1.1}
    )
    assert "1 min 40 s to 2 min 40 s" in stream.getvalue()
    assert "1.9 GB" in stream.getvalue()
