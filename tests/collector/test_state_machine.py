"""Any sequence of requests, flushes, crashes, restarts, outages, exports, resets and replays keeps every acked event, once."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

import hypothesis.strategies as st
import msgspec
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from collector.buffer import Buffer
from collector.cloudevents import Event
from collector.config import Limits
from collector.crashpoints import POINTS, CrashPoints
from collector.errors import NotAccepted, NotDiscarded, StoreUnavailable
from collector.flusher import Flusher
from collector.landed import Landed
from collector.lines import LineParser
from collector.store import Store, open_database
from collector.vault import Vault
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


PARSER = LineParser(Limits(), lambda: 0.0)


def _key(line: bytes) -> tuple[str, str]:
    event = json.loads(line)
    return event["source"], event["id"]


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
        self.discarded: set[tuple[str, str]] = set()
        self.backups: list[list[bytes]] = []
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
        self.discarded -= keys(batch)

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
    @rule(
        count=st.integers(0, 4), hour=st.integers(0, 2), ends=st.sampled_from(["early", "whole", "cleared", "replayed"])
    )
    def export(self, count: int, hour: int, ends: str) -> None:
        """A backup holds every acked event that the table lacks; it may be cut off, cleared by, and replayed at once."""
        if count:
            self.post(count, hour, again=False)
        if not self.running or not self._exported(cut_off=ends == "early"):
            return
        if ends in ("cleared", "replayed"):
            self.reset(which=-1)
        if ends == "replayed" and self.running:
            self.replay(which=-1, cut=0)

    def _exported(self, *, cut_off: bool) -> bool:
        chunks = self._vault().export()
        lines: list[bytes] = []
        try:
            for chunk in chunks:
                lines += chunk.splitlines()
                if cut_off:
                    return False
        except Killed:
            self._stop()
            return False
        except NotAccepted:
            return False
        finally:
            chunks.close()  # type: ignore[attr-defined]
        missing = self.acked - self.discarded - self.table.rows().keys()
        assert missing <= {_key(line) for line in lines[:-1]}
        self.backups = [*self.backups, lines][-3:]
        return True

    @precondition(lambda self: self.running and self.backups)
    @rule(which=st.integers(0, 2))
    def reset(self, which: int) -> None:
        """What is discarded is part of the export, and as much as it says."""
        lines = self.backups[which % len(self.backups)]
        receipt = json.loads(lines[-1])["receipt"]
        before, waited = self._buffered(), self.buffer.snapshot().events
        try:
            said = self._vault().reset(receipt=(receipt["events"], receipt["sha256"])).discarded.events
        except Killed:
            self._stop()
        except (NotAccepted, NotDiscarded):
            assert before == self._buffered()
        else:
            assert waited - self.buffer.snapshot().events == said
        gone = before - self._buffered()
        assert gone <= {_key(line) for line in lines[:-1]}
        self.discarded |= gone - self.table.rows().keys()

    @precondition(lambda self: self.running and self.backups)
    @rule(which=st.integers(0, 2), cut=st.integers(0, 9))
    def replay(self, which: int, cut: int) -> None:
        """Every line of a replay that was taken is owed again, whatever became of it before."""
        lines = self.backups[which % len(self.backups)]
        lines = lines[: len(lines) - cut] or lines
        try:
            replay = self._vault().replay()
            for first in range(0, len(lines), 3):
                replay.take(lines[first : first + 3])
                taken = {_key(line) for line in lines[first : first + 3] if not line.startswith(b'{"receipt"')}
                self.discarded -= taken
                self.acked |= taken
        except Killed:
            self._stop()
        except NotAccepted:
            return

    def _vault(self) -> Vault:
        landed = Landed(self._hour)
        return Vault(self.buffer, PARSER, clock=self.clock, crash=self.table.crash, landed=lambda: landed)

    def _hour(self, _hour: int) -> list[tuple[str, str]]:
        if self.table.catalog_down or self.table.store_down:
            raise StoreUnavailable("down")
        return list(self.table.rows())

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
        assert self.acked - self.discarded <= rows.keys() | self._buffered()

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
        assert self.acked - self.discarded <= rows.keys()
        assert all(count == 1 for count in rows.values())


TestCollectorMachine = CollectorMachine.TestCase
TestCollectorMachine.settings = settings(
    max_examples=60, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)
