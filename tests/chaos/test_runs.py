"""Whole runs against real servers: each planted bug is found for the right reason, and a correct target passes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml
from pyiceberg.catalog import load_catalog
from pyiceberg.expressions import EqualTo
from pyiceberg.table import Table
from rich.console import Console

from chaos.commands.session import Session, session
from chaos.display import Display
from chaos.generator import PROBE_PRODUCER
from chaos.request import Request
from chaos.runner import Runner
from chaos.scenario import find_scenario, load_plan
from chaos.target import find_target

pytestmark = pytest.mark.integration

HERE = Path(__file__).parent
MICRO = [
    "traffic.events_per_s=200",
    "traffic.for_s=3",
    "baseline_s=1",
    "settle_s=6",
    'env.ICEBERG_BUFFER_TIMEOUT_MS="500"',
]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    runs = tmp_path_factory.mktemp("stack")
    with session("seaweedfs", runs=runs, seed=1, display=Display(Console(stderr=True), quiet=True)) as running:
        yield running


def mutant(tmp_path: Path, name: str) -> Path:
    target = {
        "name": name,
        "ingest": {"url": "http://127.0.0.1:{port}/events", "mode": "batch"},
        "metrics": {"url": "http://127.0.0.1:{port}/metrics", "buffered": "naive_buffer_events"},
        "process": {
            "command": ["{python}", str(HERE.parent / "mutants.py"), name],
            "ready": "http://127.0.0.1:{port}/healthz",
        },
    }
    path = tmp_path / f"{name}.yaml"
    path.write_text(yaml.safe_dump(target))
    return path


def execute(stack: Session, tmp_path: Path, target: str | Path, *overrides: str, scenario: str = "control") -> Any:
    plan = load_plan(find_scenario(scenario), [*MICRO, *overrides])
    path, loaded = find_target(str(target))
    request = Request(plan, path, loaded, tmp_path / "runs", 7, ("test",))
    display = Display(Console(stderr=True), quiet=True)
    result = Runner(request, stack=stack.stack, warden=stack.warden, display=display).execute()
    return json.loads(result.run.verdict.read_text()), result


def judge_again(stack: Session, run: Path) -> dict[str, Any]:
    """Read the table anew and judge, as `icequake observe` and `icequake judge` do."""
    at = stack.stack.addresses
    secrets = {
        "ICEQUAKE_S3_ACCESS_KEY": at.access_key,
        "ICEQUAKE_S3_SECRET_KEY": at.secret_key,
        "ICEQUAKE_CATALOG_CREDENTIAL": f"{at.access_key}:{at.secret_key}",
    }
    for module, good in (("reports.observe", (0,)), ("reports.judge", (0, 1, 2))):
        done = subprocess.run(
            [sys.executable, "-m", module, str(run)], env={**os.environ, **secrets}, capture_output=True, text=True
        )
        assert done.returncode in good, done.stderr
    verdict: dict[str, Any] = json.loads((run / "verdict.json").read_text())
    return verdict


def delete_row(table: Table, rows: pa.Table) -> None:
    table.delete(EqualTo("id", rows["id"][0].as_py()))


def double_row(table: Table, rows: pa.Table) -> None:
    table.append(rows.slice(0, 1))


def alter_row(table: Table, rows: pa.Table) -> None:
    one = rows.slice(0, 1)
    table.delete(EqualTo("id", one["id"][0].as_py()))
    position = one.schema.get_field_index("data")
    table.append(
        one.set_column(position, one.schema.field("data"), pa.array(['{"n":"other"}'], one.schema.field("data").type))
    )


def verdicts(verdict: dict[str, Any]) -> dict[str, str]:
    return {check["id"]: check["verdict"] for check in verdict["checks"]}


@pytest.fixture(scope="module")
def finished(stack: Session, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """A finished control run of the reference collector, its stack still up."""
    verdict, result = execute(stack, tmp_path_factory.mktemp("finished"), "reference", *CONTROL)
    return verdict, result.run.root


CONTROL = ["steps=[{fault: nothing, at_s: 1, for_s: 1}]"]


def test_the_reference_collector_passes_the_control_experiment(finished: tuple[dict[str, Any], Path]) -> None:
    """With nothing broken, everything acknowledged is in the table exactly once."""
    verdict, _ = finished

    assert (verdict["verdict"], verdict["exit_code"]) == ("PASS", 0), verdict["first_screen"]
    assert verdict["totals"]["acked"] > 0


@pytest.mark.parametrize("of_probe", [False, True], ids=["traffic", "after settling"])
@pytest.mark.parametrize(
    ("tamper", "check"),
    [(delete_row, "events.lost"), (double_row, "events.duplicated"), (alter_row, "events.altered")],
)
def test_one_row_tampered_with_in_a_finished_table_is_found(
    stack: Session,
    finished: tuple[dict[str, Any], Path],
    tmp_path: Path,
    tamper: Callable[[Table, pa.Table], None],
    check: str,
    of_probe: bool,
) -> None:
    """One row deleted, doubled or altered gives FAIL by exactly the check that names it."""
    root = tmp_path / "run"
    shutil.copytree(finished[1], root)
    name = json.loads((root / "stack.json").read_text())["table"]
    table = load_catalog("direct", **stack.stack.pyiceberg_properties(direct=True)).load_table(name)
    before = table.current_snapshot()
    assert before is not None
    rows = table.scan().to_arrow()
    probed = [source.endswith(f":{PROBE_PRODUCER}") for source in rows["source"].to_pylist()]
    chosen = rows.filter(pa.array([is_probe == of_probe for is_probe in probed]))
    tamper(table, chosen)
    try:
        verdict = judge_again(stack, root)
    finally:
        table.refresh()
        table.manage_snapshots().rollback_to_snapshot(before.snapshot_id).commit()

    failed = {name for name, value in verdicts(verdict).items() if value == "FAIL"}
    assert verdict["verdict"] == "FAIL"
    assert failed == {check}


@pytest.mark.parametrize(
    ("name", "expected", "check"),
    [
        ("correct", "PASS", None),
        ("blackhole", "FAIL", "events.lost"),
        ("twice", "FAIL", "events.duplicated"),
        ("stuck", "FAIL", "events.stuck"),
        ("always-503", "INCONCLUSIVE", "run.acked"),
    ],
)
def test_a_planted_bug_is_found_for_the_right_reason(
    stack: Session, tmp_path: Path, name: str, expected: str, check: str | None
) -> None:
    """Each mutant gets the verdict it deserves from the check that names its bug; the unchanged one passes."""
    verdict, _ = execute(stack, tmp_path, mutant(tmp_path, name), *CONTROL)

    assert verdict["verdict"] == expected, verdict["first_screen"]
    if check is not None:
        assert verdicts(verdict)[check] == expected


def test_a_fault_without_effect_cannot_pass(stack: Session, tmp_path: Path) -> None:
    """A rule that matches no request is void, and a run with a void step is INCONCLUSIVE."""
    never = "steps=[{fault: commit-answer-lost, at_s: 0, for_s: 2, with: {match: {path: no-such-path}}}]"
    verdict, _ = execute(stack, tmp_path, "reference", never)

    assert verdict["verdict"] == "INCONCLUSIVE"
    assert verdicts(verdict)["run.faults_effective"] == "INCONCLUSIVE"


def test_a_lost_commit_answer_is_survived_by_the_reference(stack: Session, tmp_path: Path) -> None:
    """The commit was applied and its answer lost: nothing is doubled and nothing is lost."""
    lost = "steps=[{fault: commit-answer-lost, at_s: 0, for_s: 3}]"
    verdict, _ = execute(stack, tmp_path, "reference", lost, "settle_s=20")

    assert verdict["verdict"] == "PASS", verdict["first_screen"]
    assert verdicts(verdict)["run.faults_effective"] == "PASS"
