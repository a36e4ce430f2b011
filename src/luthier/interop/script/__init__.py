"""A run as a plain script of PyTorch and transformers that trains and scores without Luthier.

The script is put together from pieces of text in this folder, for exactly the run's task, data, method and settings. The
rows lie beside it as the run used them, after rejection and splitting, so it needs no reader and meets the same rows in
the same order. What it cannot redo simply is refused.

pieces    Python source from text with optional lines
rows      the run's rows in plain form
tasks     what each task brings
methods   which weights are trained
training  how
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from luthier.assembly import Assembly, assemble
from luthier.checkpoints import Checkpoints
from luthier.config import RunConfig, load_config
from luthier.data.preparation import Prepared
from luthier.engines.engine import Choice
from luthier.errors import InputError
from luthier.heads import Head, SequenceHead, TokenHead, writes
from luthier.interop.script.methods import LOW_RANK, method_constants
from luthier.interop.script.pieces import constant, imports_for, piece
from luthier.interop.script.rows import write_rows
from luthier.interop.script.tasks import Given, TaskPart, task_part
from luthier.interop.script.training import settings, training_flags, training_words
from luthier.runs import RunFolder


def write_script(run: Path, folder: Path) -> str:
    """Write train.py, the rows and README.md of a run into ``folder``; return a sentence about it.

    Raises:
        InputError: the data is not what the run used, or the run cannot be redone by a simple script.
    """
    config = load_config(run / "config.yaml")
    _check_config(config)
    assembly = assemble(config)
    base = assembly.source.folder
    with tempfile.TemporaryDirectory(prefix="luthier-") as scratch:
        prepared = assembly.prepare(Path(scratch))
        _check_data(prepared, run)
        _check_model(base, prepared.task.head)
        options = config.generation.over(prepared.task.generation)
        names: tuple[str, ...] = ("train", "validation", "test")
        splits = {name: prepared.splits[name] for name in names if name in prepared.splits}
        part = task_part(Given(prepared.task, list(splits.values()), assembly.tokenizer, base, options))
        counts = {name: write_rows(split, assembly.tokenizer, folder / f"{name}.jsonl") for name, split in splits.items()}
    adapted = method_constants(
        config.method, run_model=run / "model", base=base, auto_class=part.auto_class, head=prepared.task.head
    )
    if "LORA" in adapted:
        part.packages = (*part.packages, "peft")
    source = _source(assembly, prepared, part, adapted, name=run.resolve().name)
    compile(source, "train.py", "exec")
    (folder / "train.py").write_text(source, encoding="utf-8")
    (folder / "README.md").write_text(_readme(config, part, counts, name=run.resolve().name), encoding="utf-8")
    rows = ", ".join(f"{count} {name}" for name, count in counts.items())
    other = "" if config.engine == "torch" else f". It is PyTorch: {_other_engine(config)}"
    return f"train.py redoes the run without Luthier, from the rows beside it ({rows}); run it to see its scores{other}"


def _check_config(config: RunConfig) -> None:
    """Refuse what the pieces do not know."""
    if config.engine != "torch" and config.method.name in LOW_RANK:
        what = f'a run of the engine "{config.engine}" keeps no adapter, so a script cannot make the same one'
        raise InputError(what, where="method", fix="Train with engine=torch, or with another method.")
    if isinstance(config.model, Choice):
        raise InputError("the model was made for the run, so a script has nothing to begin with", where="model")
    if config.train.optimizer.name != "adamw":
        raise InputError(f'a script cannot redo the optimizer "{config.train.optimizer.name}"', where="train.optimizer")
    given = [name for name in ("train", "validation", "test") if str(getattr(config.data, name)).startswith("<")]
    if given:
        fix = "Write them to a file and train from that."
        raise InputError("these rows were given from Python and are not kept", where=f"data.{given[0]}", fix=fix)


def _check_data(prepared: Prepared, run: Path) -> None:
    """Refuse data that has changed since."""
    newest = Checkpoints(RunFolder.existing(run).checkpoints, keep=1).newest()
    known: Mapping[str, str] = newest.facts.get("data", {}) if newest is not None else {}
    for name, digest in prepared.digests.items():
        if known.get(name, digest) != digest:
            what = "the data has changed since the run, so the script would train on other rows"
            raise InputError(what, where=f"data.{name}", fix="Restore the file, or train again.")


def _check_model(base: Path, head: Head) -> None:
    """Refuse a model that plain transformers does not load as the run did."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    values = json.loads((base / "config.json").read_text(encoding="utf-8"))
    kind = values.get("model_type")
    if kind not in CONFIG_MAPPING_NAMES:
        raise InputError(f'plain transformers knows no models of the kind "{kind}"', where="model")
    tokens = json.loads((base / "tokenizer_config.json").read_text(encoding="utf-8")) if _has_tokenizer(base) else {}
    if "src_lang" in tokens or "tgt_lang" in tokens:
        raise InputError("a script cannot tell a model of many languages which ones it is given", where="model")
    names = values.get("id2label") or {}
    known = [names[key] for key in sorted(names, key=int)]
    generic = all(name == f"LABEL_{index}" for index, name in enumerate(known))
    labels = list(head.labels or known) if isinstance(head, SequenceHead | TokenHead) else known
    if not generic and len(known) == len(labels) and known != labels:
        raise InputError("the model's head is for as many other labels, and a script would keep it", where="model")


def _has_tokenizer(base: Path) -> bool:
    return (base / "tokenizer_config.json").is_file()


def _source(assembly: Assembly, prepared: Prepared, part: TaskPart, adapted: Mapping[str, Any], *, name: str) -> str:
    """Return the script."""
    config = assembly.config
    flags, words = training_flags(config, prepared, adapted), training_words(config, prepared)
    missing = ("seq2seq", "problem", "labels", "pad_config")
    flags = {**dict.fromkeys(missing, False), **flags, **part.flags}
    words = {"auto_class": part.auto_class, "label_names": "", "problem_type": "", **words, **part.words}
    head = prepared.task.head
    chosen = settings(config, learning_rate=assembly.settings().learning_rate, vocabulary=writes(head))
    ids = _ids(assembly, head)
    flags["pad_config"] = ids.pop("unset") and isinstance(head, SequenceHead)
    constants = [*chosen, *part.constants, *((key, value, "") for key, value in ids.items())]
    constants += [(key, value, _ADAPTED[key]) for key, value in adapted.items()]
    spaced = _prefix_space(assembly) if part.piece == "token_classification" else ""
    body = "\n".join([
        "HERE = Path(__file__).parent",
        f"MODEL = sys.argv[1] if len(sys.argv) > 1 else {json.dumps(_model_name(assembly), ensure_ascii=False)}",
        _device(config),
        *(constant(*item) for item in constants),
        f"\ntokenizer = transformers.AutoTokenizer.from_pretrained(MODEL{spaced})",
        piece(part.piece, flags, words).rstrip("\n"),
        piece("training", flags, words),
    ])  # fmt: skip
    return f"{_opening(config, name)}\n{imports_for(body, scores=part.scores)}\n\n{body}"


_ADAPTED = {
    "FROZEN": "weights whose names begin so are left as they are",
    "TRAINED": "weights whose names begin so are trained, no others",
    "LORA": "of peft",
}


def _opening(config: RunConfig, name: str) -> str:
    other = "" if config.engine == "torch" else f"\n{_other_engine(config).capitalize()}.\n"
    return (
        f'"""Tune a model for {config.task.name}: plain PyTorch and transformers.\n\n'
        f"Written by Luthier from the run {name}.\n"
        "It redoes that without Luthier: the same rows in the same order (the .jsonl files beside this one), the same steps,\n"
        "the same scores up to rounding and, where there is dropout, chance.\n"
        f"{other}\n"
        '    python train.py [MODEL]\n"""\n'
    )


def _other_engine(config: RunConfig) -> str:
    return f"the run was made with the engine {config.engine}, where a new head begins with other weights"


def _model_name(assembly: Assembly) -> str:
    source = assembly.source
    return source.name.removeprefix("hf:") if source.found_as == "hub" else str(source.folder.resolve())


def _device(config: RunConfig) -> str:
    if config.device != "auto":
        return constant("DEVICE", config.device)
    return 'DEVICE = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"'


def _ids(assembly: Assembly, head: Head) -> dict[str, Any]:
    """Return the names of the model's inputs and the padding token, and whether the model's config names none."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(str(assembly.source.folder), local_files_only=True, trust_remote_code=False)
    own = config.get_text_config().pad_token_id
    pad = own if own is not None else config.get_text_config().eos_token_id
    pad = pad[0] if isinstance(pad, list) else pad
    sample = assembly.tokenizer.join(assembly.tokenizer.ids_of(["a"])[0]).arrays
    inputs = ["input_ids"] if writes(head) else list(sample)
    return {"INPUTS": inputs, "PAD_ID": int(pad or 0), "unset": own is None}


def _prefix_space(assembly: Assembly) -> str:
    """Return the option by which a byte-level tokenizer gives words the blank that they have in running text."""
    from transformers import AutoTokenizer

    hub = AutoTokenizer.from_pretrained(str(assembly.source.folder), trust_remote_code=False, local_files_only=True)
    step = json.loads(hub.backend_tokenizer.to_str()).get("pre_tokenizer") or {}
    spaced = any(
        part.get("type") == "ByteLevel" and not part.get("add_prefix_space") and part.get("use_regex", True)
        for part in step.get("pretokenizers", [step])
    )
    return ", add_prefix_space=True" if spaced else ""


def _readme(config: RunConfig, part: TaskPart, counts: Mapping[str, int], *, name: str) -> str:
    packages = " ".join(("torch", "transformers", "numpy", *part.packages))
    rows = "\n".join(f"- `{split}.jsonl`: {count} rows, as the run used them" for split, count in counts.items())
    general = "\nThe general text of the run (`data.general`) is not scored here.\n" if config.data.general is not None else ""
    return (
        f"# {name} as a script\n\n`train.py` redoes the run in plain PyTorch and transformers, without Luthier:\n\n"
        f"    pip install {packages}\n    python train.py [MODEL]\n\n"
        "MODEL is a folder or a hub id; by default the one that the run was made with. It writes `scores.json`,\n"
        f"`predictions.jsonl` and `model/`.\n\n{rows}\n{general}"
    )
