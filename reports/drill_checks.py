"""The check `drill.<name>` of every drill in a run's timeline: was the procedure done, and did all it promises hold?

A drill that was done twice has a second check, `drill.<name>.2`. Where a drill says that it detected, mitigated or recovered
from damage, the times are counted from the last fault that was injected before; without one, from the drill's beginning.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from reports.verdict import Check, Verdict

MILESTONES = ("detected", "mitigated", "recovered")

Entry = Mapping[str, Any]

_NO_END = {
    "void": "the drill was not done",
    "stopped": "the drill was stopped before its end",
    "broken": "icequake failed in the middle of the drill",
}


def drill_checks(timeline: Iterable[Entry]) -> list[Check]:
    """Return one check a drill, in the order in which they were armed or began."""
    drills: dict[tuple[str, Any], list[Entry]] = {}
    injected: list[int] = []
    for entry in timeline:
        if entry.get("event") == "drill":
            drills.setdefault((str(entry.get("drill")), entry.get("step")), []).append(entry)
        elif entry.get("event") == "step" and entry.get("state") == "injected":
            injected.append(int(entry.get("t_ns", 0)))
    times: dict[str, int] = {}
    checks = []
    for (name, _), entries in drills.items():
        times[name] = times.get(name, 0) + 1
        check_id = f"drill.{name}" if times[name] == 1 else f"drill.{name}.{times[name]}"
        checks.append(_check(check_id, entries, _since_damage(entries, injected)))
    return checks


def _since_damage(entries: list[Entry], injected: list[int]) -> dict[str, int]:
    reached = [entry for entry in entries if entry.get("state") == "reached" and entry.get("milestone") in MILESTONES]
    if not reached:
        return {}
    first = int(reached[0].get("t_ns", 0))
    begun = next((int(entry.get("t_ns", 0)) for entry in entries if entry.get("state") == "begun"), first)
    zero = max((t for t in injected if t <= first), default=begun)
    return {f"{entry['milestone']}_ms": round((int(entry.get("t_ns", 0)) - zero) / 1e6) for entry in reached}


def _check(check_id: str, entries: list[Entry], times: Mapping[str, int]) -> Check:
    checked = [entry for entry in entries if entry.get("state") == "checked"]
    broken = [entry for entry in checked if entry.get("ok") is not True]
    counts = {"checked": len(checked), "broken": len(broken), **times}
    evidence = [
        f"{entry.get('check')}: {'holds' if entry.get('ok') is True else 'DOES NOT HOLD'}, {entry.get('detail')}"
        for entry in checked
    ]
    evidence += [f"{name} after {times[f'{name}_ms'] / 1000:.1f} s" for name in MILESTONES if f"{name}_ms" in times]
    last = next((entry for entry in reversed(entries) if entry.get("state") not in ("checked", "reached")), {})
    state = str(last.get("state"))
    if isinstance(seconds := last.get("seconds"), (int, float)):
        counts["took_ms"] = round(seconds * 1000)

    def verdict(of: Verdict, claim: str, cause: str | None = None) -> Check:
        return Check(id=check_id, verdict=of, claim=claim, counts=counts, evidence=evidence, cause=cause)

    if broken:
        first = broken[0]
        return verdict(
            Verdict.FAIL, f"the drill did not do what it promises: {first.get('check')}", str(first.get("detail"))
        )
    if state == "failed":
        return verdict(Verdict.FAIL, "the drill could not be done", str(last.get("reason")))
    if state in _NO_END:
        return verdict(Verdict.INCONCLUSIVE, f"{_NO_END[state]}: {last.get('reason')}")
    if state == "armed":
        return verdict(Verdict.INCONCLUSIVE, "the drill was not done: the run ended before its moment came")
    if state != "done":
        return verdict(Verdict.INCONCLUSIVE, "the drill did not come to its end")
    if not checked:
        return verdict(Verdict.INCONCLUSIVE, "the drill checked nothing")
    return verdict(Verdict.PASS, "the drill did what it promises")
