"""Planted bugs between the buffer and a commit; each is the naive collector with one difference."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

from tests.planted.naive import append, cleared, flushes_by, refreshed, taken, waiting

IMPATIENT_S = 1.0


def stuck(naive: Any) -> None:
    """Stop flushing for good after the first flush that held something; wrong without any fault."""

    def attempt(table: Any, rows: list[dict[str, str]]) -> bool:
        append(naive, table, rows)
        cleared(naive, rows)
        return False

    flushes_by(naive, attempt, take=waiting)


def gives_up(naive: Any) -> None:
    """Drop a batch whose flush failed."""

    def attempt(table: Any, rows: list[dict[str, str]]) -> bool:
        try:
            append(naive, table, rows)
        except Exception as error:
            print(f"flush failed, dropped: {error!r}", flush=True)
            refreshed(table)
        return True

    flushes_by(naive, attempt, take=taken)


def dies(naive: Any) -> None:
    """End the flushing thread at the first failure; go on acknowledging."""

    def attempt(table: Any, rows: list[dict[str, str]]) -> bool:
        try:
            append(naive, table, rows)
        except Exception as error:
            print(f"flush failed, thread ends: {error!r}", flush=True)
            return False
        cleared(naive, rows)
        return True

    flushes_by(naive, attempt, take=waiting)


def impatient(naive: Any) -> None:
    """Take a commit that needed more than a second for one that failed, and commit again."""

    def flush_forever(table: Any) -> None:
        while True:
            rows = taken(naive)
            while rows:
                started = time.monotonic()
                try:
                    append(naive, table, rows)
                    if time.monotonic() - started > IMPATIENT_S:
                        append(naive, table, rows)
                    break
                except Exception as error:
                    print(f"flush failed, trying again: {error!r}", flush=True)
                    refreshed(table)

    naive.flush_forever = flush_forever


def wall_clock(naive: Any) -> None:
    """Plan the next flush by the wall clock."""

    def take(naive: Any) -> list[dict[str, str]]:
        due = time.time() + naive.TIMEOUT_S
        while time.time() < due:
            time.sleep(0.05)
        with naive.lock:
            return list(naive.buffer)

    def attempt(table: Any, rows: list[dict[str, str]]) -> bool:
        try:
            append(naive, table, rows)
        except Exception as error:
            print(f"flush failed, trying again: {error!r}", flush=True)
            refreshed(table)
        else:
            cleared(naive, rows)
        return True

    flushes_by(naive, attempt, take=take)


def flushes_race(naive: Any) -> None:
    """Let whoever asks for a flush commit what waits, although the timer may be committing the same; each is right alone."""
    post = naive.Handler.do_POST

    def attempt(table: Any, rows: list[dict[str, str]]) -> bool:
        try:
            append(naive, table, rows)
        except Exception as error:
            print(f"flush failed, trying again: {error!r}", flush=True)
            refreshed(table)
            return True
        done = {id(row) for row in rows}
        with naive.lock:
            naive.buffer[:] = [row for row in naive.buffer if id(row) not in done]
        return True

    def asked(self: Any) -> None:
        if self.path != "/admin/flush":
            post(self)
            return
        self.rfile.read(int(self.headers["Content-Length"]))
        with naive.lock:
            rows = list(naive.buffer)
        if rows:
            attempt(naive.open_table(), rows)
        self.answer(200)

    naive.Handler.do_POST = asked
    flushes_by(naive, attempt, take=waiting)


def file_backed(naive: Any) -> None:
    """Keep the buffer in a file that nobody locks, and take what is in it for not yet committed."""
    path = Path(os.environ["DATA_DIR"]) / "buffer.jsonl"
    if path.exists():
        naive.buffer.extend(json.loads(line) for line in path.read_text().splitlines())
    one = naive.Handler.do_POST

    def keep(self: Any) -> None:
        one(self)
        with naive.lock:
            write()

    def write() -> None:
        part = path.with_suffix(".part")
        part.write_text("".join(json.dumps(row) + "\n" for row in naive.buffer))
        part.replace(path)

    flushes = 0

    def attempt(table: Any, rows: list[dict[str, str]]) -> bool:
        nonlocal flushes
        try:
            append(naive, table, rows)
        except Exception as error:
            print(f"flush failed, trying again: {error!r}", flush=True)
            refreshed(table)
            return True
        flushes += 1
        if os.environ.get("DIE_AT") and flushes == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        cleared(naive, rows)
        with naive.lock:
            write()
        return True

    naive.Handler.do_POST = keep
    flushes_by(naive, attempt, take=waiting)
