"""A run that is halted from outside, or by a stop condition of its own, heals everything at once and cannot PASS."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from chaos import halt
from chaos.commands.session import Session, session
from chaos.display import Display
from chaos.request import Request
from chaos.runner import Runner
from chaos.scenario import load_plan
from chaos.target import find_target
from loadtests.records.rundir import RunDir
from loadtests.records.timeline import read_timeline
from tests.chaos.processes import until

pytestmark = [pytest.mark.integration, pytest.mark.slow]

SCENARIO = """\
name: halted
question: Is everything healed when somebody says so?
traffic: {events_per_s: 200, batch: 20, for_s: 60}
baseline_s: 1
env: {ICEBERG_BUFFER_TIMEOUT_MS: "500"}
steps:
  - {fault: r2-black-hole, at_s: 0, for_s: 60}
  - {fault: catalog-503, at_s: 0, for_s: 60}
  - {fault: freeze-collector, at_s: 0, for_s: 60}
"""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    runs = tmp_path_factory.mktemp("stack")
    with session("seaweedfs", runs=runs, seed=1, display=Display(Console(stderr=True), quiet=True)) as running:
        yield running


def prepare(stack: Session, tmp_path: Path, text: str) -> Runner:
    (tmp_path / "halted.yaml").write_text(text)
    path, target = find_target("reference")
    request = Request(load_plan(tmp_path / "halted.yaml"), path, target, tmp_path / "runs", 7, ("test",))
    return Runner(request, stack=stack.stack, warden=stack.warden, display=Display(Console(stderr=True), quiet=True))


def states(run: RunDir) -> list[tuple[str, str]]:
    return [(entry["fault"], entry["state"]) for entry in read_timeline(run.timeline) if entry["event"] == "step"]


def verdict(run: RunDir) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run.verdict.read_text())
    return found


def test_a_halt_from_another_thread_of_control_heals_within_five_seconds(stack: Session, tmp_path: Path) -> None:
    """A toxic, a rule and a stopped process at once; the run is judged, and says why it ended."""
    runner = prepare(stack, tmp_path, SCENARIO)
    took: list[float] = []

    def halt_when_all_are_on() -> None:
        until(lambda: [state for _, state in states(runner.run)].count("injected") == 3, within_s=60)
        halt.ask(runner.run)
        took.append(halt.wait_healed(runner.run.root))

    other = threading.Thread(target=halt_when_all_are_on)
    other.start()
    result = runner.execute()
    other.join()

    assert took[0] < halt.WITHIN_S
    assert result.exit_code == 2
    assert stack.stack.gateway.rules() == {}
    assert stack.stack.toxics.active == []
    assert RunDir.open(runner.run.root).info.stopped == "`icequake halt` asked for it"
    assert verdict(runner.run)["verdict"] == "INCONCLUSIVE"


@pytest.mark.parametrize(
    ("stop", "fault", "said"),
    [
        ("after_s: 2", "catalog-503", "stop.after_s: 2 s are over"),
        ("when: acked > 300", "catalog-503", "stop.when: acked > 300"),
        ("when: unseen_s > 3", "catalog-503", "stop.when: unseen_s > 3"),
        ("refused_share: 0.2", "ingest-down", "stop.refused_share: "),
    ],
)
def test_a_stop_condition_ends_the_run(stack: Session, tmp_path: Path, stop: str, fault: str, said: str) -> None:
    """Time is over, a reading says so, events stay invisible, clients are turned away; the faults are healed first."""
    steps = f"  - {{fault: r2-black-hole, at_s: 0, for_s: 60}}\n  - {{fault: {fault}, at_s: 0, for_s: 60}}\n"
    text = SCENARIO.partition("steps:")[0] + f"stop: {{{stop}}}\nsteps:\n{steps}"
    runner = prepare(stack, tmp_path, text)
    result = runner.execute()

    assert result.exit_code == 2
    assert (RunDir.open(runner.run.root).info.stopped or "").startswith(said)
    assert {state for _, state in states(runner.run)} <= {"armed", "injected", "healed", "void"}
    assert stack.stack.gateway.rules() == {}
    assert stack.stack.toxics.active == []
