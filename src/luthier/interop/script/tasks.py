"""What a script says of a task: its pieces, the constants that stand at its top, and its scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from luthier.data.preparation import Split
from luthier.errors import InputError
from luthier.generation import GenerationOptions
from luthier.heads import BinaryCrossEntropy, CrossEntropy, SquaredError
from luthier.metrics.translation import bleu_tokenizer
from luthier.model_source import model_config
from luthier.tasks.question_answering import QuestionAnswering
from luthier.tasks.sequence_to_sequence import SequenceToSequence
from luthier.tasks.text_classification import TextClassification
from luthier.tasks.text_generation import TextGeneration
from luthier.tasks.token_classification import TokenClassification
from luthier.tokenizer import Tokenizer

Constant = tuple[str, Any, str]
"""A name, its value, and a comment."""


@dataclass(slots=True)
class TaskPart:
    """What a task brings to a script.

    Attributes:
        piece: the name of its piece.
        auto_class: of transformers.
        constants: for the top of the script, in order.
        flags, words: for the pieces.
        packages: beside torch, transformers and numpy.
        scores: the module of ``f1_score`` and its like.
    """

    piece: str
    auto_class: str
    constants: list[Constant]
    flags: dict[str, bool] = field(default_factory=dict)
    words: dict[str, str] = field(default_factory=dict)
    packages: tuple[str, ...] = ()
    scores: str = "sklearn.metrics"


@dataclass(frozen=True, slots=True)
class Given:
    """What a task's part is made from.

    Attributes:
        task: fitted.
        splits: encoded.
        tokenizer: the model's.
        folder: the model's, for what its config says.
        options: how text is written.
    """

    task: Any
    splits: Sequence[Split]
    tokenizer: Tokenizer
    folder: Path
    options: GenerationOptions

    @property
    def limit(self) -> Constant:
        """The most tokens of a feature."""
        return "MAX_TOKENS", self.task.limit(self.tokenizer), "special tokens included"


def task_part(given: Given) -> TaskPart:
    """Describe the task of a run.

    Raises:
        InputError: something of it is not in the scripts' pieces.
    """
    name = given.task.name
    if name not in _PARTS:
        raise InputError(f'there is no script for the task "{name}"', where="task")
    return _PARTS[name](given)


def _text_classification(given: Given) -> TaskPart:
    task: TextClassification = given.task
    objective, constants = task.head.objective, [given.limit]
    kinds = {CrossEntropy: "single", BinaryCrossEntropy: "several", SquaredError: "number"}
    kind = kinds[type(objective)]
    if kind == "number":
        constants += [("MEAN", task.offset, "of the training rows: the model learns (number - MEAN) / SPREAD")]
        constants += [("SPREAD", task.scale, "")]
    else:
        constants += [("LABELS", list(task.labels), "")]
        if task.weights:
            said = "for each label" if kind == "single" else "for each label, of its positives"
            constants += [("CLASS_WEIGHTS", list(task.weights), said)]
    constants += [("NUM_OUTPUTS", max(1, len(task.labels)), "")]
    problem = {"single": "single_label_classification", "several": "multi_label_classification", "number": "regression"}
    flags = {name: name == kind for name in kinds.values()}
    return TaskPart(
        "text_classification", "AutoModelForSequenceClassification", constants,
        flags={**flags, "class_weights": bool(task.weights), "problem": True, "labels": True},
        words={"problem_type": problem[kind], "label_names": '["value"]' if kind == "number" else "LABELS"},
        packages=("scikit-learn",),
    )  # fmt: skip


def _token_classification(given: Given) -> TaskPart:
    task: TokenClassification = given.task
    windows = any(map(_has_windows, given.splits))
    joined = given.tokenizer.join(np.zeros(1, dtype=np.int32))
    ids = joined.arrays["input_ids"].tolist()
    constants: list[Constant] = [given.limit]
    if windows:
        before, after = ids[: joined.first], ids[joined.first + 1 :]
        constants += [("STRIDE", task.stride, "tokens that neighbouring windows share, at most half a window")]
        constants += [("BEFORE", before, "special tokens around a window"), ("AFTER", after, "")]
        constants += [("NUM_SPECIAL", len(before) + len(after), "")]
    constants += [("LABELS", list(task.labels), ""), ("NUM_OUTPUTS", len(task.labels), "")]
    types = "token_type_ids" in joined.arrays
    return TaskPart(
        "token_classification", "AutoModelForTokenClassification", constants,
        flags={"windows": windows, "types": types, "labels": True}, words={"label_names": "LABELS"},
        packages=("seqeval",), scores="seqeval.metrics",
    )  # fmt: skip


def _has_windows(split: Split) -> bool:
    """Whether a text of a split is longer than one window."""
    features = split.features
    return features is not None and bool(np.any(np.diff(features.groups) == 0) or features.cut.any())


def _question_answering(given: Given) -> TaskPart:
    task: QuestionAnswering = given.task
    long = sum(int((split.features.cut > 0).sum()) for split in given.splits if split.features)
    if long:
        raise InputError(
            f"{long} questions are longer than half of max_tokens, which the script's windows do not know",
            where="task.max_tokens",
            fix="Raise it and train again.",
        )
    constants: list[Constant] = [
        given.limit,
        ("STRIDE", task.stride, "tokens that neighbouring windows share, at most half of the room for the context"),
        ("MAX_ANSWER_TOKENS", task.max_answer_tokens, ""),
        ("N_BEST", task.n_best, "answers that are listed"),
        ("CANDIDATES", 20, "of a window"),
    ]
    flags = {"no_answer": task.has_no_answer}
    return TaskPart("question_answering", "AutoModelForQuestionAnswering", constants, flags=flags)


def _translation(given: Given) -> TaskPart:
    part = _sequence_to_sequence(given, "translation")
    part.constants += [("BLEU_TOKENIZER", bleu_tokenizer(given.task.languages[1]), "")]
    part.packages = ("sacrebleu",)
    return part


def _summarization(given: Given) -> TaskPart:
    part = _sequence_to_sequence(given, "summarization")
    part.packages = ("rouge-score",)
    return part


def _sequence_to_sequence(given: Given, kind: str) -> TaskPart:
    task: SequenceToSequence = given.task
    options, limit = given.options, given.limit
    before, after = (part.tolist() for part in given.tokenizer.target_affixes)
    constants: list[Constant] = [
        limit,
        ("MAX_TARGET_TOKENS", task.max_target_tokens or limit[1], ""),
        ("LABEL_SMOOTHING", task.label_smoothing, ""),
        ("BEFORE", before, "special tokens around a target"),
        ("AFTER", after, ""),
        *([("PREFIX", task.prefix, "written before every source")] if task.prefix else []),
        *_written(given),
    ]
    flags = {"seq2seq": True, "translation": False, "summarization": False, "prefix": bool(task.prefix), kind: True}
    part = TaskPart("sequence_to_sequence", "AutoModelForSeq2SeqLM", constants, flags={**flags, **_written_flags(given)})
    part.words["written_for"] = "" if options.rows is None else " for WRITTEN_ROWS of them, evenly spread"
    part.words["validate"] = "mean_loss(model, validation)"
    return part


def _text_generation(given: Given) -> TaskPart:
    task: TextGeneration = given.task
    dialogue = task.form == "dialogue"
    constants: list[Constant] = [given.limit]
    if dialogue:
        constants += _written(given)
    else:
        before, after = (part.tolist() for part in given.tokenizer.document_affixes)
        constants += [("BEFORE", before, "special tokens around a document"), ("AFTER", after, "")]
    flags = {"dialogue": dialogue, "all_learned": task.train_on == "all", **_written_flags(given)}
    packages = ("rouge-score",) if dialogue else ()
    part = TaskPart("text_generation", "AutoModelForCausalLM", constants, flags=flags, packages=packages)
    part.words["validate"] = 'losses(model, validation)["loss"]'
    part.words["written_for"] = "" if given.options.rows is None else " to WRITTEN_ROWS of them, evenly spread"
    return part


def _positions(folder: Path) -> int | None:
    config = model_config(folder)
    found = config.get("max_position_embeddings") or config.get("n_positions")
    return int(found) if found else None


def _written_flags(given: Given) -> Mapping[str, bool]:
    return {
        "written_rows": given.options.rows is not None,
        "stop": bool(given.options.stop),
        "positions": _positions(given.folder) is not None,
    }


def _written(given: Given) -> list[Constant]:
    """Return the constants that say how text is written."""
    options = given.options
    if options.rows == 0:
        raise InputError("nothing is written, so the script would have no text to score", where="generation.rows")
    if options.num_beams > 1:
        chosen: dict[str, Any] = {"num_beams": options.num_beams, "do_sample": False, "early_stopping": False}
        chosen["length_penalty"] = options.length_penalty
    elif options.temperature:
        chosen = {"do_sample": True, "temperature": options.temperature, "top_p": options.top_p, "top_k": options.top_k}
    else:
        chosen = {"num_beams": 1, "do_sample": False, "repetition_penalty": 1.0}
    positions = _positions(given.folder)
    return [
        ("MAX_NEW_TOKENS", options.max_new_tokens, ""),
        ("GENERATION", chosen, ""),
        ("END_IDS", _end_ids(given), "tokens that end a text"),
        *([("STOP", list(options.stop), "strings that end a text")] if options.stop else []),
        *([("WRITTEN_ROWS", options.rows, "held-out rows that are written for")] if options.rows is not None else []),
        *([("MAX_POSITIONS", positions, "")] if positions else []),
    ]


def _end_ids(given: Given) -> list[int]:
    """Return the tokens that end a text: the task's, and those that the model's own files name."""
    from transformers import AutoConfig, GenerationConfig

    folder = given.folder
    if (folder / "generation_config.json").is_file():
        own = GenerationConfig.from_pretrained(str(folder)).eos_token_id
    else:
        config = AutoConfig.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
        own = GenerationConfig.from_model_config(config).eos_token_id
    named = own if isinstance(own, (list, tuple)) else [] if own is None else [own]
    return sorted({*named, *given.task.end_ids(given.tokenizer)})


_PARTS: Mapping[str, Callable[[Given], TaskPart]] = {
    "text-classification": _text_classification,
    "token-classification": _token_classification,
    "question-answering": _question_answering,
    "translation": _translation,
    "summarization": _summarization,
    "text-generation": _text_generation,
}
