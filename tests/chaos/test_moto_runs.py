"""Whole runs on the moto stack: the same scenarios find the same bugs as on SeaweedFS."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from chaos.commands.session import Session, session
from chaos.display import Display
from chaos.stack import CAPABILITIES
from tests.chaos.test_runs import execute, mutant, verdicts

pytestmark = [pytest.mark.integration, pytest.mark.slow]
LOST = "steps=[{fault: commit-answer-lost, at_s: 0, for_s: 3}]"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    runs = tmp_path_factory.mktemp("stack")
    with session("moto", runs=runs, seed=1, display=Display(Console(stderr=True), quiet=True)) as running:
        yield running


def test_the_reference_survives_a_lost_commit_answer(stack: Session, tmp_path: Path) -> None:
    """The commit was applied and its answer lost: nothing is doubled and nothing is lost."""
    verdict, _ = execute(stack, tmp_path, "reference", LOST, "settle_s=20")

    assert verdict["verdict"] == "PASS", verdict["first_screen"]
    assert verdicts(verdict)["run.faults_effective"] == "PASS"


@pytest.mark.parametrize("fault", ["commit-sent-twice", "commit-zombie", "commit-applied-409", "catalog-killed"])
def test_the_reference_survives_what_only_a_catalog_can_do_to_it(stack: Session, tmp_path: Path, fault: str) -> None:
    """A commit that arrives twice, one that is held and applied later, one that is applied and refused, a killed catalog."""
    verdict, result = execute(
        stack,
        tmp_path,
        "reference",
        f"steps=[{{fault: {fault}, at_s: 0.5, for_s: 4}}]",
        "settle_s=30",
        "traffic.for_s=6",
    )

    assert verdict["verdict"] == "PASS", verdict["first_screen"]
    assert result.run.info.capabilities == CAPABILITIES["moto"]
    assert "drop_keeps_files" in verdict["sections"]["trust"]["stack_shows"]
    assert "survives_kill" in verdict["sections"]["trust"]["stack_lacks"]


def test_a_storage_in_memory_is_not_killed(stack: Session, tmp_path: Path) -> None:
    """The step is void and says why, and the run does not pass by leaving it out."""
    verdict, result = execute(
        stack, tmp_path, "reference", "steps=[{fault: storage-killed, at_s: 0, for_s: 2}]", "settle_s=20"
    )

    assert verdict["verdict"] == "INCONCLUSIVE"
    assert verdicts(verdict)["run.faults_effective"] == "INCONCLUSIVE"
    assert "the storage of the moto stack is memory" in result.run.timeline.read_text()


def test_a_collector_that_appends_twice_fails(stack: Session, tmp_path: Path) -> None:
    """By the check that names its bug."""
    verdict, _ = execute(stack, tmp_path, mutant(tmp_path, "twice"), "steps=[{fault: nothing, at_s: 1, for_s: 1}]")

    assert verdict["verdict"] == "FAIL", verdict["first_screen"]
    assert verdicts(verdict)["events.duplicated"] == "FAIL"


def test_the_reference_survives_the_death_of_the_catalog(stack: Session, tmp_path: Path) -> None:
    """Here it is a server of its own, and comes back with its tables."""
    killed = "steps=[{fault: catalog-killed, at_s: 0, for_s: 5}]"
    verdict, _ = execute(stack, tmp_path, "reference", "traffic.for_s=8", killed, "settle_s=30")

    assert verdict["verdict"] == "PASS", verdict["first_screen"]
    assert verdicts(verdict)["run.faults_effective"] == "PASS"


def test_a_store_that_would_forget_everything_is_not_killed(stack: Session, tmp_path: Path) -> None:
    """The step is void and says why; nobody is blamed for what a stack of memory loses."""
    killed = "steps=[{fault: storage-killed, at_s: 0, for_s: 5}]"
    verdict, _ = execute(stack, tmp_path, "reference", "traffic.for_s=8", killed)

    assert verdict["verdict"] == "INCONCLUSIVE", verdict["first_screen"]
    assert verdicts(verdict)["events.lost"] == "PASS"
    assert "is memory" in str([check for check in verdict["checks"] if check["id"] == "run.faults_effective"])
