"""Runs that go from traffic through damage, doctor, repair and verdict by themselves, on each stack that can show it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from chaos.commands.session import session
from chaos.display import Display
from chaos.errors import ToolMissing
from chaos.faults.kills import kills
from chaos.request import Request
from chaos.runner import Runner
from chaos.scenario import find_scenario, load_plan
from chaos.setup import SetupError
from chaos.target import find_target
from tests.chaos.trying import mutant, tried

pytestmark = [pytest.mark.integration, pytest.mark.slow]

RUNS = (
    ("seaweedfs", "manifest-corruption"),
    ("moto", "manifest-corruption"),
    ("seaweedfs", "manifest-list-corruption"),
    ("moto", "metadata-corruption"),
)


def verdict_of(stack: str, scenario: str, directory: Path) -> dict[str, Any]:
    path, target = find_target("reference")
    request = Request(load_plan(find_scenario(scenario)), path, target, directory / "runs", 7, ("test",))
    display = Display(Console(stderr=True), quiet=True)
    try:
        with session(stack, runs=directory / "runs", seed=7, display=display) as running:
            result = Runner(request, stack=running.stack, warden=running.warden, display=display).execute()
    except (SetupError, ToolMissing) as error:
        pytest.skip(str(error))
    document: dict[str, Any] = json.loads(result.run.verdict.read_text())
    return document


@pytest.mark.parametrize(("stack", "scenario"), RUNS)
def test_damage_is_noticed_mended_and_judged(stack: str, scenario: str, tmp_path: Path) -> None:
    """Every acknowledged event is there exactly once, and the report says who noticed and how long it took."""
    verdict = verdict_of(stack, scenario, tmp_path)
    assert verdict["verdict"] == "PASS", verdict["first_screen"]
    drill = next(one for one in verdict["checks"] if one["id"] == "drill.repair-the-table")
    assert drill["verdict"] == "PASS"
    [damage] = verdict["sections"]["recovery"]["damage"]
    assert damage["noticed_first_by"] in ("reader", "writer", "doctor")
    assert 0 <= damage["doctor_s"] <= damage["mitigated_s"] <= damage["recovered_s"]
    assert f"noticed by the {damage['noticed_first_by']} after" in "\n".join(verdict["first_screen"])


@pytest.mark.parametrize("stack", ["seaweedfs", "moto"])
def test_a_lost_data_file_comes_back_from_an_export(stack: str, tmp_path: Path) -> None:
    """Noticed, mended without a loss, and the report says by whom and when."""
    verdict = verdict_of(stack, "data-file-corruption", tmp_path)
    assert verdict["verdict"] == "PASS", verdict["first_screen"]
    [damage] = verdict["sections"]["recovery"]["damage"]
    assert 0 <= damage["doctor_s"] <= damage["mitigated_s"] <= damage["recovered_s"]


@pytest.mark.parametrize("stack", ["seaweedfs", "moto"])
def test_a_data_file_that_nobody_has_a_copy_of_is_lost_as_the_repair_says(stack: str, tmp_path: Path) -> None:
    """The verdict is about the events that are gone, the drill about their number; nothing else is wrong."""
    verdict = verdict_of(stack, "data-file-lost", tmp_path)
    checks = {one["id"]: one for one in verdict["checks"]}
    failed = [name for name, one in checks.items() if one["verdict"] == "FAIL"]
    assert failed == ["events.lost"], verdict["first_screen"]
    [damage] = verdict["sections"]["recovery"]["damage"]
    assert 0 <= damage["doctor_s"] <= damage["mitigated_s"] <= damage["recovered_s"]
    said = next(one for one in checks["drill.repair-the-table"]["evidence"] if one.startswith("accounted: "))
    lost = checks["events.lost"]["counts"]["lost"]
    assert said == f"accounted: holds, {lost} acknowledged events are missing, the repair said {lost} rows"


@pytest.mark.parametrize(("stack", "scenario"), [("moto", "table-recreated"), ("seaweedfs", "orphan-cleaner")])
def test_what_others_do_to_the_table_costs_no_event(stack: str, scenario: str, tmp_path: Path) -> None:
    """The reference collector stands it."""
    verdict = verdict_of(stack, scenario, tmp_path)
    assert verdict["verdict"] == "PASS", verdict["first_screen"]


def test_metadata_that_the_catalog_does_not_read_is_no_damage(tmp_path: Path) -> None:
    """On a catalog with a copy of its own the step is void, and the drill finds nothing to repair; no event is missing."""
    verdict = verdict_of("seaweedfs", "metadata-corruption", tmp_path)
    found = {one["id"]: one["verdict"] for one in verdict["checks"]}
    assert verdict["verdict"] == "FAIL", verdict["first_screen"]
    assert (found["drill.repair-the-table"], found["run.faults_effective"]) == ("FAIL", "INCONCLUSIVE")
    assert found["events.lost"] == "PASS"


def test_a_recreated_table_costs_no_event_where_it_can_be_undone(tmp_path: Path) -> None:
    """On moto, which keeps the files of a dropped table: the reference collector passes, one that gives up loses events."""
    display = Display(Console(stderr=True), quiet=True)
    kill = kills()["table-recreated"]
    assert kill.mutant is not None
    assert kill.check is not None
    with session("moto", runs=tmp_path / "runs", seed=7, display=display) as running:
        reference = tried(running, tmp_path, "table-recreated", "reference")
        broken = tried(running, tmp_path, "table-recreated", mutant(tmp_path, kill.mutant))
    assert reference["verdict"] == "PASS", reference["first_screen"]
    assert {one["id"]: one["verdict"] for one in broken["checks"]}[kill.check] == "FAIL", broken["first_screen"]
