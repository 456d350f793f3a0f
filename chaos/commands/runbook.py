"""`icequake runbook`: what is wrong with a runbook, and a corrected one for the target at hand."""

from __future__ import annotations

import json
from pathlib import Path

import click
from rich.console import Console
from rich.markup import escape

from chaos.commands.session import RUNS
from chaos.runbook.document import read_runbook
from chaos.runbook.findings import Report
from chaos.runbook.rules import check_runbook


@click.group()
def runbook() -> None:
    """Check a runbook's commands, or print a corrected one."""


@runbook.command("check")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON and nothing else.")
def check(file: Path, *, as_json: bool) -> int:
    """Say which commands of the Markdown FILE do not exist, succeed without doing anything, or cannot see failure.

    Nothing is executed. Ends with 0 when nothing is wrong, 1 when something is, 2 when nothing wrong was found but a command
    could not be checked (or there is none), 254 when the file cannot be read.
    """
    report = check_runbook(read_runbook(file))
    if as_json:
        click.echo(json.dumps(report.as_json(), indent=1))
    else:
        _show(report, Console())
    return report.exit_code


@runbook.command("print")
@click.option("--target", default="reference", show_default=True, help="A target's name, or its .yaml file.")
@click.option("--run", "run", default=None, help="Take the figures of this run only: a path, `last`, a name or an id.")
@click.option("--runs", type=click.Path(path_type=Path, file_okay=False), default=RUNS, show_default=True, help="Where run directories are kept.")  # fmt: skip
def print_(*, target: str, run: str | None, runs: Path) -> None:
    """Print the corrected runbook for a target, with the figures that its runs measured."""
    from chaos.runbook.figures import figures_of, runs_of
    from chaos.runbook.printing import print_runbook
    from chaos.target import find_target
    from loadtests.records.rundir import RunDir

    _, loaded = find_target(target)
    found = [RunDir.find(runs, run).root] if run is not None else runs_of(runs, loaded.name)
    click.echo(print_runbook(loaded, target, figures_of(found)), nl=False)


def _show(report: Report, console: Console) -> None:
    for one in report.findings:
        console.print(f"[bold]line {one.line:<4}[/] {one.rule}: {one.kind}", soft_wrap=True, highlight=False)
        first, *more = one.text.strip().splitlines() or [""]
        text = f"{first} ..." if more else first
        for word, said in (("says", text), ("but", one.why), ("instead", one.instead)):
            console.print(f"          {word:<8} {escape(said)}", soft_wrap=True, highlight=False)
    for line, text in sorted(report.unchecked.items()):
        console.print(
            f"line {line:<4} not checked, nothing is known of it: {escape(text)}", soft_wrap=True, highlight=False
        )
    console.print(_summary(report), highlight=False)


def _summary(report: Report) -> str:
    if not report.commands:
        return f"{report.name} has no commands: nothing can be said of it"
    found = len(report.findings)
    lines = len({one.line for one in report.findings})
    if found:
        return f"{found} finding{'s' if found != 1 else ''} on {lines} line{'s' if lines != 1 else ''} of {report.name} ({report.commands} commands)"
    unchecked = f", {len(report.unchecked)} could not be checked" if report.unchecked else ""
    return f"nothing wrong in {report.commands} commands of {report.name}{unchecked}"
