"""What a process costs is what the operating system counts, its children included."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from chaos.fingerprint import calibration_ms
from chaos.process_meter import ProcessMeter, cost_of
from loadtests.records.timeline import Timeline
from tests.chaos.fakes import make_run


def test_a_process_that_runs_has_a_cost() -> None:
    """This one has used some CPU and holds some memory."""
    cost = cost_of(os.getpid())
    assert cost is not None
    assert cost.cpu_s > 0
    assert cost.rss_bytes > 1_000_000


def test_a_process_that_is_gone_has_none() -> None:
    """It was ended and waited for."""
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    assert cost_of(child.pid) is None


def test_the_meter_follows_the_target_through_its_restarts(tmp_path: Path) -> None:
    """The last process that the timeline called the target; none before there is one."""
    run = make_run(tmp_path)
    meter = ProcessMeter(run)
    timeline = Timeline(run.timeline, run.info.run_id)
    assert meter.read() is None
    timeline.write("process", name="target", state="ready", pid=os.getppid())
    timeline.write("process", name="locust", state="ready", pid=1)
    timeline.write("process", name="target", state="ready", pid=os.getpid())
    cost = meter.read()
    assert cost is not None
    assert cost.pid == os.getpid()


def test_the_calibration_is_a_few_milliseconds() -> None:
    """CPU time, not wall time."""
    assert 0.1 < calibration_ms() < 1000
