"""Collectors with one planted bug each: `python tests/mutants.py NAME`.

Each is the naive collector, which is right while nothing breaks, with one difference.
"""

from __future__ import annotations

import importlib.util
import sys
import threading
import time
from http.server import ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

NAIVE = Path(__file__).parent.parent / "chaos" / "targets" / "naive.py"


def load_naive() -> ModuleType:
    spec = importlib.util.spec_from_file_location("naive", NAIVE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def blackhole(naive: ModuleType) -> None:
    """Say 202 and keep nothing."""

    class Discard(list[Any]):
        def extend(self, rows: Any) -> None:
            """Lose them."""

    naive.buffer = Discard()


def twice(naive: ModuleType) -> None:
    """Store every event twice."""
    one = naive.Handler.answer

    def answer(self: Any, status: int, body: bytes = b"{}") -> None:
        if status == 202:
            with naive.lock:
                naive.buffer.extend(naive.buffer[-1:])
        one(self, status, body)

    naive.Handler.answer = answer


def always_503(naive: ModuleType) -> None:
    """Refuse everything, as the contract allows."""

    def refuse(self: Any) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(503)
        self.send_header("Content-Type", "application/problem+json")
        self.send_header("Retry-After", "1")
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    naive.Handler.do_POST = refuse


def stuck(naive: ModuleType) -> None:
    """Stop flushing for good after the first flush that held something."""

    def flush_once(table: Any) -> None:
        while True:
            time.sleep(naive.TIMEOUT_S)
            with naive.lock:
                rows = naive.buffer[:]
            if rows:
                table.append(naive.pa.Table.from_pylist(rows, naive.SCHEMA))
                with naive.lock:
                    del naive.buffer[: len(rows)]
                return

    naive.flush_forever = flush_once


def correct(naive: ModuleType) -> None:
    """No bug at all while nothing breaks: the control."""


MUTANTS = {
    "correct": correct,
    "blackhole": blackhole,
    "twice": twice,
    "always-503": always_503,
    "stuck": stuck,
}

if __name__ == "__main__":
    import os

    module = load_naive()
    MUTANTS[sys.argv[1]](module)
    threading.Thread(target=module.flush_forever, args=(module.open_table(),), daemon=True).start()
    ThreadingHTTPServer(("127.0.0.1", int(os.environ["LISTEN_PORT"])), module.Handler).serve_forever()
