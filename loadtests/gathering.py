"""The master's side of workers on other machines: it gathers their records, and writes down what a lost one may have sent.

See `loadtests.remote` for the messages. Which workers joined, were lost and came back stands in `workers.jsonl`, for workers on
this machine too: {"t_ns", "worker", "state": joined | lost | back, "process"}.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gevent
import numpy as np
import numpy.typing as npt

from loadtests.records.identity import twin_of
from loadtests.records.jsonl import JsonlWriter
from loadtests.records.ledger import RECORD, LedgerWriter, Outcome, Record, read_ledgers
from loadtests.records.rundir import RunDir
from loadtests.remote import CLOCK, FINISH, LEASE, RECORDS, SHIPPED

KIND = "workers"
COMPLETE_S = 30.0
"""How long the last records of workers that are there are waited for."""
RETRIES_S = 120.0
"""An event that was refused this long before its worker was lost may have been sent again, and accepted."""
WATCH_S = 1.0
COUNT_MAX = 2**32 - 1
_PATH = re.compile(r"^(ledger|hist|status|series)/locust-([0-9]{1,5})[a-z0-9.-]*$")


@dataclass
class _Worker:
    """What the master knows of one worker elsewhere."""

    producer: int
    upto: int = 0
    told_ns: int = field(default_factory=time.monotonic_ns)


class Gathering:
    """Answers workers, and keeps their records in the run directory of the test that goes on.

    Args:
        runner: Locust's master.
        producer_of: Gives the producer of a worker's node id.
    """

    def __init__(self, runner: Any, producer_of: Callable[[str], int]) -> None:
        self._runner, self._producer_of = runner, producer_of
        self._run: RunDir | None = None
        self._log: JsonlWriter | None = None
        self._away: dict[str, _Worker] = {}
        self._states: dict[str, str] = {}
        self._shipped: set[str] = set()
        for name, handle in (
            (CLOCK, self._clock),
            (LEASE, self._lease),
            (RECORDS, self._records),
            (SHIPPED, self._done),
        ):
            runner.register_message(name, handle)
        gevent.spawn(self._watch_forever)

    def begin(self, run: RunDir) -> None:
        """A test begins, recorded in *run*."""
        self._away, self._states, self._shipped = {}, {}, set()
        self._log = JsonlWriter(run.root / "workers.jsonl", KIND, run.info.run_id)
        self._run = run
        self.watch()

    def end(self) -> None:
        """Let every worker end, wait for the last records, and write down what a lost one may have sent. Idempotent."""
        if self._run is None:
            return
        self._runner.send_message(FINISH, {"run": self._run.info.run_id})
        self.watch()
        deadline = time.monotonic() + COMPLETE_S
        while self._owing() and time.monotonic() < deadline:
            gevent.sleep(0.05)
            self.watch()
        for node, worker in self._away.items():
            if node not in self._shipped:
                declare_unknown(self._run, worker.producer, worker.upto, worker.told_ns)
        self._run = None
        if self._log is not None:
            self._log.close()

    def _owing(self) -> bool:
        return any(state != "lost" and node not in self._shipped for node, state in self._states.items())

    # -- who is there

    def _watch_forever(self) -> None:
        while True:
            gevent.sleep(WATCH_S)
            self.watch()

    def watch(self) -> None:
        """Write down who joined, was lost or came back since the last look."""
        if self._run is None:
            return
        clients = {client.id: client.state for client in self._runner.clients.all}
        for node in {*clients, *self._states}:
            # Locust forgets a worker for a moment when it stops, and after a minute of silence for good.
            present = clients.get(node)
            lost = present == "missing" or (present is None and self._states[node] == "lost")
            now = "lost" if lost else "there"
            before = self._states.get(node)
            if now != before:
                self._states[node] = now
                self._note(node, {None: "joined", "lost": "back"}.get(before, now) if now == "there" else "lost")

    def _note(self, node: str, state: str) -> None:
        assert self._log is not None
        producer = self._producer_of(node)
        entry = {"t_ns": time.monotonic_ns(), "worker": producer, "state": state, "process": f"locust-{producer}"}
        self._log.append(entry)

    # -- messages

    def _clock(self, msg: Any, **_: Any) -> None:
        answer = {"t": msg.data["t"], "master_ns": time.monotonic_ns()}
        self._runner.send_message(CLOCK, answer, client_id=msg.node_id)

    def _ours(self, msg: Any) -> bool:
        return self._run is not None and msg.data.get("run") == self._run.info.run_id

    def _worker(self, node: str) -> _Worker:
        return self._away.setdefault(node, _Worker(self._producer_of(node)))

    def _lease(self, msg: Any, **_: Any) -> None:
        if self._ours(msg):
            worker = self._worker(msg.node_id)
            worker.upto = max(worker.upto, int(msg.data["upto"]))
            answer = {"run": msg.data["run"], "upto": worker.upto}
            self._runner.send_message(LEASE, answer, client_id=msg.node_id)

    def _records(self, msg: Any, **_: Any) -> None:
        if not self._ours(msg):
            return
        assert self._run is not None
        worker = self._worker(msg.node_id)
        match = _PATH.match(str(msg.data["path"]))
        if match is None or int(match[2]) != worker.producer:
            return  # a worker writes its own records only
        worker.told_ns = time.monotonic_ns()
        size = write_at(self._run.root / match[0], int(msg.data["offset"]), bytes(msg.data["data"]))
        answer = {"run": msg.data["run"], "path": match[0], "size": size}
        self._runner.send_message(RECORDS, answer, client_id=msg.node_id)

    def _done(self, msg: Any, **_: Any) -> None:
        if self._ours(msg):
            self._shipped.add(msg.node_id)


def write_at(path: Path, offset: int, data: bytes) -> int:
    """Append *data*, which begins at *offset* of the file; return how many bytes the file has then.

    What is there already stays as it is, and what would leave a gap is not written.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        size = os.fstat(handle).st_size
        if offset <= size < offset + len(data):
            size += os.pwrite(handle, data[size - offset :], size)
        return size
    finally:
        os.close(handle)


def declare_unknown(run: RunDir, producer: int, upto: int, told_ns: int) -> None:
    """Write a ledger that says of every event a lost worker may have sent without our knowing: attempted, no answer known.

    Args:
        upto: Sequences below this may have been sent.
        told_ns: When its last records came.
    """
    held = [
        ledger.records for ledger in read_ledgers(run.ledger) if ledger.header.get("process") == f"locust-{producer}"
    ]
    records = np.concatenate(held) if held else np.empty(0, RECORD)
    twin = twin_of(producer)
    both = (producer, twin) if (records["producer"] == twin).any() else (producer,)
    again = [(of, *events) for of in both for events in _in_doubt(records, of, upto, told_ns)]
    if not again:
        return
    process = f"locust-{producer}-lost"
    writer = LedgerWriter(run.ledger / f"{process}.ledger", run_id=run.info.run_id, process=process)
    for of, first, count in again:
        # Attempt 0: which one it would have been is not known, and it says nothing about the schedule.
        writer.attempt(producer=of, first=first, count=count, intended_ns=told_ns, sent_ns=told_ns, attempt=0)
    writer.close()


def _in_doubt(records: npt.NDArray[np.void], producer: int, upto: int, told_ns: int) -> list[tuple[int, int]]:
    """Return (first, count) of events that may have been sent, or sent again, after the last records came."""
    own = records[(records["producer"] == producer) & (records["count"] > 0)]
    after = int((own["first"] + own["count"]).max()) if len(own) else 0
    refused = own[(own["record"] == Record.DONE) & (own["outcome"] == Outcome.REFUSED)]
    recent = refused[refused["done_ns"] > told_ns - int(RETRIES_S * 1e9)]
    again = sorted({(int(row["first"]), int(row["count"])) for row in recent})
    return [*again, (after, min(upto - after, COUNT_MAX))] if upto > after else again
