"""Whole runs on the moto stack: the same scenarios find the same bugs as on SeaweedFS."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from chaos.commands.session import Session, session
from chaos.display import Display
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


def test_a_collector_that_appends_twice_fails(stack: Session, tmp_path: Path) -> None:
    """By the check that names its bug."""
    verdict, _ = execute(stack, tmp_path, mutant(tmp_path, "twice"), "steps=[{fault: nothing, at_s: 1, for_s: 1}]")

    assert verdict["verdict"] == "FAIL", verdict["first_screen"]
    assert verdicts(verdict)["events.duplicated"] == "FAIL"
