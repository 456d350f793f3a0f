"""Drills as whole runs against real servers: by hand on either stack, and as steps of a scenario."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from chaos.commands.drill import drill_plan
from chaos.commands.session import Session, session
from chaos.display import Display
from chaos.drills import MODULES
from chaos.drills.run import DrillRunner
from chaos.request import Request
from chaos.runner import Runner
from chaos.scenario import Plan, load_plan
from chaos.target import find_target

pytestmark = [pytest.mark.integration, pytest.mark.slow]

SCENARIO = """\
name: drilled
question: Are drills done beside traffic, one at a time, and is one that never came told apart?
traffic: {events_per_s: 200, batch: 20, for_s: 20}
baseline_s: 2
settle_s: 40
env: {ICEBERG_BUFFER_TIMEOUT_MS: "3000"}
steps:
  - {fault: manifest-deleted, at_s: 8, for_s: 4}
  - {drill: repair-the-table, at_s: 8, with: {fault: ""}}
  - {drill: flush-and-verify, after: 1st commit POST}
"""
NEVER = "  - {drill: drain-and-restart, when: acked > 1000000}\n"


@pytest.fixture(scope="module", params=["seaweedfs", "moto"])
def stack(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    runs = tmp_path_factory.mktemp("stack")
    with session(request.param, runs=runs, seed=1, display=Display(Console(stderr=True), quiet=True)) as running:
        yield running


def verdict_of(kind: type[Runner], plan: Plan, stack: Session, directory: Path) -> dict[str, Any]:
    path, loaded = find_target("reference")
    request = Request(plan, path, loaded, directory / "runs", 7, ("test",))
    display = Display(Console(stderr=True), quiet=True)
    result = kind(request, stack=stack.stack, warden=stack.warden, display=display).execute()
    verdict: dict[str, Any] = json.loads(result.run.verdict.read_text())
    return verdict


@pytest.mark.parametrize("name", MODULES)
def test_the_reference_collector_passes_every_drill(stack: Session, tmp_path: Path, name: str) -> None:
    """What the procedure promises holds, and every acknowledged event is in the table exactly once."""
    verdict = verdict_of(DrillRunner, drill_plan(name, (), ()), stack, tmp_path)

    assert verdict["verdict"] == "PASS", verdict["first_screen"]
    assert f"drill.{name}" in {one["id"] for one in verdict["checks"]}


@pytest.mark.parametrize("never", [False, True])
def test_drills_are_steps_of_a_scenario(stack: Session, tmp_path: Path, never: bool) -> None:
    """All of them done: PASS, with the times of the repair; one that never came: INCONCLUSIVE, by its own check."""
    path = tmp_path / "drilled.yaml"
    path.write_text(SCENARIO + NEVER * never)
    verdict = verdict_of(Runner, load_plan(path), stack, tmp_path)
    checks = {one["id"]: one for one in verdict["checks"]}

    wrong = [one for one in verdict["checks"] if one["verdict"] != "PASS"]
    assert verdict["verdict"] == ("INCONCLUSIVE" if never else "PASS"), wrong
    assert checks["drill.flush-and-verify"]["verdict"] == "PASS"
    assert {"detected_ms", "mitigated_ms", "recovered_ms"} <= set(checks["drill.repair-the-table"]["counts"])
    assert not never or checks["drill.drain-and-restart"]["verdict"] == "INCONCLUSIVE"
