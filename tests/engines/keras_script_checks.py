"""Run by tests/parity/test_keras.py in a process of its own: the script of a Keras engine's run makes the run's steps.

python keras_script_checks.py ENGINE FOLDER
"""

import sys
from pathlib import Path

import pytest

from luthier.errors import InputError
from luthier.exporting import export
from script_cases import assert_same, ran, tiny_models, trained


def main(engine: str, folder: Path) -> None:
    """Train a model that writes, and one with a new head."""
    models = tiny_models(folder)
    run = trained(folder, models, "documents", engine=engine)
    result = export(run.folder, to="script")
    assert f"engine {engine}" in result.note
    assert_same(run, ran(result.folder / "train.py"), result.folder)

    run = trained(folder, models, "single", method={"name": "freeze", "layers": 1}, engine=engine)
    result = export(run.folder, to="script")
    assert "head begins with other weights" in (result.folder / "train.py").read_text(encoding="utf-8")
    assert "step 10/10" in ran(result.folder / "train.py")

    run = trained(folder, models, "single", method={"name": "lora", "rank": 2}, engine=engine)
    with pytest.raises(InputError, match="keeps no adapter"):
        export(run.folder, to="script")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
