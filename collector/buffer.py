"""Accepted events on disk, from the 202 until their snapshot is known to have landed.

A flush is frozen when it is sealed: the same flush id stands for the same events, in the same files, until it has
landed, whatever happens in between. At most one flush is outstanding.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

from collector.clock import Clock
from collector.cloudevents import HOUR_US, Event
from collector.crashpoints import NONE, CrashPoints
from collector.dedupe import Change, Hashes, Window, concatenate, hash_events
from collector.errors import BufferUnavailable
from collector.fill import Fills, Partition, PartitionState, Waiting
from collector.store import FileRef, Intent, NewRequest, Part, Poison, Progress, Store, open_database
from collector.writer import Writer, transaction

T = TypeVar("T")
Chosen = Mapping[Partition, Sequence[Waiting]]

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[Event]).decode


@dataclass(frozen=True, slots=True)
class BufferState:
    """The buffer at one moment.

    Attributes:
        capacity_events: Capacity of each partition.
        events: Stored events that are not cleared, sealed ones included.
        bytes: Their encoded size.
        fill_ratio: The fullest partition's.
        oldest_age_s: Age of the oldest stored event, 0 when there is none.
        partitions: Those that hold anything.
        undecided: Ids of flushes whose commit was sent and is not known to have landed.
        deduplicated: Events dropped as duplicates since the process started.
        quarantined: Events in quarantine.
        syncs: Transactions synced for requests since the process started.
        discarded: Events that operators discarded, ever.
        failure: Why the buffer stopped for good, or None.
    """

    capacity_events: int
    events: int
    bytes: int
    fill_ratio: float
    oldest_age_s: float
    partitions: tuple[PartitionState, ...]
    undecided: tuple[str, ...]
    deduplicated: int
    quarantined: int
    syncs: int
    failure: str | None
    discarded: int = 0


@dataclass(frozen=True, slots=True)
class Flush:
    """A sealed flush: its progress and what it is made of."""

    progress: Progress
    parts: tuple[Part, ...]

    @property
    def events(self) -> int:
        """Events it keeps; dropped duplicates do not count."""
        return sum(part.events - len(part.dropped) for part in self.parts)

    @property
    def id(self) -> str:
        """``<collector>/<epoch>/<sequence>``."""
        return self.progress.flush_id


class Buffer:
    """The durable buffer.

    Args:
        path: Directory, created with mode 0700; one process at a time.
        capacity_events: Events a partition may hold.
        clock: Ages and stored times.
        crash: Armed crash points.
        max_partitions: Distinct partitions that may hold events at once.
        collector_id: Readable start of the id that is minted for a new directory. The id itself is never reused:
            a table remembers how far each one has come.
        dedupe_window_s: See ``dedupe.Window``; 0 keeps every event.
        dedupe_max_events: See ``dedupe.Window``; 16 bytes of memory and of disk each.

    Raises:
        ConfigError: The directory holds something else, or a newer version.
        BufferUnavailable: It is in use by another process, cannot be opened, or is damaged.
    """

    def __init__(
        self,
        path: Path,
        *,
        capacity_events: int,
        clock: Clock,
        crash: CrashPoints = NONE,
        max_partitions: int = 1024,
        collector_id: str = "",
        dedupe_window_s: float = 3600,
        dedupe_max_events: int = 10_000_000,
    ) -> None:
        self._clock = clock
        self._crash = crash
        self._fills = Fills(capacity_events, max_partitions)
        self.dedupes = dedupe_window_s > 0
        self.sealing = threading.RLock()
        """Held while waiting events become a flush or are discarded."""
        self._path = path
        self._flush: Flush | None = None
        self._deduplicated = 0
        self._mark = capacity_events + 1
        self._reached: Callable[[], None] = _nothing
        self._lock_file = _lock_directory(path)
        try:
            store = Store(open_database(path / "buffer.sqlite3"))
            self._reader = Store(open_database(path / "buffer.sqlite3", check=False))
            with _translated():
                next_id = self._recover(store, collector_id)
                self._window = Window(dedupe_window_s, dedupe_max_events, store.dedupe_runs())
        except BaseException:
            self._lock_file.close()
            raise
        self._conn = store.conn
        self._writer = Writer(
            store, next_id=next_id, clock=clock, crash=crash, stored=self._on_stored, refused=self._on_refused
        )

    def _recover(self, store: Store, collector_id: str) -> int:
        """Read back what a former process left; return the next request id."""
        self._crash("recovery.before_replay")
        with transaction(store.conn):
            self.collector_id, self.epoch, self._hash_key = store.begin_epoch(collector_id)
        self._last_seq: int = store.meta("last_seq") or 0
        self._quarantined = store.poison_count()
        self._discarded: int = store.meta("discarded_events") or 0
        highest = self._fills.recover(store.requests(), self._clock.time(), self._clock.monotonic())
        self._crash("recovery.mid_replay")
        for progress, parts in store.flushes():
            self._flush = Flush(progress, tuple(parts))
            self._fills.sealed(parts)
        # an id that a receipt of an export covers never stands for another request
        return max(highest, store.meta("exported_through") or 0) + 1

    # ------------------------------------------------------------------ clients

    def submit(self, events: Sequence[Event]) -> Future[None]:
        """Store all of ``events`` or none.

        Returns:
            A future that resolves once they are synced, or holds ``BufferUnavailable``.

        Raises:
            BufferFull: A partition they touch has no room, or there are too many partitions.
            BufferUnavailable: The buffer has failed or is closed.
        """
        future: Future[None] = Future()
        if not events:
            future.set_result(None)
            return future
        groups: dict[Partition, list[Event]] = {}
        for event in events:
            groups.setdefault((event.type, event.time_us // HOUR_US), []).append(event)
        counts = {key: len(group) for key, group in groups.items()}
        self._writer.check()
        self._fills.reserve(counts)
        try:
            requests = [NewRequest(key[0], key[1], len(group), _encode(group)) for key, group in groups.items()]
            self._writer.submit(requests, future)
        except BaseException:
            self._fills.release(counts)
            raise
        return future

    def snapshot(self) -> BufferState:
        """Describe the buffer; reads memory only."""
        partitions = self._fills.states(self._clock.monotonic())
        flush = self._flush
        return BufferState(
            capacity_events=self._fills.capacity,
            events=sum(p.events for p in partitions),
            bytes=sum(p.bytes for p in partitions),
            fill_ratio=max((p.fill_ratio for p in partitions), default=0.0),
            oldest_age_s=max((p.oldest_age_s for p in partitions), default=0.0),
            partitions=partitions,
            undecided=(flush.id,) if flush and flush.progress.state == "intent" else (),
            deduplicated=self._deduplicated,
            quarantined=self._quarantined,
            syncs=self._writer.syncs,
            failure=self._writer.failure,
            discarded=self._discarded,
        )

    # ------------------------------------------------------------------ backups

    @contextlib.contextmanager
    def view(self) -> Iterator[Store]:
        """Open the buffer as it is at this moment, for reading; what is written meanwhile is not seen."""
        with _translated():
            store = Store(open_database(self._path / "buffer.sqlite3", check=False))
            try:
                store.conn.execute("BEGIN")
                store.last_request()  # SQLite takes its view at the first read
                yield store
            finally:
                store.conn.close()

    def write(self, work: Callable[[Store], T]) -> T:
        """Run ``work`` in a synced transaction; raises ``BufferUnavailable``."""
        result: T = self._writer.do(work)
        return result

    def waiting_requests(self) -> dict[Partition, list[Waiting]]:
        """What is in no flush."""
        return self._fills.waiting()

    def discard(self, choose: Callable[[Store, Chosen], tuple[Chosen, T]]) -> T:
        """Delete waiting requests, in one transaction with whatever ``choose`` writes.

        Args:
            choose: Given all that waits; returns what of it to delete, and the result. It may raise: nothing is deleted.
        """

        def work(store: Store) -> tuple[Chosen, T]:
            chosen, result = choose(store, self._fills.waiting())
            for requests in chosen.values():
                store.delete_requests([one.id for one in requests])
            self._crash("admin.reset.after_truncate_before_checkpoint")
            return chosen, result

        with self.sealing:
            chosen, result = self._writer.do(work)
            self._fills.discarded(chosen)
            self._discarded += sum(one.events for requests in chosen.values() for one in requests)
        return result  # type: ignore[no-any-return]

    def learn_waiting(self, window: Window, after: int) -> int:
        """Add what waits in requests newer than ``after`` to ``window``; return the newest. Hold ``sealing``."""
        waiting = [one for requests in self._fills.waiting().values() for one in requests if one.id > after]
        if waiting:
            with _translated():  # on the flusher's connection, which ``sealing`` guards
                hashes = self._hash(sorted(waiting, key=lambda one: one.id))
            fresh = ~window.duplicates(hashes, 0)
            window.apply(window.plan(Hashes(hashes.high[fresh], hashes.low[fresh]), 0, 0))
        return max((one.id for one in waiting), default=after)

    def repeated(self, events: Sequence[Event], waiting: Window) -> npt.NDArray[np.bool_]:
        """Tell of each event whether it is sealed, in ``waiting``, or stands earlier in ``events``. Hold ``sealing``."""
        hashes = hash_events(events, self._hash_key)
        requests = self._fills.waiting().values()
        oldest = min((each[0].arrived for each in requests), default=self._clock.time())
        return self._window.duplicates(hashes, oldest) | waiting.duplicates(hashes, 0)

    def quarantine_replayed(self, poison: Sequence[Poison]) -> None:
        """Keep lines of a replay that are no events; those that are kept already are not kept twice."""
        self._quarantined += self._writer.do(
            lambda store: store.insert_new_poison("replay", poison, self._clock.time())
        )

    def close(self) -> None:
        """Store what was submitted, then stop and release the directory. Idempotent."""
        self._writer.close()
        self._reader.conn.close()
        self._conn.close()
        self._lock_file.close()

    def _on_stored(self, first_id: int, requests: list[NewRequest], arrived: float) -> None:
        if self._fills.stored(first_id, requests, arrived, self._clock.monotonic(), self._mark):
            self._reached()

    def _on_refused(self, requests: list[NewRequest]) -> None:
        counts: dict[Partition, int] = {}
        for request in requests:
            key = request.type, request.hour
            counts[key] = counts.get(key, 0) + request.events
        self._fills.release(counts)

    # ------------------------------------------------------------------ the flusher

    @property
    def outstanding(self) -> Flush | None:
        """The flush that was sealed and is not cleared."""
        return self._flush

    @property
    def last_seq(self) -> int:
        """Sequence number of the newest flush this buffer has sealed, 0 before the first."""
        return self._last_seq

    def watch(self, threshold_events: int, callback: Callable[[], None]) -> None:
        """Call ``callback`` (on the writer thread) when a partition reaches ``threshold_events`` waiting events."""
        self._mark, self._reached = threshold_events, callback

    def due(self, threshold_events: int, max_age_s: float) -> tuple[list[Partition], float | None]:
        """Return the partitions to flush now, and otherwise the seconds until the next one is due by age."""
        return self._fills.due(threshold_events, max_age_s, self._clock.monotonic())

    def waiting(self) -> list[Partition]:
        """Partitions with events that are in no flush."""
        return list(self._fills.waiting())

    def renew_identity(self) -> None:
        """Take a new collector id: flush ids made from now on cannot be those of another copy of this directory."""
        self.collector_id = self._writer.do(lambda store: store.renew_identity())

    def seal(self, keys: Sequence[Partition]) -> Flush:
        """Freeze everything that waits in ``keys`` as one flush, and decide which events are duplicates.

        The flush, the dropped duplicates and the dedupe window change in one transaction.
        """
        with self.sealing:
            return self._seal(keys)

    def _seal(self, keys: Sequence[Partition]) -> Flush:
        if self._flush is not None:
            raise RuntimeError("a flush is outstanding")
        self._crash("flush.before_seal")
        waiting = self._fills.waiting()
        oldest = min((requests[0].arrived for requests in waiting.values()), default=self._clock.time())
        with _translated():
            parts, change = self._deduplicate({key: waiting[key] for key in keys if key in waiting}, oldest)
        seq = self._last_seq + 1
        progress = Progress(
            flush_id=f"{self.collector_id}/{self.epoch}/{seq}",
            collector_id=self.collector_id,
            epoch=self.epoch,
            seq=seq,
            sealed_at=self._clock.time(),
            deduplicated=sum(len(part.dropped) for part in parts),
        )

        def work(store: Store) -> None:
            store.insert_flush(progress, parts)
            store.change_dedupe(change)
            store.set_meta("last_seq", seq)

        self._writer.do(work)
        self._window.apply(change)
        self._last_seq = seq
        self._flush = flush = Flush(progress, tuple(parts))
        self._deduplicated += progress.deduplicated
        self._fills.sealed(parts)
        self._crash("flush.after_seal")
        return flush

    def _deduplicate(self, taken: Mapping[Partition, list[Waiting]], oldest: float) -> tuple[list[Part], Change]:
        if not self.dedupes:
            return [_part(key, waiting, []) for key, waiting in taken.items()], Change(None, ())
        hashes = [self._hash(waiting) for waiting in taken.values()]
        everything = concatenate(hashes)
        repeated = self._window.duplicates(everything, oldest)
        fresh = Hashes(everything.high[~repeated], everything.low[~repeated])
        parts: list[Part] = []
        start = 0
        for key, waiting, hashed in zip(taken, taken.values(), hashes, strict=True):
            dropped = np.flatnonzero(repeated[start : start + len(hashed)]).tolist()
            parts.append(_part(key, waiting, dropped))
            start += len(hashed)
        return parts, self._window.plan(fresh, self._clock.time(), oldest)

    def _hash(self, waiting: Sequence[Waiting]) -> Hashes:
        hashes: list[Hashes] = []
        for count, body, sound in self._reader.bodies([w.id for w in waiting]):
            events = decode_sound(body) if sound else None
            hashes.append(_random_hashes(count) if events is None else hash_events(events, self._hash_key))
        return concatenate(hashes)

    def read(self, part: Part) -> tuple[list[Event], list[Poison]]:
        """Read a part's events without its dropped duplicates; a damaged request is returned as poison."""
        dropped = set(part.dropped)
        events: list[Event] = []
        poison: list[Poison] = []
        position = 0
        with _translated():
            for count, body, sound in self._reader.bodies(part.requests):
                decoded = decode_sound(body) if sound else None
                if decoded is None:
                    poison.append(Poison(part.type, part.hour, f"a stored request of {count} events is damaged", body))
                elif dropped:
                    events += [event for at, event in enumerate(decoded, position) if at not in dropped]
                else:
                    events += decoded
                position += count
        return events, poison

    def record_files(self, flush: Flush, files: Sequence[FileRef], poison: Sequence[Poison]) -> Flush:
        """Record that every data file is stored, and quarantine what could not become a row, in one transaction."""
        first = flush.progress.state == "sealed"  # written again after a restart: the quarantine has it already
        changed = msgspec.structs.replace(flush.progress, state="written", files=tuple(files), intent=None)

        def work(store: Store) -> None:
            store.update_flush(changed)
            if first:
                store.insert_poison(flush.id, poison, self._clock.time())

        flush = self._record(flush, changed, work)
        self._quarantined += len(poison) if first else 0
        self._crash("data.after_record")
        return flush

    def record_intent(self, flush: Flush, intent: Intent) -> Flush:
        """Record the exact commit request, before it is sent."""
        attempts = flush.progress.attempts + 1
        changed = msgspec.structs.replace(flush.progress, state="intent", intent=intent, attempts=attempts)
        flush = self._record(flush, changed, lambda store: store.update_flush(changed))
        self._crash("intent.after_record")
        return flush

    def record_committed(self, flush: Flush, snapshot_id: int | None) -> Flush:
        """Record that the flush has landed (None: it had nothing to land)."""
        changed = msgspec.structs.replace(flush.progress, state="committed", snapshot_id=snapshot_id)

        def work(store: Store) -> None:
            store.update_flush(changed)
            self._crash("checkpoint.before_sync")

        flush = self._record(flush, changed, work)
        self._crash("checkpoint.after_sync")
        return flush

    def clear(self, flush: Flush) -> None:
        """Delete a committed flush and its events."""

        def work(store: Store) -> None:
            for number, part in enumerate(flush.parts):
                store.delete_requests(part.requests)
                if number == 0:
                    self._crash("clear.mid")
            store.delete_flush(flush.progress.seq)

        self._writer.do(work)
        self._flush = None
        self._fills.cleared(flush.parts)
        self._crash("clear.after")

    def _record(self, flush: Flush, changed: Progress, work: Callable[[Store], None]) -> Flush:
        self._writer.do(work)
        self._flush = flush = replace(flush, progress=changed)
        return flush


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as exc:
        raise BufferUnavailable(f"the buffer cannot be read: {exc}") from exc


def _nothing() -> None:
    """Nobody watches."""


def _part(key: Partition, waiting: Sequence[Waiting], dropped: list[int]) -> Part:
    events, size = sum(w.events for w in waiting), sum(w.bytes for w in waiting)
    return Part(key[0], key[1], [w.id for w in waiting], events, size, dropped)


def decode_sound(body: bytes) -> list[Event] | None:
    """Decode a stored request; None when it is damaged."""
    try:
        return _decode(body)
    except (msgspec.DecodeError, msgspec.ValidationError):
        return None


def _random_hashes(count: int) -> Hashes:
    """Stand-ins for events that cannot be read: they repeat nothing."""
    columns = np.frombuffer(os.urandom(16 * count), dtype="<u8").reshape(2, -1)
    return Hashes(columns[0], columns[1])


def _lock_directory(path: Path) -> IO[bytes]:
    """Take the directory for this process; the kernel releases it when the process ends."""
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        file = (path / "lock").open("ab")
    except OSError as exc:
        raise BufferUnavailable(f"the buffer directory {path} cannot be used: {exc}") from exc
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as exc:
        file.close()
        raise BufferUnavailable(f"the buffer directory {path} is in use by another collector") from exc
    return file
