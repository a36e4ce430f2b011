"""A command of fairseq-train or fairseq-generate as a config, with what of it cannot be had."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from luthier.errors import InputError
from luthier.interop.fairseq.flags import Given, flag_named, parse
from luthier.interop.fairseq.presets import PRESETS, Sizes

_TASKS = {"translation": "translation", "language_modeling": "text-generation"}
_LM = "language_modeling"
_SCHEDULES = {"fixed": "constant", "inverse_sqrt": "inverse_sqrt", "polynomial_decay": "linear", "cosine": "cosine"}
_WARMUP_OF_INVERSE_SQRT = 4000
"""fairseq's default of --warmup-updates for this schedule; 0 for the others."""
_BEAMS, _LENGTH = 5, 200
"""fairseq-generate's defaults."""
_AS_HERE: Mapping[str, tuple[str, ...]] = {
    "--adam-betas": ("(0.9,0.999)",), "--best-checkpoint-metric": ("loss",), "--sample-break-mode": ("eos",),
    "--adam-eps": ("1e-8", "1e-08"), "--activation-fn": ("relu",),
    **dict.fromkeys(("--warmup-init-lr", "--stop-min-lr", "--min-lr", "--end-learning-rate", "--attention-dropout",
                     "--activation-dropout", "--relu-dropout", "--max-len-a", "--unkpen"), ("0", "0.0", "-1", "-1.0")),
    **dict.fromkeys(("--power", "--nbest", "--min-len", "--distributed-world-size"), ("1", "1.0")),
}  # fmt: skip
"""Values of flags that are not honoured, and with which there is nothing to honour."""


@dataclass(slots=True)
class Imported:
    """What a command means.

    Attributes:
        config: the values of a config.
        notes: where it means something else than for fairseq.
        refused: each flag that cannot be honoured, with the reason.
    """

    config: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)

    @property
    def yaml(self) -> str:
        """The config as a file."""
        import yaml

        text: str = yaml.safe_dump(self.config, sort_keys=False, allow_unicode=True, width=1000)
        return text


def import_command(command: str) -> Imported:
    """Return the config that a command of fairseq means.

    Args:
        command: as in a shell; ``fairseq-train`` may stand before the flags or not.

    Raises:
        InputError: it cannot be read, or a value is none.
    """
    given = parse(command)
    found = Imported(refused=list(given.unknown))
    _Import(given, found).run()
    return found


@dataclass(slots=True)
class _Import:
    """One import under way: what is given, what is found."""

    given: Given
    found: Imported

    def run(self) -> None:
        for name, value in self.given.flags.items():
            flag = flag_named(name)
            spelled = self.given.spelled[name]
            if not flag.honoured and value.replace(" ", "") not in _AS_HERE.get(name, ()):
                self.found.refused.append(f"{spelled}{f' {value}' if value else ''}: {flag.note}")
            elif flag.differs:
                self.found.notes.append(f"{spelled}: {flag.note}")
        causal = self._is_causal()
        config = self.found.config
        config["task"] = self._task_options(causal)
        config["model"] = self._model(causal)
        config["data"] = self._data()
        config["train"] = {key: value for key, value in self._train().items() if value is not ...}
        if "--cpu" in self.given.flags:
            config["device"] = "cpu"
        if (folder := self._text("--save-dir")) is not None:
            config["output"] = folder
        if generation := self._generation():
            config["generation"] = generation
        if "--tensorboard-logdir" in self.given.flags:
            config["loggers"] = ["tensorboard"]

    def _text(self, name: str) -> str | None:
        return self.given.flags.get(name)

    def _number(self, name: str, kind: Callable[[str], Any] = int) -> Any:
        """Return a flag's number; None without the flag. A list, as of one value an epoch, is its first."""
        text = self._text(name)
        if text is None:
            return None
        values = [part.strip() for part in text.strip("[]() ").split(",")]
        if len(values) > 1:
            self._refuse(name, f"the first value, {values[0]}, holds for all epochs")
        try:
            number = kind(values[0])
            if number != number or abs(number) == float("inf"):
                raise ValueError
        except ValueError as error:
            raise InputError(f'found "{text}", expected a number', where=self.given.spelled[name]) from error
        return number

    def _positive(self, name: str) -> int | None:
        """Return a flag's number; None where it is not given, or 0 or less, which mean without limit."""
        number = self._number(name)
        return number if number is not None and number > 0 else None

    def _refuse(self, name: str, why: str) -> None:
        value = self.given.flags[name]
        self.found.refused.append(f"{self.given.spelled[name]}{f' {value}' if value else ''}: {why}")

    def _is_causal(self) -> bool:
        """Whether the task is language modelling."""
        said = self._text("--task")
        arch = self._text("--arch") or ""
        if said is not None and said not in _TASKS:
            self._refuse("--task", f"known are {' and '.join(_TASKS)}; translation is taken")
        return said == _LM or (said is None and arch.startswith("transformer_lm"))

    def _task_options(self, causal: bool) -> Any:
        name = _TASKS[_LM if causal else "translation"]
        options: dict[str, Any] = {"name": name}
        smoothing = self._number("--label-smoothing", float) or 0.0
        criterion = self._text("--criterion") or "cross_entropy"
        if criterion not in ("cross_entropy", "label_smoothed_cross_entropy"):
            self._refuse("--criterion", "the loss is the cross entropy")
        if causal:
            if smoothing:
                self._refuse("--label-smoothing", f"{name} has none")
            limit = self._positive("--tokens-per-sample") or self._positive("--max-target-positions")
            return {**options, "max_tokens": limit} if limit else name
        for flag, key in (("--source-lang", "source_language"), ("--target-lang", "target_language")):
            if self._text(flag) is not None:
                options[key] = self._text(flag)
        if smoothing and criterion != "label_smoothed_cross_entropy":
            self._refuse("--label-smoothing", "without --criterion label_smoothed_cross_entropy fairseq has none either")
        elif smoothing:
            options["label_smoothing"] = smoothing
        for flag, key in (("--max-source-positions", "max_tokens"), ("--max-target-positions", "max_target_tokens")):
            if (limit := self._positive(flag)) is not None:
                options[key] = limit
        return options if len(options) > 1 else name

    def _folder(self) -> str | None:
        """Return the folder with the data; of several that fairseq reads in turn the first."""
        places = self.given.places[0].split(":") if self.given.places else []
        if len(places) > 1:
            self.found.refused.append(f"{self.given.places[0]}: fairseq reads a folder an epoch; {places[0]} alone is taken")
        for more in self.given.places[1:]:
            self.found.refused.append(f"{more}: it belongs to no flag")
        return places[0] if places else None

    def _data(self) -> dict[str, Any]:
        folder = self._folder()
        if folder is None:
            self.found.notes.append("no folder with data is named; data-bin stands in its place")
            folder = "data-bin"
        languages = {key: self._text(f"--{key}-lang") for key in ("source", "target")}

        def split(name: str, usual: str) -> str:
            options = {**({} if name == usual else {"split": name}), **{key: lang for key, lang in languages.items() if lang}}
            said = "&".join(f"{key}={quote(value)}" for key, value in options.items())
            return f"fairseq:{folder}{'?' if said else ''}{said}"

        data = {"train": split(self._text("--train-subset") or "train", "train")}
        valid = (self._text("--valid-subset") or "valid").split(",")
        if len(valid) > 1:
            self._refuse("--valid-subset", f"{valid[0]} alone is taken")
        if "--disable-validation" not in self.given.flags:
            data["validation"] = split(valid[0], "valid")
        test = self._text("--gen-subset") or "test"
        if self.given.program in ("generate", "interactive") or any(Path(folder).glob(f"{test}.*idx")):
            data["test"] = split(test, "test")
        else:
            self.found.notes.append(f"fairseq-train scores no test; add one to data: test: {split(test, 'test')}")
        return data

    def _model(self, causal: bool) -> Any:
        path = next(
            (found for name in ("--finetune-from-model", "--path", "--restore-file") if (found := self._text(name))), ""
        )
        if path and path not in ("checkpoint_last.pt", "checkpoint_best.pt"):
            if ":" in path:
                self.found.refused.append(f"{path}: an ensemble is not read; {path.split(':')[0]} alone is taken")
            for name in ("--arch", *_SIZES, "--dropout"):
                if name in self.given.flags:
                    self._refuse(name, "the checkpoint has its own")
            options = {
                "data": self.given.places[0].split(":")[0] if self.given.places else None,
                "codes": self._text("--bpe-codes"),
            }
            said = "&".join(f"{key}={quote(value)}" for key, value in options.items() if value)
            return f"fairseq:{path.split(':')[0]}{'?' if said else ''}{said}"
        self.found.notes.append("a new model learns a vocabulary of its own from the training split; dict.txt is not used")
        return self._new_model(causal)

    def _new_model(self, causal: bool) -> dict[str, Any]:
        arch = self._text("--arch") or ("transformer_lm" if causal else "transformer")
        sizes = PRESETS.get(arch)
        if sizes is None or sizes.causal != causal:
            if "--arch" in self.given.flags:
                self._refuse("--arch", f"known are {', '.join(name for name in PRESETS if PRESETS[name].causal == causal)}")
            sizes = PRESETS["transformer_lm" if causal else "transformer"]
        elif sizes.differs:
            self._refuse("--arch", f"{sizes.differs}: new models have one form, which this has not")
        values: dict[str, Any] = {"name": "new", "architecture": "gpt2" if causal else "marian"}
        for key in ("layers", "hidden_size", "heads", "intermediate_size"):
            values[key] = self._size(key, sizes, causal=causal)
        dropout = self._number("--dropout", float)
        values["dropout"] = sizes.dropout if dropout is None else dropout
        limits = [self._positive(name) for name in ("--max-source-positions", "--max-target-positions", "--tokens-per-sample")]
        values["max_positions"] = max((limit for limit in limits if limit), default=512)
        return values

    def _size(self, key: str, sizes: Sizes, *, causal: bool) -> int:
        names = [name for name, made in _SIZES.items() if made == key and not (causal and name.startswith("--encoder"))]
        asked = {name: number for name in names if (number := self._positive(name)) is not None}
        if not asked:
            return int(getattr(sizes, key))
        first, value = next(iter(asked.items()))
        for name, number in asked.items():
            if number != value:
                self._refuse(name, f"both sides have {value}, as {first} says")
        return value

    def _train(self) -> dict[str, Any]:
        if self.given.program in ("generate", "interactive"):
            return {"precision": self._precision()}
        rate = self._number("--lr", float)
        clip = self._number("--clip-norm", float) or 0.0
        optimizer = self._text("--optimizer")
        if optimizer is not None and optimizer != "adam":
            self._refuse("--optimizer", "adamw is taken")
        schedule = self._text("--lr-scheduler") or "fixed"
        if schedule not in _SCHEDULES:
            self._refuse("--lr-scheduler", f"known are {', '.join(_SCHEDULES)}; fixed is taken")
        warmup = self._number("--warmup-updates")
        if warmup is None:
            warmup = _WARMUP_OF_INVERSE_SQRT if schedule == "inverse_sqrt" else 0
        keep, patience, seed = self._positive("--keep-last-epochs"), self._positive("--patience"), self._number("--seed")
        return {
            "duration": self._duration(),
            "batch": self._batch(),
            "learning_rate": ... if rate is None else rate,
            "schedule": _SCHEDULES.get(schedule, "constant"),
            "warmup": f"{warmup} steps" if warmup > 0 else "0%",
            "weight_decay": self._number("--weight-decay", float) or 0.0,
            "max_grad_norm": clip if clip > 0 else None,
            "precision": self._precision(),
            "gradient_checkpointing": True if "--checkpoint-activations" in self.given.flags else ...,
            "seed": ... if seed is None else seed,
            "save_every": self._every("--save-interval"),
            "evaluate_every": self._every("--validate-interval"),
            "keep": ... if keep is None else keep,
            "patience": ... if patience is None else patience,
        }

    def _precision(self) -> str:
        if "--bf16" in self.given.flags:
            return "bfloat16"
        return "auto" if "--fp16" in self.given.flags else "float32"

    def _duration(self) -> Any:
        epochs, steps = self._positive("--max-epoch"), self._positive("--max-update")
        if epochs and steps:
            self._refuse("--max-epoch", f"the run ends after {steps} steps; fairseq ends with what comes first")
        if steps:
            return f"{steps} steps"
        if not epochs:
            self.found.notes.append(
                "neither --max-epoch nor --max-update says when to end; train.duration is 3 epochs unless set"
            )
        return f"{epochs} epochs" if epochs else ...

    def _batch(self) -> Any:
        factor = self._positive("--update-freq") or 1
        tokens, rows = self._positive("--max-tokens"), self._positive("--batch-size")
        if tokens and rows:
            self._refuse("--batch-size", "a batch is counted in tokens here, as --max-tokens says")
        if tokens:
            return f"{factor * tokens} tokens"
        if not rows:
            self.found.notes.append("neither --max-tokens nor --batch-size is given; train.batch is 32 examples unless set")
        return f"{factor * rows} examples" if rows else ...

    def _every(self, name: str) -> Any:
        steps, epochs = self._positive(f"{name}-updates"), self._positive(name)
        if steps:
            return f"{steps} steps"
        return f"{epochs} epochs" if epochs else ...

    def _generation(self) -> dict[str, Any]:
        writes = self.given.program in ("generate", "interactive")
        inner = self._bleu_args()
        beams = self._positive("--beam") or inner.get("beam") or (_BEAMS if writes else None)
        penalty = self._number("--lenpen", float)
        # With max_len_a the limit grows with the source, as the task's own does.
        grows = bool(self._number("--max-len-a", float) or inner.get("max_len_a"))
        limit = None if grows else self._positive("--max-len-b") or inner.get("max_len_b") or (_LENGTH if writes else None)
        temperature = self._number("--temperature", float)
        values = {"num_beams": beams, "length_penalty": inner.get("lenpen") if penalty is None else penalty}
        values["max_new_tokens"] = limit
        if "--sampling" in self.given.flags:
            if beams and beams > 1:
                self.found.notes.append(f"--sampling draws one text for each source; of {beams} fairseq takes the best")
            values |= {"num_beams": 1, "temperature": 1.0 if temperature is None else temperature, "length_penalty": None}
            values |= {"top_k": self._positive("--sampling-topk")}
            share = self._number("--sampling-topp", float)
            values |= {"top_p": share if share and share > 0 else None}
        elif temperature not in (None, 1.0):
            self._refuse("--temperature", "it counts with --sampling alone")
        return {key: value for key, value in values.items() if value is not None}

    def _bleu_args(self) -> dict[str, Any]:
        text = self._text("--eval-bleu-args")
        if not text:
            return {}
        try:
            values = json.loads(text)
            numbers = {
                key: int(value) if key in ("beam", "max_len_b") else float(value)
                for key, value in values.items()
                if key in _WRITING
            }
        except (ValueError, AttributeError, TypeError) as error:
            raise InputError(f"found {text!r}, expected a JSON object", where="--eval-bleu-args") from error
        if left := sorted(set(values) - _WRITING):
            self._refuse("--eval-bleu-args", f"of it {', '.join(left)} means nothing here")
        if numbers.get("max_len_a"):
            self._refuse("--eval-bleu-args", f"of it max_len_a: {flag_named('--max-len-a').note}")
        return numbers


_WRITING = {"beam", "lenpen", "max_len_a", "max_len_b"}
_SIZES: Mapping[str, str] = {
    "--encoder-layers": "layers",
    "--decoder-layers": "layers",
    "--encoder-embed-dim": "hidden_size",
    "--decoder-embed-dim": "hidden_size",
    "--encoder-attention-heads": "heads",
    "--decoder-attention-heads": "heads",
    "--encoder-ffn-embed-dim": "intermediate_size",
    "--decoder-ffn-embed-dim": "intermediate_size",
}
