"""The naive collector as a module to plant bugs in, and the words that its mutants share."""

from __future__ import annotations

import importlib.util
import json
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

NAIVE = Path(__file__).parents[2] / "chaos" / "targets" / "naive.py"


def load_naive() -> ModuleType:
    """Import the naive collector, which is no package, afresh."""
    spec = importlib.util.spec_from_file_location("naive", NAIVE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def waiting(naive: Any) -> list[dict[str, str]]:
    """Wait until it is time for a flush and return what waits; it stays in the buffer."""
    time.sleep(naive.TIMEOUT_S)
    with naive.lock:
        return list(naive.buffer)


def taken(naive: Any) -> list[dict[str, str]]:
    """Wait until it is time for a flush and take what waits out of the buffer."""
    time.sleep(naive.TIMEOUT_S)
    with naive.lock:
        rows = list(naive.buffer)
        naive.buffer.clear()
    return rows


def cleared(naive: Any, rows: list[dict[str, str]]) -> None:
    """Take *rows*, which are its oldest, out of the buffer."""
    with naive.lock:
        del naive.buffer[: len(rows)]


def append(naive: Any, table: Any, rows: list[dict[str, str]]) -> None:
    """Commit *rows* as one snapshot."""
    table.append(naive.pa.Table.from_pylist(rows, naive.SCHEMA))


def refreshed(table: Any) -> None:
    """Load the table again, if it can be loaded."""
    with suppress(Exception):
        table.refresh()


def events_of(handler: Any) -> list[dict[str, str]]:
    """Read a request as rows."""
    return rows_of(json.loads(handler.rfile.read(int(handler.headers["Content-Length"]))))


def rows_of(events: list[Any]) -> list[dict[str, str]]:
    """Turn events into rows, as the naive collector does."""
    return [
        {
            "id": e["id"],
            "source": e["source"],
            "type": e["type"],
            "data": json.dumps(e["data"], separators=(",", ":")),
        }
        for e in events
    ]


def refuse(handler: Any) -> None:
    """Read a request and answer 503, as the contract allows."""
    handler.rfile.read(int(handler.headers["Content-Length"]))
    handler.send_response(503)
    handler.send_header("Content-Type", "application/problem+json")
    handler.send_header("Retry-After", "1")
    handler.send_header("Content-Length", "2")
    handler.end_headers()
    handler.wfile.write(b"{}")


def flushes_by(naive: Any, attempt: Callable[[Any, list[dict[str, str]]], bool], *, take: Callable[[Any], Any]) -> None:
    """Let it flush by *attempt*, given table and rows, until that returns False.

    *take* is `waiting` or `taken`.
    """

    def flush_forever(table: Any) -> None:
        while True:
            rows = take(naive)
            if rows and not attempt(table, rows):
                return

    naive.flush_forever = flush_forever
