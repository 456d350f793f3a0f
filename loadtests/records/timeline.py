"""What the harness did and saw, in order: `timeline.jsonl`, one writer (the controller).

Every entry has `t_ns` (this machine's monotonic clock, which alone orders a run), `unix_ns`, and `event`:

phase      {phase}                                     a phase began
step       {step, fault, state, ...}                   armed | injected | healed | void | failed
process    {name, state, pid}                          started | ready | killed | exited
probe      {name, ok, ...}                             a measurement that decides something
operator   {action, ...}                               a person did this
drill      {drill, step, state, ...}                   armed {params} | begun | checked {check, ok, detail} |
                                                       reached {milestone: detected | mitigated | recovered, detail} |
                                                       done | failed | stopped | void | broken; {reason}, {seconds}
alert      {name, state}                               firing | resolved, in a live session
settled    {reason, buffered}                          empty | timeout | interrupted
note       {text}                                      anything else worth reading
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Lock
from typing import Any

from loadtests.records.jsonl import JsonlWriter, read_jsonl

KIND = "timeline"


class Timeline:
    """Append entries; safe to call from several threads.

    Args:
        path: Usually `RunDir.timeline`.
        run_id: The run.
        listener: Called with each entry after it was written (the progress display).
    """

    def __init__(self, path: Path, run_id: str, *, listener: Callable[[dict[str, Any]], None] | None = None) -> None:
        self._writer = JsonlWriter(path, KIND, run_id)
        self._listener = listener
        self._lock = Lock()

    def write(self, event: str, **fields: Any) -> dict[str, Any]:
        """Append one entry and return it."""
        with self._lock:
            entry = {"t_ns": time.monotonic_ns(), "unix_ns": time.time_ns(), "event": event, **fields}
            self._writer.append(entry)
        if self._listener is not None:
            self._listener(entry)
        return entry

    def close(self) -> None:
        """Close the file."""
        self._writer.close()


def read_timeline(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the entries in order; see `loadtests.records.jsonl.read_jsonl` for errors."""
    return read_jsonl(path, KIND)
