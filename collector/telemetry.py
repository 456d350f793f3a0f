"""Metrics in Prometheus text and logs as one JSON object a line."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import IO, TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from collector.crashpoints import CrashPoints

if TYPE_CHECKING:
    from collector.buffer import BufferState
    from collector.fill import PartitionState
    from collector.flusher import FlushResult

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"
PARTITION_SERIES_MAX = 50
"""The fullest partitions are exported one by one, up to this many: event types are chosen by clients."""

REASONS = ("invalid", "too_large", "too_slow", "buffer_full", "buffer_unavailable", "overloaded", "draining")
OUTCOMES = ("committed", "failed", "undecided")
TRIGGERS = ("size", "age", "request", "retry")
STAGES = ("load_table", "encode", "put", "manifests", "commit", "verify", "checkpoint")
"""In the order of a flush: read the table, read and decode events, store data files, store manifests, ask the catalog, see that all
of it is still stored, note it down."""
_DURATION_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_VERSION = "0.1.0"

log = logging.getLogger("collector")

disable_created_metrics()  # type: ignore[no-untyped-call]


def hour_text(hour: int) -> str:
    """Return an hour since the Unix epoch as ``2026-11-24T22``; the number itself where a calendar has no name."""
    try:
        return datetime.fromtimestamp(hour * 3600, UTC).strftime("%Y-%m-%dT%H")
    except (ValueError, OverflowError, OSError):
        return str(hour)


class Metrics:
    """The collector's metrics.

    Args:
        state: Describes the buffer; None while there is none.
        crash: Its hits are exported.
    """

    def __init__(self, state: Callable[[], BufferState | None], crash: CrashPoints) -> None:
        self.registry = CollectorRegistry()
        self._accepted = Counter(
            "collector_events_accepted", "Events answered with 202, on disk and synced.", registry=self.registry
        )
        self._refused = Counter(
            "collector_events_refused", "Refused requests, by reason.", ["reason"], registry=self.registry
        )
        self._flushes = Counter(
            "collector_flushes", "Attempts to flush, by outcome.", ["outcome"], registry=self.registry
        )
        self._duration = Histogram(
            "collector_flush_duration_seconds",
            "Duration of an attempt to flush.",
            buckets=_DURATION_BUCKETS,
            registry=self.registry,
        )
        self._stages = Counter(
            "collector_flush_stage_seconds", "Time that flushes spent, by stage.", ["stage"], registry=self.registry
        )
        self._triggers = Counter(
            "collector_flush_triggers", "Attempts to flush, by what made them due.", ["trigger"], registry=self.registry
        )
        for stage in STAGES:
            self._stages.labels(stage)
        for trigger in TRIGGERS:
            self._triggers.labels(trigger)
        for reason in REASONS:
            self._refused.labels(reason)
        for outcome in OUTCOMES:
            self._flushes.labels(outcome)
        self.last_commit_s = 0.0
        self.registry.register(_BufferMetrics(state, crash, self))

    def accepted(self, events: int) -> None:
        """Count events that were answered with 202."""
        self._accepted.inc(events)

    def refused(self, reason: str) -> None:
        """Count a refused request; ``reason`` is one of ``REASONS``."""
        self._refused.labels(reason).inc()

    def flushed(self, result: FlushResult, now_s: float) -> None:
        """Count an attempt to flush; ``now_s`` is Unix time."""
        self._flushes.labels(result.outcome).inc()
        self._duration.observe(result.duration_s)
        if result.trigger:
            self._triggers.labels(result.trigger).inc()
        for stage, seconds in result.stages_s.items():
            self._stages.labels(stage).inc(seconds)
        if result.outcome == "committed":
            self.last_commit_s = now_s

    def text(self) -> bytes:
        """Return the exposition."""
        return generate_latest(self.registry)


class _BufferMetrics(Collector):
    """Reads the buffer when it is scraped, so that no gauge can be stale."""

    def __init__(self, state: Callable[[], BufferState | None], crash: CrashPoints, metrics: Metrics) -> None:
        self._state = state
        self._crash = crash
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        """Yield every metric that is read and not counted."""
        yield _labelled("collector_build_info", "Version of the collector.", {"version": _VERSION})
        hits = CounterMetricFamily("collector_crashpoint_hits", "Times a crash point was passed.", labels=["point"])
        for point, count in sorted(self._crash.hits.items()):
            hits.add_metric([point], count)
        yield hits
        if self._metrics.last_commit_s:
            yield _gauge(
                "collector_last_commit_timestamp_seconds", "Last confirmed commit.", self._metrics.last_commit_s
            )
        state = self._state()
        if state is not None:
            yield from _buffer_families(state)


def _buffer_families(state: BufferState) -> Iterable[Metric]:
    yield _gauge("collector_buffer_fill_ratio", "Fill of the fullest partition, 0 to 1.", state.fill_ratio)
    yield _gauge("collector_buffer_events", "Events on disk that are not known to be in the table.", state.events)
    yield _gauge("collector_buffer_bytes", "Their size as stored.", state.bytes)
    yield _gauge("collector_buffer_capacity_events", "Capacity of one partition.", state.capacity_events)
    yield _gauge("collector_oldest_event_age_seconds", "Age of the oldest buffered event.", state.oldest_age_s)
    yield _gauge("collector_undecided_flushes", "Flushes that may or may not be in the table.", len(state.undecided))
    yield _counter("collector_events_deduplicated", "Events dropped as duplicates.", state.deduplicated)
    yield _counter("collector_events_quarantined", "Events kept aside that cannot be encoded.", state.quarantined)
    yield _counter("collector_events_discarded", "Events that operators discarded by a reset.", state.discarded)
    yield _counter("collector_buffer_syncs", "Syncs of the buffer for requests.", state.syncs)
    fills = GaugeMetricFamily(
        "collector_partition_fill_ratio", "Fill of the fullest partitions.", labels=["type", "hour"]
    )
    for partition in fullest(state.partitions, PARTITION_SERIES_MAX):
        fills.add_metric([partition.type, hour_text(partition.hour)], partition.fill_ratio)
    yield fills


def fullest(partitions: Sequence[PartitionState], count: int) -> list[PartitionState]:
    """Return the ``count`` fullest partitions, fullest first."""
    return sorted(partitions, key=lambda partition: (-partition.fill_ratio, partition.type, partition.hour))[:count]


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value=value)


def _counter(name: str, text: str, value: float) -> CounterMetricFamily:
    return CounterMetricFamily(name, text, value=value)


def _labelled(name: str, text: str, labels: dict[str, str]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=list(labels))
    family.add_metric(list(labels.values()), 1)
    return family


class JsonFormatter(logging.Formatter):
    """Formats a record as one JSON object; ``extra={"fields": {...}}`` adds members.

    Args:
        secrets: Texts that must not appear; they are replaced, wherever they come from.
    """

    def __init__(self, secrets: Sequence[str] = ()) -> None:
        super().__init__()
        self._secrets = [form for secret in secrets if len(secret) >= 4 for form in {secret, json.dumps(secret)[1:-1]}]

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without its newline."""
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        document: dict[str, Any] = {
            "time": moment.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            document["exception"] = self.formatException(record.exc_info)
        line = json.dumps(document, default=str)
        for secret in self._secrets:
            line = line.replace(secret, "[redacted]")
        return line


def configure_logging(secrets: Sequence[str], stream: IO[str] | None = None) -> None:
    """Send every log record of the process to ``stream`` (standard error) as JSON lines."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter(secrets))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    logging.getLogger("pyiceberg").setLevel(logging.WARNING)
    logging.raiseExceptions = False


def fill_percent(state: BufferState | None) -> float | None:
    """Return the fill of the fullest partition in percent, None without a buffer."""
    return None if state is None else round(state.fill_ratio * 100, 1)


def log_buffer(state: BufferState | None) -> None:
    """Write the periodic line."""
    if state is None:
        return
    log.info("buffer", extra={"fields": {**_buffer_fields(state), "undecided": list(state.undecided)}})


def log_flush(result: FlushResult, state: BufferState | None) -> None:
    """Write the one line of an attempt to flush."""
    committed = result.outcome == "committed"
    fields: dict[str, Any] = {
        "flush_id": result.flush_id,
        "outcome": result.outcome,
        "snapshot_id": result.snapshot_id,
        "files": len(result.files),
        "events": result.events,
        "deduplicated": result.deduplicated,
        "duration_s": round(result.duration_s, 3),
        "trigger": result.trigger,
        "stages_s": {stage: round(seconds, 3) for stage, seconds in result.stages_s.items()},
        **(_buffer_fields(state) if state else {}),
    }
    if result.error:
        fields["error"] = result.error
    log.log(
        logging.INFO if committed else logging.ERROR,
        "flush committed" if committed else "flush failed",
        extra={"fields": fields},
    )


def _buffer_fields(state: BufferState) -> dict[str, Any]:
    return {
        "buffer_fill_rate": fill_percent(state),
        "buffer_events": state.events,
        "oldest_event_age_s": round(state.oldest_age_s, 3),
    }
