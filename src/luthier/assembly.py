"""From a config to the parts of a run: every name resolved, every option checked, before any work."""

from __future__ import annotations

import functools
import gc
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from luthier.config import RunConfig, option_problems
from luthier.data.features import FeatureStore
from luthier.data.preparation import Prepared, encode, prepare
from luthier.data.prepared_cache import PreparedCache, prepared_key, source_digests
from luthier.data.readers import READERS
from luthier.data.sources import Source, open_source
from luthier.engines import ENGINES
from luthier.engines.engine import Choice, Engine, Model, TrainingSetup, as_generator
from luthier.errors import ConfigError, InputError, did_you_mean
from luthier.generation import Writer
from luthier.heads import writes
from luthier.loggers import LOGGERS
from luthier.model_source import ModelSource, model_config, model_limit, resolve_model
from luthier.new_model import NewModel, UnmadeTokenizer, check_new, texts_of
from luthier.registry import Registry
from luthier.samples import cache_folder
from luthier.schedule import SCHEDULES
from luthier.tasks import TASKS
from luthier.tasks.task import Task
from luthier.tokenizer import HubTokenizer, Tokenizer
from luthier.training import Settings

DEFAULT_LEARNING_RATE = 5e-5
"""For methods that state no rate of their own."""


@dataclass(slots=True)
class Assembly:
    """The resolved parts of one run; ``config`` holds the inferred values too.

    A new model's vocabulary comes from the training split, so ``source`` and ``tokenizer`` of one are there only
    after ``prepare``.
    """

    config: RunConfig
    task: Task[Any]
    engine: Engine
    sources: Mapping[str, Source]
    new_model: NewModel | None = None
    _source: ModelSource | None = None
    _tokenizer: HubTokenizer | None = None

    @property
    def source(self) -> ModelSource:
        """Where the model is."""
        assert self._source is not None, "a new model is made by prepare"
        return self._source

    @property
    def tokenizer(self) -> HubTokenizer:
        """The model's tokenizer."""
        assert self._tokenizer is not None, "a new model is made by prepare"
        return self._tokenizer

    def prepare(
        self,
        folder: Path,
        *,
        new_model: Path | None = None,
        progress: Callable[[int], None] | None = None,
        say: Callable[[str], None] = lambda text: None,
    ) -> Prepared:
        """Read, check, split and encode the data into ``folder``, or take all that from the cache.

        Args:
            folder: takes rows and features.
            new_model: where a new model is made, or was made before this run was interrupted; default: in ``folder``.
            progress: hears of rows that are encoded.
            say: hears of the cache.
        """
        # A new model's tokenizer comes from the data, so there is nothing yet by which its features could be known.
        digests = None if self.is_new else source_digests(self.sources)
        if digests is None:
            return self._prepare(folder, new_model or folder / "new_model", progress)
        cache, key = PreparedCache(cache_folder() / "prepared"), self._prepared_key(digests)
        kept = cache.read(key, self.task, say=say)
        if kept is not None:
            say("data as prepared before (cache)")
            return kept
        prepared = self._prepare(folder, folder, progress)
        if prepared.digests == digests:  # else a file has changed since it was looked at
            try:
                cache.keep(key, prepared, folder)
            except OSError as error:
                prepared.notes.append(f"the prepared data cannot be kept in the cache ({error.strerror or error}).")
        return prepared

    def _prepared_key(self, digests: Mapping[str, str]) -> str:
        data = self.config.data
        return prepared_key(
            self.task,
            self.sources,
            digests=digests,
            tokenizer=self.tokenizer.digest(),
            columns=data.columns,
            validation=data.share,
            max_rejected=data.max_rejected,
            versions=versions(),
        )

    def _prepare(self, folder: Path, new_model: Path, progress: Callable[[int], None] | None) -> Prepared:
        data = self.config.data
        prepared = prepare(
            self.task,
            self.sources,
            columns=data.columns,
            validation=data.share,
            max_rejected=data.max_rejected,
            folder=folder,
        )
        if self.new_model is not None:
            self._make_model(self.new_model, prepared, new_model)
        encode(prepared, self.tokenizer, folder, progress=progress)
        return prepared

    def _make_model(self, plan: NewModel, prepared: Prepared, folder: Path) -> None:
        """Make a new model from the training split, unless an interrupted run has made it before."""
        split = prepared.splits["train"]
        if not (folder / "config.json").is_file():
            pairs = (split.task.identity(example) for example in split.examples())
            aside = folder.with_name(folder.name + ".making")
            plan.make(aside, texts_of(pairs), self.config.train.seed)
            os.replace(aside, folder)
        size = model_config(folder)["vocab_size"]
        if size < plan.vocabulary:
            prepared.notes.append(f"the training split is enough for a vocabulary of {size} tokens, not {plan.vocabulary}.")
        self._source = ModelSource("new", folder, "made for this run")
        self._tokenizer = HubTokenizer(folder, model_limit=model_limit(folder), languages=self.task.languages)

    def load(self, prepared: Prepared) -> Model:
        """Load the model under the fitted task's head, ready to train."""
        train = self.config.train
        features = prepared.splits["train"].features
        setup = TrainingSetup(
            method=self.config.method,
            optimizer=train.optimizer,
            weight_decay=train.weight_decay,
            seed=train.seed,
            gradient_checkpointing=train.gradient_checkpointing is True,
            used_ids=_used_ids(features),
        )
        with _quick_imports():
            return self.engine.load(
                self.source.folder, prepared.task.head, device=self.config.device, precision=train.precision, setup=setup
            )

    @property
    def is_new(self) -> bool:
        """Whether the model begins with random weights, so that it says nothing before it is trained."""
        return self.new_model is not None

    def untuned(self, model: Model, prepared: Prepared) -> Model:
        """Return the model as it is before tuning: ``model`` itself, where its method changes nothing at the start."""
        if not getattr(self.engine.methods()[self.config.method.name], "starts_changed", False):
            return model
        train = self.config.train
        return self.engine.load(self.source.folder, prepared.task.head, device=self.config.device, precision=train.precision)

    def writer(self, model: Model, task: Task[Any]) -> Writer | None:
        """Return what makes the model write; None under a head that does not."""
        if not writes(task.head):
            return None
        return Writer(
            as_generator(model), self.tokenizer, self.config.generation.over(task.generation), task.end_ids(self.tokenizer)
        )

    def described(self) -> dict[str, str]:
        """Return the resolved config under dotted paths, with the place where the model was found."""
        source = self.source
        return {**self.config.flat(), "model": f"{source.name} ({source.found_as}: {source.folder})"}

    def settings(self) -> Settings:
        """Return what the loop needs of the ``train`` section."""
        train = self.config.train
        return Settings(
            learning_rate=train.learning_rate or DEFAULT_LEARNING_RATE,
            duration=train.duration,
            batch=train.batch,
            micro_tokens=None if train.micro_batch == "auto" else int(train.micro_batch.value),
            schedule=train.schedule,
            warmup=train.warmup,
            max_grad_norm=train.max_grad_norm,
            seed=train.seed,
            evaluate_every=train.evaluate_every,
            save_every=train.save_every,
            patience=train.patience,
        )


def _used_ids(features: FeatureStore | None) -> np.ndarray | None:
    return features.used_ids if features is not None else None


@contextmanager
def _quick_imports() -> Iterator[None]:
    """Pause the collector of cyclic garbage: imports make half a million objects that stay, and it would look at all of
    them again and again, for a fifth of the time of importing torch and transformers.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@_quick_imports()
def assemble(config: RunConfig) -> Assembly:
    """Resolve every name of a config and check every option.

    Raises:
        ConfigError: all names and options that do not fit, at once.
        InputError: the model or the tokenizer cannot be found or read.
    """
    problems: list[str] = []
    task = _task(config, problems)
    engine: Engine | None = None
    if config.engine in ENGINES:
        engine = ENGINES.get(config.engine)
        config = _with_method(config, engine, problems)
    else:
        problems.append(f'engine: there is no engine "{config.engine}". {did_you_mean(config.engine, ENGINES)}')
    _known(config.train.schedule, SCHEDULES, "train.schedule", problems)
    for logger in config.loggers:
        _known(logger, LOGGERS, "loggers", problems)
    config = _with_format(config, problems)
    plan, config = _with_new_model(config, problems)
    if task is not None:
        try:
            config.generation.over(task.generation)
        except ValueError as error:
            problems.append(f"generation: {error}.")
    if problems or task is None or engine is None:
        raise ConfigError(problems)
    sources = open_sources(config)
    source = tokenizer = None
    if plan is None:
        source = resolve_model(config.model)
        tokenizer = HubTokenizer(
            source.folder, model_limit=_text_limit(config, engine, source.folder), languages=task.languages
        )
        limit = task.limit(tokenizer)
    else:
        limit = task.limit(cast(Tokenizer, UnmadeTokenizer(plan.max_positions)))
    task = replace(task, max_tokens=limit)
    config = config.model_copy(update={"task": Choice(config.task.name, {**config.task.options, "max_tokens": limit})})
    return Assembly(config, task, engine, sources, plan, source, tokenizer)


def _text_limit(config: RunConfig, engine: Engine, folder: Path) -> int | None:
    """Return how many tokens the model takes beside those that the method adds."""
    limit = model_limit(folder)
    added = getattr(engine.methods()[config.method.name], "added_tokens", None)
    return limit if limit is None or added is None else limit - added(**config.method.options)


def _with_new_model(config: RunConfig, problems: list[str]) -> tuple[NewModel | None, RunConfig]:
    """Return the plan of a new model, or None, and the config with all of the plan's values."""
    if not isinstance(config.model, Choice):
        return None, config
    plan, wrong = check_new(config.model.options)
    problems += wrong
    if config.method.name != "full":
        problems.append(f'method: "{config.method.name}" leaves weights as they are, and a new model\'s are random. Take full.')
    return plan, config if plan is None else config.model_copy(update={"model": Choice("new", asdict(plan))})


def _known(name: str, registry: Registry, path: str, problems: list[str]) -> bool:
    if name not in registry:
        problems.append(f'{path}: there is no {registry.kind} "{name}". {did_you_mean(name, registry)}')
        return False
    return True


def _task(config: RunConfig, problems: list[str]) -> Task[Any] | None:
    if not _known(config.task.name, TASKS, "task", problems):
        return None
    kind = TASKS.get(config.task.name)
    options, wrong = option_problems(kind, config.task.options, path="task")
    problems += wrong
    if wrong:
        return None
    try:
        task: Task[Any] = kind(**options)
    except ValueError as error:
        problems.append(f"task: {error}.")
        return None
    return task


def _with_method(config: RunConfig, engine: Engine, problems: list[str]) -> RunConfig:
    """Check the method's options and take its own learning rate where none is given."""
    methods = engine.methods()
    name = config.method.name
    if name not in methods:
        problems.append(f'method: there is no method "{name}". {did_you_mean(name, methods)}')
        return config
    options, wrong = option_problems(methods[name], config.method.options, path="method")
    problems += wrong
    rate = config.train.learning_rate or getattr(methods[name], "learning_rate", DEFAULT_LEARNING_RATE)
    train = config.train.model_copy(update={"learning_rate": rate})
    return config.model_copy(update={"method": Choice(name, options), "train": train})


def _with_format(config: RunConfig, problems: list[str]) -> RunConfig:
    choice = config.data.format
    if choice is None or not _known(choice.name, READERS, "data.format", problems):
        return config
    options, wrong = option_problems(READERS.get(choice.name), choice.options, path="data.format")
    problems += wrong
    data = config.data.model_copy(update={"format": Choice(choice.name, options)})
    return config.model_copy(update={"data": data})


def open_sources(config: RunConfig) -> dict[str, Source]:
    """Open the sources of a config by split.

    Raises:
        InputError: a file is missing.
    """
    data = config.data
    specs = {
        "train": data.train,
        "validation": None if data.share else data.validation,
        "test": data.test,
        "general": data.general,
    }
    return {
        name: open_split(spec, name=name, format=data.format, encoding=data.encoding)
        for name, spec in specs.items()
        if spec is not None
    }


def open_split(spec: Any, *, name: str, format: Choice | None = None, encoding: str | None = None) -> Source:
    """Open one source; ``sample:NAME/SPLIT`` is fetched when it is not here yet, ``fairseq:data-bin`` has its own splits."""
    from luthier.samples import resolve_data

    if isinstance(spec, str) and spec.startswith("fairseq:"):
        from luthier.interop.fairseq.data_bin import DataBin

        return DataBin(spec, name)
    if isinstance(spec, str) and spec.startswith("sample:"):
        spec = str(resolve_data(spec))
    if not isinstance(spec, (str, list, tuple)):
        raise InputError(f"found {spec!r}", where=f"data.{name}", fix="Give a path, a glob, a list of paths, or rows.")
    return open_source(spec, format=format, encoding=encoding)


@functools.lru_cache(maxsize=1)
def versions() -> dict[str, str]:
    """Return the versions that scores depend on."""
    from importlib.metadata import PackageNotFoundError, version

    found: dict[str, str] = {}
    for package in ("luthier", "torch", "transformers", "tokenizers", "numpy"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
