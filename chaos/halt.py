"""Ending a run from another terminal: a file in its directory, which only its owner may write."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from chaos.errors import ControlHung
from loadtests.records.rundir import RunDir

FILE = "halt"
WITHIN_S = 5.0
DONE = ("judge", "done")


def ask(run: RunDir) -> None:
    """Ask the run to heal everything and to end."""
    handle = os.open(run.root / FILE, os.O_WRONLY | os.O_CREAT, 0o600)
    os.close(handle)


def asked(root: Path) -> bool:
    """Tell whether the run in *root* was asked to end."""
    return (root / FILE).exists()


def wait_healed(
    root: Path,
    *,
    within_s: float = WITHIN_S,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> float:
    """Wait until the run says that everything is healed; return after how many seconds. Raises ControlHung."""
    started = clock()
    while clock() - started < within_s:
        info = RunDir.open(root).info
        if info.phase in DONE or (info.stopped is not None and info.window.healed_ns is not None):
            return clock() - started
        sleep(0.05)
    raise ControlHung(
        f"the run in {root} has not said within {within_s:g} s that it is healed; end it with Ctrl-C or `kill`."
    )
