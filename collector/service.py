"""The parts of a running collector that its listeners share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from collector.clock import Clock
from collector.config import Config
from collector.crashpoints import CrashPoints
from collector.errors import Draining, Overloaded
from collector.telemetry import Metrics

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence
    from concurrent.futures import Future

    from collector.buffer import BufferState
    from collector.cloudevents import Event
    from collector.flusher import FlushResult


class Submits(Protocol):
    """What the ingest listener asks of a buffer; see ``buffer.Buffer``."""

    def submit(self, events: Sequence[Event]) -> Future[None]:
        """Store all of ``events`` or none."""
        ...

    def snapshot(self) -> BufferState:
        """Describe the buffer."""
        ...


class Flushes(Protocol):
    """What the admin listener asks of a flusher; see ``flusher.Flusher``."""

    def request_flush(self) -> Future[list[FlushResult]]:
        """Flush everything now."""
        ...


@dataclass
class Service:
    """Shared state of the two listeners, on the event loop's thread; only ``table`` is set by the flusher's thread.

    Attributes:
        config: The whole configuration.
        buffer: Where accepted events go.
        metrics: Counters.
        clock: Arrival times and rate limits.
        crash: Armed crash points.
        flusher: Resolves once the flusher has started.
        draining: No new events are taken.
        table: What the last attempt to flush said about the table, for a person.
    """

    config: Config
    buffer: Submits
    metrics: Metrics
    clock: Clock
    crash: CrashPoints
    flusher: Awaitable[Flushes]
    draining: bool = False
    table: str = "not asked yet"
    in_flight: int = field(default=0)

    def enter(self) -> None:
        """Begin a request that may store events; raises ``Draining`` or ``Overloaded``."""
        if self.draining:
            raise Draining("the collector is shutting down", retry_after_s=2)
        if self.in_flight >= self.config.limits.concurrent_requests:
            raise Overloaded(f"{self.in_flight} requests are in flight, as many as allowed")
        self.in_flight += 1

    def leave(self) -> None:
        """End a request that ``enter`` let in."""
        self.in_flight -= 1

    def why_not_ready(self) -> str | None:
        """Return the reason for refusing events, or None."""
        if self.draining:
            return "draining"
        failure = self.buffer.snapshot().failure
        return f"the buffer has failed: {failure}" if failure else None
