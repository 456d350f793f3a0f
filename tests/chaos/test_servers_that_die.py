"""Servers of the harness that freeze or die in mid-run, by somebody else's hand: the run ends healed, and says so."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.test_controller_death import START_S, alive, descendants, entries, injected, start, until

pytestmark = [
    pytest.mark.integration,
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc"),
]
SHORT = ["--set", "traffic.for_s=14", "--set", "steps.0.for_s=8", "--set", "baseline_s=1", "--set", "steps.0.at_s=0", "--set", "settle_s=30"]  # fmt: skip


def server(pids: dict[int, str], words: str) -> int:
    """The process whose command line has *words*."""
    [pid] = [pid for pid in pids if words in Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()]
    return pid


def ends(run: subprocess.Popen[bytes], runs: Path, processes: dict[int, str]) -> dict[str, Any]:
    """Wait for the run and return its verdict; nothing of it is left, and every step is over."""
    output, _ = run.communicate(timeout=240)
    assert run.returncode in (0, 1, 2), output.decode()
    assert not alive(processes)
    last = [entry["state"] for entry in entries(runs) if entry.get("event") == "step"][-1]
    assert last in ("healed", "void"), output.decode()
    assert next(runs.glob("2*/report.html")).stat().st_size > 0
    found: dict[str, Any] = json.loads(next(runs.glob("2*/verdict.json")).read_text())
    return found


def notes(runs: Path) -> str:
    return " / ".join(str(entry["text"]) for entry in entries(runs) if entry.get("event") == "note")


@pytest.mark.parametrize(
    ("scenario", "words", "number", "said"),
    [
        ("slow-r2", "toxiproxy-server", signal.SIGSTOP, "killing toxiproxy and starting another"),
        ("control", "toxiproxy-server", signal.SIGSTOP, "toxiproxy did not answer any more and was started again"),
        (
            "slow-r2",
            "toxiproxy-server",
            signal.SIGKILL,
            "toxiproxy ended by itself with status -9; it was started again",
        ),
        (
            "catalog-hang",
            "chaos.gateway",
            signal.SIGKILL,
            "gateway ended by itself with status -9; it was started again",
        ),
        ("catalog-hang", "chaos.gateway", signal.SIGSTOP, "gateway did not answer any more and was started again"),
    ],
    ids=[
        "frozen toxiproxy, toxic on",
        "frozen toxiproxy",
        "killed toxiproxy",
        "killed gateway, rule on",
        "frozen gateway",
    ],
)
def test_a_server_that_somebody_else_stops_is_brought_back(
    tmp_path: Path, scenario: str, words: str, number: signal.Signals, said: str
) -> None:
    """Whatever was injected is removed, the report says what happened, and the target is not blamed for it."""
    run = start("run", scenario, *SHORT, runs=tmp_path)
    try:
        until(lambda: injected(tmp_path) or run.poll() is not None, START_S, "the fault is on")
        processes = descendants(run.pid)
        os.kill(server(processes, words), number)
        verdict = ends(run, tmp_path, processes)
    finally:
        run.kill()
        run.communicate()

    assert said in notes(tmp_path)
    assert verdict["verdict"] != "FAIL", verdict["first_screen"]
