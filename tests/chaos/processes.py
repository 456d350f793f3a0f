"""Small real processes for tests, and ways to wait for them that are conditions, not pauses."""

import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from chaos.warden_client import PACKAGE_ROOT

PATIENCE_S = 20.0
"""Only a failing test waits this long."""

PROMPT_S = 4.0
"""All must be gone within 2 s of the controller's death; twice that, because tests share a machine."""

WAIT_FOREVER = "import signal; signal.pause()"
DEAF = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); signal.pause()"


def python(code: str) -> list[str]:
    """Make the argv of a Python one-liner."""
    return [sys.executable, "-S", "-c", code]


def gone(pid: int, within_s: float = PATIENCE_S) -> bool:
    """Wait until a process (not necessarily our child) has ended."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([handle], [], [], within_s)[0])
    finally:
        os.close(handle)


def all_gone(pids: list[int], within_s: float = PATIENCE_S) -> bool:
    """Wait until all have ended, within one common deadline."""
    ends = time.monotonic() + within_s
    return all(gone(pid, max(0.0, ends - time.monotonic())) for pid in pids)


def first_line(log: Path) -> str:
    """Wait for the first whole line that a process writes to its log."""
    whole = until(lambda: log.exists() and "\n" in log.read_text() and log.read_text())
    return str(whole).partition("\n")[0]


def until(condition: Any, within_s: float = PATIENCE_S) -> Any:
    """Ask again and again until the answer is true; returns it."""
    ends = time.monotonic() + within_s
    while not (answer := condition()):
        assert time.monotonic() < ends, "the condition never came true"
        threading.Event().wait(0.01)
    return answer


def stopped(pid: int) -> bool:
    """Tell whether a process is stopped by a signal."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


class RawWarden:
    """A warden process spoken to by hand, so that a test decides when the controller falls silent."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "chaos.warden"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=PACKAGE_ROOT
        )
        assert self.process.stdin and self.process.stdout
        self.requests, self.answers = self.process.stdin, self.process.stdout
        self.number = 0

    def ask(self, op: str, **fields: Any) -> dict[str, Any]:
        self.number += 1
        self.requests.write(json.dumps({"n": self.number, "op": op, **fields}).encode() + b"\n")
        self.requests.flush()
        while True:
            answer: dict[str, Any] = json.loads(self.answers.readline())
            if answer.get("re") == self.number:
                return answer

    def spawn(self, code: str, log: Path) -> int:
        answer = self.ask("spawn", argv=python(code), env=dict(os.environ), cwd="/", log=str(log), remove=[])
        pid: int = answer["pid"]
        return pid

    def fall_silent(self) -> None:
        """Close the pipe, as the kernel does for a dead controller."""
        self.requests.close()

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
        self.process.wait(PATIENCE_S)
        for pipe in (self.requests, self.answers):
            with suppress(BrokenPipeError):
                pipe.close()


class Recorder(ThreadingHTTPServer):
    """An HTTP server that notes what it is asked and answers with ``status``; ``hang`` makes it never answer."""

    daemon_threads = True

    def __init__(self, status: int = 204, *, hang: bool = False) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.status, self.hang = status, hang
        self.release = threading.Event()
        self.seen: list[tuple[str, str, dict[str, str], bytes]] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Recorder
    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.seen.append((self.command, self.path, dict(self.headers), body))
        if self.server.hang:
            self.server.release.wait(PATIENCE_S)
        self.send_response(self.server.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_DELETE = do_POST = do_PUT = do_PATCH = answer  # noqa: N815 - http.server's names

    def log_message(self, format: str, *args: Any) -> None: ...

    def handle(self) -> None:
        with suppress(BrokenPipeError, ConnectionResetError):  # who asked did not wait
            super().handle()


@contextmanager
def recorder(status: int = 204, *, hang: bool = False) -> Iterator[Recorder]:
    """Serve a :class:`Recorder` on a free port."""
    server = Recorder(status, hang=hang)
    thread = threading.Thread(target=lambda: server.serve_forever(poll_interval=0.01))
    thread.start()
    try:
        yield server
    finally:
        server.release.set()
        server.shutdown()
        thread.join()
        server.server_close()
