import io

import pytest

from luthier.events import Event
from luthier.progress import Progress


class Tty(io.StringIO):
    def isatty(self) -> bool:
        return True


STARTED = Event(
    "started", 0, {"total_steps": 300, "steps_per_epoch": 100, "epochs": 3.0, "rows": 3200, "warmup_steps": 30}, 0.0
)
FINISHED = Event("finished", 300, {"reason": "done", "best_step": 300, "seconds": 131.4}, 400.0)


def progress(step: int, time: float) -> Event:
    values = {"rows": step * 32, "tokens": 1, "targets": 1, "loss": 0.41249, "learning_rate": 2.713e-4, "grad_norm": 1.0}
    return Event("progress", step, {"epoch": step / 100, "tokens_per_second": 16211.3, "seconds_left": 83.0, **values}, time)


def evaluated(step: int, *, best: bool = True) -> Event:
    metrics = {"macro_f1": 0.91, "accuracy": 0.951}
    return Event("evaluated", step, {"metrics": metrics, "headline": "accuracy", "best": best}, 0.0)


def printed(*events: Event) -> list[str]:
    stream = io.StringIO()
    with Progress(stream) as consumer:
        for event in events:
            consumer.consume(event)
    return stream.getvalue().splitlines()


def test_away_from_a_terminal_a_line_comes_at_most_every_ten_seconds():
    events = [progress(step, step * 1.0) for step in range(1, 36)]
    lines = printed(STARTED, *events)
    assert lines[0] == "3,200 rows, 3 epochs, 300 steps"
    assert [line.split("  ")[0] for line in lines[1:]] == [f"epoch 0.{step} of 3" for step in ("01", "11", "21", "31")]


def test_a_line_says_rows_speed_loss_rate_score_and_time_left():
    lines = printed(STARTED, evaluated(100), progress(130, 1.0))
    assert lines[-1] == (
        "epoch 1.30 of 3  4,160 rows  16,211 tokens/s  loss 0.412  learning rate 2.71e-4  accuracy 0.951  1 min 23 s left"
    )


def test_an_evaluation_gives_the_headline_first_and_says_when_it_is_the_best():
    lines = printed(STARTED, progress(100, 0.0), evaluated(100), evaluated(200, best=False))
    assert lines[-2] == "epoch 1.00: validation accuracy 0.951, macro F1 0.910 (best so far)"
    assert lines[-1] == "epoch 1.00: validation accuracy 0.951, macro F1 0.910"


@pytest.mark.parametrize("width", [60, 79, 100, 140])
def test_on_a_terminal_the_line_fits_and_keeps_epoch_and_loss(width: int):
    consumer = Progress(io.StringIO())
    for event in (STARTED, evaluated(100)):
        consumer.consume(event)
    line = consumer.line(progress(130, 0.0), width)
    assert len(line) <= width
    assert "epoch 1.30 of 3" in line
    assert "loss 0.412" in line
    assert "1 min 23 s left" in line
    assert line.startswith("[=====       ]") == (width == 140)


def test_on_a_terminal_the_line_renews_itself_and_goes_at_the_end(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("NO_COLOR", raising=False)
    stream = Tty()
    with Progress(stream) as consumer:
        for event in (STARTED, *(progress(step, 0.0) for step in range(1, 6))):
            consumer.consume(event)
        text = stream.getvalue()
        assert text.count("epoch 0.") == 5  # each one is shown, whatever the time
        assert text.count("\n") == 1
        assert "\x1b[?25l" in text
    assert "\x1b[?25h" in stream.getvalue()[len(text) :]  # the cursor is back


def test_the_end_says_how_long_it_took_and_which_weights_are_kept():
    assert printed(STARTED, FINISHED)[-1] == "trained 300 steps in 2 min 11 s"
    early = Event("finished", 200, {"reason": "patience", "best_step": 100, "seconds": 9.0}, 0.0)
    assert printed(STARTED, early)[-1] == (
        "trained 200 steps in 9.0 s; stopped early, as validation no longer improved; "
        "the weights of step 100, the best on validation, are kept"
    )


def test_a_step_that_was_not_applied_is_said_and_so_is_a_resume():
    lines = printed(
        Event("resumed", 120, {"folder": "runs/x/checkpoints/step-000120"}, 0.0),
        STARTED,
        Event("skipped_step", 130, {"grad_norm": "inf", "consecutive": 1}, 0.0),
    )
    assert lines[0] == "going on from step 120 (runs/x/checkpoints/step-000120)"
    assert lines[-1] == "step 130: the gradient was not finite (inf), so it was not applied"


def test_what_ends_a_run_early_is_left_to_its_error():
    before = printed(STARTED)
    assert printed(STARTED, Event("stopped", 3, {"signal": 2}), Event("diverged", 3, {"reason": "x", "kept": ""})) == before
