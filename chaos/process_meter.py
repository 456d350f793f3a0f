"""What the target's process costs: CPU seconds and resident memory, as the operating system counts them."""

from __future__ import annotations

from dataclasses import dataclass

import psutil

from loadtests.records.jsonl import JsonlTail
from loadtests.records.rundir import RunDir


@dataclass(frozen=True)
class Cost:
    """What one process and its children have used so far.

    Attributes:
        cpu_s: User and system time together.
        rss_bytes: Resident memory now.
    """

    pid: int
    cpu_s: float
    rss_bytes: int


class ProcessMeter:
    """Reads what the target costs; its process is the one that the run's timeline last called ready."""

    def __init__(self, run: RunDir) -> None:
        self._timeline = JsonlTail(run.timeline)
        self._pid: int | None = None

    def read(self) -> Cost | None:
        """Return the cost now; None while there is no such process, or it is not ours to look at."""
        for line in self._timeline.read():
            if line.get("event") == "process" and line.get("name") == "target" and isinstance(line.get("pid"), int):
                self._pid = line["pid"]
        return None if self._pid is None else cost_of(self._pid)


def cost_of(pid: int) -> Cost | None:
    """Return what *pid* and its children have used; None when it is gone or forbidden."""
    try:
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
        times = [one.cpu_times() for one in family]
        rss = sum(one.memory_info().rss for one in family)
    except psutil.Error:
        return None
    return Cost(pid, sum(t.user + t.system for t in times), rss)
