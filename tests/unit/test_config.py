from pathlib import Path

import pytest

from luthier.config import load_config, option_problems, parse_yaml
from luthier.engines.engine import Choice
from luthier.errors import ConfigError, InputError

LEAST = ("task=text-classification", "model=minilm", "data.train=a.csv")


def problems(*overrides: str, **values) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_config(None, overrides, values)
    return list(caught.value.problems)


def test_three_values_are_enough_and_the_rest_has_defaults():
    config = load_config(None, LEAST)
    assert str(config.train.duration) == "3 epochs"
    assert config.method == Choice("full")
    assert config.data.share is None
    assert config.train.warmup.steps(100, 10) == 10


def test_a_resolved_config_reads_back_as_itself(tmp_path: Path):
    config = load_config(None, [*LEAST, "method={name: freeze, layers: 2}", "data.validation=10%", "train.patience=2"])
    path = tmp_path / "config.yaml"
    path.write_text(config.to_yaml(), encoding="utf-8")
    assert load_config(path) == config


def test_the_command_line_weighs_more_than_the_file(tmp_path: Path):
    path = tmp_path / "a.yaml"
    path.write_text("task: text-classification\nmodel: minilm\ndata: {train: a.csv}\nmethod: freeze\n", encoding="utf-8")
    config = load_config(path, ["model=other", "method.layers=3", "task.max_tokens=64"])
    assert config.model == "other"
    assert config.method == Choice("freeze", {"layers": 3})
    assert config.task == Choice("text-classification", {"max_tokens": 64})


def test_naming_another_method_drops_the_options_of_the_first(tmp_path: Path):
    path = tmp_path / "a.yaml"
    path.write_text("task: t\nmodel: m\ndata: {train: a}\nmethod: {name: freeze, layers: 3}\n", encoding="utf-8")
    assert load_config(path, ["method.name=head"]).method == Choice("head")


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("data.trian=x", 'data.trian: there is no such key. Did you mean "train"?'),
        ("epochs=3", "epochs: there is no such key."),
        ("train.epochs=3", "train.epochs: there is no such key."),
        ("train.duration=3", 'train.duration: found 3; write a number with its unit (epochs, steps), such as "3 epochs".'),
        ("train.batch=32", 'such as "32 examples"'),
        ("train.learning_rate=-1", "train.learning_rate: found -1; input should be greater than 0."),
        ("train.learning_rate=.inf", "train.learning_rate: found inf"),
        ("train.learning_rate=.nan", "train.learning_rate: found nan"),
        ("train.learning_rate=fast", "train.learning_rate: found 'fast'"),
        ("train.weight_decay=-0.1", "train.weight_decay: found -0.1"),
        ("train.precision=float16", "train.precision: found 'float16'"),
        ("train.seed=-1", "train.seed: found -1"),
        ("train.keep=0", "train.keep: found 0"),
        ("train.patience=no", "train.patience: found 'no'"),
        ("train.warmup=5", "train.warmup: found 5"),
        ("train.gradient_checkpointing=maybe", "train.gradient_checkpointing: found 'maybe'"),
        ("device=gpu", "device: found 'gpu'"),
        ("data.max_rejected=5", "data.max_rejected: found 5"),
        ("data.columns=text", "data.columns: found 'text'; write role: column"),
        ("task=[1]", "task: found [1]; write a name"),
        ("method={layers: 2}", "method: found {'layers': 2}; write a name"),
        ("train=3", "train: found 3"),
        ("loggers=tensorboard", "loggers: found 'tensorboard'"),
    ],
)
def test_a_bad_value_is_refused_with_its_path(override: str, said: str):
    assert said in "\n".join(problems(*LEAST, override))


def test_all_problems_come_at_once():
    found = problems("taks=a", "train.duration=3", "train.seed=x")
    assert [problem.split(":")[0] for problem in found] == ["task", "model", "data", "train.duration", "train.seed", "taks"]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("3.0e-4", 3e-4),
        ("2E5", 2e5),
        ("no", "no"),
        ("off", "off"),
        ("yes", "yes"),
        ("true", True),
        ("10%", "10%"),
        ("12", 12),
        ("1.5", 1.5),
        ("3 epochs", "3 epochs"),
        ("1:30", "1:30"),
        ("-3", -3),
        ("007", "007"),
        ("2024-01-31", "2024-01-31"),
        ("null", None),
    ],
)
def test_yaml_says_what_people_mean(text: str, value: object):
    read = parse_yaml(text, where="x")
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    "text",
    [
        "task: a\ntask: b\n",
        "task: [a\n",
        "task: 'a\n",
        "\ttask: a\n",
        "? [1, 2]\n: 3\n",
        "a: b: c\n",
        "!!python/object:os.system x\n",
    ],
)
def test_text_that_is_not_plain_yaml_is_refused_with_its_place(tmp_path: Path, text: str):
    path = tmp_path / "a.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=r"a\.yaml.*this is not YAML"):
        load_config(path)


@pytest.mark.parametrize("text", ["", "- a\n", "text\n", "3\n"])
def test_a_config_that_is_no_mapping_is_refused(tmp_path: Path, text: str):
    path = tmp_path / "a.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match="a config is a mapping"):
        load_config(path)


def test_a_config_that_is_missing_or_no_utf8_is_refused(tmp_path: Path):
    with pytest.raises(InputError, match="there is no such config file"):
        load_config(tmp_path / "a.yaml")
    (tmp_path / "b.yaml").write_bytes("task: café".encode("latin-1"))
    with pytest.raises(InputError, match="is not UTF-8"):
        load_config(tmp_path / "b.yaml")


def test_a_byte_order_mark_is_no_part_of_a_config(tmp_path: Path):
    path = tmp_path / "a.yaml"
    path.write_bytes(b"\xef\xbb\xbftask: t\nmodel: m\ndata: {train: a}\n")
    assert load_config(path).model == "m"


@pytest.mark.parametrize("override", ["train", "=3", ""])
def test_an_override_without_key_and_value_is_refused(override: str):
    with pytest.raises(InputError, match="is no key=value"):
        load_config(None, [override])


def freeze(model: object, *, layers: int, note: str = "") -> None: ...


def test_options_are_checked_against_the_signature():
    assert option_problems(freeze, {"layers": "4"}, path="method") == ({"layers": 4}, [])
    assert option_problems(freeze, {}, path="method")[1] == ["method.layers: there is no value. It is required."]
    assert 'Did you mean "layers"?' in option_problems(freeze, {"layer": 1, "layers": 2}, path="method")[1][0]
    assert "method.layers: found 'x'" in option_problems(freeze, {"layers": "x"}, path="method")[1][0]


def test_rows_given_from_python_are_kept_and_shown_as_such():
    rows = [{"text": "a", "label": "b"}]
    config = load_config(None, LEAST, {"data": {"train": rows}})
    assert config.data.train == rows
    assert "1 rows given from Python" in config.to_yaml()
