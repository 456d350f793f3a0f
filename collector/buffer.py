"""Accepted events on disk, from the 202 until their snapshot is known to have landed.

One writer thread owns all writes. Requests that arrive while it syncs share the next transaction (group commit);
their futures resolve after the sync. A partition is ``(event type, hour of event time)``; its fill counts what is
being stored, what waits, and what is in a flush that is not cleared yet.

A flush is frozen when it is sealed: the same flush id stands for the same events, in the same files, until it has
landed, whatever happens in between. At most one flush is outstanding.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import queue
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

import msgspec
import numpy as np

from collector.clock import Clock
from collector.cloudevents import HOUR_US, Event
from collector.crashpoints import NONE, CrashPoints
from collector.dedupe import Change, Hashes, Window, concatenate, hash_events
from collector.errors import BufferFull, BufferUnavailable
from collector.store import FileRef, Intent, NewRequest, Part, Poison, Progress, Store, open_database

log = logging.getLogger("collector.buffer")

Partition = tuple[str, int]

_GROUP_BYTES = 8 << 20
"""A transaction takes no more waiting requests beyond this size."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[Event]).decode


@dataclass(frozen=True, slots=True)
class PartitionState:
    """One partition: ``hour`` counts from the Unix epoch, ``fill_ratio`` is events / capacity."""

    type: str
    hour: int
    events: int
    bytes: int
    fill_ratio: float
    oldest_age_s: float


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


@dataclass(slots=True)
class _Waiting:
    id: int
    events: int
    bytes: int
    arrived: float  # Unix seconds, as stored
    since: float  # the same on the monotonic clock


@dataclass(slots=True)
class _Fill:
    waiting: deque[_Waiting] = field(default_factory=deque)
    events: int = 0
    bytes: int = 0
    storing: int = 0
    sealed_events: int = 0
    sealed_bytes: int = 0
    sealed_since: float = 0.0

    @property
    def total(self) -> int:
        return self.events + self.storing + self.sealed_events


@dataclass(slots=True)
class _Submission:
    requests: list[NewRequest]
    future: Future[None]


@dataclass(slots=True)
class _Task:
    work: Callable[[Store], Any]
    future: Future[Any]


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
        self._capacity = capacity_events
        self._max_partitions = max_partitions
        self._clock = clock
        self._crash = crash
        self._dedupes = dedupe_window_s > 0
        self._lock = threading.Lock()
        self._queue: queue.SimpleQueue[_Submission | _Task | None] = queue.SimpleQueue()
        self._fills: dict[Partition, _Fill] = {}
        self._flush: Flush | None = None
        self._last_seq = 0
        self._quarantined = 0
        self._next_id = 1
        self._deduplicated = 0
        self._syncs = 0
        self._failure: str | None = None
        self._closed = False
        self._watch: tuple[int, Callable[[], None]] | None = None
        self._lock_file = _lock_directory(path)
        try:
            self._writer = Store(open_database(path / "buffer.sqlite3"))
            self._crash("recovery.before_replay")
            self._reader = Store(open_database(path / "buffer.sqlite3"))
            with _translated(), _transaction(self._writer.conn):
                self.collector_id, self.epoch, self._hash_key = self._writer.begin_epoch(collector_id)
            with _translated():
                self._recover(dedupe_window_s, dedupe_max_events)
        except BaseException:
            self._lock_file.close()
            raise
        self._thread = threading.Thread(target=self._write_forever, name="buffer-writer", daemon=True)
        self._thread.start()

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
        self._reserve(groups)
        try:
            requests = [NewRequest(key[0], key[1], len(group), _encode(group)) for key, group in groups.items()]
        except BaseException:
            self._release([NewRequest(key[0], key[1], len(group), b"") for key, group in groups.items()])
            raise
        self._queue.put(_Submission(requests, future))
        return future

    def _reserve(self, groups: dict[Partition, list[Event]]) -> None:
        with self._lock:
            if self._failure or self._closed:
                raise BufferUnavailable(self._failure or "the buffer is closed")
            fresh = 0
            for key, group in groups.items():
                fill = self._fills.get(key)
                fresh += fill is None
                if (fill.total if fill else 0) + len(group) > self._capacity:
                    raise BufferFull(key)
            if fresh and len(self._fills) + fresh > self._max_partitions:
                key = next(key for key in groups if key not in self._fills)
                raise BufferFull(key, f"the buffer already holds {len(self._fills)} partitions, its limit")
            for key, group in groups.items():
                self._fills.setdefault(key, _Fill()).storing += len(group)

    def _release(self, requests: Sequence[NewRequest]) -> None:
        with self._lock:
            for request in requests:
                self._fills[request.type, request.hour].storing -= request.events
                self._drop_if_empty((request.type, request.hour))

    def snapshot(self) -> BufferState:
        """Describe the buffer; reads memory only."""
        now = self._clock.monotonic()
        with self._lock:
            partitions = tuple(self._partition_state(key, fill, now) for key, fill in self._fills.items())
            flush, failure = self._flush, self._failure
            undecided = (flush.id,) if flush and flush.progress.state == "intent" else ()
            counters = (self._deduplicated, self._quarantined, self._syncs)
        return BufferState(
            self._capacity,
            sum(p.events for p in partitions),
            sum(p.bytes for p in partitions),
            max((p.fill_ratio for p in partitions), default=0.0),
            max((p.oldest_age_s for p in partitions), default=0.0),
            partitions,
            undecided,
            *counters,
            failure,
        )

    def _partition_state(self, key: Partition, fill: _Fill, now: float) -> PartitionState:
        since = [fill.sealed_since] if fill.sealed_events else []
        since += [fill.waiting[0].since] if fill.waiting else []
        return PartitionState(
            key[0],
            key[1],
            fill.events + fill.sealed_events,
            fill.bytes + fill.sealed_bytes,
            fill.total / self._capacity,
            max(0.0, now - min(since)) if since else 0.0,
        )

    def quarantine(self) -> list[Poison]:
        """Return every quarantined event."""
        poison: list[Poison] = self._do(lambda store: store.poison())
        return poison

    def close(self) -> None:
        """Store what was submitted, then stop and release the directory. Idempotent."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        self._queue.put(None)
        self._thread.join()
        self._reader.conn.close()
        self._writer.conn.close()
        self._lock_file.close()

    # ------------------------------------------------------------------ the flusher

    @property
    def outstanding(self) -> Flush | None:
        """The flush that was sealed and is not cleared."""
        return self._flush

    @property
    def last_seq(self) -> int:
        """Sequence number of the newest flush this buffer has sealed, 0 before the first."""
        return self._last_seq

    def renew_identity(self) -> None:
        """Take a new collector id: flush ids made from now on cannot be those of another copy of this directory."""
        self.collector_id = self._do(lambda store: store.renew_identity())

    def watch(self, threshold_events: int, callback: Callable[[], None]) -> None:
        """Call ``callback`` (on the writer thread) when a partition reaches ``threshold_events`` waiting events."""
        self._watch = (threshold_events, callback)

    def due(self, threshold_events: int, max_age_s: float) -> tuple[list[Partition], float | None]:
        """Return the partitions to flush now, and otherwise the seconds until the next one is due by age."""
        now = self._clock.monotonic()
        keys: list[Partition] = []
        next_s: float | None = None
        with self._lock:
            for key, fill in self._fills.items():
                if not fill.waiting:
                    continue
                left = max_age_s - (now - fill.waiting[0].since)
                if fill.events >= threshold_events or left <= 0:
                    keys.append(key)
                else:
                    next_s = left if next_s is None else min(next_s, left)
        return keys, next_s

    def waiting(self) -> list[Partition]:
        """Partitions with events that are in no flush."""
        with self._lock:
            return [key for key, fill in self._fills.items() if fill.waiting]

    def seal(self, keys: Sequence[Partition]) -> Flush:
        """Freeze everything that waits in ``keys`` as one flush, and decide which events are duplicates.

        The flush, the dropped duplicates and the dedupe window change in one transaction.
        """
        if self._flush is not None:
            raise RuntimeError("a flush is outstanding")
        self._crash("flush.before_seal")
        with self._lock:
            taken = {key: list(self._fills[key].waiting) for key in keys}
            oldest = min((f.waiting[0].arrived for f in self._fills.values() if f.waiting), default=float("inf"))
        parts, change = self._deduplicate(taken, oldest)
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

        self._do(work)
        self._window.apply(change)
        flush = Flush(progress, tuple(parts))
        with self._lock:
            self._last_seq = seq
            self._flush = flush
            self._deduplicated += progress.deduplicated
            for part in parts:
                self._mark_sealed(part)
        self._crash("flush.after_seal")
        return flush

    def _deduplicate(self, taken: dict[Partition, list[_Waiting]], oldest: float) -> tuple[list[Part], Change]:
        if not self._dedupes:
            return [_part(key, waiting, []) for key, waiting in taken.items()], Change(None, ())
        hashes = [self._hash_part([w.id for w in waiting]) for waiting in taken.values()]
        everything = concatenate(hashes)
        repeated = self._window.duplicates(everything)
        fresh = Hashes(everything.high[~repeated], everything.low[~repeated])
        parts: list[Part] = []
        start = 0
        for key, waiting, hashed in zip(taken, taken.values(), hashes, strict=True):
            dropped = np.flatnonzero(repeated[start : start + len(hashed)]).tolist()
            parts.append(_part(key, waiting, dropped))
            start += len(hashed)
        return parts, self._window.plan(fresh, self._clock.time(), oldest)

    def _hash_part(self, ids: Sequence[int]) -> Hashes:
        hashes: list[Hashes] = []
        for (body, sound), events in zip(self._reader.bodies(ids), self._counts(ids), strict=True):
            decoded = _decode_sound(body) if sound else None
            hashes.append(_random_hashes(events) if decoded is None else hash_events(decoded, self._hash_key))
        return concatenate(hashes)

    def _counts(self, ids: Sequence[int]) -> Iterator[int]:
        for id_ in ids:
            yield self._reader.conn.execute("SELECT events FROM requests WHERE id=?", (id_,)).fetchone()[0]

    def read(self, part: Part) -> tuple[list[Event], list[Poison]]:
        """Read a part's events without its dropped duplicates; a damaged request is returned as poison."""
        with _translated():
            return self._read(part)

    def _read(self, part: Part) -> tuple[list[Event], list[Poison]]:
        dropped = set(part.dropped)
        events: list[Event] = []
        poison: list[Poison] = []
        position = 0
        for (body, sound), count in zip(self._reader.bodies(part.requests), self._counts(part.requests), strict=True):
            decoded = _decode_sound(body) if sound else None
            if decoded is None:
                poison.append(Poison(part.type, part.hour, f"a stored request of {count} events is damaged", body))
            elif dropped:
                events += [e for at, e in enumerate(decoded, position) if at not in dropped]
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

        flush = self._progress(flush, changed, work)
        with self._lock:
            self._quarantined += len(poison) if first else 0
        self._crash("data.after_record")
        return flush

    def record_intent(self, flush: Flush, intent: Intent) -> Flush:
        """Record the exact commit request, before it is sent."""
        changed = msgspec.structs.replace(
            flush.progress, state="intent", intent=intent, attempts=flush.progress.attempts + 1
        )
        flush = self._progress(flush, changed, lambda store: store.update_flush(changed))
        self._crash("intent.after_record")
        return flush

    def record_committed(self, flush: Flush, snapshot_id: int | None) -> Flush:
        """Record that the flush has landed (None: it had nothing to land)."""
        changed = msgspec.structs.replace(flush.progress, state="committed", snapshot_id=snapshot_id)

        def work(store: Store) -> None:
            store.update_flush(changed)
            self._crash("checkpoint.before_sync")

        flush = self._progress(flush, changed, work)
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

        self._do(work)
        with self._lock:
            self._flush = None
            for part in flush.parts:
                fill = self._fills[part.type, part.hour]
                fill.sealed_events -= part.events
                fill.sealed_bytes -= part.bytes
                self._drop_if_empty((part.type, part.hour))
        self._crash("clear.after")

    def _progress(self, flush: Flush, changed: Progress, work: Callable[[Store], None]) -> Flush:
        self._do(work)
        flush = replace(flush, progress=changed)
        with self._lock:
            self._flush = flush
        return flush

    # ------------------------------------------------------------------ memory

    def _mark_sealed(self, part: Part) -> None:
        fill = self._fills[part.type, part.hour]
        fill.sealed_since = fill.waiting[0].since
        for _ in part.requests:
            fill.waiting.popleft()
        fill.events -= part.events
        fill.bytes -= part.bytes
        fill.sealed_events += part.events
        fill.sealed_bytes += part.bytes

    def _drop_if_empty(self, key: Partition) -> None:
        if not self._fills[key].total:
            del self._fills[key]

    def _recover(self, window_s: float, max_hashes: int) -> None:
        self._window = Window(window_s, max_hashes, self._writer.dedupe_runs())
        self._last_seq = self._writer.meta("last_seq") or 0
        self._quarantined = self._writer.poison_count()
        offset = self._clock.time() - self._clock.monotonic()
        next_id = 1
        for stored in self._writer.requests():
            fill = self._fills.setdefault((stored.type, stored.hour), _Fill())
            since = min(stored.arrived - offset, self._clock.monotonic())  # never from the future
            fill.waiting.append(_Waiting(stored.id, stored.events, stored.bytes, stored.arrived, since))
            fill.events += stored.events
            fill.bytes += stored.bytes
            next_id = stored.id + 1
        self._crash("recovery.mid_replay")
        self._next_id = next_id
        for progress, parts in self._writer.flushes():
            self._flush = Flush(progress, tuple(parts))
            for part in parts:
                self._mark_sealed(part)

    # ------------------------------------------------------------------ the writer thread

    def _do(self, work: Callable[[Store], Any]) -> Any:
        """Run ``work`` in a transaction of its own on the writer thread and wait for the sync."""
        future: Future[Any] = Future()
        with self._lock:
            if self._failure or self._closed:
                raise BufferUnavailable(self._failure or "the buffer is closed")
            self._queue.put(_Task(work, future))
        return future.result()

    def _write_forever(self) -> None:
        while True:
            job = self._queue.get()
            if job is None:
                return
            if isinstance(job, _Task):
                self._run_task(job)
                continue
            following = self._store_group(job)
            if isinstance(following, _Task):
                self._run_task(following)
            elif following is None:
                return

    def _store_group(self, first: _Submission) -> _Submission | _Task | None:
        """Store ``first`` and what waits behind it; return the job that ended the group (``first``: the queue did)."""
        group = [first]
        size = 0
        following: _Submission | _Task | None = first
        while size < _GROUP_BYTES:
            try:
                job = self._queue.get_nowait()
            except queue.Empty:
                break
            if not isinstance(job, _Submission):
                following = job
                break
            group.append(job)
            size += sum(len(request.body) for request in job.requests)
        self._store_submissions(group)
        return following

    def _store_submissions(self, group: list[_Submission]) -> None:
        requests = [request for submission in group for request in submission.requests]
        arrived = self._clock.time()
        try:
            self._refuse_after_failure()
            self._crash("ingest.before_append")
            with _transaction(self._writer.conn):
                self._writer.insert_requests(self._next_id, requests, arrived)
                self._crash("ingest.after_append_before_sync")
        except BaseException as exc:  # the thread must outlive whatever a request does to it
            self._release(requests)
            _fail(group, self._translate(exc))
            return
        self._count_stored(requests, arrived)
        try:
            self._crash("ingest.after_sync_before_ack")
        except BaseException as exc:
            _fail(group, self._translate(exc))
            return
        for submission in group:
            submission.future.set_result(None)

    def _count_stored(self, requests: Sequence[NewRequest], arrived: float) -> None:
        now = self._clock.monotonic()
        reached = False
        with self._lock:
            self._syncs += 1
            for id_, request in enumerate(requests, self._next_id):
                fill = self._fills[request.type, request.hour]
                fill.storing -= request.events
                fill.events += request.events
                fill.bytes += len(request.body)
                fill.waiting.append(_Waiting(id_, request.events, len(request.body), arrived, now))
                reached |= self._watch is not None and fill.events >= self._watch[0]
        self._next_id += len(requests)
        if reached and self._watch is not None:
            self._watch[1]()

    def _run_task(self, task: _Task) -> None:
        try:
            self._refuse_after_failure()
            with _transaction(self._writer.conn):
                result = task.work(self._writer)
        except BaseException as exc:
            task.future.set_exception(self._translate(exc))
        else:
            task.future.set_result(result)

    def _refuse_after_failure(self) -> None:
        if self._failure:
            raise BufferUnavailable(self._failure)

    def _translate(self, exc: BaseException) -> BaseException:
        """Turn a failed write into a refusal; after an I/O error nothing is accepted any more.

        A failed sync may have dropped dirty pages, and a later sync would succeed without them
        (https://wiki.postgresql.org/wiki/Fsync_Errors), so only a restart, which reads the disk, may go on.
        """
        if not isinstance(exc, (sqlite3.Error, OSError, OverflowError)):
            return exc
        if _is_io_error(exc):
            self._failure = f"the buffer stopped after an I/O error ({exc}); check the disk and restart the collector"
            log.critical("%s", self._failure)
            return BufferUnavailable(self._failure)
        return BufferUnavailable(f"the buffer cannot store events: {exc}", retry_after_s=5)


def _part(key: Partition, waiting: Sequence[_Waiting], dropped: list[int]) -> Part:
    events, size = sum(w.events for w in waiting), sum(w.bytes for w in waiting)
    return Part(key[0], key[1], [w.id for w in waiting], events, size, dropped)


def _is_io_error(exc: Exception) -> bool:
    if isinstance(exc, sqlite3.Error):
        primary = getattr(exc, "sqlite_errorcode", 0) & 0xFF
        return primary in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
    return isinstance(exc, OSError) and exc.errno == 5  # EIO


def _fail(group: Sequence[_Submission], error: BaseException) -> None:
    for submission in group:
        submission.future.set_exception(error)


@contextlib.contextmanager
def _transaction(conn: sqlite3.Connection) -> Iterator[None]:
    conn.execute("BEGIN IMMEDIATE")
    try:
        yield
        conn.execute("COMMIT")
    except BaseException:
        if conn.in_transaction:
            with contextlib.suppress(sqlite3.Error):
                conn.execute("ROLLBACK")
        raise


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as exc:
        raise BufferUnavailable(f"the buffer cannot be read: {exc}") from exc


def _decode_sound(body: bytes) -> list[Event] | None:
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
