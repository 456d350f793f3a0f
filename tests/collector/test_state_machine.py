"""Any sequence of requests, flushes, crashes, restarts and outages keeps every acked event, once."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import hypothesis.strategies as st
import msgspec
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from collector.buffer import Buffer
from collector.cloudevents import Event
from collector.crashpoints import POINTS, CrashPoints
from collector.errors import NotAccepted
from collector.flusher import Flusher
from collector.store import Store, open_database
from tests.collector.keep_support import (
    DirectoryTable,
    Killed,
    ManualClock,
    event,
    flush_until_empty,
    keys,
    make_buffer,
    make_flusher,
)

OUTCOMES = ["ok", "refused", "applied", "lost", "held", "twice"]


def _die(point: str) -> None:
    raise Killed(point)


class CollectorMachine(RuleBasedStateMachine):
    """A collector beside a model of what it owes: the set of acked events."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="collector-machine-"))
        self.clock = ManualClock()
        self.table = DirectoryTable(self.root / "table")
        self.acked: set[tuple[str, str]] = set()
        self.sent = 0
        self.foreign = 0
        self.buffer: Buffer
        self.flusher: Flusher
        self.running = False

    @initialize()
    def start(self) -> None:
        self._start("")

    def _start(self, faults: str) -> None:
        crash = CrashPoints.parse(faults)
        crash.kill = _die
        self.table.crash = crash
        self.table._known.clear()  # a new process knows no files
        try:
            self.buffer = make_buffer(self.root / "buffer", self.clock, crash, capacity_events=60)
        except Killed:
            return
        self.flusher = make_flusher(self.buffer, self.table, self.clock, crash)
        self.running = True

    def _stop(self) -> None:
        self.running = False
        self.buffer.close()

    # ---- what happens to it

    @precondition(lambda self: self.running)
    @rule(count=st.integers(1, 8), hour=st.integers(0, 2), again=st.booleans())
    def post(self, count: int, hour: int, again: bool) -> None:
        first = max(0, self.sent - 5) if again else self.sent
        batch = [event(number, hour=hour) for number in range(first, first + count)]
        self.sent = max(self.sent, first + count)
        try:
            self.buffer.submit(batch).result(timeout=10)
        except NotAccepted:
            return
        except Killed:
            self._stop()
            return
        self.acked |= keys(batch)

    @precondition(lambda self: self.running)
    @rule(seconds=st.integers(1, 40), asked=st.booleans())
    def step(self, seconds: int, asked: bool) -> None:
        self.clock.advance(seconds)
        if asked:
            self.flusher.request_flush()
        try:
            self.flusher.step()
        except NotAccepted:
            pass
        except Killed:
            self._stop()

    @precondition(lambda self: self.running)
    @rule()
    def kill(self) -> None:
        self._stop()

    @precondition(lambda self: not self.running)
    @rule(point=st.sampled_from(["", *POINTS]), nth=st.integers(1, 3))
    def restart(self, point: str, nth: int) -> None:
        self._start(f"{point}=kill@{nth}" if point else "")

    @rule(outcome=st.sampled_from(OUTCOMES))
    def next_commit(self, outcome: str) -> None:
        self.table.script.append(outcome)

    @rule(catalog=st.booleans(), store=st.booleans())
    def outage(self, catalog: bool, store: bool) -> None:
        self.table.catalog_down, self.table.store_down = catalog, store

    @rule()
    def stale_answers(self) -> None:
        self.table.stale_views = 1

    @rule()
    def foreign_commit(self) -> None:
        self.foreign += 1
        self.table.foreign_commit(f"foreign-{self.foreign}")

    @rule()
    def foreign_expiry(self) -> None:
        self.table.expire_everything()

    # ---- what must hold

    @invariant()
    def nothing_acked_is_missing(self) -> None:
        rows = self.table.rows()
        assert all(count == 1 for count in rows.values()), rows
        assert self.acked <= rows.keys() | self._buffered()

    def _buffered(self) -> set[tuple[str, str]]:
        if not (self.root / "buffer" / "buffer.sqlite3").exists():
            return set()
        conn = open_database(self.root / "buffer" / "buffer.sqlite3", check=False)
        store = Store(conn)
        bodies = store.bodies([request.id for request in store.requests()])
        found = {key for _, body, _ in bodies for key in keys(msgspec.msgpack.decode(body, type=list[Event]))}
        conn.close()
        return found

    def teardown(self) -> None:
        try:
            self._settle()
        finally:
            if self.running:
                self._stop()
            shutil.rmtree(self.root)

    def _settle(self) -> None:
        """Heal, restart, drain: then everything acked is in the table."""
        if self.running:
            self._stop()
        self.table.catalog_down = self.table.store_down = False
        self.table.stale_views = 0
        self.table.script.clear()
        self._start("")
        flush_until_empty(self.buffer, self.flusher, self.clock)
        rows = self.table.rows()
        assert self.acked <= rows.keys()
        assert all(count == 1 for count in rows.values())


TestCollectorMachine = CollectorMachine.TestCase
TestCollectorMachine.settings = settings(
    max_examples=60, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)
