"""Which column plays which role of the task."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence

from luthier.data.rows import Row
from luthier.errors import ConfigError, did_you_mean
from luthier.tasks.task import Column


def map_columns(roles: Sequence[Column], found: Sequence[str], mapping: Mapping[str, str], *, where: str) -> dict[str, str]:
    """Return role -> column.

    A mapping given by the user wins; then the role's own name, then its aliases, whatever the case.

    Raises:
        ConfigError: a required role has no column, or the mapping names a role or column that is not there; all at once.
    """
    names = {role.name for role in roles}
    problems = [
        f"data.columns.{role}: there is no such role. {did_you_mean(role, names)}" for role in mapping if role not in names
    ]
    result: dict[str, str] = {}
    for role in roles:
        column = mapping.get(role.name)
        if column is not None:
            if column in found:
                result[role.name] = column
            elif role.required or role.gold:
                problems.append(f'{where}: no column "{column}" for {role.name}. {did_you_mean(column, found)}')
            continue
        column = _by_name(role, found, taken={*result.values(), *mapping.values()})
        if column is not None:
            result[role.name] = column
        elif role.required:
            problems.append(f"{where}: {_missing(role.name, found)}")
    if problems:
        raise ConfigError(problems)
    return result


def _by_name(role: Column, found: Sequence[str], *, taken: set[str]) -> str | None:
    for wanted in (role.name, *role.aliases):
        for column in found:
            if column.strip().casefold() == wanted.casefold() and column not in taken:
                return column
    return None


def _missing(role: str, found: Sequence[str]) -> str:
    message = f'no column "{role}" (found: {", ".join(found)}).'
    near = difflib.get_close_matches(role, found, n=1, cutoff=0.6)
    example = near[0] if near else "COLUMN"
    if near:
        message += f' Did you mean "{near[0]}"?'
    return f"{message} Map it: data.columns.{role}={example}"


def apply_columns(row: Row, mapping: Mapping[str, str], roles: Sequence[Column]) -> Row:
    """Return the row under the task's roles, with its ``id`` where it has one.

    Raises:
        RowError: this row lacks a required column.
    """
    for role in roles:
        if role.required and mapping[role.name] not in row:
            raise row.error(f'no column "{mapping[role.name]}" (found: {", ".join(row)})')
    values = {role: row[column] for role, column in mapping.items() if column in row}
    if "id" in row and "id" not in values:
        values["id"] = row["id"]
    return row.renamed(values)
