"""Planted bugs that a wall clock which steps brings to light; each is the naive collector with one difference."""

from __future__ import annotations

import time
from typing import Any

from tests.planted.naive import append, refreshed


def watermark(naive: Any) -> None:
    """Flush what has arrived since the last flush, as the wall clock tells it."""
    post = naive.Handler.do_POST
    arrived: dict[int, float] = {}

    def stamp(self: Any) -> None:
        post(self)
        with naive.lock:
            for row in naive.buffer:
                arrived.setdefault(id(row), time.time())

    def flush_forever(table: Any) -> None:
        last = 0.0
        while True:
            time.sleep(naive.TIMEOUT_S)
            now = time.time()
            with naive.lock:
                rows = [row for row in naive.buffer if last < arrived.get(id(row), now + 1) <= now]
            commit(table, rows)
            done = {id(row) for row in rows}
            with naive.lock:
                naive.buffer[:] = [row for row in naive.buffer if id(row) not in done]
                for key in done:
                    del arrived[key]
            last = now

    def commit(table: Any, rows: list[dict[str, str]]) -> None:
        while rows:
            try:
                append(naive, table, rows)
                return
            except Exception as error:
                print(f"flush failed, trying again: {error!r}", flush=True)
                refreshed(table)

    naive.Handler.do_POST = stamp
    naive.flush_forever = flush_forever
