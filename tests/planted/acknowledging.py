"""Planted bugs between a client's request and the buffer; each is the naive collector with one difference."""

from __future__ import annotations

import json
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.planted.naive import events_of, refuse, rows_of

CONNECTIONS_MAX = 40
WORKERS = 20
ROOM_EVENTS = 300
"""Three times what waits for a flush in half a second of a micro-scenario's traffic."""
LATE_S = 0.8
FRESH = timedelta(seconds=2)


def blackhole(naive: Any) -> None:
    """Say 202 and keep nothing; wrong without any fault."""

    class Discard(list[Any]):
        def extend(self, rows: Any) -> None:
            """Lose them."""

    naive.buffer = Discard()


def twice(naive: Any) -> None:
    """Store every event twice; wrong without any fault."""
    one = naive.Handler.answer

    def answer(self: Any, status: int, body: bytes = b"{}") -> None:
        if status == 202:
            with naive.lock:
                naive.buffer.extend(naive.buffer[-1:])
        one(self, status, body)

    naive.Handler.answer = answer


def always_503(naive: Any) -> None:
    """Refuse everything, as the contract allows; it proves nothing."""
    naive.Handler.do_POST = refuse


def expires(naive: Any) -> None:
    """Acknowledge events that are older than two seconds and drop them, as if nobody wanted them any more."""

    def do_post(self: Any) -> None:
        events = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        oldest = datetime.now(UTC) - FRESH
        rows = rows_of([event for event in events if datetime.fromisoformat(event["time"]) > oldest])
        with naive.lock:
            naive.buffer.extend(rows)
        self.answer(202)

    naive.Handler.do_POST = do_post


def reads_once(naive: Any) -> None:
    """Take the first piece of a request for all of it, and acknowledge it all the same."""

    def do_post(self: Any) -> None:
        length = int(self.headers["Content-Length"])
        piece = self.rfile.read1(length)
        try:
            rows = rows_of(json.loads(piece))
        except ValueError:
            rows = []
        with naive.lock:
            naive.buffer.extend(rows)
        self.rfile.read(length - len(piece))
        self.answer(202)

    naive.Handler.do_POST = do_post


def leaks_connections(naive: Any) -> None:
    """Count open connections, forget to count those that ended, and refuse above forty."""
    seen = {"open": 0}
    begin, end = naive.Handler.setup, naive.Handler.do_POST

    def setup(self: Any) -> None:
        begin(self)
        seen["open"] += 1

    naive.Handler.setup = setup
    naive.Handler.do_POST = lambda self: end(self) if seen["open"] <= CONNECTIONS_MAX else refuse(self)


def waits_for_ever(naive: Any) -> None:
    """Read requests with twenty workers, each of which waits for a whole body, even from a client that has closed."""
    workers, one = threading.BoundedSemaphore(WORKERS), naive.Handler.do_POST

    class Whole:
        def __init__(self, stream: Any) -> None:
            self._stream = stream

        def read(self, length: int) -> bytes:
            body = b""
            while len(body) < length:
                piece = self._stream.read1(length - len(body))
                body += piece
                if not piece:  # the end of the stream, which it takes for a pause
                    time.sleep(0.05)
            return body

    def do_post(self: Any) -> None:
        if not workers.acquire(blocking=False):
            refuse(self)
            return
        stream, self.rfile = self.rfile, Whole(self.rfile)
        try:
            one(self)
        finally:
            self.rfile = stream
            workers.release()

    naive.Handler.do_POST = do_post


def late_to_answer(naive: Any) -> None:
    """Store at once and answer most of a second later; what is sent again meanwhile is stored again."""
    one = naive.Handler.answer

    def answer(self: Any, status: int, body: bytes = b"{}") -> None:
        if status == 202:
            time.sleep(LATE_S)
        one(self, status, body)

    naive.Handler.answer = answer


def stores_what_fits(naive: Any) -> None:
    """Acknowledge a request of which only the first events had room."""

    def do_post(self: Any) -> None:
        rows = events_of(self)
        with naive.lock:
            naive.buffer.extend(rows[: max(0, ROOM_EVENTS - len(naive.buffer))])
        self.answer(202)

    naive.Handler.do_POST = do_post


def drops_oldest(naive: Any) -> None:
    """Make room for new events by dropping the oldest, without a word."""

    class Ring(list[Any]):
        def extend(self, rows: Any) -> None:
            super().extend(rows)
            del self[: max(0, len(self) - ROOM_EVENTS)]

    naive.buffer = Ring()
