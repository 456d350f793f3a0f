"""`icequake repair`: mend what the doctor found. A plan first; nothing is changed without --yes."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.console import Console
from rich.markup import escape

from chaos.commands.doctor import headline, progress_of, show
from chaos.commands.table_access import access, table_options
from chaos.errors import BadInput, ChaosError
from chaos.table.clinic import Visit, visit
from chaos.table.doctor import Report
from chaos.table.errors import CatalogFailed, TableError
from chaos.table.findings import Severity
from chaos.table.plans import Plan, Refusal
from chaos.table.treatment import Case, next_step

T = TypeVar("T")

MOST_STEPS = 100
"""A table that still has something to mend after so many repairs is not getting better."""


@click.command()
@table_options
@click.option("--yes", is_flag=True, help="Do it; without this only the plan is shown.")
@click.option("--accept-loss", is_flag=True, help="With --yes: also do what loses rows for good.")
@click.option("--export", type=click.Path(path_type=Path, dir_okay=False, exists=True), default=None, help="A collector's export (`GET /admin/export`): rows of lost files are taken from it.")  # fmt: skip
@click.option("--location", metavar="URI", default=None, help="Where the table is, when the catalog cannot load it.")
@click.option("--backup", type=click.Path(path_type=Path, file_okay=False), default=Path("repair-backup"), show_default=True, help="Where the old bytes of replaced objects are kept.")  # fmt: skip
def repair(
    *, yes: bool, accept_loss: bool, export: Path | None, location: str | None, backup: Path, **which: Any
) -> int:
    """Mend an Iceberg table, step by step, from what can be proved; the doctor runs before and after each step.

    Writers should be stopped meanwhile. Killed in the middle, it can be run again.
    Exit codes as for `icequake doctor`, of the table as it is left.
    """
    about, console = access(**which), Console()
    case = Case(about.properties, about.identifier, location, export)
    done = 0
    while True:
        report = _examine(case)
        step = _translated(lambda: next_step(case, report, now_ms=int(time.time() * 1000)))  # noqa: B023  # called at once
        _say_refused(step.refused, console)
        if step.plan is None:
            return _end(report, done, console)
        plan = step.plan
        _say(plan, console)
        if not yes:
            console.print(
                "Nothing was changed. --yes does this step, then what the doctor finds next.", highlight=False
            )
            return report.findings.exit_code()
        if plan.loss and plan.rows_lost and not accept_loss:
            raise BadInput("this step loses rows for good; put their files back from a backup, or add --accept-loss.")
        if done == MOST_STEPS:
            raise ChaosError(f"after {done} repairs the table still needs one; stop writers and look at it by hand.")
        _translated(lambda: step.carry_out(backup))  # noqa: B023  # called at once
        done += 1
        console.print(f"done      {plan.recipe}", highlight=False)


def _examine(case: Case) -> Report:
    with progress_of(Console(stderr=True)) as told:
        now_s, token = time.time(), secrets.token_hex(4)
        about = Visit(case.properties, case.identifier, now_s, token, location=case.location, writes=False)
        return visit(about, told)


def _translated(action: Callable[[], T]) -> T:
    try:
        return action()
    except CatalogFailed as error:
        raise ChaosError(f"{error} Run the command again: it begins with what the table is then.") from error
    except TableError as error:
        raise ChaosError(f"the repair stopped: {error} Run the command again when that is mended.") from error


def _say(plan: Plan, console: Console) -> None:
    console.print(f"[bold]plan[/]      {plan.recipe}", highlight=False)
    lines = [("mends", f"{one.name}  {one.object}") for one in plan.mends]
    lines += [("because", one) for one in plan.evidence]
    lines += [("replaces", one) for one in plan.replaces]
    lines += [("loses", one) for one in plan.loss] or [("loses", "nothing")]
    if plan.rows_lost:
        lines.append(("loses", f"{plan.rows_lost} rows in all"))
    for word, text in lines:
        console.print(f"          {word:<8} {escape(text)}", soft_wrap=True, highlight=False)


def _say_refused(refused: list[Refusal], console: Console) -> None:
    for one in refused:
        text = f"{one.finding.name}  {one.finding.object}: {one.why}"
        console.print(f"[yellow]cannot[/]    {escape(text)}", soft_wrap=True, highlight=False)


def _end(report: Report, done: int, console: Console) -> int:
    if report.healthy:
        console.print(headline(report), soft_wrap=True, highlight=False)
    else:
        show(report, console)
    if done:
        left = [one for one in report.findings.kept if one.severity is Severity.CRITICAL]
        console.print(
            f"{done} step{'s' if done != 1 else ''} done, {len(left)} critical findings left", highlight=False
        )
    return report.findings.exit_code()
