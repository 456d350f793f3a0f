"""The benchmark measures the real server and counts only what was acknowledged."""

from __future__ import annotations

import pytest

from collector.bench import EVENT_BYTES, BenchResult, _template, run


@pytest.mark.integration
def test_a_short_run_is_acknowledged_and_synced() -> None:
    """Every request gets its 202, and no more requests than syncs times connections are acknowledged."""
    result = run(0.3, connections=2, batch=10)

    assert result.requests > 0
    assert (result.other, result.events) == (0, result.requests * 10)
    assert result.requests / 2 <= result.syncs + 1
    assert result.seconds >= 0.3


def test_the_figures_follow_from_the_counts() -> None:
    """Rates are per second of wall time, CPU per request."""
    result = BenchResult(requests=10, events=1000, other=0, seconds=2.0, server_cpu_s=0.5, syncs=5)

    assert (result.events_per_s, result.cpu_us_per_request, result.events_per_cpu_s) == (500, 50_000, 2000)
    assert "2.0 requests per sync" in str(result)


def test_events_have_the_declared_size() -> None:
    """270 bytes an event, of which the client replaces only the id."""
    parts = _template(100)

    assert len(parts) == 101
    assert len(parts[50]) + 12 + len(b",") - 1 == EVENT_BYTES + 1
