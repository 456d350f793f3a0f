"""Collectors with one planted bug each: `python tests/mutants.py NAME`; `--targets` prints the target document of each as JSON.

Each is the naive collector, which is right while nothing breaks, with one difference.
"""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import sys
import threading
import time
from contextlib import suppress
from http.server import ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

IMPATIENT_S = 1.0
NAIVE = Path(__file__).parent.parent / "chaos" / "targets" / "naive.py"


def load_naive() -> ModuleType:
    spec = importlib.util.spec_from_file_location("naive", NAIVE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def blackhole(naive: Any) -> None:
    """Say 202 and keep nothing."""

    class Discard(list[Any]):
        def extend(self, rows: Any) -> None:
            """Lose them."""

    naive.buffer = Discard()


def twice(naive: Any) -> None:
    """Store every event twice."""
    one = naive.Handler.answer

    def answer(self: Any, status: int, body: bytes = b"{}") -> None:
        if status == 202:
            with naive.lock:
                naive.buffer.extend(naive.buffer[-1:])
        one(self, status, body)

    naive.Handler.answer = answer


def always_503(naive: Any) -> None:
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


def stuck(naive: Any) -> None:
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


def gives_up(naive: Any) -> None:
    """Drop a batch whose flush failed."""

    def flush_once(table: Any) -> None:
        while True:
            time.sleep(naive.TIMEOUT_S)
            with naive.lock:
                rows = naive.buffer[:]
                naive.buffer.clear()
            if rows:
                try:
                    table.append(naive.pa.Table.from_pylist(rows, naive.SCHEMA))
                except Exception as error:
                    print(f"flush failed, dropped: {error!r}", flush=True)
                    with suppress(Exception):
                        table.refresh()

    naive.flush_forever = flush_once


def dies(naive: Any) -> None:
    """End the flushing thread at the first failure; go on acknowledging."""

    def flush_once(table: Any) -> None:
        while True:
            time.sleep(naive.TIMEOUT_S)
            with naive.lock:
                rows = naive.buffer[:]
            if rows:
                try:
                    table.append(naive.pa.Table.from_pylist(rows, naive.SCHEMA))
                except Exception as error:
                    print(f"flush failed, thread ends: {error!r}", flush=True)
                    return
                with naive.lock:
                    del naive.buffer[: len(rows)]

    naive.flush_forever = flush_once


def impatient(naive: Any) -> None:
    """Take a commit that needed more than a second for one that failed, and commit again."""

    def flush_once(table: Any) -> None:
        while True:
            time.sleep(naive.TIMEOUT_S)
            with naive.lock:
                rows = naive.buffer[:]
                naive.buffer.clear()
            while rows:
                started = time.monotonic()
                try:
                    table.append(naive.pa.Table.from_pylist(rows, naive.SCHEMA))
                    if time.monotonic() - started > IMPATIENT_S:
                        table.append(naive.pa.Table.from_pylist(rows, naive.SCHEMA))
                    break
                except Exception as error:
                    print(f"flush failed, trying again: {error!r}", flush=True)
                    table.refresh()

    naive.flush_forever = flush_once


def expires(naive: Any) -> None:
    """Drop what has waited for more than two seconds, as if nobody wanted it any more."""
    one = naive.Handler.do_POST

    def stamp(self: Any) -> None:
        one(self)
        with naive.lock:
            for row in naive.buffer:
                arrived.setdefault(id(row), (time.monotonic(), row))

    arrived: dict[int, Any] = {}
    flush = naive.flush_forever

    def fresh_only(table: Any) -> None:
        def sweep() -> None:
            while True:
                time.sleep(0.05)
                with naive.lock:
                    old = {key for key, (at, _) in arrived.items() if time.monotonic() - at > 2}
                    naive.buffer[:] = [row for row in naive.buffer if id(row) not in old]
                    for key in old:
                        del arrived[key]

        threading.Thread(target=sweep, daemon=True).start()
        flush(table)

    naive.Handler.do_POST = stamp
    naive.flush_forever = fresh_only


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

    def flush_once(table: Any) -> None:
        flushes = 0
        while True:
            time.sleep(naive.TIMEOUT_S)
            with naive.lock:
                rows = naive.buffer[:]
            if not rows:
                continue
            try:
                table.append(naive.pa.Table.from_pylist(rows, naive.SCHEMA))
            except Exception as error:
                print(f"flush failed, trying again: {error!r}", flush=True)
                table.refresh()
                continue
            flushes += 1
            if os.environ.get("DIE_AT") and flushes == 2:
                os.kill(os.getpid(), signal.SIGKILL)
            with naive.lock:
                del naive.buffer[: len(rows)]
                write()

    naive.Handler.do_POST = keep
    naive.flush_forever = flush_once


def reads_once(naive: Any) -> None:
    """Take the first piece of a request for all of it, and acknowledge it all the same."""

    def do_post(self: Any) -> None:
        length = int(self.headers["Content-Length"])
        piece = self.rfile.read1(length)
        rest = length - len(piece)
        try:
            events = json.loads(piece)
        except ValueError:
            events = []
        with naive.lock:
            naive.buffer.extend(
                {
                    "id": e["id"],
                    "source": e["source"],
                    "type": e["type"],
                    "data": json.dumps(e["data"], separators=(",", ":")),
                }
                for e in events
            )
        self.rfile.read(rest)
        self.answer(202)

    naive.Handler.do_POST = do_post


def no_retries(naive: Any) -> None:
    """Commit with `commit.retry.num-retries` 0, as those do who retry for themselves."""
    open_table = naive.open_table

    def opened() -> Any:
        table = open_table()
        with table.transaction() as change:
            change.set_properties({"commit.retry.num-retries": "0"})
        return table

    naive.open_table = opened


def gives_up_at_once(naive: Any) -> None:
    """Drop a batch whose first attempt to commit was not the last."""
    no_retries(naive)
    gives_up(naive)


def leaks_connections(naive: Any) -> None:
    """Count open connections, forget to count those that broke, and refuse above twenty."""
    seen = {"open": 0}
    begin, end = naive.Handler.setup, naive.Handler.do_POST

    def setup(self: Any) -> None:
        begin(self)
        seen["open"] += 1

    def finish(self: Any) -> None:
        if seen["open"] <= 40:
            end(self)
            return
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(503)
        self.send_header("Content-Type", "application/problem+json")
        self.send_header("Retry-After", "1")
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    naive.Handler.setup = setup
    naive.Handler.do_POST = finish


def correct(naive: Any) -> None:
    """No bug at all while nothing breaks: the control."""


MUTANTS = {
    "correct": correct,
    "blackhole": blackhole,
    "twice": twice,
    "always-503": always_503,
    "stuck": stuck,
    "gives-up": gives_up,
    "dies": dies,
    "impatient": impatient,
    "expires": expires,
    "file-backed": file_backed,
    "reads-once": reads_once,
    "no-retries": no_retries,
    "gives-up-at-once": gives_up_at_once,
    "leaks-connections": leaks_connections,
}


def target(name: str) -> dict[str, Any]:
    """Return the target document of a mutant: how icequake starts it and where it listens."""
    return {
        "name": name,
        "ingest": {"url": "http://127.0.0.1:{port}/events", "mode": "batch"},
        "metrics": {"url": "http://127.0.0.1:{port}/metrics", "buffered": "naive_buffer_events"},
        "process": {
            "command": ["{python}", str(Path(__file__).resolve()), name],
            "ready": "http://127.0.0.1:{port}/healthz",
            "crash_points": {"env": "DIE_AT", "format": "{point}"},
        },
    }


if __name__ == "__main__":
    if sys.argv[1:] == ["--targets"]:
        print(json.dumps({name: target(name) for name in MUTANTS}))
        sys.exit()
    module = load_naive()
    MUTANTS[sys.argv[1]](module)
    threading.Thread(target=module.flush_forever, args=(module.open_table(),), daemon=True).start()
    ThreadingHTTPServer(("127.0.0.1", int(os.environ["LISTEN_PORT"])), module.Handler).serve_forever()
