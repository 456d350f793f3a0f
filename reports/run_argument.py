"""The argument that names a run, the same for every command that reads one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from loadtests.records.rundir import RunDir

F = TypeVar("F", bound=Callable[..., Any])


def run_argument(command: F) -> F:
    """Add RUN and `--runs`: a run directory, or `last`, a directory's name or a run id below the runs directory."""
    command = click.option(
        "--runs",
        type=click.Path(path_type=Path),
        default=Path("runs"),
        show_default=True,
        help="Where run directories are.",
    )(command)
    return click.argument("run")(command)


def find_run(runs: Path, run: str) -> Path:
    """Return the directory of a run that was named so. Raises MissingRecord, CorruptRecord, NewerVersion."""
    return RunDir.find(runs, run).root
