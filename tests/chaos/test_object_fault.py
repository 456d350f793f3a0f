"""Damage to the run's own table: kept first, seen by the verdict, put back afterwards."""

from __future__ import annotations

import json
import random
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pyiceberg.catalog import load_catalog
from pyiceberg.table import Table
from rich.console import Console

from chaos.commands.session import Session, session
from chaos.display import Display
from chaos.errors import NotPossible, ToolMissing
from chaos.faults import catalogue
from chaos.faults.env import Env
from chaos.faults.object import DamagedObject, put_back_originals
from chaos.request import Request
from chaos.runner import Runner
from chaos.scenario import load_plan
from chaos.setup import SetupError
from chaos.table.originals import Originals
from chaos.target import find_target
from tests.chaos.fakes import FakeSeen, env
from tests.chaos.table.lake import rows

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    home = tmp_path_factory.mktemp("object")
    display = Display(Console(stderr=True), quiet=True)
    try:
        with session("seaweedfs", runs=home / "runs", seed=7, display=display) as opened:
            yield opened
    except (SetupError, ToolMissing) as error:
        pytest.skip(str(error))


@pytest.fixture
def table(running: Session) -> Table:
    catalog = load_catalog("test", **running.stack.pyiceberg_properties(direct=True))
    namespace = f"run_{uuid.uuid4().hex[:8]}"
    catalog.create_namespace(namespace)
    made = catalog.create_table(f"{namespace}.events", rows(0, 1).schema)
    for index in range(2):
        made.append(rows(index * 10, 10, hour=index))
    return made


def env_of(running: Session, table: Table, tmp_path: Path) -> Env:
    name, originals = ".".join(table.name()), tmp_path / "originals"
    return replace(env(None, FakeSeen()), stack=running.stack, table=name, originals=originals, rng=random.Random(3))


def test_the_original_is_kept_and_healing_leaves_the_damage(running: Session, table: Table, tmp_path: Path) -> None:
    """Only putting back makes the table whole, which the runner does after the verdict."""
    given = env_of(running, table, tmp_path)
    spec = DamagedObject(role="manifest-list", mutation="deleted")
    injection = spec.inject(given, "step0")
    injection.heal()
    assert injection.effect().measured["still_damaged"] is True
    with pytest.raises(FileNotFoundError):
        table.refresh().scan().to_arrow()
    [back] = put_back_originals(given.originals, running.stack.pyiceberg_properties(direct=True))
    assert back.done
    assert len(table.refresh().scan().to_arrow()) == 20


def test_damage_that_is_to_be_mended_ends_with_its_step(running: Session, table: Table, tmp_path: Path) -> None:
    """As when a backup is restored, so that a verdict tells what the target did meanwhile."""
    given = env_of(running, table, tmp_path)
    injection = DamagedObject(role="manifest-list", mutation="header-only", mended=True).inject(given, "step0")
    assert not len(table.refresh().scan().to_arrow())
    injection.heal()
    assert injection.effect().measured["still_damaged"] is True
    assert len(table.refresh().scan().to_arrow()) == 20
    assert not put_back_originals(given.originals, running.stack.pyiceberg_properties(direct=True))


def test_what_cannot_be_damaged_is_void_with_a_reason(running: Session, table: Table, tmp_path: Path) -> None:
    """A catalog that keeps its own metadata, a table that is not there yet."""
    given = env_of(running, table, tmp_path)
    with pytest.raises(NotPossible, match=r"never reads metadata\.json back"):
        DamagedObject(role="metadata", mutation="deleted").inject(given, "step0")
    with pytest.raises(NotPossible, match="no table"):
        DamagedObject(role="manifest", mutation="deleted").inject(replace(given, table="a.b"), "step0")
    with pytest.raises(ValueError, match="no mutation 'melted'"):
        DamagedObject(role="manifest", mutation="melted")


@pytest.mark.slow
def test_a_run_fails_on_damage_and_puts_it_back_when_it_was_judged(running: Session, tmp_path: Path) -> None:
    """A data file vanishes under traffic: its events are lost in the verdict, and there again afterwards."""
    spec = catalogue()["data-file-deleted"]
    scenario = tmp_path / "try.yaml"
    scenario.write_text(
        "name: try-data-file-deleted\nquestion: Is lost data noticed?\n"
        "traffic: {events_per_s: 100, batch: 20, for_s: 5}\nbaseline_s: 1.5\nsettle_s: 15\n"
        "env: {ICEBERG_BUFFER_TIMEOUT_MS: '500'}\n"
        f"steps:\n  - {{fault: {spec.name}, after: '3rd commit POST', for_s: 1}}\n"
    )
    path, target = find_target("reference")
    request = Request(load_plan(scenario), path, target, tmp_path / "runs", 7, ("test",))
    display = Display(Console(stderr=True), quiet=True)
    result = Runner(request, stack=running.stack, warden=running.warden, display=display).execute()
    verdict: dict[str, Any] = json.loads(result.run.verdict.read_text())
    found = {one["id"]: one["verdict"] for one in verdict["checks"]}
    assert verdict["verdict"] == "FAIL", verdict["first_screen"]
    assert found["run.faults_effective"] == "PASS", verdict["first_screen"]
    assert verdict["totals"]["lost"] > 0 or found["run.read"] == "FAIL", verdict["first_screen"]
    kept = Originals(result.run.root / "originals")
    assert len(kept._records()) == 2
    assert kept.pending() == []
    assert "put back" in result.run.timeline.read_text()
