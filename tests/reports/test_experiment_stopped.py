"""However `icequake experiment` is stopped, every fault is healed, nothing goes on, and what was measured is kept."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from tests.chaos.test_controller_death import START_S, alive, descendants, on, start, until

pytestmark = [pytest.mark.integration, pytest.mark.slow]

END_S = 60.0
CLAIM = (
    "capacity",
    "--claim",
    "50",
    "--verify-for",
    "300",
    "--fault",
    "slow-r2",
    "--with",
    "latency_ms=20",
    "--batch",
    "10",
)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_heals_ends_everything_and_keeps_what_was_measured(number: signal.Signals, tmp_path: Path) -> None:
    """Exit 2, with a sentence that concludes nothing."""
    command = start("experiment", *CLAIM, runs=tmp_path)
    try:
        until(lambda: on(tmp_path) or command.poll() is not None, START_S, "the fault is on")
        processes = descendants(command.pid)
        assert len(processes) >= 6
        command.send_signal(number)
        out, _ = command.communicate(timeout=END_S)
    finally:
        if command.poll() is None:
            command.kill()
            command.communicate()

    assert command.returncode == 2, out.decode()
    assert f"Not answered: stopped ({number.name} was received), after 1 run.".encode() in out
    assert not alive(processes)
    assert not on(tmp_path)
    (kept,) = (tmp_path / "experiments").glob("*-capacity/answer.json")
    document = json.loads(kept.read_text())
    assert document["exit_code"] == 2
    assert [run["verdict"] for run in document["outcomes"]] == ["INCONCLUSIVE"]
