"""Damage to the table: who noticed it first, and how long until it was detected, mitigated and recovered from.

The writer notices when a flush fails, the reader (the auditor) when a look fails or shows fewer events than an earlier one, the
doctor when a drill says that it found something. Each is looked for from the damage until a drill says that it was recovered from.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from typing import Any

from loadtests.records.jsonl import read_jsonl
from reports.drill_checks import MILESTONES
from reports.runrecords import RunRecords

Entry = Mapping[str, Any]
Samples = tuple[list[int], list[float]]


def damage_section(records: RunRecords) -> list[dict[str, Any]]:
    """Return a row for each damage of a run; see `damage`."""
    looks = read_jsonl(records.run.visible, "visible") if records.run.visible.is_file() else iter(())
    times, failed = records.sample("flushes_failed")
    return damage(records.timeline, list(looks), (times.tolist(), failed.tolist()), records.end_ns)


def damage(timeline: Iterable[Entry], looks: Iterable[Entry], failed: Samples, end_ns: int) -> list[dict[str, Any]]:
    """Return a row for each object that a step damaged: seconds from the damage, None for what never came.

    Args:
        failed: Times, and how many flushes the target said had failed until then.
    """
    entries, looks = list(timeline), list(looks)
    done = [
        entry
        for entry in entries
        if entry.get("event") == "step" and entry.get("state") == "injected" and "mutation" in entry.get("params", {})
    ]
    rows = []
    for entry in done:
        since_ns = int(entry["t_ns"])
        until_ns = next((t for t in _reached(entries, "recovered") if t >= since_ns), end_ns)
        noticed = {
            "writer": _first(_failures(failed), since_ns, until_ns),
            "reader": _first(_misses(looks, since_ns), since_ns, until_ns),
            "doctor": _first(_reached(entries, "detected"), since_ns, until_ns),
        }
        rest = {f"{name}_s": _first(_reached(entries, name), since_ns, until_ns) for name in MILESTONES[1:]}
        by = {who: at_s for who, at_s in noticed.items() if at_s is not None}
        first = min(by, key=lambda who: by[who], default=None)
        named = {f"{who}_s": at_s for who, at_s in noticed.items()}
        rows.append({"damage": str(entry.get("fault")), "noticed_first_by": first, **named, **rest})
    return rows


def sentence(rows: Iterable[Mapping[str, Any]]) -> str:
    """Say in half a line what became of the damage; empty without any."""
    parts = []
    for row in rows:
        who = row["noticed_first_by"]
        said = "was never noticed" if who is None else f"noticed by the {who} after {row[f'{who}_s']:.1f} s"
        said += "".join(
            f", {name} after {row[f'{name}_s']:.1f} s" for name in MILESTONES[1:] if row[f"{name}_s"] is not None
        )
        parts.append(f"{row['damage']} {said}")
    return "; ".join(parts)


def _first(moments: Iterable[int], since_ns: int, until_ns: int) -> float | None:
    found = next((t for t in moments if since_ns <= t <= until_ns), None)
    return None if found is None else round((found - since_ns) / 1e9, 3)


def _failures(failed: Samples) -> Iterator[int]:
    """When the number of failed flushes was seen to have grown."""
    for (_, before), (at_ns, now) in pairwise(zip(*failed, strict=True)):
        if now > before:
            yield int(at_ns)


def _misses(looks: Iterable[Entry], since_ns: int) -> Iterator[int]:
    """When a look failed, or showed fewer events than one before; looks from before the damage only set the mark."""
    most = 0
    for look in looks:
        if look.get("error"):
            yield int(look["t_ns"])
            continue
        visible = int(look.get("visible") or 0)
        if int(look["t_ns"]) >= since_ns and visible < most:
            yield int(look["t_ns"])
        most = max(most, visible)


def _reached(timeline: Iterable[Entry], milestone: str) -> Iterator[int]:
    for entry in timeline:
        if entry.get("event") == "drill" and entry.get("milestone") == milestone:
            yield int(entry["t_ns"])
