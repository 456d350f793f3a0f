"""The `icequake diagnose` command."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import NoReturn

import click
import msgspec
from rich.console import Console

from loadtests.records.errors import RecordError
from loadtests.records.rundir import RunDir
from reports.diagnosis.answer import Answer
from reports.diagnosis.recorded import diagnose
from reports.errors import ReportError
from reports.run_argument import find_run, run_argument
from reports.runrecords import read_run


@click.command(name="diagnose")
@run_argument
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def main(run: str, runs: Path, as_json: bool) -> None:
    """Answer the runbook's root-cause page for RUN (also one that goes on), the most suspicious cause first.

    Exit codes: 0 nothing is unusual; 1 something is; 254 not a run.
    """
    try:
        root = find_run(runs, run)
        answers = diagnose(read_run(root, observed=False))
        title = RunDir.open(root).info
    except ReportError as error:
        _fail(error, error.exit_code)
    except RecordError as error:
        _fail(error, 254)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode([asdict(answer) for answer in answers]), indent=2))
    else:
        show(answers, Console(highlight=False), f"{title.scenario} on {title.target}, run {title.run_id}")
    sys.exit(1 if any(answer.suspect for answer in answers) else 0)


def show(answers: list[Answer], console: Console, title: str) -> None:
    """Print the answers: suspects with their evidence, the rest in a line each."""
    console.print(f"Root causes of {title}, most suspicious first", soft_wrap=True)
    for answer in answers:
        mark = {True: "SUSPECT", False: "as usual", None: "unknown"}[answer.suspect]
        console.print(f"{mark:<9} {answer.question} {answer.answer}", markup=False, soft_wrap=True)
        for line in answer.evidence if answer.suspect else ():
            console.print(f"          {line}", markup=False, soft_wrap=True)


def _fail(error: Exception, exit_code: int) -> NoReturn:
    click.echo(f"diagnose: {error}", err=True)
    sys.exit(exit_code)
