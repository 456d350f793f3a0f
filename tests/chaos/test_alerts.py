"""Alerts of a live session: what fires when, by looks whose clock is their own."""

from __future__ import annotations

from typing import Any

import pytest

from chaos.alerts import Alerts, Look


def looks(alerts: Alerts, rows: list[dict[str, Any]]) -> list[tuple[float, str, str]]:
    """Look at each row; return every change with its second."""
    found = []
    for row in rows:
        look = Look(**{"answers": True, "promised_s": 60.0, **row})
        found += [(look.t_s, name, change) for name, change in alerts.look(look)]
    return found


def state_of(alerts: Alerts, name: str) -> str:
    return next(str(row["state"]) for row in alerts.table() if row["name"] == name)


def test_fill_fires_in_order_and_resolves_in_reverse() -> None:
    """50, 70 and 90 % fire as the gauge climbs and end as it falls; the threshold itself counts."""
    fills = (0.49, 0.5, 0.71, 0.9, 0.89, 0.69, 0.1)
    found = looks(Alerts(), [{"t_s": float(t), "fill_ratio": fill} for t, fill in enumerate(fills)])
    assert [(name[-2:], change) for _, name, change in found] == [
        ("50", "firing"), ("70", "firing"), ("90", "firing"), ("90", "resolved"), ("70", "resolved"), ("50", "resolved"),
    ]  # fmt: skip


def test_the_runbooks_alert_waits_five_minutes_and_starts_anew_after_a_dip() -> None:
    """Pending until 90 % have held for 300 s without a break."""
    alerts = Alerts()
    rows = [{"t_s": float(t), "fill_ratio": 0.85 if t == 200 else 0.95} for t in range(0, 510, 10)]
    found = looks(alerts, rows[:-1])
    assert not [name for _, name, _ in found if name == "BufferFill90For5m"]
    assert state_of(alerts, "BufferFill90For5m") == "pending"
    assert (510.0, "BufferFill90For5m", "firing") in looks(alerts, [*rows[-1:], {"t_s": 510.0, "fill_ratio": 0.95}])


def test_a_failed_flush_is_news_for_a_minute() -> None:
    """The counter's rise fires, not its height; a restart that sets it to zero is no failure, one after it is."""
    counters = [(0, 3.0), (10, 3.0), (20, 4.0), (79, 4.0), (80, 4.0), (90, None), (100, 0.0), (110, 1.0)]
    found = looks(Alerts(), [{"t_s": float(t), "failed": failed} for t, failed in counters])
    assert [(t, change) for t, name, change in found if name == "FlushFailing"] == [
        (20.0, "firing"), (80.0, "resolved"), (110.0, "firing"),
    ]  # fmt: skip


def test_stalled_needs_something_pending_and_no_movement() -> None:
    """Nothing to flush is no stall; movement ends one."""
    rows = [{"t_s": float(t), "visible": 100, "pending": 0} for t in (0, 100)]
    rows += [{"t_s": float(t), "visible": 100, "pending": 5} for t in (110, 140, 141)]
    rows += [{"t_s": 142.0, "visible": 105, "pending": 5}]
    found = looks(Alerts(), rows)
    stalled = [(t, change) for t, name, change in found if name == "FlushStalled"]
    assert stalled == [(140.0, "firing"), (142.0, "resolved")]


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("FlushUndecided", {"undecided": 1.0}),
        ("DataStale", {"freshness_s": 60.1}),
        ("MetricsAbsent", {"answers": False}),
    ],
)
def test_each_other_rule_fires_on_its_own_sign_only(name: str, row: dict[str, Any]) -> None:
    """Quiet before, firing on the sign, resolved after it."""
    quiet: dict[str, Any] = {"undecided": 0.0, "freshness_s": 59.9}
    rows = [{"t_s": 0.0, **quiet}, *({"t_s": t, **quiet, **row} for t in (1.0, 6.0)), {"t_s": 7.0, **quiet}]
    found = looks(Alerts(), rows)
    assert [(one, change) for _, one, change in found] == [(name, "firing"), (name, "resolved")]


def test_what_nobody_says_fires_nothing() -> None:
    """A target without metrics, before the auditor's first look."""
    assert looks(Alerts(), [{"t_s": float(t)} for t in range(0, 600, 60)]) == []
