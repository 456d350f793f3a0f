"""How fast events come in: all of them, and those for the busiest buffer."""

from __future__ import annotations

from reports.runrecords import RunRecords

EQUAL_TYPES = 1 / 3
"""The share of the busiest type where a run does not record its mix: the three types of events in equal parts."""


def offered_rate(records: RunRecords) -> float | None:
    """Events per second that were due, from first sends of normal traffic and given-up arrivals."""
    p = records.history.punctuality
    if len(p.due_ns) < 2:
        return None
    seconds = (int(p.due_ns.max()) - int(p.due_ns.min())) / 1e9
    return round((int(p.events.sum()) + int(p.given_up_events.sum())) / seconds, 1) if seconds > 0 else None


def busiest_inflow(records: RunRecords) -> float | None:
    """Return the events per second into the buffer of the most frequent type, on average over the run; None: nothing was due."""
    rate, mix = offered_rate(records), records.info.mix
    if not rate:
        return None
    return rate * (max(mix.values()) / sum(mix.values()) if mix else EQUAL_TYPES)
