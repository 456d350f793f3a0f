"""Finished run directories for tests of the report, made through the same writers a real run uses."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from loadtests.records.histogram import HistogramWriter, new_histogram, record_ns
from loadtests.records.jsonl import JsonlWriter
from loadtests.records.ledger import LedgerWriter, Outcome
from loadtests.records.rundir import RunDir, RunInfo, RunWindow
from loadtests.records.series import SeriesWriter
from loadtests.records.target import Ingest, Metrics, Table, Target
from reports.verdict import Check, Totals, Verdict, VerdictDoc, write_verdict

S = 1_000_000_000
ZERO = 5_000 * S
STARTED_UNIX = 1_795_000_000 * S
HOSTILE = "</script><img src=x onerror=\"document.title='owned'\">|`*_\u202e\x1b[31m"
BATCH = 50

TARGET = Target(
    name="my-collector",
    ingest=Ingest(url="http://127.0.0.1:8787/events"),
    metrics=Metrics(url="http://127.0.0.1:8787/metrics", fill="collector_buffer_fill_ratio"),
    table=Table(identifier="analytics.events"),
)

SCENARIO = """\
name: quick
question: Does it hold?
steps:
  - {fault: slow-r2, at_s: 8, for_s: 25, with: {latency_ms: 800, jitter_ms: 200}}
  - {fault: commit-answer-lost, after: 2nd commit POST}
  - {fault: kill-collector, at_s: 60, for_s: 4}
  - {fault: catalog-outage, at_s: 70, for_s: 3}
"""


def at(second: float) -> int:
    """Return a monotonic instant so many seconds into the run."""
    return ZERO + int(second * S)


def info(**changes: Any) -> RunInfo:
    """Return who and what of a two-minute run."""
    plain: dict[str, Any] = {
        "run_id": "ab12cd34", "scenario": "quick", "target": "my-collector", "seed": 7, "phase": "judge", "stack": "seaweedfs",
        "argv": ["icequake", "run", "quick", "--target", "my collector.yaml"],
        "versions": {"icequake": "0.1.0", "python": "3.11.7", "pyiceberg": "0.12.0"},
        "environment": {"cpus": 2, "memory_bytes": 8_000_000_000, "platform": "Linux"},
        "started_unix_ns": STARTED_UNIX, "started_mono_ns": ZERO,
        "ended_unix_ns": STARTED_UNIX + 120 * S, "ended_mono_ns": at(120),
        "window": RunWindow(baseline_start_ns=at(4), inject_start_ns=at(16), traffic_end_ns=at(92), healed_ns=at(93)),
    }  # fmt: skip
    return RunInfo(**(plain | changes))


def verdict_doc(**changes: Any) -> VerdictDoc:
    """Return a failed verdict whose every outside string is hostile."""
    plain: dict[str, Any] = {
        "run_id": "ab12cd34", "scenario": "quick", "target": "my-collector", "seed": 7, "verdict": Verdict.FAIL, "exit_code": 1,
        "started_unix_ns": STARTED_UNIX, "duration_s": 120.4,
        "first_screen": [
            "FAIL  quick on my-collector · 24 Nov 20:31 UTC · 2 m 00 s · seed 7 · exit 1",
            "412 of 37,950 acknowledged events are missing; 60 duplicated, 0 altered; 1,316 unknown (900 landed)",
            'Where     lost: in Parquet objects that no manifest references (flush c1/7/88), acked 20:33:10-11, during "slow-r2"',
            "Capacity  held 24 s of slow-r2 at 500 events/s; first refusal 20:34:11; a 10-minute outage needs capacity 330,000",
            "Flush     41 of 44 commits answered, 3 undecided -> 0 landed; caught up 18 s after heal; visible within 9.2 s (p99)",
            "Recovery  wrong (412 lost, 60 duplicated); 3 orphan objects",
            "Trust     generator kept its schedule (lag p99 4 ms); 3 of 3 faults took effect; NOT tested: power loss, real R2",
            "Next      icequake explain ab12cd34 lost      reproduce: icequake run quick --seed 7 --target my.yaml",
        ],
        "totals": Totals(attempted=39_500, acked=37_950, refused=1_200, unknown=350, rows_read=38_000, distinct=37_940, lost=412,
                         duplicated=60, recovered=300),
        "sections": {
            "capacity": {
                "capacity_events": 2000, "max_fill": 1.0, "offered_events_per_s": 500.0, "refused_events": 1200,
                "first_refusal_unix_ns": STARTED_UNIX + 40 * S,
                "held": [{"fault": "slow-r2", "seconds": 25.0, "held_s": 24.1, "refused_at_s": None, "max_fill": 0.97, "full": True}],
                "longest": None,
            },
            "flush": {"commit_requests": 44, "committed": 41, "failed": 0, "undecided": 3, "caught_up_s": 18.2},
            "recovery": {
                "acked": 37_950, "acked_present": 37_538,
                "groups": {"missing": [{"events": 412, "stage": "object", "cause": None, "during": "slow-r2", "files": 3}]},
            },
            "trust": {"lag_p50_ms": 0.4, "lag_p99_ms": 4.02, "not_sent": 0, "content_checked": True,
                      "statuses": {"202": 700, "503": 24}, "not_tested": ["power loss", "real R2"]},
        },
        "checks": [
            Check(
                id="events.lost", verdict=Verdict.FAIL, claim="412 acknowledged events are in no table", counts={"lost": 412},
                examples=[
                    {"source": "urn:icequake:ab12cd34:0", "first": 7_000, "last": 7_411, "events": 412, "id": HOSTILE,
                     "stage": "object", "where": "in Parquet objects that no manifest references",
                     "files": [f"s3://analytics/run/data/{HOSTILE}.parquet"], "flush_ids": [HOSTILE],
                     "acked_unix_ns": STARTED_UNIX + 41 * S, "during": "slow-r2"},
                ],
                evidence=["icequake explain ab12cd34 lost", HOSTILE],
                cause=f"in Parquet objects that no manifest references {HOSTILE}",
            ),
            Check(
                id="events.duplicated", verdict=Verdict.FAIL, claim="60 events are in the table more than once",
                counts={"duplicated": 60, "allowed": 0}, evidence=["icequake explain ab12cd34 duplicated"],
                cause="same event in two files, during commit-answer-lost",
                examples=[{"source": "urn:icequake:ab12cd34:1", "first": 12, "last": 71, "events": 60, "id": "89ab12cd34ef5678",
                           "where": "in the table", "cause": "same event in two files", "during": "commit-answer-lost", "copies": 2}],
            ),
            Check(id="events.altered", verdict=Verdict.PASS, claim="every event has the content that was sent",
                  counts={"checked": 37_940}),
            Check(id="events.late", verdict=Verdict.INCONCLUSIVE, claim="how late events were cannot be said"),
            Check(id="run.flushed", verdict=Verdict.PASS, claim="44 commit requests were seen", counts={"commits": 44}),
            Check(id="run.acked", verdict=Verdict.PASS, claim="37,950 events were acknowledged", counts={"acked": 37_950}),
            Check(id="run.on_schedule", verdict=Verdict.PASS, claim="the generator kept its schedule: lag p99 4 ms"),
        ],
    }  # fmt: skip
    return VerdictDoc(**(plain | changes))


def pass_doc() -> VerdictDoc:
    """Return a verdict in which every check passed."""
    passed = [Check(id=c.id, verdict=Verdict.PASS, claim=c.claim) for c in verdict_doc().checks]
    lines = [
        "PASS  quick on my-collector · 24 Nov 20:31 UTC · 2 m 00 s · seed 7 · exit 0",
        "all 37,950 acknowledged events are in the table; 0 duplicated, 0 altered; 0 unknown",
        "Trust     generator kept its schedule (lag p99 4 ms)",
    ]
    return verdict_doc(verdict=Verdict.PASS, exit_code=0, checks=passed, first_screen=lines)


def bare_run(runs: Path, *, doc: VerdictDoc | None = None, **changes: Any) -> RunDir:
    """Make a run directory that has a verdict and no streams at all."""
    run = RunDir.create(runs, info(**changes), scenario_text=SCENARIO, target=TARGET)
    write_verdict(run.verdict, doc or verdict_doc())
    return run


def full_run(runs: Path, *, doc: VerdictDoc | None = None) -> RunDir:
    """Make a run directory with every stream of two minutes with three faults."""
    run = bare_run(runs, doc=doc)
    _write_timeline(run)
    _write_ledger_and_latency(run)
    _write_series(run)
    _write_commits(run)
    return run


def slow(second: float) -> float:
    """Return how slow things are (0 to 1) at *second*: the slow storage from 24 to 49 s, the killed collector from 75 to 79 s."""
    if 24 <= second < 52:
        return min(1.0, (second - 24) / 16) if second < 49 else (52 - second) / 3
    return 1.0 if 75 <= second < 79 else 0.0


def _write_timeline(run: RunDir) -> None:
    entries: list[tuple[float, str, dict[str, Any]]] = [
        (second, "phase", {"phase": name})
        for second, name in (
            (0.2, "preflight"), (4, "baseline"), (16, "inject"), (92, "heal"), (93, "settle"), (110, "verify"), (118, "judge"),
        )
    ]  # fmt: skip
    steps = (
        (0, "slow-r2", 24, 49, 212),
        (1, "commit-answer-lost", 61.2, 64, 1),
        (2, "kill-collector", 75, 79, 38),
        (3, "catalog-outage", None, None, 0),
    )
    for index, fault, start, end, affected in steps:
        common = {"step": index, "fault": fault}
        entries.append((16.0, "step", common | {"state": "armed"}))
        if start is None or end is None:
            entries.append((92.0, "step", common | {"state": "void", "reason": "the target met it with no request"}))
            continue
        entries.append((start, "step", common | {"state": "injected"}))
        entries.append((end, "step", common | {"state": "healed", "requests_affected": affected}))
    entries += [
        (75.0, "process", {"name": "collector", "state": "killed"}),
        (79.0, "process", {"name": "collector", "state": "ready"}),
        (108.0, "settled", {"reason": "empty", "buffered": 0}),
        (109.0, "note", {"text": HOSTILE}),
    ]
    with JsonlWriter(run.timeline, "timeline", "ab12cd34") as stream:
        for second, event, fields in sorted(entries, key=lambda entry: entry[0]):
            stream.append({"t_ns": at(second), "unix_ns": STARTED_UNIX + int(second * S), "event": event, **fields})


def _write_ledger_and_latency(run: RunDir) -> None:
    chance = random.Random(7)
    ledger = LedgerWriter(run.ledger / "locust-0.ledger", run_id="ab12cd34", process="locust-0")
    latency = HistogramWriter(run.hist, "locust-0", "ab12cd34")
    sequence = 0
    for second in range(5, 92):
        histograms = {"corrected": new_histogram(), "service": new_histogram()}
        for tick in range(10):
            due = at(second + tick / 10)
            service = int((4 + chance.expovariate(0.4) + 220 * slow(second) * chance.random()) * 1e6)
            corrected = service + int(slow(second) * (900 + 400 * chance.random()) * 1e6)
            fields: dict[str, Any] = {
                "producer": 0,
                "first": sequence,
                "count": BATCH,
                "intended_ns": due,
                "sent_ns": due + 400_000,
            }
            request = ledger.attempt(**fields)
            outcome, status = _answer(second, chance)
            if outcome is not None:
                ledger.done(request, **fields, done_ns=due + corrected, status=status, outcome=outcome)
            record_ns(histograms["corrected"], corrected)
            record_ns(histograms["service"], service)
            sequence += BATCH
        for name, histogram in histograms.items():
            latency.write(at(second + 1), name, histogram)
    ledger.close()
    latency.close()


def _answer(second: float, chance: random.Random) -> tuple[Outcome | None, int]:
    if 75 <= second < 79:
        return (None, 0) if second == 75 else (Outcome.UNKNOWN, -2)
    if 42 <= second < 50 and chance.random() < 0.45:
        return Outcome.REFUSED, 503
    return Outcome.ACKED, 202


def _write_series(run: RunDir) -> None:
    series = SeriesWriter(run.series, "controller", "ab12cd34")
    seen = JsonlWriter(run.visible, "visible", "ab12cd34")
    acked = visible = 0
    for second in range(5, 111):
        fill = (
            min(1.0, 0.28 + 0.05 * (second % 5) + 0.62 * slow(second))
            if second < 93
            else max(0.0, 0.4 - (second - 93) * 0.04)
        )
        acked += 500 if second < 92 and not 75 <= second < 79 else 0
        late = 3 + int(16 * slow(second))
        visible = max(visible, min(acked, acked - 500 * late if second < 96 else acked))
        series.add(at(second), "fill_ratio", fill)
        series.add(at(second), "freshness_s", 2.5 + (second % 4) * 0.6 + 15 * slow(second))
        if second % 2 == 0:
            seen.append(
                {"t_ns": at(second), "acked": acked, "visible": visible, "rows": visible, "snapshots": second // 2}
            )
    series.close()
    seen.close()


def _write_commits(run: RunDir) -> None:
    with JsonlWriter(run.gateway_log, "gateway", "ab12cd34") as stream:
        for number in range(44):
            second = 6 + number * 2.2
            line = {"t_ns": at(second), "n": number, "upstream": "catalog", "verb": "POST", "object": "commit", "status": 200,
                    "ms": 30.0 + 900 * slow(second), "outcome": "passed", "path": "/v1/namespaces/ab12cd34/tables/events"}  # fmt: skip
            if number == 25:
                line |= {"status": None, "outcome": "answer-dropped", "rule": "commit-answer-lost"}
            if number in (26, 27):
                line |= {"status": 409}
            stream.append(line)
            stream.append(line | {"n": 1000 + number, "verb": "PUT", "object": "data-file", "upstream": "r2"})
