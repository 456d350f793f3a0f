"""The one thread that writes to the buffer file.

Requests that arrive while it syncs share the next transaction (group commit). A request's future resolves after
the sync that covers it. After an I/O error nothing is written any more.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from collector.clock import Clock
from collector.crashpoints import CrashPoints
from collector.errors import BufferUnavailable, BufferUncertain
from collector.store import NewRequest, Store

log = logging.getLogger("collector.buffer")

GROUP_BYTES = 8 << 20
"""A transaction takes no more waiting requests beyond this size."""


@dataclass(slots=True)
class _Submission:
    requests: list[NewRequest]
    future: Future[None]


@dataclass(slots=True)
class _Task:
    work: Callable[[Store], Any]
    future: Future[Any]


class Writer:
    """Owns a store's connection.

    Args:
        store: Where to write; used by this thread only, until ``close`` returns.
        next_id: Id of the next request.
        clock: Arrival times.
        crash: Armed crash points.
        stored: Called after a sync with the first id, the requests and their arrival, before futures resolve.
        refused: Called with requests that were not stored.
    """

    def __init__(
        self,
        store: Store,
        *,
        next_id: int,
        clock: Clock,
        crash: CrashPoints,
        stored: Callable[[int, list[NewRequest], float], None],
        refused: Callable[[list[NewRequest]], None],
    ) -> None:
        self._store = store
        self._next_id = next_id
        self._clock = clock
        self._crash = crash
        self._stored = stored
        self._refused = refused
        self._queue: queue.SimpleQueue[_Submission | _Task | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._closed = False
        self.failure: str | None = None
        self.syncs = 0
        self._thread = threading.Thread(target=self._run, name="buffer-writer", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raise ``BufferUnavailable`` when nothing can be written any more."""
        if self.failure or self._closed:
            raise BufferUnavailable(self.failure or "the buffer is closed")

    def submit(self, requests: list[NewRequest], future: Future[None]) -> None:
        """Store requests; ``future`` resolves after the sync or holds ``BufferUnavailable``."""
        self._put(_Submission(requests, future))

    def do(self, work: Callable[[Store], Any]) -> Any:
        """Run ``work`` in a transaction of its own, wait for the sync and return its result."""
        future: Future[Any] = Future()
        self._put(_Task(work, future))
        return future.result()

    def close(self) -> None:
        """Store what was submitted and end the thread. Idempotent."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._queue.put(None)
        self._thread.join()

    def _put(self, job: _Submission | _Task) -> None:
        with self._lock:  # nothing may follow the end mark
            self.check()
            self._queue.put(job)

    def _run(self) -> None:
        job: _Submission | _Task | _Empty | None = _Empty()
        while job is not None:
            if isinstance(job, _Submission):
                group, job = self._gather(job)
                self._store_group(group)
                continue
            if isinstance(job, _Task):
                self._run_task(job)
            job = self._queue.get()

    def _gather(self, first: _Submission) -> tuple[list[_Submission], _Submission | _Task | _Empty | None]:
        """Collect the submissions that wait; also return the job that follows them."""
        group = [first]
        size = 0
        while size < GROUP_BYTES:
            try:
                job = self._queue.get_nowait()
            except queue.Empty:
                break
            if not isinstance(job, _Submission):
                return group, job
            group.append(job)
            size += sum(len(request.body) for request in job.requests)
        return group, _Empty()

    def _store_group(self, group: list[_Submission]) -> None:
        requests = [request for submission in group for request in submission.requests]
        arrived = self._clock.time()
        try:
            self._refuse_after_failure()
            self._crash("ingest.before_append")
            with transaction(self._store.conn):
                self._store.insert_requests(self._next_id, requests, arrived)
                self._crash("ingest.after_append_before_sync")
        except BaseException as exc:  # the thread must outlive whatever a request does to it
            self._refused(requests)
            self._fail(group, exc, undecided=_is_io_error(exc))
            return
        self.syncs += 1
        self._stored(self._next_id, requests, arrived)
        self._next_id += len(requests)
        try:
            self._crash("ingest.after_sync_before_ack")
        except BaseException as exc:
            self._fail(group, exc)
            return
        for submission in group:
            submission.future.set_result(None)

    def _run_task(self, task: _Task) -> None:
        try:
            self._refuse_after_failure()
            with transaction(self._store.conn):
                result = task.work(self._store)
        except BaseException as exc:
            task.future.set_exception(self._translate(exc))
        else:
            task.future.set_result(result)

    def _refuse_after_failure(self) -> None:
        if self.failure:
            raise BufferUnavailable(self.failure)

    def _fail(self, group: list[_Submission], exc: BaseException, *, undecided: bool = False) -> None:
        error = self._translate(exc)
        if undecided:
            # The rows may have reached the log before its sync failed, and a restart would find them.
            error = BufferUncertain(f"whether the events were stored is not known: {error}")
        for submission in group:
            submission.future.set_exception(error)

    def _translate(self, exc: BaseException) -> BaseException:
        """Turn a failed write into a refusal; after an I/O error nothing is accepted any more.

        A failed sync may have dropped dirty pages, and a later sync would succeed without them
        (https://wiki.postgresql.org/wiki/Fsync_Errors), so only a restart, which reads the disk, may go on.
        """
        if not isinstance(exc, (sqlite3.Error, OSError, OverflowError)):
            return exc
        if _is_io_error(exc):
            self.failure = f"the buffer stopped after an I/O error ({exc}); check the disk and restart the collector"
            log.critical("%s", self.failure)
            return BufferUnavailable(self.failure)
        return BufferUnavailable(f"the buffer cannot store events: {exc}", retry_after_s=5)


class _Empty:
    """Nothing waits in the queue."""


def _is_io_error(exc: BaseException) -> bool:
    if isinstance(exc, sqlite3.Error):
        primary = getattr(exc, "sqlite_errorcode", 0) & 0xFF
        return primary in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
    return isinstance(exc, OSError) and exc.errno == errno.EIO


@contextlib.contextmanager
def transaction(conn: sqlite3.Connection) -> Iterator[None]:
    """Commit at the end, roll back on any exception."""
    conn.execute("BEGIN IMMEDIATE")
    try:
        yield
        conn.execute("COMMIT")
    except BaseException:
        if conn.in_transaction:
            with contextlib.suppress(sqlite3.Error):
                conn.execute("ROLLBACK")
        raise
