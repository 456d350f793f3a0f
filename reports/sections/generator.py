"""The load generator itself: was it on time, what did it give up and when, and how often did it send each event?"""

from __future__ import annotations

from typing import Any

from reports.obligations import ATTEMPTED, EXEMPT
from reports.run_checks import schedule_of
from reports.runrecords import RunRecords


def generator_numbers(records: RunRecords) -> dict[str, Any]:
    """Return what the trust section says of the generator.

    `lag` is from the instant a request was due to its sending, `dispatch_lag` to the generator noticing it; the second grows only
    when the generator is the bottleneck. `retry_amplification` is how often an event that was sent at all was sent on average.
    """
    schedule = schedule_of(records)
    return {
        "dispatch_lag_p99_ms": schedule.dispatch_p99_ms,
        "lag_p50_ms": schedule.p50_all_ms,
        "lag_p99_ms": schedule.p99_all_ms,
        "lag_p99_outside_faults_ms": schedule.p99_ms,
        "not_sent": schedule.not_sent_all,
        "not_sent_by_fault": not_sent_by_fault(records),
        "retry_amplification": retry_amplification(records),
    }


def not_sent_by_fault(records: RunRecords) -> dict[str, int]:
    """Return how many events were due while each fault was active and never sent; `no fault` for the rest, if any.

    Where faults overlap, an event counts for each of them.
    """
    p = records.history.punctuality
    counts: dict[str, int] = {}
    calm = p.given_up_ns == p.given_up_ns
    for window in records.windows:
        inside = (p.given_up_ns >= window.start_ns) & (p.given_up_ns <= window.end_ns)
        calm &= ~inside
        counts[window.fault] = counts.get(window.fault, 0) + int(p.given_up_events[inside].sum())
    rest = int(p.given_up_events[calm].sum())
    return {name: events for name, events in {**counts, "no fault": rest}.items() if events or name in counts}


def retry_amplification(records: RunRecords) -> float | None:
    """Return requests per event over all events that were sent and wanted; None when there were none."""
    sent = events = 0
    for owed in records.history.producers.values():
        wanted = ((owed.flags & ATTEMPTED) != 0) & ((owed.flags & EXEMPT) == 0)
        sent += int((owed.lengths * owed.attempts)[wanted].sum())
        events += int(owed.lengths[wanted].sum())
    return round(sent / events, 4) if events else None
