"""`icequake alerts`: what a run's alerts did, and the rules themselves as a file for Prometheus."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import click
import msgspec
from rich.console import Console
from rich.table import Table as Grid

from chaos.alerting.errors import AlertRuleError
from chaos.alerting.rules import read_rules, rule_file
from chaos.alerting.words import figures_of, metrics_of, table_for
from chaos.errors import BadTarget
from chaos.target import find_target
from loadtests.records.errors import RecordError
from loadtests.records.target import Target
from reports.alerts.assess import Assessment, Fired, RuleReport, assess, section, watched_span
from reports.alerts.dashboard import dashboard_json
from reports.alerts.prometheus import ask_prometheus, differences
from reports.errors import BadRequest, ReportError
from reports.run_argument import find_run
from reports.runrecords import RunRecords, read_run
from reports.screen import stdout_console

BAD_FILES = 254


@click.command(name="alerts")
@click.argument("run", required=False)
@click.option("--runs", type=click.Path(path_type=Path), default=Path("runs"), show_default=True, help="Where run directories are.")  # fmt: skip
@click.option("--rules", type=click.Path(path_type=Path, dir_okay=False), help="Judge this Prometheus rule file instead of our table.")  # fmt: skip
@click.option("--prometheus", metavar="URL", help="Ask this Prometheus what the same alerts did in it while RUN went on, and say where it differs.")  # fmt: skip
@click.option("--target", help="With --write: the target, a name or a file, whose metrics the rules name.")
@click.option("--write", "write_to", type=click.Path(path_type=Path, dir_okay=False), help="Write our table as a Prometheus rule file for --target (or for the target of RUN).")  # fmt: skip
@click.option("--dashboard", type=click.Path(path_type=Path, dir_okay=False), help="Write a Grafana dashboard for --target (or for the target of RUN).")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print the assessment as JSON.")
def main(
    run: str | None,
    runs: Path,
    rules: Path | None,
    prometheus: str | None,
    target: str | None,
    write_to: Path | None,
    dashboard: Path | None,
    as_json: bool,
) -> None:
    """Say for every alert when it crossed, fired and cleared in RUN, on the target's metrics and in truth.

    Exit codes: 0 no finding, 1 a finding (an alert that came too late, lied, or could not be evaluated), 254 bad arguments or files.
    """
    try:
        if write_to is not None or dashboard is not None:
            _write(write_to, dashboard, _target(target, None if run is None else read_run(find_run(runs, run))))
            return
        if run is None:
            raise click.UsageError("RUN is missing: a run directory, `last`, or a run id")
        records = read_run(find_run(runs, run))
        found = assess(records, None if rules is None else read_rules(rules))
        theirs = None if prometheus is None else _asked(prometheus, records)
    except (AlertRuleError, BadTarget, ReportError) as error:
        _fail(error, error.exit_code)
    except RecordError as error:
        _fail(error, BAD_FILES)
    differing = [] if theirs is None else list(differences(found.rules, theirs))
    found = replace(found, findings=[*found.findings, *differing])
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(_plain(found, records, theirs)), indent=2))
    else:
        show(found, records, stdout_console(), theirs)
    sys.exit(1 if found.findings else 0)


def _asked(url: str, records: RunRecords) -> dict[str, Fired]:
    if not url.startswith(("http://", "https://")):
        raise BadRequest(f"--prometheus {url!r} is not an http or https URL.")
    start_s, end_s = watched_span(records)
    return ask_prometheus(url, start_s, end_s)


def _plain(found: Assessment, records: RunRecords, theirs: dict[str, Fired] | None) -> dict[str, Any]:
    zero_s = records.info.started_unix_ns / 1e9
    plain = section(found, zero_s)
    if theirs is not None:
        for row in plain["rules"]:
            fired_s = theirs.get(row["alert"], Fired()).fired_s
            row["fired_in_prometheus_at_s"] = None if fired_s is None else round(fired_s - zero_s, 3)
    return plain


def _target(name: str | None, records: RunRecords | None) -> Target:
    if name is not None:
        return find_target(name)[1]
    if records is not None:
        return records.target
    raise click.UsageError("--write and --dashboard need --target or a RUN, whose metrics they are written for")


def _write(rules: Path | None, dashboard: Path | None, target: Target) -> None:
    words = metrics_of(target)
    table = table_for(words | figures_of(target))
    if rules is not None:
        header = f"# Alerts of {target.name}'s buffer, written by `icequake alerts --write`.\n"
        _keep(rules, header + rule_file(table.groups))
        click.echo(f"{rules}: {sum(len(group.rules) for group in table.groups)} alerts")
    if dashboard is not None:
        _keep(dashboard, dashboard_json(target.name, words, table.groups))
        click.echo(f"{dashboard}: a Grafana dashboard; import it, and choose its Prometheus")
    for name, word in sorted(table.lacking.items()):
        click.echo(f"left out: {name}, since the target file names no metrics.{word}")


def _keep(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ReportError(f"{path} cannot be written: {error.strerror}.") from error


def show(found: Assessment, records: RunRecords, console: Console, prometheus: dict[str, Fired] | None = None) -> None:
    """Print an assessment: one line a rule, times in seconds since the run began, then the findings."""
    zero_s = records.info.started_unix_ns / 1e9
    grid = Grid(box=None, pad_edge=False, header_style="bold")
    theirs = () if prometheus is None else ("in Prometheus",)
    for column in ("alert", "severity", "crossed", "fired", "cleared", "fired in truth", *theirs, "lead"):
        grid.add_column(column, justify="left" if column in ("alert", "severity") else "right", no_wrap=True)
    for one in found.rules:
        grid.add_row(*_row(one, zero_s, prometheus))
    console.print(
        f"Alerts of {records.info.scenario} on {records.info.target}, run {records.info.run_id}; seconds since it began"
    )
    console.print(grid)
    refusal = found.first_overflow_s
    console.print(
        "no refusal by a full buffer"
        if refusal is None
        else f"first refusal by a full buffer: {refusal - zero_s:.1f} s"
    )
    for finding in found.findings:
        console.print(f"finding: {finding}", highlight=False)


def _row(one: RuleReport, zero_s: float, prometheus: dict[str, Fired] | None) -> tuple[str, ...]:
    truth = "-" if one.truth is None else _at(one.truth.fired_s, zero_s)
    lead = "" if one.lead_s is None else f"{one.lead_s:+.1f} s"
    theirs = () if prometheus is None else (_at(prometheus.get(one.rule.name, Fired()).fired_s, zero_s),)
    return (one.rule.name, one.rule.severity, *_episode(one.own, zero_s), truth, *theirs, lead)


def _episode(fired: Fired, zero_s: float) -> tuple[str, str, str]:
    cleared = "open" if fired.open_ else _at(fired.cleared_s, zero_s)
    return _at(fired.crossed_s, zero_s), _at(fired.fired_s, zero_s), cleared if fired.crossed_s is not None else ""


def _at(t_s: float | None, zero_s: float) -> str:
    return "" if t_s is None else f"{t_s - zero_s:.1f}"


def _fail(error: Exception, exit_code: int) -> NoReturn:
    click.echo(f"alerts: {error}", err=True)
    sys.exit(exit_code)


if __name__ == "__main__":
    main()
