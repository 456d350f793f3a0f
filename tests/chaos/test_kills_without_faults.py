"""Planted bugs that no fault is needed for: unusual traffic finds them, or a drill does, and the reference collector passes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from chaos.commands.drill import drill_plan
from chaos.commands.session import Session, session
from chaos.display import Display
from chaos.drills.run import DrillRunner
from chaos.faults import catalogue
from chaos.request import Request
from chaos.runner import Runner
from chaos.scenario import load_plan
from chaos.target import find_target
from tests.mutants import target

pytestmark = [pytest.mark.integration, pytest.mark.slow]

BY_TRAFFIC = {
    "duplicates": ("never-dedupes", "events.duplicated"),
    "id-collision": ("dedupes-by-id", "events.lost"),
    "poison": ("blocks-on-poison", "events.stuck"),
}
"""Traffic of loadtests/profiles.yaml, what it kills, and by which check."""

BY_DRILL = (
    ("flush-and-verify", "flush-lies", "drill.flush-and-verify"),
    ("export-clear-replay", "exports-too-little", "events.lost"),
    ("export-clear-replay", "replays-again", "events.duplicated"),
    ("reset-accounted", "reset-lies", "drill.reset-accounted"),
    ("restore-from-export", "exports-too-little", "drill.restore-from-export"),
)
"""Drills, what each kills, and by which check."""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    runs = tmp_path_factory.mktemp("stack")
    with session("seaweedfs", runs=runs, seed=1, display=Display(Console(stderr=True), quiet=True)) as running:
        yield running


def mutant(directory: Path, name: str) -> str:
    path = directory / f"{name}.yaml"
    path.write_text(yaml.safe_dump(target(name)))
    return str(path)


def request(directory: Path, plan: Any, where: str) -> Request:
    path, loaded = find_target(where)
    return Request(plan, path, loaded, directory / "runs", 7, ("test",))


def verdict_of(result: Any) -> dict[str, Any]:
    verdict: dict[str, Any] = json.loads(result.run.verdict.read_text())
    return verdict


def under_traffic(stack: Session, directory: Path, profile: str, where: str) -> dict[str, Any]:
    spec = catalogue()["nothing"]
    scenario = directory / "scenario.yaml"
    scenario.write_text(spec.micro.scenario("nothing", spec.about))
    plan = load_plan(scenario, [f"traffic.profile={profile}"])
    display = Display(Console(stderr=True), quiet=True)
    runner = Runner(request(directory, plan, where), stack=stack.stack, warden=stack.warden, display=display)
    return verdict_of(runner.execute())


def drilled(stack: Session, directory: Path, name: str, where: str) -> dict[str, Any]:
    plan = drill_plan(name, (), ("settle_s=20",))
    display = Display(Console(stderr=True), quiet=True)
    runner = DrillRunner(request(directory, plan, where), stack=stack.stack, warden=stack.warden, display=display)
    return verdict_of(runner.execute())


@pytest.mark.parametrize("profile", BY_TRAFFIC)
def test_traffic_finds_a_planted_bug(stack: Session, tmp_path: Path, profile: str) -> None:
    """By the check that names it."""
    name, check = BY_TRAFFIC[profile]
    verdict = under_traffic(stack, tmp_path, profile, mutant(tmp_path, name))

    assert {one["id"]: one["verdict"] for one in verdict["checks"]}[check] == "FAIL", verdict["first_screen"]


@pytest.mark.parametrize("profile", BY_TRAFFIC)
def test_the_reference_collector_passes_under_the_traffic(stack: Session, tmp_path: Path, profile: str) -> None:
    """So that it is the bug that was found."""
    assert under_traffic(stack, tmp_path, profile, "reference")["verdict"] == "PASS"


@pytest.mark.parametrize(("name", "bug", "check"), BY_DRILL)
def test_a_drill_finds_a_planted_bug(stack: Session, tmp_path: Path, name: str, bug: str, check: str) -> None:
    """By the check that names it; tests/chaos/test_drills.py has the reference collector pass each drill."""
    verdict = drilled(stack, tmp_path, name, mutant(tmp_path, bug))

    assert {one["id"]: one["verdict"] for one in verdict["checks"]}[check] == "FAIL", verdict["first_screen"]
