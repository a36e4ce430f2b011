"""The commands that speak fairseq's flags. luthier.cli registers them."""

from __future__ import annotations

import dataclasses
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from luthier.errors import InputError
from luthier.json_output import Json, print_json


def import_fairseq_args(
    flags: Annotated[list[str], typer.Argument(help='In quotes: "--arch transformer --max-tokens 4096 ...".', metavar="FLAGS")],
    as_json: Json = False,
) -> None:
    """Print the config that the flags of fairseq-train or fairseq-generate mean, and name those that it cannot honour."""
    from luthier.interop.fairseq.commands import import_command

    found = import_command(flags[0] if len(flags) == 1 else shlex.join(flags))
    if as_json:
        print_json({"config": found.config, "notes": found.notes, "not_honoured": found.refused})
        return
    sys.stdout.write(found.yaml)
    for note in found.notes:
        typer.echo(f"note: {note}", err=True)
    for refused in found.refused:
        typer.echo(f"not honoured: {refused}", err=True)


def fairseq_preprocess(
    source_lang: Annotated[str, typer.Option("--source-lang", "-s", help="The source's language, and its files' suffix.")],
    target_lang: Annotated[str, typer.Option("--target-lang", "-t", help="The target's.")],
    trainpref: Annotated[str | None, typer.Option(help="data/train stands for data/train.en and data/train.fr.")] = None,
    validpref: Annotated[str | None, typer.Option(help="The validation split's; several apart by commas.")] = None,
    testpref: Annotated[str | None, typer.Option(help="The test split's; several apart by commas.")] = None,
    destdir: Annotated[Path, typer.Option(help="A new folder.")] = Path("data-bin"),
    srcdict: Annotated[Path | None, typer.Option(help="The source's dict.txt; default: made from the training split.")] = None,
    tgtdict: Annotated[Path | None, typer.Option(help="The target's.")] = None,
    joined_dictionary: Annotated[bool, typer.Option("--joined-dictionary", help="One dictionary for both sides.")] = False,
    codes: Annotated[
        Path | None, typer.Option(help="BPE codes or a SentencePiece model, for text that is not split yet.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Write parallel text as fairseq-preprocess does: dictionaries and binary files."""
    from luthier.interop.fairseq.preprocess import write_data_bin

    splits = {}
    for name, prefixes in (("train", trainpref), ("valid", validpref), ("test", testpref)):
        parts = prefixes.split(",") if prefixes and name != "train" else [prefixes] if prefixes else []
        for number, prefix in enumerate(parts):
            splits[f"{name}{number or ''}"] = f"{prefix}.{{{source_lang},{target_lang}}}"
    if not splits:
        raise InputError("no text is named", fix="Write --trainpref data/train for data/train.en and data/train.fr.")
    written = write_data_bin(
        destdir,
        splits,
        languages=(source_lang, target_lang),
        dictionaries=(srcdict, tgtdict),
        codes=codes,
        joined=joined_dictionary,
    )
    if as_json:
        print_json({"folder": str(destdir), "files": [dataclasses.asdict(side) for side in written]})
        return
    for side in written:
        typer.echo(
            f"{side.name}: {side.sentences} sentences, {side.tokens} tokens, {side.unknown} of them <unk>; "
            f"its dictionary has {side.symbols} symbols"
        )
    typer.echo(f"Wrote {destdir}. As data: fairseq:{destdir}")
