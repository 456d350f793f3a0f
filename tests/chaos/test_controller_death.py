"""Whatever happens to the controller in mid-fault: no process, no fault is left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from chaos.undo import process_identity

pytestmark = pytest.mark.integration

ROOT = Path(__file__).resolve().parents[2]
START_S = 90.0
ICEQUAKE = [sys.executable, "-c", "from chaos.cli import main; main()"]
SLOW = ["--set", "traffic.for_s=40", "--set", "steps.0.for_s=30", "--set", "baseline_s=1", "--set", "steps.0.at_s=0"]


def until(holds: Callable[[], Any], seconds: float, what: str) -> Any:
    """Poll a condition against its deadline; a deadline is a bound, not a measured speed."""
    deadline = time.monotonic() + seconds
    poll = threading.Event()
    while not (value := holds()):
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        poll.wait(0.02)
    return value


def start(*arguments: str, runs: Path) -> subprocess.Popen[bytes]:
    # Relative, as people (and the default) name it.
    return subprocess.Popen(
        [*ICEQUAKE, *arguments, "--runs", os.path.relpath(runs, ROOT)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def entries(runs: Path) -> list[dict[str, Any]]:
    return [
        json.loads(line)
        for path in runs.glob("*/timeline.jsonl")
        for line in path.read_text().splitlines()
        if line.endswith("}")
    ]


def injected(runs: Path) -> bool:
    return any(entry.get("event") == "step" and entry.get("state") == "injected" for entry in entries(runs))


def descendants(pid: int) -> dict[int, str]:
    """Every process below *pid*, with its identity (a reused pid has another)."""
    parents: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents[int(path.parent.name)] = int(fields[1])
    found: dict[int, str] = {}
    frontier = {pid}
    while frontier:
        frontier = {child for child, parent in parents.items() if parent in frontier and child not in found}
        found |= {child: process_identity(child) or "" for child in frontier}
    return found


def alive(processes: dict[int, str]) -> list[int]:
    return [pid for pid, identity in processes.items() if identity and process_identity(pid) == identity]


@pytest.fixture
def in_mid_fault(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """A run with slow R2 on, every server and process started by itself."""
    controller = start("run", "slow-r2", *SLOW, runs=tmp_path)
    try:
        until(lambda: injected(tmp_path) or controller.poll() is not None, START_S, "the fault is on")
        assert controller.poll() is None
        yield controller, tmp_path
    finally:
        if controller.poll() is None:
            controller.kill()
        controller.communicate()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    ("number", "bound_s"),
    [(signal.SIGKILL, 2.0), (signal.SIGSTOP, 5.0 + 2.0)],
    ids=["kill -9", "kill -STOP, within the lease"],
)
def test_a_dead_or_hung_controller_leaves_no_process(
    in_mid_fault: tuple[subprocess.Popen[bytes], Path], number: signal.Signals, bound_s: float
) -> None:
    """The warden notices by its pipe or its lease, heals, and ends all that was started."""
    controller, _ = in_mid_fault
    processes = descendants(controller.pid)
    assert len(processes) >= 6

    os.kill(controller.pid, number)

    until(lambda: not alive(processes), bound_s, f"all of {len(processes)} processes gone")


def toxics(api: str) -> int:
    with urllib.request.urlopen(f"{api}/proxies", timeout=5) as answer:
        return sum(len(proxy["toxics"]) for proxy in json.load(answer).values())


def test_a_killed_controller_leaves_no_fault_on_a_stack_that_stays_up(tmp_path: Path) -> None:
    """`icequake up` keeps its servers when a run that uses them is killed; the run's toxic is gone within 2 s."""
    keeper = start("up", runs=tmp_path)
    controller: subprocess.Popen[bytes] | None = None
    try:
        state = tmp_path / ".stack.json"
        until(lambda: state.is_file() or keeper.poll() is not None, START_S, "the stack is up")
        api = json.loads(state.read_text())["addresses"]["toxiproxy_api"]
        controller = start("run", "slow-r2", *SLOW, "--stack", "up", runs=tmp_path)
        until(lambda: injected(tmp_path) or controller.poll() is not None, START_S, "the fault is on")
        assert toxics(api) == 1

        controller.kill()

        until(lambda: toxics(api) == 0, 2.0, "the toxic is gone")
    finally:
        for process in (controller, keeper):
            if process is not None:
                process.terminate()
                process.communicate(timeout=30)


def test_ctrl_c_heals_writes_what_is_known_and_is_inconclusive(
    in_mid_fault: tuple[subprocess.Popen[bytes], Path],
) -> None:
    """An interrupted run has a verdict, a report and exit code 2, and nothing is left running."""
    controller, runs = in_mid_fault
    processes = descendants(controller.pid)

    controller.send_signal(signal.SIGINT)
    output, _ = controller.communicate(timeout=120)

    assert controller.returncode == 2, output.decode()
    verdict = json.loads(next(runs.glob("2*/verdict.json")).read_text())
    assert verdict["verdict"] == "INCONCLUSIVE"
    assert next(runs.glob("2*/report.html")).stat().st_size > 0
    assert any(entry.get("state") in ("healed", "void") for entry in entries(runs))
    assert not alive(processes)
