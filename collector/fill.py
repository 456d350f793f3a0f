"""How full the buffer is: an index in memory of what is on disk, so that no client waits for SQL.

A partition is ``(event type, hour of event time)``. Its fill counts what is being stored, what waits, and what is
in a flush that is not cleared yet.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from collector.errors import BufferFull
from collector.store import NewRequest, Part, StoredRequest

Partition = tuple[str, int]


@dataclass(frozen=True, slots=True)
class PartitionState:
    """One partition: ``hour`` counts from the Unix epoch, ``fill_ratio`` is events / capacity."""

    type: str
    hour: int
    events: int
    bytes: int
    fill_ratio: float
    oldest_age_s: float


@dataclass(slots=True)
class Waiting:
    """A stored request that is in no flush: arrival in Unix seconds, and the same on the monotonic clock."""

    id: int
    events: int
    bytes: int
    arrived: float
    since: float


@dataclass(slots=True)
class _Fill:
    waiting: deque[Waiting] = field(default_factory=deque)
    events: int = 0
    bytes: int = 0
    storing: int = 0
    sealed_events: int = 0
    sealed_bytes: int = 0
    sealed_since: float = 0.0

    @property
    def total(self) -> int:
        return self.events + self.storing + self.sealed_events


class Fills:
    """The fill of every partition that holds something. Safe to use from several threads."""

    def __init__(self, capacity_events: int, max_partitions: int) -> None:
        self.capacity = capacity_events
        self._max_partitions = max_partitions
        self._lock = threading.Lock()
        self._fills: dict[Partition, _Fill] = {}

    def reserve(self, counts: Mapping[Partition, int]) -> None:
        """Make room for new events in all partitions or in none; raises ``BufferFull``."""
        with self._lock:
            fresh = 0
            for key, count in counts.items():
                fill = self._fills.get(key)
                fresh += fill is None
                if (fill.total if fill else 0) + count > self.capacity:
                    raise BufferFull(key)
            if fresh and len(self._fills) + fresh > self._max_partitions:
                key = next(key for key in counts if key not in self._fills)
                raise BufferFull(key, f"the buffer already holds {len(self._fills)} partitions, its limit")
            for key, count in counts.items():
                self._fills.setdefault(key, _Fill()).storing += count

    def release(self, counts: Mapping[Partition, int]) -> None:
        """Give back room that was reserved and not used."""
        with self._lock:
            for key, count in counts.items():
                self._fills[key].storing -= count
                self._drop_if_empty(key)

    def stored(self, first_id: int, requests: Sequence[NewRequest], arrived: float, since: float, mark: int) -> bool:
        """Turn reservations into waiting events; tell whether a partition reached ``mark`` by that."""
        reached = False
        with self._lock:
            for id_, request in enumerate(requests, first_id):
                fill = self._fills[request.type, request.hour]
                reached |= fill.events < mark <= fill.events + request.events
                fill.storing -= request.events
                self._wait(fill, Waiting(id_, request.events, len(request.body), arrived, since))
        return reached

    def recover(self, requests: Iterable[StoredRequest], wall_s: float, monotonic_s: float) -> int:
        """Index what a former process stored; return the highest request id."""
        highest = 0
        with self._lock:
            for stored in requests:
                since = monotonic_s - max(
                    0.0, wall_s - stored.arrived
                )  # a clock that jumped back makes nothing younger
                fill = self._fills.setdefault((stored.type, stored.hour), _Fill())
                self._wait(fill, Waiting(stored.id, stored.events, stored.bytes, stored.arrived, since))
                highest = stored.id
        return highest

    def waiting(self) -> dict[Partition, list[Waiting]]:
        """What is in no flush."""
        with self._lock:
            return {key: list(fill.waiting) for key, fill in self._fills.items() if fill.waiting}

    def due(self, mark: int, max_age_s: float, now: float) -> tuple[list[Partition], float | None]:
        """Return partitions with ``mark`` waiting events or one that old, else seconds until one is that old."""
        keys: list[Partition] = []
        next_s: float | None = None
        with self._lock:
            for key, fill in self._fills.items():
                if not fill.waiting:
                    continue
                left = max_age_s - (now - fill.waiting[0].since)
                if fill.events >= mark or left <= 0:
                    keys.append(key)
                else:
                    next_s = left if next_s is None else min(next_s, left)
        return keys, next_s

    def sealed(self, parts: Iterable[Part]) -> None:
        """Move what waits into a flush."""
        with self._lock:
            for part in parts:
                fill = self._fills[part.type, part.hour]
                fill.sealed_since = fill.waiting[0].since
                for _ in part.requests:
                    fill.waiting.popleft()
                fill.events -= part.events
                fill.bytes -= part.bytes
                fill.sealed_events += part.events
                fill.sealed_bytes += part.bytes

    def cleared(self, parts: Iterable[Part]) -> None:
        """Forget a flush."""
        with self._lock:
            for part in parts:
                fill = self._fills[part.type, part.hour]
                fill.sealed_events -= part.events
                fill.sealed_bytes -= part.bytes
                self._drop_if_empty((part.type, part.hour))

    def discarded(self, chosen: Mapping[Partition, Sequence[Waiting]]) -> None:
        """Forget waiting requests."""
        with self._lock:
            for key, requests in chosen.items():
                fill, gone = self._fills[key], {request.id for request in requests}
                fill.waiting = deque(one for one in fill.waiting if one.id not in gone)
                fill.events -= sum(request.events for request in requests)
                fill.bytes -= sum(request.bytes for request in requests)
                self._drop_if_empty(key)

    def states(self, now: float) -> tuple[PartitionState, ...]:
        """Describe every partition."""
        with self._lock:
            return tuple(self._state(key, fill, now) for key, fill in self._fills.items())

    def _state(self, key: Partition, fill: _Fill, now: float) -> PartitionState:
        since = [fill.sealed_since] if fill.sealed_events else []
        since += [fill.waiting[0].since] if fill.waiting else []
        age_s = max(0.0, now - min(since)) if since else 0.0
        events, size = fill.events + fill.sealed_events, fill.bytes + fill.sealed_bytes
        return PartitionState(key[0], key[1], events, size, fill.total / self.capacity, age_s)

    @staticmethod
    def _wait(fill: _Fill, waiting: Waiting) -> None:
        fill.waiting.append(waiting)
        fill.events += waiting.events
        fill.bytes += waiting.bytes

    def _drop_if_empty(self, key: Partition) -> None:
        if not self._fills[key].total:
            del self._fills[key]
