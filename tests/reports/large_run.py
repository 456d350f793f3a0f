"""A drawn run of ten thousand points a series and a hundred faults, as a night of faults leaves it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from loadtests.records.histogram import HistogramWriter, new_histogram, record_ns
from loadtests.records.jsonl import JsonlWriter
from loadtests.records.ledger import LedgerWriter, Outcome
from loadtests.records.rundir import RunDir
from loadtests.records.series import SeriesWriter
from reports.observed import Observed, ObservedSnapshot, write_index
from tests.reports.drawn_runs import STARTED_UNIX, S, at, bare_run, verdict_doc

POINTS = 10_000
FAULTS = 100
PARTITIONS = 8
END_S = POINTS


def large_run(runs: Path) -> RunDir:
    """Make the run: a point a second, a fault every hundred seconds."""
    run = bare_run(runs, doc=verdict_doc(), ended_mono_ns=at(END_S))
    _timeline(run)
    _ledger(run)
    _series(run)
    _commits(run)
    return run


def _timeline(run: RunDir) -> None:
    entries: list[tuple[float, dict[str, Any]]] = [(0.2, {"event": "phase", "phase": "baseline"})]
    entries.append((5.0, {"event": "phase", "phase": "inject"}))
    for step in range(FAULTS):
        start = 10 + step * 98.0
        end = start + 60
        common = {"event": "step", "step": step, "fault": f"fault-number-{step}"}
        entries += [
            (start, common | {"state": "injected"}),
            (end, common | {"state": "healed", "requests_affected": 7}),
        ]
    with JsonlWriter(run.timeline, "timeline", "ab12cd34") as stream:
        for second, entry in sorted(entries, key=lambda pair: pair[0]):
            stream.append({"t_ns": at(second), "unix_ns": STARTED_UNIX + int(second * S), **entry})


def _ledger(run: RunDir) -> None:
    ledger = LedgerWriter(run.ledger / "locust-0.ledger", run_id="ab12cd34", process="locust-0")
    latency = HistogramWriter(run.hist, "locust-0", "ab12cd34")
    for second in range(POINTS):
        due = at(second)
        fields: dict[str, Any] = {"producer": 0, "first": second, "count": 1, "intended_ns": due, "sent_ns": due}
        request = ledger.attempt(**fields)
        ledger.done(request, **fields, done_ns=due + 5_000_000, status=202, outcome=Outcome.ACKED)
        if second % 10 == 9:
            for name in ("corrected", "service"):
                histogram = new_histogram()
                record_ns(histogram, 5_000_000 + second * 1000)
                latency.write(at(second + 1), name, histogram)
    ledger.close()
    latency.close()


def _series(run: RunDir) -> None:
    series = SeriesWriter(run.series, "controller", "ab12cd34", part_rows=100_000)
    seen = JsonlWriter(run.visible, "visible", "ab12cd34")
    for second in range(POINTS):
        series.add(at(second), "fill_ratio", (second % 97) / 97)
        series.add(at(second), "freshness_s", second % 31)
        for number in range(PARTITIONS):
            name = f"target:collector_partition_fill_ratio{{hour=2026-11-25T04,type=t{number}}}"
            series.add(at(second), name, (second * (number + 1) % 89) / 89)
        seen.append({"t_ns": at(second), "acked": second, "visible": second, "rows": second, "snapshots": second})
    series.close()
    seen.close()


def _commits(run: RunDir) -> None:
    snapshots = []
    with JsonlWriter(run.gateway_log, "gateway", "ab12cd34") as stream:
        for number in range(POINTS):
            line = {"t_ns": at(number), "n": number, "upstream": "catalog", "verb": "POST", "object": "commit",
                    "status": 409 if number % 3 == 0 else 200, "ms": 30.0, "outcome": "passed", "path": "/v1/x"}  # fmt: skip
            stream.append(line)
            stamp = (STARTED_UNIX + number * S) // 1_000_000
            snapshots.append(
                ObservedSnapshot(
                    id=number, parent=None, unix_ms=stamp, operation="append", current=number == POINTS - 1
                )
            )
    run.observed.mkdir(exist_ok=True)
    write_index(run.observed, Observed(run_id="ab12cd34", table="events", snapshots=snapshots))
