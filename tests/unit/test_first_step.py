"""What a run has done and imported by its first step: no more than it needs, since people wait for it."""

import csv
import gc
import json
import subprocess
import sys
from pathlib import Path

import pytest

from luthier.assembly import assemble
from luthier.config import load_config
from luthier.errors import ConfigError
from tiny_tokenizer import write_model

NOT_NEEDED = {"peft", "sklearn", "sacrebleu", "seqeval", "rouge_score", "nltk", "datasets", "bitsandbytes", "tensorboard",
              "tensorflow", "keras", "optuna", "matplotlib", "gradio"}  # fmt: skip
CODE = """
import json, sys
import luthier
from luthier.api import Observer, check, train

class FirstStep(Exception): ...

class Watcher(Observer):
    def __init__(self):
        self.stages = []
    def stage(self, text):
        self.stages.append(text)
    def event(self, event):
        if event.kind == "progress":
            raise FirstStep

values = json.loads(sys.argv[1])
checked, trained = Watcher(), Watcher()
check(observer=checked, **values)
try:
    train(observer=trained, **values)
except FirstStep:
    print(json.dumps([checked.stages, trained.stages, sorted({name.split(".")[0] for name in sys.modules})]))
"""


def test_train_after_check_starts_at_once_and_imports_only_what_it_needs(tmp_path: Path, cache_of_the_tests: Path):
    write_model(tmp_path / "model", layers=1)
    with (tmp_path / "train.csv").open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows(
            [("text", "label"), *((f"{'red' if n % 2 else 'blue'} town {n}", "ab"[n % 2]) for n in range(40))]
        )
    values = {
        "task": "text-classification",
        "model": str(tmp_path / "model"),
        "data": {"train": str(tmp_path / "train.csv"), "validation": "20%"},
        "train": {"duration": "2 steps", "batch": "4 examples", "precision": "float32"},
        "output": str(tmp_path / "run"),
    }
    done = subprocess.run([sys.executable, "-c", CODE, json.dumps(values)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    checked, trained, modules = json.loads(done.stdout)
    assert checked == []
    assert trained == ["reading the data", "data as prepared before (cache)", "loading the model"]
    assert "torch" in modules
    assert not NOT_NEEDED & set(modules)


@pytest.mark.parametrize("enabled", [True, False])
def test_the_collector_of_garbage_is_afterwards_as_it_was(enabled: bool):
    before = gc.isenabled()
    try:
        (gc.enable if enabled else gc.disable)()
        with pytest.raises(ConfigError):
            assemble(load_config(None, values={"task": "no-such-task", "model": "none", "data": {"train": "none.csv"}}))
        assert gc.isenabled() == enabled
    finally:
        (gc.enable if before else gc.disable)()
