"""Checks of events: a row of the reconciliation table each. Pure functions of what was recorded."""

from __future__ import annotations

from collections import Counter

from loadtests.records.quarantine import read_quarantine
from reports.anomalies import WHERE, cause_of_copies, describe, groups
from reports.obligations import ACKED
from reports.permitted import permitted_losses
from reports.reconcile import Found, Reconciliation
from reports.runrecords import RunRecords
from reports.verdict import Check, Verdict

EXAMPLES = 10
"""Ranges that a check shows; `icequake explain` prints the others."""

LATE_SHARE_ALLOWED = 0.001
"""Share of the visible acked events that may have become visible later than the contract's freshness."""

REFUSED_SHARE_ALLOWED = 0.05
"""Share of the traffic after settling that may be refused."""


def fate_of_missing(records: RunRecords, result: Reconciliation) -> str:
    """Say what acked and absent events are: `lost`, `stuck` or `pending`.

    Pending while the run ended before settling did; lost once the target says it holds nothing; stuck when settling timed out
    while the target says that it still holds events, or does not say. Events that were acked after settling (the round trip)
    and did not come through go by what the target said after those: what it said before was said before it had them.
    """
    window = records.window
    if records.info.stopped or window.healed_ns is None or window.settle not in ("empty", "timeout"):
        return "pending"
    missing = result.sets["missing"].ranges
    if window.settle_end_ns is not None and missing and all((r.acked_ns or 0) > window.settle_end_ns for r in missing):
        return "lost" if window.roundtrip is not None and window.roundtrip.buffered == 0 else "stuck"
    if window.settle == "empty" or window.buffered_at_end == 0:
        return "lost"
    return "stuck"


def event_checks(records: RunRecords, result: Reconciliation) -> list[Check]:
    """Return all `events.*` checks."""
    return [
        _missing(records, result, "lost"),
        _missing(records, result, "stuck"),
        _missing(records, result, "pending"),
        _quarantined(records, result),
        _duplicated(records, result),
        _altered(records, result),
        _unexpected(records, result),
        _resurrected(records, result),
        _late(records, result),
        _refusing(records),
        _recovered(records, result),
    ]


_MISSING_CLAIMS = {
    "lost": (
        "every acknowledged event is in the table",
        "{n} acknowledged events are missing and nothing holds them any more",
    ),
    "stuck": (
        "no acknowledged event is stuck",
        "{n} acknowledged events are still not in the table after all the time they were given",
    ),
    "pending": (
        "no acknowledged event is left undecided",
        "{n} acknowledged events were not in the table when the run ended early",
    ),
}


def _missing(records: RunRecords, result: Reconciliation, name: str) -> Check:
    found = result.sets["missing"]
    check_id, (right, wrong) = f"events.{name}", _MISSING_CLAIMS[name]
    mine = found.events if fate_of_missing(records, result) == name else 0
    if not mine:
        return _nothing_missing(records, result, check_id, right)
    counts = {name: mine} | {f"stage_{stage.name.lower()}": n for stage, n in result.stages.items() if n}
    evidence = [f"icequake explain {records.info.run_id} {name}", *_buffer_words(records, mine, name)]
    verdict = Verdict.INCONCLUSIVE if name == "pending" else Verdict.FAIL
    if _blind(records):
        verdict, evidence = Verdict.INCONCLUSIVE, [*evidence, "parts of the table could not be read; see run.read"]
    claim = wrong.format(n=f"{mine:,}")
    permitted, words = permitted_losses(records, found) if verdict == Verdict.FAIL and name == "lost" else (0, "")
    if permitted:
        counts["permitted"] = permitted
        evidence.append(f"{permitted:,} of them may be lost under the contract of {records.target.name} ({words})")
    if permitted == mine:
        verdict, claim = Verdict.PASS, f"{mine:,} acknowledged events are missing, as the contract permits ({words})"
    return Check(
        id=check_id,
        verdict=verdict,
        claim=claim,
        counts=counts,
        examples=_examples(records, "missing", found),
        evidence=evidence,
        cause=_main_cause(records, "missing", found),
    )


def _nothing_missing(records: RunRecords, result: Reconciliation, check_id: str, right: str) -> Check:
    """None is missing. That is no proof where nothing was acked, or where missing events go by another name."""
    acked = records.history.total(having=ACKED)
    if check_id == "events.lost" and not acked:
        return Check(
            id=check_id, verdict=Verdict.INCONCLUSIVE, claim="nothing was acknowledged, so nothing can be missing"
        )
    if check_id == "events.lost" and result.sets["missing"].events and fate_of_missing(records, result) == "pending":
        return Check(
            id=check_id,
            verdict=Verdict.INCONCLUSIVE,
            claim="whether events are lost cannot be said yet; see events.pending",
        )
    return Check(
        id=check_id, verdict=Verdict.PASS, claim=right, counts={"acked": acked, "present": result.present_acked}
    )


def _quarantined(records: RunRecords, result: Reconciliation) -> Check:
    """Kept aside is not lost: the target says which events they are, and why. It is no row either, and the verdict says so."""
    found = result.sets["quarantined"]
    claim = "no acknowledged event is kept aside in quarantine"
    if found.events:
        claim = f"{found.events:,} acknowledged events are in quarantine instead of the table, by the target's own word"
    reasons = Counter(str(line.get("reason")) for line in read_quarantine(records.run.root))
    return Check(
        id="events.quarantined",
        verdict=Verdict.PASS,
        claim=claim,
        counts={"quarantined": found.events, "listed": sum(reasons.values())},
        examples=_examples(records, "quarantined", found),
        evidence=[f"{count:,} x {reason[:200]}" for reason, count in reasons.most_common(5)],
    )


def _blind(records: RunRecords) -> bool:
    """The table, or a live part of it, did not answer; what it holds is unknown."""
    return records.observed.problem is not None or any(u.live and not u.definite for u in records.observed.unreadable)


def _buffer_words(records: RunRecords, missing: int, name: str) -> list[str]:
    held = records.window.buffered_at_end
    if name != "stuck" or records.window.settle != "timeout":
        return []
    if held is None:
        return ["the target does not say whether it still buffers events"]
    lost = f", so at least {missing - held:,} are lost" if held < missing else ""
    return [f"the target says it still buffers {held:,} events{lost}"]


def _examples(records: RunRecords, name: str, found: Found) -> list[dict[str, object]]:
    return [describe(records, name, one) for one in found.ranges[:EXAMPLES]]


def _main_cause(records: RunRecords, name: str, found: Found) -> str | None:
    grouped = groups(records, name, found.ranges)
    if not grouped:
        return None
    top = grouped[0]
    words = [top.cause or WHERE[top.stage], str(top.near) if top.near else ""]
    return ", ".join(word for word in words if word)


def _duplicated(records: RunRecords, result: Reconciliation) -> Check:
    found = result.sets["duplicated"]
    forbidden = found.events
    if records.target.contract.delivery == "at_least_once":
        forbidden -= found.ambiguous_events
    claim = "no event is in the table more than once"
    if forbidden:
        claim = f"{found.events:,} events are in the table more than once"
    elif found.events:
        claim = f"{found.events:,} events are in the table more than once, each with a history that at_least_once allows it for"
    return Check(
        id="events.duplicated",
        verdict=Verdict.FAIL if forbidden else Verdict.PASS,
        claim=claim,
        counts={"duplicated": found.events, "allowed": found.events - forbidden},
        examples=_examples(records, "duplicated", found),
        evidence=_explain(records, "duplicated", found.events),
        cause=_main_cause(records, "duplicated", found),
    )


def duplicate_causes(records: RunRecords, found: Found) -> dict[str, int]:
    """Return how many duplicated events of the kept ranges have which cause."""
    causes: dict[str, int] = {}
    for one in found.ranges:
        cause = cause_of_copies([records.by_number[n] for n in one.files]) or "unknown"
        causes[cause] = causes.get(cause, 0) + one.events
    return causes


def _explain(records: RunRecords, name: str, events: int) -> list[str]:
    return [f"icequake explain {records.info.run_id} {name}"] if events else []


def _altered(records: RunRecords, result: Reconciliation) -> Check:
    found = result.sets["altered"]
    if not records.observed.contents_checked:
        return Check(
            id="events.altered", verdict=Verdict.INCONCLUSIVE, claim="the content of the events was not checked"
        )
    examples = _examples(records, "altered", found)
    contents = [e for f in records.observed.files if f.stage == "scan" for e in f.altered_examples]
    by_event = {(e["producer"], e["sequence"]): e for e in contents}
    for one, example in zip(found.ranges, examples, strict=False):
        seen = by_event.get((one.producer, one.first), {})
        example |= {key: seen[key] for key in ("stored", "sent", "stored_type") if key in seen}
    return Check(
        id="events.altered",
        verdict=Verdict.FAIL if found.events else Verdict.PASS,
        claim=f"{found.events:,} events are not what was sent" if found.events else "every event is what was sent",
        counts={"altered": found.events},
        examples=examples,
        evidence=_explain(records, "altered", found.events),
        cause=_main_cause(records, "altered", found),
    )


def strays(records: RunRecords) -> int:
    """Return the rows of a scan whose source is of this run while their id cannot have been minted by it."""
    return sum(f.stray * f.references for f in records.observed.files if f.stage == "scan")


def _unexpected(records: RunRecords, result: Reconciliation) -> Check:
    found, stray = result.sets["unexpected"], strays(records)
    total = found.events + stray
    examples = _examples(records, "unexpected", found)
    odd = [e | {"where": f.path} for f in records.observed.files if f.stage == "scan" for e in f.stray_examples]
    return Check(
        id="events.unexpected",
        verdict=Verdict.FAIL if total else Verdict.PASS,
        claim=f"{total:,} rows bear a source of this run but were never sent"
        if total
        else "nothing is there that was not sent",
        counts={"unexpected": total, "never_attempted": found.events, "foreign_ids": stray},
        examples=[*examples, *odd][:EXAMPLES],
        evidence=_explain(records, "unexpected", total),
    )


def _resurrected(records: RunRecords, result: Reconciliation) -> Check:
    found = result.sets["resurrected"]
    strict = records.target.contract.delivery == "exactly_once"
    return Check(
        id="events.resurrected",
        verdict=Verdict.FAIL if found.events and strict else Verdict.PASS,
        claim=f"{found.events:,} events are in the table though every attempt was refused"
        if found.events
        else "no refused event is in the table",
        counts={"resurrected": found.events},
        examples=_examples(records, "resurrected", found),
        evidence=_explain(records, "resurrected", found.events),
        cause=_main_cause(records, "resurrected", found),
    )


def _late(records: RunRecords, result: Reconciliation) -> Check:
    found, watch = result.sets["late"], records.watch
    counts = {"late": found.events, "sighted": result.sighted, "present": result.present_acked, "looks": watch.looks}
    if not watch.looks:
        claim = "nobody watched the table while traffic ran, so lateness cannot be judged"
        return Check(id="events.late", verdict=Verdict.INCONCLUSIVE, claim=claim, counts=counts)
    freshness_s = records.target.contract.freshness_s
    late = found.events > LATE_SHARE_ALLOWED * max(result.present_acked, 1)
    return Check(
        id="events.late",
        verdict=Verdict.FAIL if late else Verdict.PASS,
        claim=f"{found.events:,} events became visible later than {freshness_s:g} s after their acknowledgement"
        if found.events
        else f"events were visible within {freshness_s:g} s of their acknowledgement",
        counts=counts,
        examples=_examples(records, "late", found),
        evidence=_explain(records, "late", found.events),
    )


def _refusing(records: RunRecords) -> Check:
    probe = records.window.refusing_probe
    if probe is None or not probe.attempted:
        verdict, claim = Verdict.INCONCLUSIVE, "whether traffic is taken again after settling was not tried"
    elif not records.history.total(having=ACKED):
        verdict, claim = Verdict.INCONCLUSIVE, "the target never took traffic, so it cannot have stopped to"
    elif probe.refused > REFUSED_SHARE_ALLOWED * probe.attempted:
        verdict = Verdict.FAIL
        claim = f"after settling, {probe.refused:,} of {probe.attempted:,} events at the baseline rate were refused"
    else:
        verdict, claim = Verdict.PASS, "after settling, traffic at the baseline rate is taken"
    counts = {"attempted": probe.attempted, "refused": probe.refused} if probe else {}
    return Check(id="events.refusing", verdict=verdict, claim=claim, counts=counts)


def _recovered(records: RunRecords, result: Reconciliation) -> Check:
    landed, absent = result.sets["recovered"].events, result.sets["not_landed"].events
    return Check(
        id="events.recovered",
        verdict=Verdict.PASS,
        claim=f"of {landed + absent:,} events without a definite answer {landed:,} are in the table"
        if landed + absent
        else "every event got a definite answer",
        counts={"recovered": landed, "not_landed": absent},
        evidence=_explain(records, "unknown", landed + absent),
    )
