"""Watch a target's system calls, or let them fail, with strace (Linux)."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from chaos.errors import NotPossible
from chaos.faults.env import Env
from chaos.warden_client import Child

ATTACHES_WITHIN_S = 10.0


def find_strace() -> str:
    """Return where strace is. Raises NotPossible."""
    strace = shutil.which("strace")
    if strace is None or not Path("/proc/self/status").exists():
        raise NotPossible("there is no strace on this machine")
    return strace


def attach(env: Env, name: str, pid: int, words: Sequence[str]) -> tuple[Child, Path]:
    """Trace a process and its threads as *words* say; return strace, and the file it writes to. It ends with the run.

    Raises NotPossible where there is no strace, or no right to trace.
    """
    strace = find_strace()
    log = env.data_dir.parent / "logs" / f"{name}.strace"
    argv = [strace, "-f", "-qq", "-o", str(log), *words, "-p", str(pid)]
    child = env.warden.spawn("strace", argv, log=log.with_suffix(".log"))
    deadline = time.monotonic() + ATTACHES_WITHIN_S
    while not tracer_of(pid):
        if child.poll() is not None or time.monotonic() > deadline:
            child.stop(grace_s=1)
            raise NotPossible(f"strace cannot trace the target: {child.log_tail().strip()[-200:]}")
        time.sleep(0.01)
    return child, log


def tracer_of(pid: int) -> int:
    """Return the process that traces *pid*; 0: none."""
    try:
        found = re.search(r"^TracerPid:\s*(\d+)", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    except OSError:
        return 0
    return int(found[1]) if found else 0
