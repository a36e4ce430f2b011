"""The config: one vocabulary for YAML, the command line, Python and whatever comes later.

pydantic stays inside this module. A bad config is refused with all its problems at once, each with its
path, what was found and what was meant.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer

from luthier.engines.engine import Choice
from luthier.errors import ConfigError, InputError, did_you_mean
from luthier.generation import GenerationOptions
from luthier.units import BatchSize, Duration, MicroBatch, Quantity, Share, Warmup

_REDEFINED = {f"tag:yaml.org,2002:{name}" for name in ("bool", "int", "float", "timestamp")}


class _Loader(yaml.SafeLoader):
    """YAML as people mean it.

    ``no`` and ``on`` are words, ``1e-4`` is a number, ``1:30`` and dates are text, and a key stands once.
    """

    yaml_implicit_resolvers: dict[str, list[Any]] = {  # noqa: RUF012  (yaml wants a class attribute)
        key: [(tag, rule) for tag, rule in rules if tag not in _REDEFINED]
        for key, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, (list, dict)):
                raise yaml.constructor.ConstructorError(None, None, "a key must be a word or a number", key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f'the key "{key}" stands twice', key_node.start_mark)
            seen.add(key)
        return dict(super().construct_mapping(node, deep))


_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF"))
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"^[-+]?(?:0|[1-9][0-9]*)$"), list("-+0123456789"))
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"^[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*)(?:[eE][-+]?[0-9]+)?$|^[-+]?[0-9]+[eE][-+]?[0-9]+$|^[-+]?\.(?:inf|Inf|INF)$|^\.(?:nan|NaN|NAN)$"
    ),
    list("-+0123456789."),
)


def parse_yaml(text: str, *, where: str) -> Any:
    """Read YAML text.

    Raises:
        InputError: it is not YAML; the message names the line.
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{where}:{mark.line + 1}" if mark is not None and "\n" in text else where
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise InputError(f"this is not YAML: {problem}", where=place) from error


def _quantity(kind: type[Quantity]) -> Any:
    def read(value: Any) -> Quantity:
        return kind.parse(value)

    return BeforeValidator(read)


def _choice(value: Any) -> Choice:
    if isinstance(value, Choice):
        return value
    if isinstance(value, str):
        return Choice(value)
    if isinstance(value, Mapping):
        options = {str(key): option for key, option in value.items()}
        name = options.pop("name", None)
        if isinstance(name, str):
            return Choice(name, options)
    raise ValueError(f"found {value!r}; write a name, or {{name: ..., option: ...}}")


def _model(value: Any) -> str | Choice:
    """A name that resolves to a folder, or the plan of a new model."""
    if isinstance(value, str) and value != "new":
        return value
    choice = _choice(value)
    if choice.name == "new":
        return choice
    if choice.options:
        raise ValueError(f"found {value!r}; write a name, or {{name: new, architecture: ...}} for a model from scratch")
    return choice.name


def _columns(value: Any) -> dict[str, str]:
    if not isinstance(value, Mapping) or any(isinstance(column, (list, dict)) for column in value.values()):
        raise ValueError(f"found {value!r}; write role: column, such as {{text: review}}")
    return {str(role): str(column) for role, column in value.items()}


_Text = PlainSerializer(str)
ChoiceField = Annotated[Any, BeforeValidator(_choice), PlainSerializer(lambda choice: plain_choice(choice))]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


def plain_choice(choice: Choice) -> Any:
    """Return a choice as a config writes it: a name, or a mapping with its options."""
    if isinstance(choice, str):
        return choice
    return {"name": choice.name, **choice.options} if choice.options else choice.name


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True, hide_input_in_errors=True)


class DataConfig(_Section):
    """Where the rows come from. ``train`` may be a path, a glob, a list, ``hf:NAME``, ``sample:NAME/SPLIT`` or rows.

    ``general`` is text of another kind, scored before and after tuning, so that forgetting shows.
    """

    train: Any
    validation: Any = None
    test: Any = None
    general: Any = None
    format: ChoiceField | None = None
    columns: Annotated[dict[str, str], BeforeValidator(_columns)] = Field(default_factory=dict)
    encoding: str | None = None
    max_rejected: Annotated[Any, _quantity(Share), _Text] = Share(1, "%")

    @property
    def share(self) -> Share | None:
        """The share of train to hold out, when ``validation`` is one and not a file."""
        if not isinstance(self.validation, str):
            return None
        try:
            return Share.parse(self.validation)
        except ValueError:
            return None


class TrainConfig(_Section):
    """How to train. ``learning_rate`` is the peak; left out, the method's own default is taken."""

    duration: Annotated[Any, _quantity(Duration), _Text] = Duration(3, "epochs")
    batch: Annotated[Any, _quantity(BatchSize), _Text] = BatchSize(32, "examples")
    micro_batch: Literal["auto"] | Annotated[Any, _quantity(MicroBatch), _Text] = "auto"
    learning_rate: Positive | None = None
    schedule: str = "linear"
    warmup: Annotated[Any, _quantity(Warmup), _Text] = Warmup(10, "%")
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    max_grad_norm: Positive | None = 1.0
    optimizer: ChoiceField = Choice("adamw")
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    gradient_checkpointing: Literal["auto"] | bool = "auto"
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    evaluate_every: Annotated[Any, _quantity(Duration), _Text] = Duration(1, "epochs")
    save_every: Annotated[Any, _quantity(Duration), _Text] = Duration(1, "epochs")
    keep: Annotated[int, Field(ge=1)] = 2
    patience: Annotated[int, Field(ge=1)] | None = None


class GenerationConfig(_Section):
    """How text is written; what is left out is the task's own choice. See luthier.generation.GenerationOptions."""

    max_new_tokens: Annotated[int, Field(ge=1)] | None = None
    num_beams: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=0)] | None = None
    length_penalty: Annotated[float, Field(allow_inf_nan=False)] | None = None
    stop: tuple[str, ...] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**32)] | None = None
    rows: Annotated[int, Field(ge=0)] | None = None

    def over(self, options: GenerationOptions) -> GenerationOptions:
        """Return options with what is said here in place of their own values.

        Raises:
            ValueError: the values do not go together.
        """
        return replace(options, **self.model_dump(exclude_none=True))


class RunConfig(_Section):
    """One run, whole."""

    task: ChoiceField
    model: Annotated[Any, BeforeValidator(_model), PlainSerializer(lambda model: plain_choice(model))]
    data: DataConfig
    method: ChoiceField = Choice("full")
    train: TrainConfig = TrainConfig()
    engine: str = "torch"
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    output: str | None = None
    generation: GenerationConfig = GenerationConfig()
    loggers: tuple[str, ...] = ()

    def to_yaml(self) -> str:
        """Return the config as YAML that runs again; the output folder is left to the next run."""
        values = self.model_dump(exclude={"output"}, exclude_none=True)
        return yaml.safe_dump(_plain(values), sort_keys=False, allow_unicode=True, width=1000)

    def flat(self) -> dict[str, str]:
        """Return every value under its dotted path, as text."""
        return dict(_flatten(_plain(self.model_dump(exclude_none=True))))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items() if not (isinstance(item, Mapping) and not item)}
    if isinstance(value, (list, tuple)):
        if value and isinstance(value[0], Mapping):
            return f"<{len(value)} rows given from Python>"
        return [_plain(item) for item in value]
    return value


def _flatten(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    flat: list[tuple[str, str]] = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat += _flatten(value, f"{prefix}{key}.")
        else:
            flat.append((prefix + key, str(value)))
    return flat


def load_config(path: Path | None, overrides: Sequence[str] = (), values: Mapping[str, Any] | None = None) -> RunConfig:
    """Read a config file, ``key=value`` overrides and keyword values, in this order of growing weight.

    Raises:
        InputError: no such file, not YAML, or an override that is no ``key=value``.
        ConfigError: all problems of the merged config.
    """
    merged: dict[str, Any] = {}
    where = None
    if path is not None:
        where = str(path)
        merged = _read_file(path)
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key.strip():
            raise InputError(f'"{override}" is no key=value', fix="Write for example train.duration='1 epoch'.")
        _put(merged, key.strip().split("."), parse_yaml(text, where=key.strip()))
    for key, value in (values or {}).items():
        _put(merged, key.split("."), value)
    return validate(merged, where=where)


def _read_file(path: Path) -> dict[str, Any]:
    if not path.is_file():
        fix = "Give a YAML file, or key=value pairs such as task=text-classification."
        raise InputError("there is no such config file", where=str(path), fix=fix)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"byte {error.start} is not UTF-8", where=str(path), fix="Save the config as UTF-8.") from error
    values = parse_yaml(text, where=str(path))
    if not isinstance(values, dict):
        raise InputError("a config is a mapping of keys to values", where=str(path), fix="Begin with: task: ...")
    return values


def _put(values: dict[str, Any], keys: Sequence[str], value: Any) -> None:
    """Set a nested value; a name that gets options becomes a tagged value."""
    for key in keys[:-1]:
        inner = values.get(key)
        if isinstance(inner, str):
            inner = {"name": inner}
        values[key] = dict(inner) if isinstance(inner, Mapping) else {}
        values = values[key]
    last = keys[-1]
    if isinstance(value, str) and last == "name" and "name" in values and values["name"] != value:
        values.clear()
    values[last] = value


def validate(values: Mapping[str, Any], *, where: str | None = None) -> RunConfig:
    """Check merged values.

    Raises:
        ConfigError: all problems at once.
    """
    try:
        return RunConfig.model_validate(dict(values))
    except pydantic.ValidationError as error:
        problems = [_problem(item, values) for item in error.errors(include_url=False)]
        raise ConfigError(list(dict.fromkeys(problems)), where=where) from None


def generation_options(options: GenerationOptions, *layers: Mapping[str, Any]) -> GenerationOptions:
    """Return options with the values of each layer over them.

    Raises:
        ConfigError: all problems at once.
    """
    values = {"generation": {key: value for layer in layers for key, value in layer.items()}}
    try:
        return GenerationConfig.model_validate(values["generation"]).over(options)
    except pydantic.ValidationError as error:
        items = ({**item, "loc": ("generation", *item["loc"])} for item in error.errors(include_url=False))
        raise ConfigError(list(dict.fromkeys(_problem(item, values) for item in items))) from None
    except ValueError as error:
        raise ConfigError([f"generation: {error}."]) from None


def _problem(item: Any, values: Mapping[str, Any]) -> str:
    """Say one of pydantic's findings in our words: path, what was found, what was meant."""
    location = [
        part for part in item["loc"] if isinstance(part, int) or part in _all_keys() or item["type"] == "extra_forbidden"
    ]
    path = ".".join(str(part) for part in location)
    if item["type"] == "missing":
        return f"{path}: there is no value. It is required{_EXAMPLES.get(path, '')}."
    if item["type"] == "extra_forbidden":
        section = _section(location[:-1])
        return f"{path}: there is no such key. {did_you_mean(str(location[-1]), section.model_fields)}"
    found = _found(values, location)
    if item["type"] == "value_error":
        return f"{path}: {item['ctx']['error']}."
    return f"{path}: found {found!r}; {item['msg'][0].lower()}{item['msg'][1:]}."


_EXAMPLES = {
    "task": ", such as task=text-classification",
    "model": ", such as model=minilm",
    "data": ", such as data.train=news.csv",
    "data.train": ", such as data.train=news.csv",
}


_SECTIONS: Mapping[Any, type[BaseModel]] = {"data": DataConfig, "train": TrainConfig, "generation": GenerationConfig}


def _all_keys() -> set[str]:
    return {*RunConfig.model_fields, *(key for section in _SECTIONS.values() for key in section.model_fields)}


def _section(location: Sequence[Any]) -> type[BaseModel]:
    return _SECTIONS.get(location[0], RunConfig) if location else RunConfig


def _found(values: Any, location: Sequence[Any]) -> Any:
    for key in location:
        try:
            values = values[key]
        except (KeyError, IndexError, TypeError):
            return None
    return values


def option_problems(function: Callable[..., Any], options: Mapping[str, Any], *, path: str) -> tuple[dict[str, Any], list[str]]:
    """Check a choice's options against the signature of what it names: keyword arguments are the schema.

    Returns:
        The options with their types applied, and the problems found.
    """
    fields: dict[str, Any] = {}
    for name, parameter in inspect.signature(function, eval_str=True).parameters.items():
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY or _is_dataclass_option(function, name):
            default = ... if parameter.default is inspect.Parameter.empty else parameter.default
            fields[name] = (parameter.annotation, default)
    model = pydantic.create_model("Options", __config__=ConfigDict(extra="forbid", arbitrary_types_allowed=True), **fields)
    try:
        checked = model.model_validate(dict(options))
    except pydantic.ValidationError as error:
        problems = []
        for item in error.errors(include_url=False):
            name = str(item["loc"][0])
            if item["type"] == "extra_forbidden":
                problems.append(f"{path}.{name}: there is no such option. {did_you_mean(name, fields)}")
            elif item["type"] == "missing":
                problems.append(f"{path}.{name}: there is no value. It is required.")
            else:
                problems.append(f"{path}.{name}: found {options[name]!r}; {item['msg'][0].lower()}{item['msg'][1:]}.")
        return {}, list(dict.fromkeys(problems))
    return {name: getattr(checked, name) for name in options}, []


def _is_dataclass_option(function: Callable[..., Any], name: str) -> bool:
    fields = getattr(function, "__dataclass_fields__", {})
    return name in fields and not fields[name].metadata.get("learned")
