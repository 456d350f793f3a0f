"""The numbers behind the report's sections: capacity, flush, recovery, trust."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from chaos.alerting.samples import Samples
from loadtests.records.ledger import Kind, Outcome
from loadtests.records.target_config import read_target_config
from reports.alerts.assess import assess, section
from reports.alerts.truth import truth_samples
from reports.anomalies import groups
from reports.event_checks import duplicate_causes, fate_of_missing
from reports.inflow import capacity_of, offered_rate
from reports.obligations import ACKED
from reports.permitted import last_power_cut_ns
from reports.reconcile import AGE_EDGES_S, Reconciliation
from reports.run_checks import step_problem
from reports.runrecords import RunRecords
from reports.sections.clocks import clocks_section, detection_power
from reports.sections.costs import costs_section
from reports.sections.damage import damage_section
from reports.sections.effects import effects_section
from reports.sections.files import files_section
from reports.sections.fill import fill_section
from reports.sections.generator import generator_numbers
from reports.sections.latency import latency_section
from reports.sections.orphans import orphans_section
from reports.sections.stages import stages_section
from reports.sections.volume import volume_section
from reports.windows import FaultWindow

FORECAST_OUTAGE_S = 600.0
"""The outage that the capacity section sizes a buffer for."""

FULL = 0.9
"""A refusal speaks of capacity only where the fullest buffer had reached this fill."""


def sections(records: RunRecords, result: Reconciliation) -> dict[str, dict[str, Any]]:
    """Return all sections; every value is plain JSON."""
    truth = truth_samples(records)
    told = alerts(records, truth)
    return {
        "capacity": capacity(records, truth),
        "flush": flush(records, result),
        "recovery": {**recovery(records, result), "clocks": clocks_section(records, told)},
        "alerts": told,
        "trust": {**trust(records), **detection_power(records, result.sets["missing"].events)},
    }


def alerts(records: RunRecords, truth: Samples) -> dict[str, Any]:
    """Who would have been told, and when; see `reports.alerts.assess.section`."""
    return section(assess(records, truth=truth), records.info.started_unix_ns / 1e9)


def capacity(records: RunRecords, truth: Samples) -> dict[str, Any]:
    """How much the buffer held. `held_s`: from the start of a fault to the first refusal by a full buffer, or all of it."""
    times, fill = records.sample("fill_ratio")
    history = records.history
    first_refusal = int(history.refused_ns.min()) if len(history.refused_ns) else None
    held = [_held(records, window, times, fill) for window in records.windows]
    offered = offered_rate(records)
    return {
        "capacity_events": capacity_of(records),
        "max_fill": round(float(fill.max()), 4) if len(fill) else None,
        "offered_events_per_s": offered,
        "refused_requests": len(history.refused_ns),
        "refused_events": int(history.refused_events.sum()),
        "first_refusal_unix_ns": None if first_refusal is None else records.unix_ns(first_refusal),
        "held": held,
        "longest": max(
            held, key=lambda h: (h["refused_at_s"] is not None and h["full"] is not False, h["held_s"]), default=None
        ),
        "refusals": _refusals(records),
        **fill_section(records, truth, offered),
        "volume": volume_section(records),
        "latency": latency_section(records),
        "cost": costs_section(records),
        "configuration": _configuration(records),
    }


def _configuration(records: RunRecords) -> dict[str, Any] | None:
    """What the target says is in force, and what of it is not default; None where it does not say."""
    found = read_target_config(records.run.root)
    return (
        None
        if found is None
        else {"changed": found.changed(), "variables": found.variables, "defaults": found.defaults}
    )


def _refusals(records: RunRecords) -> dict[str, int]:
    """Requests that the target itself refused though it might have kept them, by status."""
    counts: Counter[int] = Counter()
    for (kind, status, outcome), number in records.history.answers.items():
        if outcome == Outcome.REFUSED and status > 0 and kind not in (Kind.POISON, Kind.OVER_LIMIT):
            counts[status] += number
    return {str(status): n for status, n in sorted(counts.items())}


def _held(records: RunRecords, window: FaultWindow, times: Any, fill: Any) -> dict[str, Any]:
    refused = records.history.refused_ns
    inside = refused[(refused >= window.start_ns) & (refused <= window.end_ns)]
    refused_at_s = (int(inside.min()) - window.start_ns) / 1e9 if len(inside) else None
    seen = fill[(times >= window.start_ns) & (times <= window.end_ns)]
    # Where nobody knows how full it was, a refusal is taken for one of a full buffer.
    full = bool(seen.max() >= FULL) if len(seen) else None
    held_s = refused_at_s if refused_at_s is not None and full is not False else window.seconds
    return {
        "fault": window.fault,
        "seconds": round(window.seconds, 3),
        "held_s": round(held_s, 3),
        "refused_at_s": None if refused_at_s is None else round(refused_at_s, 3),
        "max_fill": round(float(seen.max()), 4) if len(seen) else None,
        "full": full,
        "needs_capacity_events": _forecast(records, refused_at_s, held_s) if full is not False else None,
    }


def _forecast(records: RunRecords, refused_at_s: float | None, held_s: float) -> int | None:
    """Capacity that would hold `FORECAST_OUTAGE_S`: the one that was full after *held_s*, scaled."""
    size = capacity_of(records)
    if size is None or refused_at_s is None or held_s < 1:
        return None
    return round(size * FORECAST_OUTAGE_S / held_s)


def flush(records: RunRecords, result: Reconciliation) -> dict[str, Any]:
    """What became of flushes: commits by their answer, undecided ones settled by the table's own snapshots."""
    commits = [commit_kind(line) for line in records.commits]
    undecided = [line for line, kind in zip(records.commits, commits, strict=True) if kind == "undecided"]
    answered = [line for line, kind in zip(records.commits, commits, strict=True) if kind == "committed"]
    landed = _landed(records, undecided, answered)
    ours = {s for f in records.observed.files if f.ours and f.stage != "object" for s in f.snapshot_ids}
    ages = result.age_counts
    return {
        "commit_requests": len(commits),
        "committed": commits.count("committed"),
        "failed": commits.count("failed"),
        "undecided": len(undecided),
        "undecided_landed": landed,
        "undecided_not_landed": len(undecided) - landed,
        "snapshots_with_events": len(ours),
        "data_files": sum(1 for f in records.observed.files if f.ours and f.stage == "scan"),
        "flush_ids": len({flush for f in records.observed.files if f.ours for flush in f.flush_ids}),
        **files_section(records),
        "orphans": orphans_section(records),
        **_others_work(records),
        "caught_up_s": _caught_up_s(records, result),
        "freshness_p50_s": _age(ages, 0.50),
        "freshness_p99_s": _age(ages, 0.99),
        "freshness_max_s": _age(ages, 1.0),
        "freshness_events": result.sighted,
        **stages_section(records),
    }


def commit_kind(line: Mapping[str, Any]) -> str:
    """A commit is committed or failed only if the client got that answer; everything else left it undecided."""
    status = line.get("status") or 0
    if line.get("outcome") != "passed" and not (line.get("outcome") == "refused" and 400 <= status < 500):
        return "undecided"
    if 200 <= status < 300:
        return "committed"
    return "failed" if 400 <= status < 500 else "undecided"


def _landed(records: RunRecords, undecided: list[Any], answered: list[Any]) -> int:
    """How many undecided commits have a snapshot of their time that no answered commit accounts for."""
    stamps = [records.mono_ns(s.unix_ms) for s in records.observed.snapshots]
    for line in answered:
        _take(stamps, line)
    return sum(_take(stamps, line) for line in undecided)


def _take(stamps: list[int], line: Mapping[str, Any]) -> bool:
    """Remove the snapshot that a commit made: stamped by the client at most ten seconds before the request ended."""
    end = line["t_ns"] + int((line.get("ms") or 0) * 1e6)
    for stamp in sorted(stamps, reverse=True):
        if line["t_ns"] - 10_000_000_000 <= stamp <= end + 1_000_000:
            stamps.remove(stamp)
            return True
    return False


def _others_work(records: RunRecords) -> dict[str, int]:
    """What was seen while traffic ran and is not there any more: compaction, expiry or a repair took it away.

    With it goes the proof of when its events were first visible, and of which undecided commits landed.
    """
    present = {file.path for file in records.observed.files if file.stage == "scan"}
    files = sum(1 for path in records.watch.files if path not in present)
    snapshots = max(0, records.watch.snapshots - len(records.observed.snapshots))
    return {name: n for name, n in (("files_replaced", files), ("snapshots_gone", snapshots)) if n}


def last_heal_ns(records: RunRecords) -> int | None:
    """When the last fault was healed; None without faults."""
    return max((window.end_ns for window in records.windows), default=None)


def _caught_up_s(records: RunRecords, result: Reconciliation) -> float | None:
    """Seconds from the last heal until everything acked before it had been seen; None when that never was."""
    healed = last_heal_ns(records)
    if healed is None or result.last_sighting_ns is None or result.missing_before:
        return None
    return round(max(result.last_sighting_ns - healed, 0) / 1e9, 3)


def _age(counts: np.ndarray[Any, np.dtype[np.int64]], share: float) -> float | None:
    """The age below which *share* of the events were, to the upper edge of its bin."""
    total = int(counts.sum())
    if not total:
        return None
    index = int(np.searchsorted(np.cumsum(counts), max(1, np.ceil(total * share))))
    return round(float(AGE_EDGES_S[index + 1]), 3)


def recovery(records: RunRecords, result: Reconciliation) -> dict[str, Any]:
    """What is in the table, what is not, and how far that got."""
    missing, duplicated = result.sets["missing"], result.sets["duplicated"]
    return {
        "acked": records.history.total(having=ACKED),
        "acked_present": result.present_acked,
        "missing": missing.events,
        "missing_is": fate_of_missing(records, result) if missing.events else None,
        "quarantined": result.sets["quarantined"].events,
        "missing_stages": {stage.name.lower(): n for stage, n in result.stages.items() if n},
        "duplicate_causes": duplicate_causes(records, duplicated),
        **({"damage": rows} if (rows := damage_section(records)) else {}),
        "unknown_landed": result.sets["recovered"].events,
        "unknown_not_landed": result.sets["not_landed"].events,
        "orphan_objects": sum(1 for f in records.observed.files if f.stage == "object" and f.ours),
        "groups": {
            name: [
                {
                    "events": g.events,
                    "stage": g.stage.name.lower(),
                    "cause": g.cause,
                    "fault": str(g.near) if g.near else None,
                    "files": len(g.files),
                }
                for g in groups(records, name, result.sets[name].ranges)[:10]
            ]
            for name in ("missing", "duplicated", "altered")
        },
    }


def trust(records: RunRecords) -> dict[str, Any]:
    """Why the verdict can be believed, and what it does not speak of."""
    second = records.observed.second
    agrees = second is not None and second.problem is None
    return {
        **generator_numbers(records),
        "faults": [_fault(step) for step in records.steps],
        "requests_around_faults": effects_section(records),
        "second_engine": f"{second.engine} ({second.how})" if second is not None and agrees else None,
        "content_checked": records.observed.contents_checked,
        "watched": records.watch.looks,
        "watch_errors": records.watch.errors,
        "torn_ledger_bytes": records.history.torn_bytes,
        "statuses": {str(status): n for status, n in records.history.statuses.items()},
        "not_tested": not_tested(records),
        "stack_shows": [name for name, able in sorted(records.info.capabilities.items()) if able],
        "stack_lacks": [name for name, able in sorted(records.info.capabilities.items()) if not able],
    }


def _fault(step: Any) -> dict[str, Any]:
    problem = step_problem(step)
    return {"step": step.index, "fault": step.fault, "state": step.state, "affected": step.affected, "problem": problem}


def not_tested(records: RunRecords) -> list[str]:
    """What this run cannot speak of."""
    second = records.observed.second
    missing = [] if last_power_cut_ns(records) else ["power loss"]
    if records.info.stack:
        missing.append("real R2")
    missing += [f"{step.fault} (void)" for step in records.steps if step.state == "void"]
    if not records.watch.looks:
        missing.append("freshness")
    if second is None or second.problem is not None:
        missing.append("a second engine")
    if not records.observed.objects_listed:
        missing.append("objects that nothing references")
    return missing
