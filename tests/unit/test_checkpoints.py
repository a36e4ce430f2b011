from pathlib import Path

import pytest

from luthier.checkpoints import Checkpoints


def write(text: str):
    return lambda folder: (folder / "weights.bin").write_text(text, encoding="utf-8")


def test_the_newest_of_several_is_found_with_its_state_and_facts(tmp_path: Path):
    checkpoints = Checkpoints(tmp_path / "checkpoints", keep=2, facts={"data": {"train": "abc"}})
    for step in (3, 12, 7):
        checkpoints.save(step, {"step": step}, write(str(step)), best=None)
    newest = checkpoints.newest()
    assert (newest.step, newest.state, newest.facts) == (12, {"step": 12}, {"data": {"train": "abc"}})


def test_old_ones_go_but_never_the_best(tmp_path: Path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step in range(1, 7):
        checkpoints.save(step, {}, write("x"), best=2 if step >= 2 else None)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-000002", "step-000005", "step-000006"]


@pytest.mark.parametrize("damage", ["flip", "cut", "missing file", "missing manifest", "manifest cut", "manifest nonsense"])
def test_a_damaged_one_is_passed_over(tmp_path: Path, damage: str):
    checkpoints = Checkpoints(tmp_path, keep=5)
    checkpoints.save(1, {}, write("good"), best=None)
    folder = checkpoints.save(2, {}, write("bad luck"), best=None)
    weights, manifest = folder / "weights.bin", folder / "manifest.json"
    if damage == "flip":
        weights.write_bytes(b"Bad luck")
    elif damage == "cut":
        weights.write_bytes(b"bad")
    elif damage == "missing file":
        weights.unlink()
    elif damage == "missing manifest":
        manifest.unlink()
    elif damage == "manifest cut":
        manifest.write_text(manifest.read_text(encoding="utf-8")[:20], encoding="utf-8")
    else:
        manifest.write_text("[1, 2]", encoding="utf-8")
    assert checkpoints.newest().step == 1
    assert checkpoints.at(2) is None
    assert checkpoints.damaged() == [folder]


def test_a_folder_that_was_being_written_is_no_checkpoint(tmp_path: Path):
    def fail(folder: Path) -> None:
        (folder / "weights.bin").write_text("half", encoding="utf-8")
        raise OSError("the disk is full")

    checkpoints = Checkpoints(tmp_path, keep=2)
    checkpoints.save(1, {}, write("good"), best=None)
    with pytest.raises(OSError, match="full"):
        checkpoints.save(2, {}, fail, best=None)
    assert checkpoints.newest().step == 1
    checkpoints.save(2, {}, write("second try"), best=None)
    assert checkpoints.newest().step == 2
