"""The lines that stand in the terminal, on top of the report and in the mail; the first is fit for a subject."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from reports.anomalies import WHERE, Group, groups
from reports.event_checks import fate_of_missing
from reports.reconcile import Reconciliation
from reports.reproduce import reproduce_line
from reports.runrecords import RunRecords
from reports.sections.damage import sentence
from reports.verdict import EXIT_CODES, Check, Totals, Verdict, worst
from reports.visible import visible

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_LABEL = 10


def first_screen(
    records: RunRecords,
    result: Reconciliation,
    totals: Totals,
    checks: Sequence[Check],
    sections: Mapping[str, Mapping[str, Any]],
    duration_s: float,
) -> list[str]:
    """Return eight or nine lines, each of them printable. Times are UTC, so that the same run gives the same lines everywhere."""
    lines = [_title(records, checks, duration_s), _summary(totals, sections)]
    lines += [f"{'Where':<{_LABEL}}{text}" for text in _where(records, result, checks)]
    for label, text in (
        ("Capacity", _capacity(sections["capacity"])),
        ("Flush", _flush(sections["flush"], records)),
        ("Recovery", _recovery(totals, sections["recovery"], checks) + _told(sections["alerts"])),
        ("Trust", _trust(sections["trust"], checks)),
        ("Next", _next(records, checks)),
    ):
        lines.append(f"{label:<{_LABEL}}{text}")
    return [visible(line) for line in lines]


def clock(records: RunRecords, mono_ns: int) -> str:
    """Return a monotonic instant as UTC hours, minutes and seconds."""
    return time.strftime("%H:%M:%S", time.gmtime(records.unix_ns(mono_ns) / 1e9))


def _title(records: RunRecords, checks: Sequence[Check], duration_s: float) -> str:
    info, verdict = records.info, worst(check.verdict for check in checks)
    when = time.gmtime(info.started_unix_ns / 1e9)
    date = f"{when.tm_mday} {_MONTHS[when.tm_mon - 1]} {when.tm_hour:02}:{when.tm_min:02} UTC"
    return (
        f"{verdict}  {info.scenario} on {info.target} · {date} · {_duration(duration_s)} · "
        f"seed {info.seed} · exit {EXIT_CODES[verdict]}"
    )


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} m {rest:02} s" if minutes else f"{rest} s"


def _summary(totals: Totals, sections: Mapping[str, Mapping[str, Any]]) -> str:
    missing = totals.lost + totals.stuck + totals.pending
    present = sections["recovery"]["acked_present"]
    if not totals.acked:
        head = f"nothing was acknowledged: {totals.attempted:,} events sent, {totals.refused:,} refused"
    elif missing:
        word = "missing" if totals.lost else "stuck in the target" if totals.stuck else "not in the table yet"
        head = f"{missing:,} of {totals.acked:,} acknowledged events are {word}"
    elif aside := sections["recovery"]["quarantined"]:
        head = f"{present:,} acknowledged events are in the table, {aside:,} in the target's quarantine"
    else:
        head = f"all {present:,} acknowledged events are in the table"
    wrong = [f"{totals.duplicated:,} duplicated", f"{totals.altered:,} altered"]
    wrong += [f"{n:,} {name}" for name in ("unexpected", "resurrected", "late") if (n := getattr(totals, name))]
    unknown = f"{totals.unknown:,} unknown"
    if totals.unknown:
        unknown += f" ({totals.recovered:,} landed)" if totals.recovered else ", none landed"
    return f"{head}; {', '.join(wrong)}; {unknown}"


def _where(records: RunRecords, result: Reconciliation, checks: Sequence[Check]) -> list[str]:
    lines: list[str] = []
    for name in ("missing", "duplicated", "altered", "unexpected", "resurrected"):
        found = result.sets[name]
        grouped = groups(records, name, found.ranges)
        if grouped and len(lines) < 2:
            label = fate_of_missing(records, result) if name == "missing" else name
            lines.append(f"{label}: {_located(records, name, grouped, found.events)}")
    if lines:
        return lines
    doubts = [c for c in checks if c.verdict is not Verdict.PASS]
    if doubts:
        return [f"{c.id}: {c.claim}" for c in sorted(doubts, key=lambda c: c.verdict is not Verdict.FAIL)[:2]]
    files = sum(1 for f in records.observed.files if f.stage == "scan" and f.ours)
    return [f"{result.rows_ours:,} rows in {files:,} data files read back; every id and every content recomputed"]


def _located(records: RunRecords, name: str, grouped: Sequence[Group], events: int) -> str:
    top = grouped[0]
    text = top.cause or WHERE[top.stage]
    if top.flush_ids:
        more = f" and {len(top.flush_ids) - 2} more" if len(top.flush_ids) > 2 else ""
        text += f" (flush {', '.join(top.flush_ids[:2])}{more})"
    if top.first_ns is not None and top.last_ns is not None:
        begin, end = clock(records, top.first_ns), clock(records, top.last_ns)
        verb = "acked" if name == "missing" else "committed"
        text += f", {verb} {begin}" + (f"-{end}" if end != begin else "")
    if top.near:
        text += f", {top.near}"
    return text if top.events >= events else f"{text} ({top.events:,} of {events:,})"


def _capacity(section: Mapping[str, Any]) -> str:
    parts = []
    longest, rate = section["longest"], section["offered_events_per_s"]
    at = f" at {rate:,.0f} events/s" if rate else ""
    if longest is not None:
        parts.append(f"held {longest['held_s']:.0f} s of {longest['fault']}{at}")
        if longest["refused_at_s"] is None:
            parts.append("no refusal in it")
        elif longest["full"] is False:
            parts.append(f"first refusal after {longest['refused_at_s']:.0f} s, not for want of room")
        if longest["needs_capacity_events"]:
            parts.append(f"a 10-minute outage needs capacity {longest['needs_capacity_events']:,}")
    elif rate:
        parts.append(f"{rate:,.0f} events/s offered, no fault")
    if section["max_fill"] is not None:
        parts.append(f"fullest buffer {section['max_fill']:.0%}")
    if section["first_refusal_unix_ns"] is not None:
        stamp = time.strftime("%H:%M:%S", time.gmtime(section["first_refusal_unix_ns"] / 1e9))
        parts.append(f"first refusal {stamp}, {section['refused_requests']:,} requests refused in all")
    return "; ".join(parts) or "not measured"


def _flush(section: Mapping[str, Any], records: RunRecords) -> str:
    total = section["commit_requests"]
    if total:
        text = f"{section['committed']} of {total} commits answered"
        if section["failed"]:
            text += f", {section['failed']} refused"
        if section["undecided"]:
            landed, gone = section["undecided_landed"], section.get("snapshots_gone")
            text += f", {section['undecided']} undecided -> {f'at least {landed}' if gone else landed} landed"
            text += f" ({gone} snapshots are not there any more)" if gone else ""
    else:
        text = f"{section['snapshots_with_events']} snapshots hold events of this run"
    if records.windows:
        caught_up = section["caught_up_s"]
        if caught_up is not None:
            text += f"; caught up {caught_up:.0f} s after heal"
        elif replaced := section.get("files_replaced"):
            text += f"; caught up: cannot be told, {replaced} data files that were seen are replaced"
        else:
            text += "; caught up: never"
    if section["freshness_p99_s"] is not None:
        text += f"; visible within {section['freshness_p99_s']:.1f} s (p99)"
    if lies := [row["metric"] for row in section.get("told_and_true", ()) if row["out_of_bounds"]]:
        text += f"; its own metrics are wrong: {', '.join(lies)}"
    return text


def _recovery(totals: Totals, section: Mapping[str, Any], checks: Sequence[Check]) -> str:
    events = [c for c in checks if c.id.startswith("events.")]
    wrong = [
        f"{n:,} {name}"
        for name in ("lost", "stuck", "duplicated", "altered", "unexpected", "resurrected", "late")
        if (n := getattr(totals, name)) and any(c.id == f"events.{name}" and c.verdict is Verdict.FAIL for c in events)
    ]
    wrong += ["still refusing"] if any(c.id == "events.refusing" and c.verdict is Verdict.FAIL for c in events) else []
    if wrong:
        text = f"wrong ({', '.join(wrong)})"
    elif any(c.verdict is Verdict.INCONCLUSIVE for c in events):
        text = "not proven: " + next(c.claim for c in events if c.verdict is Verdict.INCONCLUSIVE)
    elif totals.lost:
        text = f"as promised: {totals.lost:,} lost, as the contract permits; every other event is there, unaltered"
    elif totals.duplicated:
        text = f"correct: every acknowledged event at least once, unaltered ({totals.duplicated:,} doubled, as the contract allows)"
    else:
        text = "correct: every acknowledged event exactly once, unaltered"
    if damage := section.get("damage"):
        text += f"; {sentence(damage)}"
    orphans = section["orphan_objects"]
    return f"{text}; {orphans} orphan objects" if orphans else text


def _told(section: Mapping[str, Any]) -> str:
    """Who would have been paged: before the first refusal by a full buffer, or at all."""
    pages = [rule for rule in section["rules"] if rule["severity"] == "page" and rule["fired_at_s"] is not None]
    if section["first_overflow_at_s"] is None:
        first = min(pages, key=lambda rule: rule["fired_at_s"], default=None)
        return "" if first is None else f"; {first['alert']} would have paged at {first['fired_at_s']:.0f} s"
    early = max(pages, key=lambda rule: rule["lead_s"] or 0.0, default=None)
    if early is None:
        return "; nobody would have been paged"
    lead_s = early["lead_s"] or 0.0
    when = "before" if lead_s > 0 else "after"
    return f"; {early['alert']} would have paged {abs(lead_s):.0f} s {when} the first refusal"


def _trust(section: Mapping[str, Any], checks: Sequence[Check]) -> str:
    by_id = {check.id: check for check in checks}
    parts = []
    if section["lag_p99_ms"] is not None:
        kept = by_id["run.on_schedule"].verdict is Verdict.PASS
        parts.append(
            f"generator {'kept' if kept else 'was behind'} its schedule (lag p99 {section['lag_p99_ms']:.0f} ms)"
        )
        if (section["retry_amplification"] or 1.0) >= 1.005:
            parts.append(f"each event sent {section['retry_amplification']:.2f} times")
    faults = [f for f in section["faults"] if f["fault"] != "nothing"]
    if faults:
        proven = sum(1 for f in faults if f["problem"] is None)
        parts.append(f"{proven} of {len(faults)} faults took effect")
    if section["second_engine"]:
        agree = by_id["run.read"].verdict is Verdict.PASS
        parts.append(f"second engine {'agrees' if agree else 'see run.read'}")
    parts.append(f"NOT tested: {', '.join(section['not_tested'])}")
    return "; ".join(parts)


def _next(records: RunRecords, checks: Sequence[Check]) -> str:
    info = records.info
    commands = [e for c in checks if c.verdict is Verdict.FAIL for e in c.evidence if e.startswith("icequake explain")]
    doubtful = any(c.verdict is not Verdict.PASS for c in checks)
    inspect = (
        commands[0]
        if commands
        else f"icequake report {info.run_id}"
        if doubtful
        else f"open report.html of run {info.run_id}"
    )
    return f"{inspect}      reproduce: {reproduce_line(info)}"
