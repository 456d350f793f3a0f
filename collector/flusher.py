"""From the buffer to the table: one thread, one flush at a time.

A flush is sealed, its data files are stored, its commit request is recorded and then sent. Whatever is not a clean
confirmation leaves it undecided, and it settles itself:

* The table is read afresh. If the flush is part of main, it has landed.
* If main still is where the request expects it, the identical request is sent again; it can be applied once at most.
* If main has moved on, the old request can never be applied, and a new one is built on the new head.

Its events leave the buffer once everything that its snapshot refers to was seen to be stored. What somebody has deleted meanwhile,
as a clean-up of orphans does during a long outage, is stored again at the same place: before a request is repeated, and after it landed.

An undecided flush holds back later flushes of this collector, never its ingest. Attempts go on for ever, with full
jitter up to ``max_backoff_s``.
"""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

from collector.buffer import Buffer, Flush
from collector.clock import Clock
from collector.config import FlushPolicy, MaintenanceConfig
from collector.crashpoints import NONE, CrashPoints
from collector.encode import to_rows
from collector.errors import CollectorError, CommitUnknown, NotAccepted, StoreUnavailable
from collector.store import FileRef, Part, Poison
from collector.table import Table, TableView, snapshot_id_of

log = logging.getLogger("collector.flusher")

Outcome = Literal["committed", "failed", "undecided"]


@dataclass(frozen=True, slots=True)
class FlushResult:
    """One attempt at a flush.

    Attributes:
        flush_id: ``<collector>/<epoch>/<sequence>``.
        outcome: ``committed``; ``failed``: nothing landed, it will be tried again; ``undecided``: it may have
            landed, it will be looked up.
        snapshot_id: Its snapshot, also before it exists; None when the flush holds no rows.
        files: Paths of its data files, as far as they are stored.
        events: Rows it adds.
        deduplicated: Events it dropped as duplicates.
        duration_s: Of this attempt.
        trigger: Why it was due: ``size``, ``age``, ``request`` (an operator, or shutdown) or ``retry``.
        stages_s: How long each stage of ``collector.telemetry.STAGES`` took.
        error: One sentence when it is not committed.
    """

    flush_id: str
    outcome: Outcome
    snapshot_id: int | None
    files: tuple[str, ...]
    events: int
    deduplicated: int
    duration_s: float
    error: str | None = None
    trigger: str = ""
    stages_s: Mapping[str, float] = field(default_factory=dict)


class Flusher:
    """Flushes what is due, settles what is undecided, expires old snapshots.

    Args:
        buffer: Where the events are.
        table: Where they go.
        policy: When they go.
        clock: Durations and backoff.
        on_result: Called on the flusher's thread after each attempt.
        crash: Armed crash points.
        maintenance: When snapshots are expired.
        max_backoff_s: Upper bound of the wait between attempts.
        rng: Jitter.
    """

    def __init__(
        self,
        buffer: Buffer,
        table: Table,
        *,
        policy: FlushPolicy,
        clock: Clock,
        on_result: Callable[[FlushResult], None] = lambda _result: None,
        crash: CrashPoints = NONE,
        maintenance: MaintenanceConfig | None = None,
        max_backoff_s: float = 10.0,
        rng: random.Random | None = None,
    ) -> None:
        self._buffer = buffer
        self._table = table
        self._threshold = max(1, int(policy.size_events * policy.flush_at))
        self._max_age_s = policy.timeout_ms / 1000
        self._clock = clock
        self._on_result = on_result
        self._crash = crash
        self._maintenance = maintenance or MaintenanceConfig()
        self._max_backoff_s = max_backoff_s
        self._rng = rng or random.Random()  # jitter, not a secret
        self._failures = 0
        self._not_before = 0.0
        self._next_expiry = clock.monotonic()
        self._view: TableView | None = None
        self._stages_s: dict[str, float] = {}
        self._requests: list[Future[list[FlushResult]]] = []
        self._wake = threading.Condition()
        self._woken = False
        self._hurry = False
        self._stopping = False
        self._thread: threading.Thread | None = None
        buffer.watch(self._threshold, self._notify)

    # ------------------------------------------------------------------ control

    def start(self) -> None:
        """Start the thread."""
        self._thread = threading.Thread(target=self._run, name="flusher", daemon=True)
        self._thread.start()

    def request_flush(self) -> Future[list[FlushResult]]:
        """Flush everything now.

        The future resolves when the attempts are decided: with one result per flush, ``failed`` ones included
        (those are tried again later). An undecided flush is settled first.
        """
        future: Future[list[FlushResult]] = Future()
        with self._wake:
            self._requests.append(future)
            self._hurry = True
        self._notify()
        return future

    def drain(self, deadline_s: float) -> bool:
        """Flush until the buffer is empty or the deadline passes; tell whether it is empty."""
        deadline = self._clock.monotonic() + deadline_s
        pause = threading.Event()  # never set: a wait that new events do not cut short
        while self._buffer.outstanding or self._buffer.waiting():
            self._crash("shutdown.while_draining")
            left = deadline - self._clock.monotonic()
            if left <= 0:
                return False
            try:
                self.request_flush().result(timeout=left)
            except TimeoutError:
                return False
            except CollectorError as exc:
                log.warning("draining: %s", exc)
                pause.wait(min(0.5, left))
            else:
                if self._buffer.outstanding:
                    pause.wait(min(0.5, left))
        return True

    def stop(self) -> None:
        """End the thread after the step it is in; what is not flushed stays in the buffer."""
        with self._wake:
            self._stopping = True
        self._notify()
        if self._thread is not None:
            self._thread.join(timeout=30)
        self._resolve([], CollectorError("the collector is shutting down"))

    def _notify(self) -> None:
        with self._wake:
            self._woken = True
            self._wake.notify_all()

    def _run(self) -> None:
        while True:
            with self._wake:
                if self._stopping:
                    return
                if not self._woken:
                    self._wake.wait(self.next_wait_s())
                self._woken = False
                if self._stopping:
                    return
            try:
                self.step()
            except NotAccepted as exc:  # the buffer cannot record progress (disk full): try again, nothing is lost
                self._fail_softly(exc)
            except Exception as exc:  # a flush must never end the thread: the buffer would fill for ever
                log.exception("unexpected error in the flusher")
                self._fail_softly(exc)

    def _fail_softly(self, exc: Exception) -> None:
        log.error("flush step failed: %s", exc)
        self._back_off()
        self._resolve([], exc)

    def next_wait_s(self) -> float:
        """Seconds until there is something to do, at most one."""
        if self._buffer.outstanding:
            wait = self._not_before - self._clock.monotonic()
        else:
            keys, next_s = self._buffer.due(self._threshold, self._max_age_s)
            wait = self._not_before - self._clock.monotonic() if keys else (1.0 if next_s is None else next_s)
        return min(max(wait, 0.0), 1.0)

    # ------------------------------------------------------------------ one step

    def step(self) -> list[FlushResult]:
        """Do what is due now, synchronously; return the attempts made. The thread calls nothing else."""
        with self._wake:
            requested, hurry, self._hurry = bool(self._requests), self._hurry, False
        results: list[FlushResult] = []
        if hurry:
            self._not_before = 0.0  # an operator asked: no waiting out the backoff
        if self._clock.monotonic() < self._not_before:
            return results
        if self._buffer.outstanding:
            results.append(self._attempt(self._buffer.outstanding, "retry"))
        if not self._buffer.outstanding:
            keys = self._buffer.waiting() if requested else self._buffer.due(self._threshold, self._max_age_s)[0]
            if keys and self._view_is_known(results):
                trigger = "request" if requested else self._trigger()
                results.append(self._attempt(self._buffer.seal(keys), trigger))
        if not self._buffer.outstanding:
            self._expire()
        if requested and not any(r.outcome == "undecided" for r in results):
            self._resolve(results)
        return results

    def _view_is_known(self, results: list[FlushResult]) -> bool:
        """Seal nothing before the table was seen once; see ``_refresh``."""
        if self._view is not None:
            return True
        started = self._clock.monotonic()
        try:
            self._refresh()
        except StoreUnavailable as exc:
            self._back_off()
            result = FlushResult("", "failed", None, (), 0, 0, self._clock.monotonic() - started, str(exc))
            self._report(result)
            results.append(result)
            return False
        return True

    def _refresh(self) -> TableView:
        self._view = self._table.refresh()
        if self._view.watermarks.get(self._buffer.collector_id, 0) > self._buffer.last_seq:
            # the directory is an older copy of one whose flushes have landed: its numbers are taken
            log.warning("the buffer directory is an old copy; the collector takes a new identity")
            self._buffer.renew_identity()
        return self._view

    def _trigger(self) -> str:
        return "size" if self._buffer.due(self._threshold, float("inf"))[0] else "age"

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        started = self._clock.monotonic()
        try:
            yield
        finally:
            self._stages_s[stage] = self._stages_s.get(stage, 0.0) + self._clock.monotonic() - started

    def _attempt(self, flush: Flush, trigger: str) -> FlushResult:
        started = self._clock.monotonic()
        self._stages_s = {}
        error: str | None = None
        try:
            flush = self._advance(flush)
            outcome: Outcome = "committed"
        except CommitUnknown as exc:
            outcome, error = "undecided", str(exc)
        except (StoreUnavailable, OSError) as exc:
            sent = (self._buffer.outstanding or flush).progress.state in ("intent", "committed")
            outcome, error = ("undecided" if sent else "failed"), str(exc)
        flush = self._buffer.outstanding or flush
        if outcome == "committed":
            self._failures, self._not_before = 0, 0.0
        else:
            self._back_off()
        result = FlushResult(
            flush_id=flush.id,
            outcome=outcome,
            snapshot_id=snapshot_id_of(flush.id) if flush.progress.files or error else None,
            files=tuple(file.path for file in flush.progress.files),
            events=sum(file.rows for file in flush.progress.files) if flush.progress.files else flush.events,
            deduplicated=flush.progress.deduplicated,
            duration_s=self._clock.monotonic() - started,
            error=error,
            trigger=trigger,
            stages_s=self._stages_s,
        )
        self._report(result)
        return result

    def _advance(self, flush: Flush) -> Flush:
        """Take a flush from wherever it is to cleared, or raise."""
        if flush.progress.state != "committed":
            flush = self._land(flush)
        self._keep_stored(flush)
        with self._timed("checkpoint"):
            self._buffer.clear(flush)
        return flush

    def _land(self, flush: Flush) -> Flush:
        again = self._view is None or self._failures > 0 or flush.progress.state == "intent"
        if again:
            with self._timed("load_table"):
                view = self._refresh()
            self._crash("settle.after_load")
            if view.landed(flush.progress):
                return self._buffer.record_committed(flush, snapshot_id_of(flush.id))
            intent = flush.progress.intent
            if intent is not None and view.uuid == intent.table_uuid and view.head == intent.parent:
                self._keep_stored(flush)
                return self._send(flush)
            # main has moved past the request's parent, or the table is another one: the request is dead
        flush = self._write(flush)
        if not flush.progress.files:
            return self._buffer.record_committed(flush, None)
        with self._timed("manifests"):
            intent = self._table.prepare(flush.progress, flush.progress.files, flush.progress.attempts)
        with self._timed("checkpoint"):
            flush = self._buffer.record_intent(flush, intent)
        if again:
            self._keep_stored(flush)
        return self._send(flush)

    def _write(self, flush: Flush) -> Flush:
        """Store the data files, unless this process has done so already."""
        progress = flush.progress
        if progress.state != "sealed" and self._table.has(progress.files) and progress.files:
            return flush
        files: list[FileRef] = []
        poison: list[Poison] = []
        for number, part in enumerate(flush.parts):
            file, refused = self._write_part(flush, number, part)
            files += [file] if file else []
            poison += refused
        with self._timed("checkpoint"):
            return self._buffer.record_files(flush, files, poison)

    def _write_part(self, flush: Flush, number: int, part: Part) -> tuple[FileRef | None, list[Poison]]:
        with self._timed("encode"):
            events, damaged = self._buffer.read(part)
            rows, poison = to_rows(events)
        for one in (refused := damaged + poison):
            log.error("event of type %r quarantined: %s", one.type, one.reason)
        if not rows.num_rows:
            return None, refused
        self._crash("put.before")
        with self._timed("put"):
            file = self._table.write(flush.progress, number, rows)
        self._crash("put.after")
        return file, refused

    def _keep_stored(self, flush: Flush) -> None:
        """Store again what somebody has deleted: before its commit, no reference keeps a file from a clean-up of orphans."""
        with self._timed("verify"):
            missing = self._table.missing(flush.progress)
            if missing:
                log.error("objects of flush %s are gone; stored again: %s", flush.id, ", ".join(sorted(missing)))
                self._table.put_back(
                    flush.progress, missing, lambda number: to_rows(self._buffer.read(flush.parts[number])[0]).table
                )

    def _send(self, flush: Flush) -> Flush:
        assert flush.progress.intent is not None
        with self._timed("commit"):
            self._table.commit(flush.progress, flush.progress.intent)
        self._crash("commit.after_response")
        with self._timed("checkpoint"):
            return self._buffer.record_committed(flush, snapshot_id_of(flush.id))

    def _expire(self) -> None:
        """Expire snapshots when there are too many; a failure waits out a minute, since nothing depends on it."""
        if self._view is None or self._clock.monotonic() < self._next_expiry:
            return
        try:
            expired = self._table.expire(self._maintenance, self._clock.time())
        except (CollectorError, OSError) as exc:
            log.warning("snapshots were not expired: %s", exc)
            self._view = None  # read the table again before anything builds on it
            self._next_expiry = self._clock.monotonic() + 60
        else:
            if expired:
                log.info("expired %d snapshots", expired)

    def _back_off(self) -> None:
        self._failures += 1
        ceiling = min(self._max_backoff_s, 0.25 * 2 ** min(self._failures, 16))
        self._not_before = self._clock.monotonic() + self._rng.uniform(0.05, ceiling)

    def _report(self, result: FlushResult) -> None:
        if result.outcome != "committed":
            log.warning("flush %s %s: %s", result.flush_id, result.outcome, result.error)
        self._on_result(result)

    def _resolve(self, results: Sequence[FlushResult], error: Exception | None = None) -> None:
        with self._wake:
            requests, self._requests = self._requests, []
        for request in requests:
            if not request.set_running_or_notify_cancel():
                continue
            if error is not None:
                request.set_exception(error)
            else:
                request.set_result(list(results))
