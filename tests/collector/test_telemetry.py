"""Logs are one JSON object a line, carry the fill, and never a secret."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from dataclasses import replace

import pytest

from collector.crashpoints import CrashPoints
from collector.flusher import FlushResult
from collector.telemetry import STAGES, Metrics, configure_logging, hour_text, log_buffer, log_flush
from tests.collector.conftest import EMPTY

COMMITTED = FlushResult("c/1/1", "committed", 7, ("f",), 3, 0, 0.5)
FAILED = FlushResult("c/1/2", "failed", None, (), 3, 0, 0.5, "the catalog said hunter2-secret")


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """Where the root logger writes, put back afterwards."""
    root = logging.getLogger()
    before = root.handlers[:], root.level, logging.raiseExceptions
    stream = io.StringIO()
    configure_logging(["hunter2-secret", 'qu"zzt'], stream)
    yield stream
    root.handlers[:], root.level, logging.raiseExceptions = before


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_the_periodic_line_has_the_fill_in_percent(stream: io.StringIO) -> None:
    """The runbook's operators watch buffer_fill_rate."""
    log_buffer(replace(EMPTY, fill_ratio=0.7251, events=9))

    [line] = lines(stream)
    assert (line["message"], line["buffer_fill_rate"], line["buffer_events"]) == ("buffer", 72.5, 9)


def test_each_flush_is_one_line(stream: io.StringIO) -> None:
    """A failed flush is an error that says why; a committed one names its snapshot."""
    log_flush(COMMITTED, EMPTY)
    log_flush(FAILED, EMPTY)

    committed, failed = lines(stream)
    assert (committed["level"], committed["flush_id"], committed["snapshot_id"]) == ("info", "c/1/1", 7)
    assert (failed["level"], failed["outcome"], failed["buffer_fill_rate"]) == ("error", "failed", 0.0)


def test_secrets_and_line_breaks_never_reach_a_line(stream: io.StringIO) -> None:
    """Whatever a library puts into its messages and tracebacks."""
    log_flush(FAILED, EMPTY)
    try:
        int('hunter2-secret qu"zzt')
    except ValueError:
        logging.getLogger("elsewhere").exception("a\nb %s", "hunter2-secret")

    assert "hunter2" not in stream.getvalue()
    assert "zzt" not in stream.getvalue()
    assert len(lines(stream)) == 2
    assert "[redacted]" in str(lines(stream)[0]["error"])


def test_flush_metrics() -> None:
    """Outcomes are counted apart, and only a commit moves the time of the last commit."""
    metrics = Metrics(lambda: EMPTY, CrashPoints())

    metrics.flushed(FAILED, 100.0)
    assert metrics.registry.get_sample_value("collector_last_commit_timestamp_seconds") is None
    metrics.flushed(COMMITTED, 200.0)

    value = metrics.registry.get_sample_value
    assert value("collector_flushes_total", {"outcome": "failed"}) == 1
    assert value("collector_flushes_total", {"outcome": "committed"}) == 1
    assert value("collector_flush_duration_seconds_count") == 2
    assert value("collector_last_commit_timestamp_seconds") == 200.0


def test_hours_beyond_the_calendar_are_numbers() -> None:
    """A hostile timestamp must not break the scrape."""
    assert hour_text(0) == "1970-01-01T00"
    assert hour_text(10**9) == str(10**9)


def test_stages_and_triggers_are_counted() -> None:
    """Every stage and trigger is there from the start, at zero."""
    metrics = Metrics(lambda: EMPTY, CrashPoints())
    value = metrics.registry.get_sample_value
    assert {value("collector_flush_stage_seconds_total", {"stage": stage}) for stage in STAGES} == {0.0}
    metrics.flushed(replace(COMMITTED, trigger="size", stages_s={"put": 0.25}), 200.0)
    assert value("collector_flush_stage_seconds_total", {"stage": "put"}) == 0.25
    assert value("collector_flush_triggers_total", {"trigger": "size"}) == 1
    assert value("collector_flush_triggers_total", {"trigger": "age"}) == 0
