"""Writes runs' models for Keras and TensorFlow, and runs the snippet of each README. Run as a script:

    python keras_export_snippets.py OUTPUT.json MODEL_FOLDER ...

writes what each snippet printed, in the order of the folders: for Keras, then for TensorFlow.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import runpy
import shutil
import sys
import tempfile
from pathlib import Path

from luthier.engines.keras.backend import open_backend
from luthier.engines.keras.export_readme import readme
from luthier.engines.keras.exported import Format, head_of

open_backend("tensorflow", device="cpu", precision="float32")

from luthier.engines.keras.exporting import whole_model, write  # noqa: E402  after the back end was chosen
from luthier.engines.keras.network import load_network  # noqa: E402


def printed(format: Format, hub: Path, folder: Path) -> str:
    """Export a model folder as ``luthier export`` does, and return what the README's snippet prints there."""
    head = head_of(hub)
    loaded = load_network(hub, head, seed=None, engine="tensorflow")
    write(whole_model(loaded, head), folder, format)
    for path in hub.glob("*.json"):
        if path.name != "config.json":
            shutil.copy(path, folder)
    (code,) = re.findall(r"```python\n(.*?)```", readme(format, head, loaded.network.config.to_dict()), re.DOTALL)
    (folder / "snippet.py").write_text(code, encoding="utf-8")
    said = io.StringIO()
    before = Path.cwd()
    os.chdir(folder)
    try:
        with contextlib.redirect_stdout(said):
            runpy.run_path("snippet.py")
    finally:
        os.chdir(before)
    return said.getvalue().strip()


def main() -> None:
    found: list[list[str]] = []
    for hub in map(Path, sys.argv[2:]):
        found.append([])
        for format in ("file", "saved-model"):
            with tempfile.TemporaryDirectory() as folder:
                found[-1].append(printed(format, hub, Path(folder)))
    Path(sys.argv[1]).write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main()
