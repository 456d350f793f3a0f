"""Judge a run: a pure function of its run directory, which never opens the network.

    python -m reports.judge RUN [--json]

Writes verdict.json and summary.txt into the run directory, prints the first screen, and exits 0 (PASS), 1 (FAIL),
2 (INCONCLUSIVE), 254 (not a run, or a table nobody has read) or 255 (the harness failed).

Lateness: an event is late when the auditor looked at the table after the event's deadline and it still was not there. The
deadline is its ack plus the contract's freshness. While a fault is active, and for one freshness time after it (the recovery
allowance), the clock stands; then the full freshness runs again.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click
import msgspec
from rich.console import Console

from loadtests.records.errors import RecordError
from reports.answer_checks import answer_checks
from reports.drill_checks import drill_checks
from reports.errors import ReportError
from reports.event_checks import event_checks, fate_of_missing, strays
from reports.first_screen import first_screen
from reports.measures import last_heal_ns, sections
from reports.metrics.check import compare_metrics, metrics_checks, metrics_section
from reports.obligations import ACKED, ATTEMPTED, EXEMPT, UNKNOWN
from reports.reconcile import Punctual, Reconciliation, reconcile
from reports.run_argument import find_run, run_argument
from reports.run_checks import run_checks
from reports.runrecords import RunRecords, read_run
from reports.screen import print_first_screen
from reports.thresholds import threshold_checks
from reports.unusable import usable
from reports.verdict import EXIT_CODES, Totals, VerdictDoc, worst, write_verdict
from reports.windows import ascription_boundaries

RANGES_KEPT = 20_000
"""Ranges of each set that a verdict is made from; every event is counted, whatever the number of ranges."""


def judge(root: Path) -> VerdictDoc:
    """Judge the run in directory *root*; nothing is written.

    Raises:
        NothingObserved: the table was never read.
        RecordError: a record cannot be read.
    """
    records = read_run(root)
    return verdict_on(records, compare(records))


def compare(records: RunRecords, *, keep: int = RANGES_KEPT) -> Reconciliation:
    """Reconcile a run's ledgers with its table; at most *keep* ranges a set."""
    freshness_ns = int(records.target.contract.freshness_s * 1e9)
    punctual = Punctual(
        freshness_ns=freshness_ns,
        windows=[(w.start_ns, w.end_ns + freshness_ns) for w in records.windows],
        caught_up_before_ns=last_heal_ns(records),
        boundaries_ns=ascription_boundaries(records.windows),
    )
    return reconcile(records.history, records.files, punctual, keep=keep, quarantined=records.quarantined)


def verdict_on(records: RunRecords, result: Reconciliation) -> VerdictDoc:
    """Judge a run that was read and reconciled."""
    info = records.info
    checks = [*event_checks(records, result), *answer_checks(records, result)]
    told = compare_metrics(records)
    checks += [*metrics_checks(records, told), *drill_checks(records.timeline), *run_checks(records, result)]
    numbers = sections(records, result)
    numbers["flush"] |= metrics_section(told)
    totals = _totals(records, result)
    checks += threshold_checks(records.run.scenario, {**numbers, "totals": msgspec.to_builtins(totals)})
    verdict = worst(check.verdict for check in checks)
    duration_s = round(max(records.end_ns - info.started_mono_ns, 0) / 1e9, 3)
    return VerdictDoc(
        run_id=info.run_id,
        scenario=info.scenario,
        target=info.target,
        seed=info.seed,
        verdict=verdict,
        exit_code=EXIT_CODES[verdict],
        started_unix_ns=info.started_unix_ns,
        duration_s=duration_s,
        first_screen=first_screen(records, result, totals, checks, numbers, duration_s),
        totals=totals,
        sections=numbers,
        checks=checks,
    )


def _totals(records: RunRecords, result: Reconciliation) -> Totals:
    history = records.history
    attempted = history.total(having=ATTEMPTED, lacking=EXEMPT)
    acked, unknown = history.total(having=ACKED, lacking=EXEMPT), history.total(having=UNKNOWN, lacking=EXEMPT)
    sets = {name: found.events for name, found in result.sets.items()}
    fate = fate_of_missing(records, result)
    return Totals(
        attempted=attempted,
        acked=acked,
        refused=attempted - acked - unknown,
        unknown=unknown,
        unwanted=history.total(having=EXEMPT),
        rows_read=result.rows_ours,
        distinct=result.distinct,
        lost=sets["missing"] if fate == "lost" else 0,
        stuck=sets["missing"] if fate == "stuck" else 0,
        pending=sets["missing"] if fate == "pending" else 0,
        duplicated=sets["duplicated"],
        altered=sets["altered"],
        unexpected=sets["unexpected"] + strays(records),
        resurrected=sets["resurrected"],
        recovered=sets["recovered"],
        late=sets["late"],
    )


@click.command()
@run_argument
@click.option("--json", "as_json", is_flag=True, help="Print verdict.json instead of the first screen.")
def main(run: str, runs: Path, as_json: bool) -> None:
    """Judge RUN from its records: a run directory, or `last`, a name or a run id below --runs."""
    try:
        root = find_run(runs, run)
        with usable(run):
            document = judge(root)
        write_verdict(root / "verdict.json", document)
        (root / "summary.txt").write_text("\n".join(document.first_screen) + "\n", encoding="utf-8")
    except ReportError as error:
        _fail(str(error), type(error).__name__, error.exit_code, as_json)
    except (RecordError, OSError) as error:
        _fail(str(error), type(error).__name__, 254, as_json)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(document), indent=2))
    else:
        print_first_screen(document, Console())
    sys.exit(document.exit_code)


def _fail(sentence: str, code: str, exit_code: int, as_json: bool) -> None:
    if as_json:
        click.echo(msgspec.json.encode({"error": {"code": code, "message": sentence}}))
    else:
        click.echo(f"judge: {sentence}", err=True)
    sys.exit(exit_code)


if __name__ == "__main__":
    main()
