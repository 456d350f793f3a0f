"""The table of alerts while a run goes on: the same rules, fed look by look."""

from __future__ import annotations

from typing import Any

import pytest

from chaos.alerting.live import LiveAlerts
from chaos.target import find_target

T = 1_700_000_000.0


@pytest.fixture
def alerts() -> LiveAlerts:
    return LiveAlerts(find_target("reference")[1])


def scrape(**more: float) -> dict[str, float]:
    plain = {
        "collector_buffer_fill_ratio": 0.1,
        "collector_buffer_events": 10.0,
        "collector_oldest_event_age_seconds": 1.0,
    }
    return plain | {"collector_last_commit_timestamp_seconds": T, "collector_flushes_total{outcome=failed}": 0.0} | more


def state(alerts: LiveAlerts, name: str) -> str:
    return next(str(row["state"]) for row in alerts.table(T) if row["name"] == name)


def since(alerts: LiveAlerts, name: str) -> tuple[str, float]:
    return next((row["state"], row["since_s"]) for row in alerts.table(T) if row["name"] == name)


def test_an_alert_is_pending_fires_and_is_resolved(alerts: LiveAlerts) -> None:
    """Thirty seconds above half, then empty for longer than it keeps firing."""
    changes: list[tuple[int, str, str]] = []
    for second in range(150):
        fill = 0.6 if 5 <= second < 60 else 0.1
        now = T + second
        found = alerts.look(
            now, scrape(collector_buffer_fill_ratio=fill, collector_last_commit_timestamp_seconds=now), {}
        )
        changes += [(second, name, change) for name, change in found if name == "BufferHalfFull"]
        if second == 20:
            assert since(alerts, "BufferHalfFull") == ("pending", 5.0)
        if second == 50:
            assert since(alerts, "BufferHalfFull") == ("firing", 35.0), "when it fired, as the timeline has it"
    assert changes == [(35, "BufferHalfFull", "firing"), (120, "BufferHalfFull", "resolved")]
    row = next(row for row in alerts.table(T) if row["name"] == "BufferHalfFull")
    assert (row["state"], row["since_s"], row["fired"], row["severity"]) == ("ok", None, 1, "ticket")


def test_a_target_that_does_not_answer_is_absent_and_nothing_else_lingers(alerts: LiveAlerts) -> None:
    """After fifteen seconds."""
    alerts.look(T, scrape(collector_buffer_fill_ratio=0.95), {})
    assert state(alerts, "BufferAlmostFull") == "pending"
    found = [change for second in range(1, 20) for change in alerts.look(T + second, {}, {})]
    assert ("CollectorAbsent", "firing") in found
    assert state(alerts, "BufferAlmostFull") == "ok"


def test_the_truth_fires_where_the_target_keeps_silent(alerts: LiveAlerts) -> None:
    """The gauge says one second, the auditor seventy."""
    seen: dict[str, Any] = {"pending": 50, "freshness_s": 70.0, "snapshot_id": 1}
    found = alerts.look(T, scrape(), seen)
    assert ("OldestEventTooOld in truth", "firing") in found
    assert state(alerts, "OldestEventTooOld") == "ok"


def test_a_stall_is_seen_by_snapshots(alerts: LiveAlerts) -> None:
    """Sixty seconds without a new one while events wait; a new one ends it."""
    found: list[tuple[str, str]] = []
    for second in range(0, 70, 5):
        found += alerts.look(T + second, scrape(), {"pending": 50, "freshness_s": 1.0, "snapshot_id": 1})
    assert ("FlushStalled in truth", "firing") in found
    assert ("FlushStalled in truth", "resolved") in alerts.look(
        T + 71, scrape(), {"pending": 5, "freshness_s": 1.0, "snapshot_id": 2}
    )


def test_a_target_that_tells_nothing_has_the_truth_all_the_same() -> None:
    """No metric is named; rules on the truth are left."""
    import msgspec

    target = msgspec.structs.replace(find_target("reference")[1], metrics=None)
    names = [row["name"] for row in LiveAlerts(target).table(T)]
    assert names == ["OldestEventTooOld in truth", "FlushStalled in truth"]
