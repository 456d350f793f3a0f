"""How many requests of the target or its clients fell into a span of time: from gateway.jsonl and the ledgers."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

from chaos.trigger import Trigger
from loadtests.records.jsonl import JsonlTail
from loadtests.records.ledger import Kind, Outcome, Record, read_ledgers
from loadtests.records.rundir import RunDir

PROBE_PREFIX = "/icequake-probe"
POLL_S = 0.05
UNWANTED = (Kind.POISON, Kind.OVER_LIMIT)
"""Requests that a target is to refuse."""


class RequestsSeen:
    """Follow the gateway's log of a run and answer questions about it; safe to call from several threads."""

    def __init__(self, run: RunDir) -> None:
        self._run = run
        self._tail = JsonlTail(run.gateway_log)
        self._lines: list[dict[str, Any]] = []
        self._lock = threading.Lock()

    def _refresh(self) -> list[dict[str, Any]]:
        with self._lock:
            new = self._tail.read()
            self._lines += [line for line in new if not str(line.get("path", "")).startswith(PROBE_PREFIX)]
            return self._lines

    def on_path(self, upstream: str, since_ns: int, until_ns: int) -> int:
        """Return how many requests were open on *upstream* (`r2`, `catalog`; `ingest`: client attempts) in the span."""
        if upstream == "ingest":
            return self._attempts(since_ns, until_ns)
        return sum(
            line["upstream"] == upstream and _overlaps(line, since_ns, until_ns)
            for line in list(self._refresh())
            if not line.get("begin") and not line.get("released")
        )

    def count(self, trigger: Trigger, since_ns: int) -> int:
        """Return how many requests that *trigger* names have begun since *since_ns*."""
        numbers = {
            line["n"]
            for line in list(self._refresh())
            if line["object"] == trigger.object
            and not line.get("released")  # its time is that of the sending on, not of the arrival
            and trigger.verb in (None, line["verb"])
            and int(line["t_ns"]) >= since_ns
        }
        return len(numbers)

    def wait_for(self, trigger: Trigger, since_ns: int, stop: threading.Event) -> bool:
        """Wait until *trigger* has come; False when *stop* was set first."""
        while self.count(trigger, since_ns) < trigger.nth:
            if stop.wait(POLL_S):
                return False
        return True

    def disturbed(self, since_ns: int, until_ns: int) -> int:
        """Return how many client attempts ended in the span without an acknowledgement, those left out that must not get one."""
        hit = 0
        for ledger in read_ledgers(self._run.ledger):
            records = ledger.records
            done = records[records["record"] == Record.DONE]
            in_span = (done["done_ns"] >= since_ns) & (done["done_ns"] <= until_ns) & (done["sent_ns"] > 0)
            wanted = ~np.isin(done["kind"], UNWANTED)
            hit += int((in_span & wanted & (done["outcome"] != Outcome.ACKED)).sum())
        return hit

    def _attempts(self, since_ns: int, until_ns: int) -> int:
        total = 0
        for ledger in read_ledgers(self._run.ledger):
            sent = ledger.records[ledger.records["record"] == Record.ATTEMPT]["sent_ns"]
            total += int(((sent >= since_ns) & (sent <= until_ns)).sum())
        return total


def _overlaps(line: dict[str, Any], since_ns: int, until_ns: int) -> bool:
    begun = int(line["t_ns"])
    ended = begun + int(float(line.get("ms") or 0) * 1e6)
    return begun <= until_ns and ended >= since_ns
