"""Luthier against fairseq 0.12.2 itself, which runs in an environment of its own: see make_fairseq_env.sh.

LUTHIER_FAIRSEQ names that environment's folder. Without it everything here is skipped.
"""

import csv
import json
import os
import shlex
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from luthier.cli import app
from luthier.engines.torch.model import TorchModel
from luthier.heads import CausalHead, Seq2SeqHead
from luthier.interop.fairseq.architecture import architecture_of
from luthier.interop.fairseq.checkpoint import read_checkpoint
from luthier.interop.fairseq.export import write_checkpoint
from luthier.interop.fairseq.hub_form import write_model

ENVIRONMENT = os.environ.get("LUTHIER_FAIRSEQ")
HERE = Path(__file__).parent
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(ENVIRONMENT is None, reason="LUTHIER_FAIRSEQ names no environment with fairseq 0.12.2"),
]


def fairseq(*arguments: str | Path, given: str = "") -> str:
    """Run a program of the environment; return what it prints."""
    program = Path(str(ENVIRONMENT)) / "bin" / arguments[0]
    surroundings = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [program, *arguments[1:]], input=given, capture_output=True, text=True, encoding="utf-8", env=surroundings
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random models of every kind, made by fairseq, with what it computes."""
    folder = tmp_path_factory.mktemp("fairseq")
    fairseq("python", HERE / "fairseq_models.py", "make", folder)
    return folder


def hub(checkpoint: Path, folder: Path) -> tuple[TorchModel, bool]:
    read = read_checkpoint(checkpoint)
    architecture = architecture_of(read)
    folder.mkdir()
    write_model(architecture, read.weights, folder)
    head = CausalHead() if architecture.encoder is None else Seq2SeqHead()
    return TorchModel.load(folder, head, device="cpu", precision="float32"), architecture.encoder is None


def difference(model: TorchModel, lm: bool, expected: dict[str, Any]) -> float:
    """Return the largest difference of a log-probability."""
    network = model.network
    network.set_attn_implementation("eager")
    target = torch.tensor([expected["target"]])
    with torch.no_grad():
        if lm:
            logits = network(input_ids=target).logits
        else:
            logits = network(input_ids=torch.tensor([expected["source"]]), decoder_input_ids=target, use_cache=False).logits
    return float((logits[0].log_softmax(-1) - torch.tensor(expected["logs"])).abs().max())


def test_every_kind_of_model_computes_what_fairseq_computes(models: Path, tmp_path: Path):
    kinds = sorted(models.iterdir())
    assert len(kinds) == 14
    for kind in kinds:
        model, lm = hub(kind / "checkpoint.pt", tmp_path / kind.name)
        assert difference(model, lm, json.loads((kind / "expected.json").read_text())) < 1e-5, kind.name


def test_fairseq_loads_what_is_written_for_it_and_computes_the_same(models: Path, tmp_path: Path):
    for kind in sorted(models.iterdir()):
        read = read_checkpoint(kind / "checkpoint.pt")
        folder = tmp_path / kind.name
        folder.mkdir()
        for path in kind.glob("dict*.txt"):
            (folder / path.name).write_bytes(path.read_bytes())
        architecture = architecture_of(read)
        names = None if architecture.encoder is None else ("aa", "bb")
        write_checkpoint(architecture, read.weights, names, folder / "checkpoint.pt")
        fairseq("python", HERE / "fairseq_models.py", "again", folder, kind / "expected.json")
        before, after = (json.loads((place / "expected.json").read_text()) for place in (kind, folder))
        assert np.abs(np.asarray(before["logs"]) - np.asarray(after["logs"])).max() < 1e-6, kind.name


@pytest.mark.parametrize("beams", [1, 5])
def test_fairseq_writes_the_same_text_with_a_tuned_model(beams: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The round trip: a checkpoint of fairseq, one epoch here, and 200 sentences there."""
    data = os.environ.get("LUTHIER_BENCH_DATA")
    if data is None:
        pytest.skip("LUTHIER_BENCH_DATA names no folder with fairseq_format")
    import luthier
    from luthier.exporting import export

    monkeypatch.setenv("LUTHIER_CACHE", str(tmp_path / "cache"))
    home = Path(data) / "fairseq_format" / "multi30k_fairseq0122" / "original"
    for name, stem, count in (("train", "val", None), ("test", "test_2016_flickr", 200)):
        sides = (lines(home / "text" / f"{stem}.tok.{language}")[:count] for language in ("en", "fr"))
        with (tmp_path / f"{name}.csv").open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(["source", "target"])
            writer.writerows(zip(*sides, strict=True))
    luthier.train(
        task={"name": "translation", "source_language": "en", "target_language": "fr"},
        model=f"fairseq:{home / 'checkpoint' / 'checkpoint_best.pt'}",
        data={name: str(tmp_path / f"{name}.csv") for name in ("train", "test")},
        train={"duration": "1 epoch", "precision": "float32"},
        generation={"num_beams": beams, "max_new_tokens": 200},
        device="cpu",
        output=str(tmp_path / "run"),
    )
    made = export(tmp_path / "run", to="fairseq", device="cpu").folder
    given = "\n".join(lines(home / "text/test_2016_flickr.bpe.en")[:200]) + "\n"
    told = fairseq(
        "fairseq-interactive", made, "-s", "en", "-t", "fr", "--path", made / "checkpoint.pt",
        "--beam", str(beams), "--remove-bpe", given=given,
    )  # fmt: skip
    theirs = {int(line.split("\t")[0][2:]): line.split("\t")[2] for line in told.splitlines() if line.startswith("H-")}
    written = [json.loads(line) for line in lines(tmp_path / "run" / "predictions" / "test.jsonl")]
    assert [row["predicted"]["text"] for row in written] == [theirs[number] for number in range(200)]


TEXTS = {
    "train.en": "hel@@ lo town\n\n town\ttown <unk> <pad>\r\na\u00a0b </s>\u3000c \u200b\n" + "one two madeupword0000\n" * 3,
    "train.fr": "bon@@ jour ville\n\nla  ville\r\n\n" + "\u00e9t\u00e9 e\u0301t\u00e9 zwei\n" * 3,
    "valid.en": "hello\x1ctown\n \nnot seen before\n\n",
    "valid.fr": "ville\n\nla\x85vie\u2028ville\n\n",
    "test.en": "one\rtwo two\ntown",
    "test.fr": "un\rdeux\ntrois\n",
    "old.txt": "town 3\nville 2\nla 1\n",
}
"""Blank lines, white space of all kinds, special symbols as words, and lines that end in each way."""


@pytest.mark.parametrize("options", ["", "--joined-dictionary", "--srcdict old.txt", "--tgtdict old.txt --joined-dictionary"])
def test_text_becomes_the_files_that_fairseq_preprocess_writes(options: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    for name, text in TEXTS.items():
        Path(name).write_bytes(text.encode())
    command = shlex.split(f"-s en -t fr --trainpref train --validpref valid,test --testpref test {options}")
    fairseq("fairseq-preprocess", *command, "--destdir", "theirs", "--workers", "2")
    done = CliRunner().invoke(app, ["fairseq-preprocess", *command, "--destdir", "ours"])
    assert done.exit_code == 0, done.output
    Path("theirs/preprocess.log").unlink()
    names = sorted(path.name for path in Path("theirs").iterdir())
    assert len(names) == 18
    assert sorted(path.name for path in Path("ours").iterdir()) == names
    for name in names:
        assert Path("ours", name).read_bytes() == Path("theirs", name).read_bytes(), name


def lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
