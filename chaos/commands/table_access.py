"""Which table a command is about: from a target file, catalog properties, a run, or the stack of `icequake up`."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from chaos.commands.session import RUNS, STATE
from chaos.errors import BadInput, BadState
from chaos.stack.plan import Addresses
from chaos.target import find_target
from loadtests.records.rundir import RunDir

F = TypeVar("F", bound=Callable[..., Any])

_HIDDEN = "***"
_SECRETS = {
    "s3.access-key-id": "ICEQUAKE_S3_ACCESS_KEY",
    "s3.secret-access-key": "ICEQUAKE_S3_SECRET_KEY",
    "credential": "ICEQUAKE_CATALOG_CREDENTIAL",
    "token": "ICEQUAKE_CATALOG_TOKEN",
}


@dataclass(frozen=True)
class Access:
    """A table: pyiceberg catalog properties (they hold secrets) and `namespace.table`."""

    properties: dict[str, str]
    identifier: str


def table_options(command: F) -> F:
    """Add the options that say which table."""
    for option in (
        click.option("--runs", type=click.Path(path_type=Path, file_okay=False), default=RUNS, show_default=True, help="Where run directories are kept."),
        click.option("--stack", type=click.Choice(["up"]), default=None, help="The catalog of the stack that `icequake up` keeps running."),
        click.option("--run", "run_name", metavar="RUN", default=None, help="The table of a run: `last`, a run id or a directory."),
        click.option("--table", metavar="NS.NAME", default=None, help="The table's identifier."),
        click.option("--catalog-property", "pairs", multiple=True, metavar="KEY=VALUE", help="A pyiceberg catalog property; a value env:NAME is read from that variable."),
        click.option("--target", metavar="FILE", default=None, help="A target file with `table.catalog` and `table.identifier`."),
    ):  # fmt: skip
        command = option(command)
    return command


def access(
    *,
    target: str | None,
    pairs: tuple[str, ...],
    table: str | None,
    run_name: str | None,
    stack: str | None,
    runs: Path,
    environ: Mapping[str, str] = os.environ,
) -> Access:
    """Work out which table the options name; options on the right win: target, run, stack, properties, table.

    Raises:
        BadInput: they name none, or only half of one.
        RecordError: a run's or target's file cannot be read.
    """
    properties: dict[str, str] = {}
    identifier: str | None = None
    if target is not None:
        _, aim = find_target(target)
        properties, identifier = dict(aim.table.catalog), aim.table.identifier
    if run_name is not None:
        properties, identifier = _of_run(RunDir.find(runs, run_name))
    if stack is not None:
        properties = _of_stack(runs / STATE)
    properties |= dict(_pair(one) for one in pairs)
    identifier = table or identifier
    if not properties or identifier is None:
        missing = (
            "catalog (--target, --catalog-property, --run or --stack up)"
            if not properties
            else "table (--table NS.NAME)"
        )
        raise BadInput(f"it is not said which {missing} is meant.")
    if "." not in identifier.strip("."):
        raise BadInput(f"--table {identifier!r} is not of the form namespace.table.")
    return Access(_filled(properties, environ), identifier)


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise BadInput(f"--catalog-property {text!r} is not of the form KEY=VALUE.")
    return key, value


def _of_run(run: RunDir) -> tuple[dict[str, str], str | None]:
    if run.stack.is_file():
        try:
            document = json.loads(run.stack.read_bytes())
            return {key: str(value) for key, value in document["direct"]["catalog"].items()}, str(document["table"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BadState(f"{run.stack} does not say where the table is ({error!r}).") from error
    table = run.load_target().table
    return dict(table.catalog), table.identifier


def _of_stack(path: Path) -> dict[str, str]:
    """Properties for a reader beside a run: the stack is neither claimed nor changed."""
    try:
        at = Addresses(**json.loads(path.read_text(encoding="utf-8"))["addresses"])
    except OSError as error:
        raise BadState(f"no stack is up ({path}: {error.strerror}): run `icequake up` first.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise BadState(f"{path} does not describe a stack ({error}): run `icequake up` again.") from error
    return at.pyiceberg_properties(direct=True)


def _filled(properties: Mapping[str, str], environ: Mapping[str, str]) -> dict[str, str]:
    """Fill in `env:NAME` and hidden secrets; what stays hidden is left out."""
    filled = {}
    for name, value in properties.items():
        if value.startswith("env:"):
            variable = value.removeprefix("env:")
            if variable not in environ:
                raise BadInput(f"the catalog property {name} is to be read from {variable}, which is not set.")
            filled[name] = environ[variable]
        elif value != _HIDDEN:
            filled[name] = value
    secrets = {name: environ[variable] for name, variable in _SECRETS.items() if variable in environ}
    hidden = {name for name, value in properties.items() if value == _HIDDEN}
    return {**{name: value for name, value in secrets.items() if name in hidden}, **filled}
