"""However `icequake catalogue` is stopped, every fault is healed and nothing goes on."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from chaos.trials.outcome import KEPT
from tests.chaos.test_controller_death import START_S, alive, descendants, entries, start, until

pytestmark = [pytest.mark.integration, pytest.mark.slow]

FAULTS = ("freeze-collector", "catalog-503")
END_S = 60.0


def on(runs: Path) -> set[str]:
    """The faults that are on now."""
    states = {entry["fault"]: entry["state"] for entry in entries(runs) if entry.get("event") == "step"}
    return {fault for fault, state in states.items() if state == "injected"}


@pytest.fixture
def two_trials(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """Two trials side by side, each with its fault on."""
    command = start("catalogue", *FAULTS, "--no-mutants", "--jobs", "2", runs=tmp_path)
    try:
        until(lambda: on(tmp_path) or command.poll() is not None, START_S, "a fault is on")
        assert command.poll() is None
        yield command, tmp_path
    finally:
        if command.poll() is None:
            command.kill()
        command.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_heals_and_ends_everything(
    two_trials: tuple[subprocess.Popen[bytes], Path], number: signal.Signals
) -> None:
    """The command ends with 2 and what it knows; stopped trials are not kept as tried."""
    command, runs = two_trials
    processes = descendants(command.pid)
    assert len(processes) >= 12

    command.send_signal(number)
    out, _ = command.communicate(timeout=END_S)

    assert command.returncode == 2, out.decode()
    assert b" stopped" in out
    assert not alive(processes)
    assert not on(runs)
    assert not (runs / KEPT).exists()


def test_kill_9_leaves_nothing(two_trials: tuple[subprocess.Popen[bytes], Path]) -> None:
    """Each worker sees that its parent is gone, heals, and ends its stack."""
    command, runs = two_trials
    processes = descendants(command.pid)

    command.kill()
    command.wait()

    until(lambda: not alive(processes), END_S, f"all of {len(processes)} processes gone")
    assert not on(runs)
