"""Checks of the run itself: did it prove anything? None of them blames the target, except for what its table is made of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from loadtests.records.histogram import merged, percentile_ms
from loadtests.records.rundir import RoundTrip
from reports.obligations import ACKED, ATTEMPTED, EXEMPT, I64, UNKNOWN
from reports.reconcile import Reconciliation
from reports.runrecords import RunRecords
from reports.verdict import Check, Verdict
from reports.windows import NO_FAULTS, Step

DISPATCH_LAG_P99_MS = 1000.0
"""The generator may notice a due request this much too late (99th percentile) and still be on schedule."""

SEND_LAG_P99_MS = 1000.0
"""The same for sending outside fault windows, where dispatch lag was not recorded."""

NOT_SENT_SHARE_ALLOWED = 0.001
"""Share of arrivals due outside fault windows that may have been given up."""

FAULT_AFTERMATH_NS = 10_000_000_000
"""For so long after a fault the generator is not judged: the target's hold-up holds its connections."""


def run_checks(records: RunRecords, result: Reconciliation) -> list[Check]:
    """Return all `run.*` checks."""
    return [
        _acked(records),
        _flushed(records),
        _faults_effective(records),
        _read(records, result),
        _on_schedule(records),
        _complete(records),
        _baseline(records),
        _roundtrip(records, result),
    ]


def _check(check_id: str, problems: list[str], right: str, **counts: int) -> Check:
    """PASS with the claim *right*, or INCONCLUSIVE with the first of *problems* as its claim."""
    if not problems:
        return Check(id=check_id, verdict=Verdict.PASS, claim=right, counts=counts)
    return Check(id=check_id, verdict=Verdict.INCONCLUSIVE, claim=problems[0], counts=counts, evidence=problems[1:])


def _acked(records: RunRecords) -> Check:
    history = records.history
    acked = history.total(having=ACKED, lacking=EXEMPT)
    problems = []
    if not history.ledgers:
        problems.append("there is no ledger: no generator recorded what it sent")
    elif not acked:
        problems.append("no event was acknowledged, so nothing was promised")
    return _check(
        "run.acked", problems, "the target acknowledged events", acked=acked, attempted=history.total(having=ATTEMPTED)
    )


def _flushed(records: RunRecords) -> Check:
    """A flush of this run was seen when its events are in a data file that some snapshot has, or had."""
    landed = [f for f in records.observed.files if f.ours and f.stage in ("scan", "snapshot", "manifest")]
    snapshots = {s for f in landed for s in f.snapshot_ids}
    problems = [] if landed else ["no flush was seen: no snapshot holds an event of this run"]
    return _check(
        "run.flushed", problems, "events were flushed to the table", files=len(landed), snapshots=len(snapshots)
    )


def step_problem(step: Step) -> str | None:
    """Say why a step proved nothing, or None."""
    name = f"step {step.index} ({step.fault})"
    if step.fault in NO_FAULTS:
        return None
    if step.state == "armed":
        return f"{name} was never triggered"
    if step.state in ("void", "failed"):
        return f"{name} is {step.state}: {step.reason or 'it did not take effect'}"
    if step.start_ns is not None and step.end_ns is None:
        return f"{name} was not healed before the run ended"
    if step.affected == 0:
        return f"{name} met no request of the target"
    return None


def _faults_effective(records: RunRecords) -> Check:
    problems = [problem for step in records.steps if (problem := step_problem(step))]
    real = [step for step in records.steps if step.fault not in NO_FAULTS]
    right = "every fault took effect" if real else "no fault was to be injected"
    return _check(
        "run.faults_effective",
        problems,
        right,
        steps=len(records.steps),
        requests_affected=sum(step.affected or 0 for step in records.steps),
    )


def _read(records: RunRecords, result: Reconciliation) -> Check:
    observed, second = records.observed, records.observed.second
    counts = {
        "files": len(observed.files),
        "unreadable": len(observed.unreadable),
        "rows": result.rows_ours,
        "foreign_rows": sum(f.foreign * f.references for f in observed.files if f.stage == "scan"),
    }
    broken = [u for u in observed.unreadable if u.live and u.definite]
    notes = [f"{u.kind} {u.path}: {u.problem}" for u in observed.unreadable]
    if broken:
        claim = f"{len(broken)} objects that the current snapshot needs are missing or damaged"
        return Check(
            id="run.read",
            verdict=Verdict.FAIL,
            claim=claim,
            counts=counts,
            examples=[{"path": u.path, "kind": u.kind, "problem": u.problem} for u in broken[:10]],
            evidence=notes,
            cause=f"{broken[0].kind}: {broken[0].problem}",
        )
    problems = [*_reading_problems(records, result), *_disagreement(records, result)]
    if second is not None and second.problem is None:
        right = f"the table was read whole; {second.engine} ({second.how}) counts the same"
    else:
        right = "the table was read whole, by one engine only"
        notes += [f"second engine: {second.problem}"] if second is not None and second.problem else []
    check = _check("run.read", problems, right, **counts)
    return Check(
        id=check.id, verdict=check.verdict, claim=check.claim, counts=counts, evidence=[*check.evidence, *notes]
    )


def _reading_problems(records: RunRecords, result: Reconciliation) -> list[str]:
    observed = records.observed
    problems = []
    if observed.problem is not None:
        problems.append(f"the table could not be read: {observed.problem}")
    elif not observed.exists:
        problems.append(f"nothing was read: the catalog knows no table {observed.table}")
    elif not result.rows_ours:
        problems.append("nothing was read: a scan returns no event of this run")
    unanswered = [u for u in observed.unreadable if u.live and not u.definite]
    if unanswered:
        problems.append(f"storage did not return {len(unanswered)} objects that the current snapshot needs")
    if result.unaccounted:
        problems.append(
            f"{result.unaccounted} rows were read but not accounted for: a fault of icequake, please report it"
        )
    return problems


def _disagreement(records: RunRecords, result: Reconciliation) -> list[str]:
    """The second engine counts every row with a source of this run, so strays are part of the sum; they may repeat."""
    second = records.observed.second
    if second is None or second.rows is None or second.distinct is None:
        return []
    stray = sum(f.stray * f.references for f in records.observed.files if f.stage == "scan")
    rows, distinct = result.rows_ours + stray, result.distinct
    if second.rows == rows and distinct <= second.distinct <= distinct + stray:
        return []
    return [
        f"two engines disagree: {rows} rows and {distinct} events here, "
        f"{second.rows} rows and {second.distinct} events in {second.engine} ({second.how})"
    ]


@dataclass(frozen=True)
class Schedule:
    """How punctual the generator was.

    Attributes:
        dispatch_p99_ms: How late it noticed that requests were due, at any time: its own slowness, since no target can hold that
            up. None where it was not recorded.
        p99_ms, not_sent, due: Send lag, events given up and events due, outside fault windows. Send lag also grows while the target
            holds every connection.
    """

    dispatch_p99_ms: float | None
    p99_ms: float | None
    not_sent: int
    due: int
    p50_all_ms: float | None
    p99_all_ms: float | None
    not_sent_all: int


def schedule_of(records: RunRecords) -> Schedule:
    """Measure the generator, from first sends, given-up arrivals and its dispatch lag."""
    p = records.history.punctuality
    calm, calm_skipped = _calm(records, p.due_ns), _calm(records, p.given_up_ns)
    lags = p.lag_ns / 1e6
    not_sent = int(p.given_up_events[calm_skipped].sum())
    return Schedule(
        dispatch_p99_ms=_dispatch_p99_ms(records),
        p99_ms=_percentile(lags[calm], 99),
        not_sent=not_sent,
        due=int(p.events[calm].sum()) + not_sent,
        p50_all_ms=_percentile(lags, 50),
        p99_all_ms=_percentile(lags, 99),
        not_sent_all=int(p.given_up_events.sum()),
    )


def _dispatch_p99_ms(records: RunRecords) -> float | None:
    if not records.run.hist.is_dir():
        return None
    histogram = merged(records.run.hist, "dispatch")
    return round(percentile_ms(histogram, 99.0), 3) if histogram.get_total_count() else None


def _calm(records: RunRecords, due_ns: I64) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    calm = np.ones(len(due_ns), dtype=np.bool_)
    for window in records.windows:
        calm &= (due_ns < window.start_ns) | (due_ns > window.end_ns + FAULT_AFTERMATH_NS)
    return calm


def _percentile(values: np.ndarray[tuple[int], np.dtype[np.float64]], q: float) -> float | None:
    return round(float(np.percentile(values, q)), 3) if len(values) else None


def _on_schedule(records: RunRecords) -> Check:
    schedule = schedule_of(records)
    problems = []
    if schedule.due and schedule.not_sent > NOT_SENT_SHARE_ALLOWED * schedule.due:
        problems.append(
            f"the generator gave up {schedule.not_sent:,} of {schedule.due:,} events that were due outside faults"
        )
    if (late := _behind(schedule)) is not None:
        problems.append(f"the generator was behind its schedule: {late}")
    return _check(
        "run.on_schedule",
        problems,
        "the generator kept its schedule",
        not_sent=schedule.not_sent_all,
        dispatch_p99_us=round((schedule.dispatch_p99_ms or 0) * 1000),
        lag_p99_us=round((schedule.p99_all_ms or 0) * 1000),
    )


def _behind(schedule: Schedule) -> str | None:
    """Say by how much the generator itself was late, or None. Without dispatch lag, send lag outside faults has to do."""
    if schedule.dispatch_p99_ms is not None:
        late = schedule.dispatch_p99_ms > DISPATCH_LAG_P99_MS
        return f"it noticed due requests {schedule.dispatch_p99_ms:.0f} ms late (p99)" if late else None
    if schedule.p99_ms is not None and schedule.p99_ms > SEND_LAG_P99_MS:
        return f"send lag p99 {schedule.p99_ms:.0f} ms outside faults"
    return None


def _complete(records: RunRecords) -> Check:
    window, info = records.window, records.info
    problems = []
    if info.stopped:
        problems.append(f"the run was stopped: {info.stopped}")
    if window.settle is None:
        problems.append("the run ended before it settled")
    elif window.settle == "interrupted":
        problems.append("settling was interrupted")
    unknown = records.history.total(having=UNKNOWN)
    return _check(
        "run.complete",
        problems,
        "the run went through all its phases",
        unknown=unknown,
        torn_ledger_bytes=records.history.torn_bytes,
    )


def _baseline(records: RunRecords) -> Check:
    window = records.window
    if window.baseline_start_ns is None:
        return _check("run.baseline", ["no baseline was taken before anything was touched"], "")
    until = window.inject_start_ns if window.inject_start_ns is not None else records.end_ns
    probes = [e for e in records.timeline if e.get("event") == "probe" and e.get("t_ns", until) < until]
    bad = [f"the steady state did not hold: probe {e.get('name')} failed" for e in probes if e.get("ok") is False]
    # A probe may be asked until it holds; only its last answer before the faults counts.
    last = {e.get("name"): e.get("ok") for e in probes}
    return _check(
        "run.baseline",
        bad if False in last.values() else [],
        "the steady state held before anything was touched",
        probes=len(probes),
    )


def _came_through(records: RunRecords, result: Reconciliation, trip: RoundTrip) -> bool:
    owed = records.history.producers.get(trip.producer)
    if owed is None or records.observed.problem is not None:
        return False
    new_and_acked = (owed.edges[:-1] >= trip.first) & ((owed.flags & ACKED) != 0)
    missing = result.sets["missing"].ranges
    return bool(new_and_acked.any()) and not any(r.producer == trip.producer and r.last >= trip.first for r in missing)


def _roundtrip(records: RunRecords, result: Reconciliation) -> Check:
    trip = records.window.roundtrip
    if trip is None:
        return _check("run.roundtrip", ["no new event was sent round after settling"], "")
    # The runner waits for everything to be visible, so an older loss keeps it waiting; the final read knows better.
    if trip.ok or _came_through(records, result, trip):
        return _check("run.roundtrip", [], "after settling, a new event came through to the table")
    settled = records.window.settle in ("empty", "timeout") and not records.info.stopped
    proven = settled and result.present_acked > 0
    return Check(
        id="run.roundtrip",
        verdict=Verdict.FAIL if proven else Verdict.INCONCLUSIVE,
        claim="after settling, a new event did not come through to the table",
        evidence=[f"producer {trip.producer}, sequence {trip.first}"],
    )
