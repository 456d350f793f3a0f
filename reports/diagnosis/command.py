"""The `icequake diagnose` command."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import NoReturn

import click
import msgspec
from rich.console import Console

from chaos.errors import BadInput
from chaos.target import find_target
from loadtests.records.errors import RecordError
from loadtests.records.rundir import RunDir
from reports.diagnosis.answer import Answer
from reports.diagnosis.asking import look, usual_of
from reports.diagnosis.live import diagnose_live
from reports.diagnosis.recorded import diagnose
from reports.errors import ReportError
from reports.history.expected import span_s
from reports.run_argument import find_run
from reports.runrecords import read_run
from reports.screen import stdout_console
from reports.unusable import usable


@click.command(name="diagnose")
@click.argument("run", required=False)
@click.option("--runs", type=click.Path(path_type=Path), default=Path("runs"), show_default=True, help="Where run directories are.")  # fmt: skip
@click.option(
    "--target", metavar="FILE", help="Instead of RUN: watch this live target. It is asked, and changed in nothing."
)
@click.option(
    "--for", "span", metavar="SPAN", default="20s", show_default=True, help="With --target: how long (20s, 5m)."
)
@click.option("--usual", metavar="RUN", help="With --target: the run whose baseline says what traffic is usual.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def main(run: str | None, runs: Path, target: str | None, span: str, usual: str | None, as_json: bool) -> None:
    """Answer the runbook's root-cause page for RUN (also one that goes on) or a live target, the most suspicious cause first.

    Exit codes: 0 nothing is unusual; 1 something is; 254 not a run, or a target file that cannot be used.
    """
    if (run is None) == (target is None):
        raise click.UsageError("give either RUN (a run directory, `last`, or a run id) or --target FILE")
    try:
        title, answers = _of_run(runs, run) if run is not None else _of_target(str(target), span_s(span), runs, usual)
    except (ReportError, BadInput) as error:
        _fail(error, error.exit_code)
    except RecordError as error:
        _fail(error, 254)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode([asdict(answer) for answer in answers]), indent=2))
    else:
        show(answers, stdout_console(), title)
    sys.exit(1 if any(answer.suspect for answer in answers) else 0)


def _of_run(runs: Path, run: str) -> tuple[str, list[Answer]]:
    with usable(run):
        root = find_run(runs, run)
        answers = diagnose(read_run(root, observed=False))
    info = RunDir.open(root).info
    return f"{info.scenario} on {info.target}, run {info.run_id}", answers


def _of_target(name: str, seconds: float, runs: Path, usual: str | None) -> tuple[str, list[Answer]]:
    _, target = find_target(name)
    baseline = None if usual is None else usual_of(read_run(find_run(runs, usual), observed=False))
    live = look(target, name, seconds, baseline, say=lambda text: click.echo(text, err=True))
    return f"{target.name}, watched for {live.watched.seconds:.0f} s", diagnose_live(live)


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
