"""`icequake history`, `compare` and `trend`: many runs, read from their directories."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import click
import msgspec
from rich.console import Console
from rich.table import Table

from loadtests.records.errors import RecordError
from reports.errors import BadRequest, ReportError
from reports.history.compare import Comparison, compare
from reports.history.entry import FIGURES, Entry, as_json, entry_of, read_history
from reports.history.expected import missed_night, missed_run
from reports.history.page import Trend, as_rows, trends_of, write_page
from reports.history.pins import pin, pinned_nights, read_baselines
from reports.history.prune import prune
from reports.history.trend import integrity, newest_two
from reports.history.wording import change_text, duration_text, figure_text, verdict_text, when
from reports.run_argument import find_run
from reports.screen import stdout_console
from reports.verdict import Verdict
from reports.visible import visible

runs_option = click.option("--runs", type=click.Path(path_type=Path), default=Path("runs"), show_default=True, help="Where run directories are.")  # fmt: skip
scenario_option = click.option("--scenario", help="Only runs of this scenario.")
target_option = click.option("--target", help="Only runs of this target.")


@click.command(name="history")
@runs_option
@scenario_option
@target_option
@click.option("--last", type=click.IntRange(1), default=20, show_default=True, help="How many runs to show.")
@click.option(
    "--expect-within", metavar="SPAN", help="Exit 1 unless such a run ended with a verdict within SPAN (26h, 90m, 2d)."
)
@click.option("--preset", help="Only runs of nights of this preset; with --expect-within: a whole night, every run with a verdict.")  # fmt: skip
@click.option("--page", type=click.Path(path_type=Path, dir_okay=False), help="Write an index page (HTML) of all runs, with trends.")  # fmt: skip
@click.option("--prune", "prune_", is_flag=True, help="Strip passed runs but the newest --keep to their verdict, documents and report.")  # fmt: skip
@click.option("--keep", type=click.IntRange(0), default=20, show_default=True, help="With --prune.")
@click.option("--json", "as_json_", is_flag=True, help="Print JSON.")
def history(
    runs: Path,
    scenario: str | None,
    target: str | None,
    last: int,
    expect_within: str | None,
    preset: str | None,
    page: Path | None,
    prune_: bool,
    keep: int,
    as_json_: bool,
) -> None:
    """List what was run and what it came to, newest last.

    Exit codes: 0; 1 with --expect-within when there was no such run, or night; 254 bad arguments or files.
    """
    try:
        found = _of_preset(_chosen(read_history(runs), scenario, target), preset)
        if prune_:
            stripped, freed = prune(found, keep)
            click.echo(f"{stripped} runs stripped, {freed / 2**20:,.1f} MiB freed")
            return
        if page is not None:
            pins = pinned_nights(read_baselines(runs))
            write_page(page, found, trends_of(found, pins), f"icequake: {len(found)} runs")
            click.echo(str(page))
        if as_json_:
            click.echo(msgspec.json.format(msgspec.json.encode([as_json(entry) for entry in found[-last:]]), indent=2))
        else:
            console = stdout_console()
            console.print(_table(found[-last:], wide=console.width >= 120) if found else f"no run in {runs}")
        if expect_within is not None:
            sys.exit(_expect(found, preset, expect_within))
    except (ReportError, OSError) as error:
        _fail(error)


def _chosen(entries: Sequence[Entry], scenario: str | None, target: str | None) -> list[Entry]:
    return [
        entry for entry in entries if scenario in (None, entry.scenario) and target in (None, entry.target)
    ]  # fmt: skip


def _of_preset(entries: Sequence[Entry], preset: str | None) -> list[Entry]:
    return [entry for entry in entries if preset is None or (entry.night is not None and entry.night.preset == preset)]


def _expect(entries: Sequence[Entry], preset: str | None, within: str) -> int:
    now_s = time.time()
    missed = missed_run(entries, within, now_s) if preset is None else missed_night(entries, preset, within, now_s)
    if missed is not None:
        click.echo(f"history: {missed}", err=True)
    return 0 if missed is None else 1


def _table(entries: Sequence[Entry], *, wide: bool) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("began (UTC)", "verdict", "scenario", "target", "took", "run"):
        whole = column in ("began (UTC)", "run")  # the others may take two lines on a narrow terminal
        table.add_column(column, no_wrap=whole, overflow="fold")
    if wide:
        table.add_column("in a sentence", overflow="ellipsis", no_wrap=True)
    for entry in entries:
        verdict = verdict_text(entry)
        said = visible(entry.problem or entry.headline)
        row = [
            when(entry.started_unix_ns),
            verdict,
            entry.scenario,
            entry.target,
            duration_text(entry.duration_s),
            entry.run_id,
        ]
        table.add_row(*row, *([said] if wide else []))
    return table


@click.command(name="compare")
@click.argument("a")
@click.argument("b")
@runs_option
@click.option("--json", "as_json_", is_flag=True, help="Print JSON.")
def compare_command(a: str, b: str, runs: Path, as_json_: bool) -> None:
    """Compare runs A and B: figures, checks, versions; and why they may not be compared.

    Exit codes: 0 B fails nothing that A passed; 1 it does; 2 they cannot be compared; 254 bad arguments or files.
    """
    try:
        first, second = (_entry(runs, name) for name in (a, b))
    except (RecordError, ReportError) as error:
        _fail(error)
    found = compare(first, second)
    if as_json_:
        click.echo(msgspec.json.format(msgspec.json.encode(found), indent=2))
    else:
        _show(found, first, second)
    sys.exit(1 if found.newly_failed else 2 if found.caveats else 0)


def _entry(runs: Path, name: str) -> Entry:
    entry = entry_of(find_run(runs, name))
    if entry is None:
        raise BadRequest(f"{name} is not a run.")
    return entry


def _show(found: Comparison, a: Entry, b: Entry) -> None:
    console = stdout_console()
    for letter, entry in (("A", a), ("B", b)):
        console.print(
            f"{letter}  {entry.run_id}  {when(entry.started_unix_ns)}  {entry.verdict or 'none'}  {entry.scenario} on {entry.target}",
            highlight=False,
        )
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("figure", "A", "B", "change"):
        table.add_column(column, justify="left" if column == "figure" else "right", no_wrap=True)
    for one in found.differences:
        figure = next(f for f in FIGURES if f.name == one.name)
        table.add_row(one.name, figure_text(figure, one.a), figure_text(figure, one.b), change_text(one.change))
    console.print(table)
    for name in found.newly_failed:
        console.print(f"B fails {name}, which A passed", highlight=False)
    for name in found.no_longer_failed:
        console.print(f"B passes {name}, which A failed", highlight=False)
    for name, (old, new) in found.versions.items():
        console.print(f"version of {name}: {old} -> {new}", highlight=False)
    for caveat in found.caveats:
        console.print(f"caution: {visible(caveat)}", highlight=False)


@click.command(name="trend")
@runs_option
@scenario_option
@target_option
@click.option("--pin", "pin_name", metavar="NAME", help="Pin the newest runs of one kind as baseline NAME; later nights are compared with it.")  # fmt: skip
@click.option("--json", "as_json_", is_flag=True, help="Print JSON.")
def trend(runs: Path, scenario: str | None, target: str | None, pin_name: str | None, as_json_: bool) -> None:
    """Say which figures drift from night to night, against their own noise.

    Exit codes: 0 none; 1 a regression, or one of the last two runs of a kind lost something; 2 too few nights to tell; 254 bad arguments or files.
    """
    try:
        found = _chosen(read_history(runs), scenario, target)
        if pin_name is not None:
            baseline = pin(runs, pin_name, found)
            click.echo(f"{pin_name}: {len(baseline.nights)} nights of {baseline.scenario} on {baseline.target}")
            return
        trends = trends_of(found, pinned_nights(read_baselines(runs)))
    except (ReportError, OSError) as error:
        _fail(error)
    if as_json_:
        click.echo(msgspec.json.format(msgspec.json.encode(as_rows(trends)), indent=2))
    else:
        _show_trends(trends, stdout_console())
        if not trends:
            click.echo("no figure was measured in two runs of one kind")
    broken = integrity(newest_two(found))
    for entry in broken:
        said = "passed, and had to fail" if entry.verdict is Verdict.PASS else "failed"
        what = f"run {entry.run_id}, {entry.scenario} on {entry.target}, {said}"
        click.echo(f"trend: {visible(what)}: {visible(entry.headline)}", err=True)
    verdicts = [one.drift.worse for one in trends]
    sys.exit(1 if broken or True in verdicts else 0 if False in verdicts else 2)


def _show_trends(trends: Sequence[Trend], console: Console) -> None:
    for kind in dict.fromkeys(one.kind for one in trends):
        console.print(f"{kind[0]} on {kind[1]}, machine {kind[2]}", highlight=False)
        console.print(_trend_table([one for one in trends if one.kind == kind]))


def _trend_table(trends: Sequence[Trend]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("figure", "nights", "usual", "noise", "last two", ""):
        table.add_column(column, no_wrap=True)
    for one in trends:
        drift = one.drift
        noise = "" if drift.noise is None else f"{drift.noise:.1%}"
        word = {True: "REGRESSION", False: "as usual", None: "too few nights"}[drift.worse]
        usual = figure_text(drift.figure, drift.usual) if drift.usual is not None else ""
        table.add_row(drift.figure.name, str(len(drift.values)), usual, noise, change_text(drift.change), word)
    return table


def _fail(error: Exception) -> NoReturn:
    click.echo(f"icequake: {error}", err=True)
    sys.exit(getattr(error, "exit_code", 254))
