"""Every named fault kills something: under it, a collector with one planted bug fails by the check that names the bug."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from chaos.commands.session import Session, session
from chaos.display import Display
from chaos.faults import catalogue
from chaos.faults.kills import kills
from chaos.runner import Request, Runner
from chaos.target import find_target
from chaos.trials.plan import plan_for
from tests.mutants import MUTANTS, target

QUICK = ("catalog-403", "r2-403-manifest")
"""What `make test` has time for; the rest is slow."""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    runs = tmp_path_factory.mktemp("stack")
    with session("seaweedfs", runs=runs, seed=1, display=Display(Console(stderr=True), quiet=True)) as running:
        yield running


def mutant(directory: Path, name: str) -> Path:
    path = directory / f"{name}.yaml"
    path.write_text(yaml.safe_dump(target(name)))
    return path


def tried(stack: Session, directory: Path, fault: str, against: Path | str, *, planted: bool = False) -> dict[str, Any]:
    plan = plan_for(catalogue()[fault], planted=planted)
    path, loaded = find_target(str(against))
    request = Request(plan, path, loaded, directory / "runs", 7, ("test",))
    display = Display(Console(stderr=True), quiet=True)
    result = Runner(request, stack=stack.stack, warden=stack.warden, display=display).execute()
    verdict: dict[str, Any] = json.loads(result.run.verdict.read_text())
    return verdict


def test_every_fault_kills_something_or_says_why_not() -> None:
    """A new fault needs a line in kills.yaml (its loader sees to that); a line needs a mutant that exists."""
    assert set(kills()) == set(catalogue())
    assert {kill.mutant for kill in kills().values()} - {None} <= set(MUTANTS)


@pytest.mark.integration
@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(fault, marks=() if fault in QUICK else (pytest.mark.slow,))
        for fault, kill in kills().items()
        if kill.mutant is not None and catalogue()[fault].micro.tier != "own"
    ],
)
def test_a_planted_bug_fails_under_the_fault(stack: Session, tmp_path: Path, fault: str) -> None:
    """By the check that names it, with the fault in effect."""
    kill = kills()[fault]
    assert kill.mutant is not None
    assert kill.check is not None
    verdict = tried(stack, tmp_path, fault, mutant(tmp_path, kill.mutant), planted=True)

    found = {one["id"]: one["verdict"] for one in verdict["checks"]}
    assert (verdict["verdict"], found[kill.check]) == ("FAIL", "FAIL"), verdict["first_screen"]
    assert found["run.faults_effective"] == "PASS", verdict["first_screen"]


@pytest.mark.integration
@pytest.mark.slow
@pytest.mark.parametrize("fault", sorted(name for name, spec in catalogue().items() if spec.micro.tier != "own"))
def test_the_reference_collector_passes_under_the_fault(stack: Session, tmp_path: Path, fault: str) -> None:
    """Everything acknowledged is in the table exactly once, and the fault was in effect."""
    verdict = tried(stack, tmp_path, fault, "reference")

    assert verdict["verdict"] == "PASS", verdict["first_screen"]
