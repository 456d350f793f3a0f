"""Every named fault kills something: two of them here, each of them by `icequake catalogue`."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from chaos.faults import catalogue
from chaos.faults.kills import kills
from chaos.target import TARGETS
from tests.chaos.test_controller_death import start
from tests.mutants import MUTANTS

FAULTS = ("catalog-403", "r2-403-manifest")
END_S = 300.0


def tried(tmp_path: Path, *arguments: str) -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
    """What the command ended with, and the rows of its report."""
    report = tmp_path / "report"
    command = start("catalogue", *arguments, "--report", str(report), runs=tmp_path / "runs")
    out, _ = command.communicate(timeout=END_S)
    rows = json.loads((report / "catalogue.json").read_text())["rows"]
    return subprocess.CompletedProcess([], command.returncode, out.decode()), {row["fault"]: row for row in rows}


def test_every_fault_kills_something() -> None:
    """A new fault needs a line in kills.yaml (its loader sees to that); a line needs a mutant that exists."""
    assert set(kills()) == set(catalogue())
    assert {kill.mutant for kill in kills().values()} <= set(MUTANTS)


@pytest.mark.integration
def test_the_reference_passes_and_a_planted_bug_fails_under_a_fault(tmp_path: Path) -> None:
    """By the check that names the bug, with the fault in effect, on two stacks side by side."""
    ended, rows = tried(tmp_path, *FAULTS, "--jobs", "2")

    assert ended.returncode == 0, ended.stdout
    for fault in FAULTS:
        assert (rows[fault]["unbroken"], rows[fault]["kills"]) == ("PASS", {kills()[fault].mutant: "killed"})


@pytest.mark.integration
@pytest.mark.slow
def test_a_planted_bug_that_is_none_survives(tmp_path: Path) -> None:
    """The reference collector under another's name: the command says so and ends with 1."""
    fault = FAULTS[0]
    name = kills()[fault].mutant
    document = yaml.safe_load((TARGETS / "reference.yaml").read_text()) | {"name": name}
    mutants = tmp_path / "no_mutants.py"
    mutants.write_text(f"print({json.dumps({name: document})!r})")

    ended, rows = tried(tmp_path, fault, "--jobs", "1", "--mutants", str(mutants))

    assert ended.returncode == 1, ended.stdout
    assert rows[fault]["kills"] == {name: "survived"}
    assert f"survived: {fault} on {name}; icequake report " in ended.stdout
