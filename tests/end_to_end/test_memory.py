"""Evaluation takes no more memory for ten times the rows."""

import os
import sys
from pathlib import Path

import pytest

from end_to_end.conftest import write_table


def peak_of(arguments: list[str], cwd: Path) -> int:
    """Run a command and return the peak of its resident memory in kB."""
    process = os.posix_spawn(sys.executable, [sys.executable, "-m", "luthier", *arguments], {**os.environ, "PWD": str(cwd)})
    _, status, usage = os.wait4(process, 0)
    assert status == 0
    return usage.ru_maxrss


@pytest.mark.slow
def test_ten_times_the_rows_take_less_than_a_tenth_more(settings: list[str], tmp_path: Path):
    import luthier

    luthier.train(None, *settings, "train.duration=1 steps", f"output={tmp_path / 'run'}")
    small, large = (write_table(tmp_path / f"{rows}.csv", rows, seed=3) for rows in (1000, 10_000))
    first, second = (
        peak_of(["evaluate", str(tmp_path / "run"), "--data", str(path), "--output", f"{path}.jsonl", "--json"], tmp_path)
        for path in (small, large)
    )
    assert second < 1.1 * first
