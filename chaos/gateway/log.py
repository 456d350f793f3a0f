"""gateway.jsonl: one line per request, written when it is finished.

    header   {"schema": "icequake.gateway/1.0", "run", "unix_ns", "mono_ns"}
    request  {"t_ns", "n", "upstream", "verb", "path", "object", "status", "upstream_status", "ms", "request_bytes",
              "answer_bytes", "rule", "outcome"}; "rules" too when more than one rule touched it
    begin    {"t_ns", "n", "begin": true, "upstream", "verb", "path", "object", "rule"}: a request that has been held for a second
    release  {"t_ns", "n", "released": true, "upstream", "verb", "path", "object", "rule", "upstream_status", "outcome"}: a zombie
             request was forwarded ("zombie"), given up with its rule ("refused") or met a dead upstream ("upstream-error")

`t_ns` is the monotonic time at which the request's head had arrived (in a release line: at which it was forwarded), `n` its
number, `status` what the client was told (null: nothing), `upstream_status` what the upstream said (null: never asked, or no
answer). A request with a `begin` or `release` line has its plain line too: counting requests means counting lines with neither.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import msgspec

SCHEMA = "icequake.gateway/1.0"

OUTCOMES = (
    "passed", "refused", "answer-dropped", "answer-replaced", "held", "zombie", "truncated", "twice", "stale", "client-gone",
    "upstream-error",
)  # fmt: skip


class GatewayLog:
    """The log of the current run; without a path nothing is written.

    Attributes:
        run_id: Goes into the header of files opened from now on.
        path: File being written, or None.
        failed_lines: Lines that could not be written (disk full); the proxy goes on without them.
    """

    def __init__(self, run_id: str = "") -> None:
        self.run_id = run_id
        self.path: Path | None = None
        self.failed_lines = 0
        self._fd = -1
        self._encoder = msgspec.json.Encoder()

    def switch(self, path: Path | None) -> None:
        """End the current file and go on in *path*, appending when it has a header already.

        Raises:
            OSError: the file cannot be opened; the current one is kept.
        """
        fd = -1
        if path is not None:
            fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self.close()
        self._fd, self.path = fd, path
        if path is not None:
            self._begin_file()

    def write(self, record: dict[str, Any]) -> None:
        """Append one line; it has reached the kernel when this returns."""
        if self._fd < 0:
            return
        line = self._encoder.encode(record) + b"\n"
        try:
            whole = os.write(self._fd, line) == len(line)
        except OSError as error:
            whole = False
            if not self.failed_lines:
                print(f"The gateway cannot write {self.path}: {error}.", file=sys.stderr, flush=True)
        self.failed_lines += not whole

    def close(self) -> None:
        """End the current file."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self.path = -1, None

    def _begin_file(self) -> None:
        size = os.fstat(self._fd).st_size
        if size == 0:
            now = {"unix_ns": time.time_ns(), "mono_ns": time.monotonic_ns()}
            self.write({"schema": SCHEMA, "run": self.run_id, **now})
        elif os.pread(self._fd, 1, size - 1) != b"\n":
            os.write(self._fd, b"\n")  # a killed writer's torn line must not swallow the next one
