"""What the contract of a target permits to be lost.

`durability: memory` says that a 2xx means no more than that the event is in memory, so whatever was acknowledged before the process
was killed may be gone. `durability: page_cache` says that it was written and not synced, so a killed process loses nothing, and a power
cut whatever was acknowledged before it. `overflow: drop_oldest` says that a full buffer makes room, so whatever was acknowledged before it was last
full may be. Every other promise makes a lost event a broken one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reports.reconcile import Found
from reports.runrecords import RunRecords

FULL = 0.99
"""From this fill on a buffer that drops its oldest events may have done so."""


def permitted_losses(records: RunRecords, found: Found) -> tuple[int, str]:
    """Return how many of the events *found* missing the contract permits to be lost, and the words of it that do.

    Only kept ranges are looked at, so of very many different losses some may be held against the target.
    """
    until_ns, words = _permitted_until(records)
    events = sum(r.events for r in found.ranges if r.acked_ns is not None and r.acked_ns <= until_ns)
    return min(events, found.events), words


def _permitted_until(records: RunRecords) -> tuple[int, str]:
    contract = records.target.contract
    died = _last_death_ns(records) if contract.durability == "memory" else 0
    dark = last_power_cut_ns(records) if contract.durability == "page_cache" else 0
    full = _last_full_ns(records) if contract.overflow == "drop_oldest" else 0
    return max((died, "durability: memory"), (dark, "durability: page_cache"), (full, "overflow: drop_oldest"))


def last_power_cut_ns(records: RunRecords) -> int:
    """Return when a target was alive again after the last power cut that took effect; 0: there was none."""
    cuts = [e["t_ns"] for e in records.timeline if e.get("event") == "step" and _lost_power(e)]
    return max(cuts, default=0)


def _lost_power(entry: Mapping[str, Any]) -> bool:
    measured = entry.get("measured")
    return entry.get("state") == "healed" and isinstance(measured, dict) and "lost_writes" in measured


def _last_death_ns(records: RunRecords) -> int:
    """When the process was last alive again, or gone, after a signal or by itself; 0: it never died."""
    killed = [
        entry["t_ns"] for entry in records.timeline if entry.get("event") == "step" and _killed(entry.get("measured"))
    ]
    exited = [e["t_ns"] for e in records.timeline if e.get("event") == "process" and e.get("state") == "exited"]
    return max([*killed, *exited], default=0)


def _killed(measured: object) -> bool:
    status = measured.get("status") if isinstance(measured, dict) else None
    return isinstance(status, int) and status < 0


def _last_full_ns(records: RunRecords) -> int:
    times, fill = records.sample("fill_ratio")
    full = times[fill >= FULL]
    return int(full.max()) if len(full) else 0
