"""`icequake doctor`: is this table whole? On any catalog and table, with or without a run."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from chaos.commands.numbers import FiniteRange
from chaos.commands.table_access import access, table_options
from chaos.table.clinic import Visit, visit
from chaos.table.doctor import DAY_S, Options, Report, silent
from chaos.table.doctor import Progress as Told
from chaos.table.findings import INVISIBLE, Severity

_STYLES = {Severity.CRITICAL: "bold red", Severity.WARNING: "yellow", Severity.UNKNOWN: "magenta"}


@click.command()
@table_options
@click.option("--quick", is_flag=True, help="Read only the footers of data files: values, partitions and damaged pages go unseen.")  # fmt: skip
@click.option("--current-only", is_flag=True, help="Leave out what only older snapshots need, and orphans.")
@click.option("--no-write", is_flag=True, help="Try no permission that needs a scratch object or a (refused) commit.")
@click.option("--location", metavar="URI", default=None, help="Where the table is, when the catalog cannot load it.")
@click.option("--orphan-age-hours", type=FiniteRange(0), default=DAY_S / 3600, show_default=True, help="Younger unreferenced objects may belong to a commit in flight.")  # fmt: skip
@click.option("--workers", type=click.IntRange(1, 256), default=8, show_default=True, help="Requests at a time.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def doctor(
    *,
    quick: bool,
    current_only: bool,
    no_write: bool,
    location: str | None,
    orphan_age_hours: float,
    workers: int,
    as_json: bool,
    **which: Any,
) -> int:
    """Check everything about an Iceberg table that can be checked from outside.

    Exit codes: 0 healthy, 1 something is wrong, 2 something could not be checked.
    """
    about = access(**which)
    options = Options(quick, not current_only, workers, orphan_age_hours * 3600)
    errors = Console(stderr=True)
    with progress_of(errors) as told:
        report = visit(
            Visit(
                properties=about.properties,
                identifier=about.identifier,
                now_s=time.time(),
                token=secrets.token_hex(4),
                options=options,
                location=location,
                writes=not no_write,
            ),
            told,
        )
    if as_json:
        click.echo(json.dumps(report.as_json(), indent=1))
    else:
        show(report, Console())
    return report.findings.exit_code()


@contextmanager
def progress_of(console: Console) -> Iterator[Told]:
    """Show progress on a terminal; elsewhere nothing."""
    if not console.is_terminal:
        yield silent
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        tasks: dict[str, TaskID] = {}

        def told(what: str, done: int, of: int | None) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=of)
            bar.update(tasks[what], completed=done, total=of)

        yield told


def show(report: Report, console: Console) -> None:
    """Print a report for a person."""
    for finding in report.findings.kept:
        style = _STYLES[finding.severity]
        console.print(
            f"[{style}]{finding.severity:<8}  {finding.name}[/]  {escape(finding.object)}",
            soft_wrap=True,
            highlight=False,
        )
        for word, text in (("seen", finding.detail), ("breaks", finding.breaks), ("mend", finding.kind.procedure)):
            console.print(f"          {word:<7} {escape(text)}", soft_wrap=True, highlight=False)
    for name, count in report.findings.omitted().items():
        console.print(f"          and {count} more of {name}", highlight=False)
    console.print(headline(report), soft_wrap=True, highlight=False)
    if any(finding.kind.recipe and finding.live for finding in report.findings.kept):
        console.print(
            "Next      icequake repair with the same options shows a plan and changes nothing", highlight=False
        )


COUNTED = {
    "snapshots": "snapshot",
    "manifests": "manifest",
    "data_files": "data file",
    "rows_read": "row",
    "bytes": "byte",
    "unreferenced_objects": "unreferenced object",
}
"""What is counted of a table, and how one of it is called."""


def count(number: int, what: str) -> str:
    """Say how many, in figures."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def headline(report: Report) -> str:
    """One line: healthy or how many findings, and what was looked at."""
    figures = report.figures
    number = {name: count(figures.get(name, 0), what) for name, what in COUNTED.items()}
    looked = (
        f"{number['snapshots']}, {number['manifests']}, {number['data_files']}, "
        f"{number['rows_read']} {'counted' if report.quick else 'read'}, {number['bytes']}, {number['unreferenced_objects']}"
    )
    if report.healthy:
        return f"healthy   {escape(report.table)}: {looked}"
    total = sum(report.findings.counts.values())
    return f"{count(total, 'finding')} in {escape(report.table)}: {looked}; what no look at the table alone can show: {len(INVISIBLE)} things, see --json"
