"""The formats that people and other programs read and write: a change shows in review, and the schemas mean what they say.

After an intended change: `for d in scenario target verdict run answer catalogue; do icequake schema $d > docs/schemas/$d.json; done`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
import yaml
from click.testing import CliRunner

from chaos.commands.schema import DOCUMENTS, schema
from loadtests.records.redaction import redacted
from loadtests.records.rundir import RunInfo, RunWindow
from loadtests.records.target import load_target
from tests.histories import A, B, HandMadeRun

ROOT = Path(__file__).parents[1]
GOLDEN = ROOT / "docs" / "schemas"
TARGETS = sorted((ROOT / "chaos" / "targets").glob("*.yaml"))
SCENARIOS = sorted((ROOT / "chaos" / "scenarios").glob("*.yaml"))


def validator(document: str) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(json.loads((GOLDEN / f"{document}.json").read_text(encoding="utf-8")))


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("document", DOCUMENTS)
def test_the_exported_schema_is_the_committed_one(document: str) -> None:
    """A change of format is a change of docs/schemas, which a reviewer sees."""
    printed = CliRunner().invoke(schema, [document])
    assert printed.exit_code == 0
    assert printed.output == (GOLDEN / f"{document}.json").read_text(encoding="utf-8")


def test_every_golden_copy_is_exported() -> None:
    """No schema stays behind when a document goes."""
    assert {path.stem for path in GOLDEN.glob("*.json")} == set(DOCUMENTS)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_a_schema_is_a_schema(document: str) -> None:
    """By the metaschema of JSON Schema 2020-12."""
    jsonschema.Draft202012Validator.check_schema(validator(document).schema)


@pytest.mark.parametrize("path", TARGETS, ids=lambda path: path.stem)
def test_shipped_targets_are_targets(path: Path) -> None:
    """As a person writes them, and as a run keeps them."""
    validator("target").validate(load(path))
    validator("target").validate(msgspec.to_builtins(redacted(load_target(path))))


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_shipped_scenarios_are_scenarios(path: Path) -> None:
    """Those that `icequake list scenarios` names."""
    validator("scenario").validate(load(path))


def test_a_verdict_is_a_verdict(tmp_path: Path) -> None:
    """A judged run with a lost event fits the schema, examples and evidence included."""
    run = HandMadeRun(tmp_path)
    run.acked(A, B)
    run.table(A)
    verdict = msgspec.to_builtins(run.judge())
    assert verdict["verdict"] == "FAIL"
    validator("verdict").validate(verdict)


def test_a_run_is_a_run() -> None:
    """The head of a run directory fits its schema at its start and at its end."""
    info = RunInfo(run_id="ab12cd34", scenario="s", target="t", seed=1)
    validator("run").validate(msgspec.to_builtins(info))
    info.window = RunWindow(settle="empty", baseline_start_ns=1)
    validator("run").validate(msgspec.to_builtins(info))


TARGET = {"name": "mine", "ingest": {"url": "http://a"}}
SCENARIO = {"name": "mine", "question": "Does it?"}


@pytest.mark.parametrize(
    ("document", "broken"),
    [
        ("target", {"name": "mine"}),
        ("target", {**TARGET, "name": "My target"}),
        ("target", {**TARGET, "ingest": {"url": "ftp://a"}}),
        ("target", {**TARGET, "ingest": {"url": "http://a", "mode": "carrier-pigeon"}}),
        ("target", {**TARGET, "contract": {"delivery": "twice"}}),
        ("target", {**TARGET, "contract": {"freshness_s": 0}}),
        ("target", {**TARGET, "contract": {"refusals": {"statuses": [200]}}}),
        ("target", {**TARGET, "proccess": {}}),
        ("scenario", {"name": "mine"}),
        ("scenario", {**SCENARIO, "steps": [{"at_s": 1}]}),
        ("scenario", {**SCENARIO, "steps": [{"fault": "nothing", "at_s": -1}]}),
        ("scenario", {**SCENARIO, "traffic": {"events_per_s": 0}}),
        ("scenario", {**SCENARIO, "traffic": {"events_per_minute": 10}}),
        ("scenario", {**SCENARIO, "settle_s": "long"}),
        ("verdict", {"verdict": "PASS"}),
        ("run", {"run_id": "ab12cd34"}),
    ],
)
def test_broken_documents_are_rejected(document: str, broken: dict[str, Any]) -> None:
    """An editor with the schema finds what the reader would refuse."""
    assert not validator(document).is_valid(broken)


def test_the_smallest_documents_are_accepted() -> None:
    """What the broken ones were made from is right."""
    validator("target").validate(TARGET)
    validator("scenario").validate(SCENARIO)


def test_a_verdict_of_another_name_is_rejected(tmp_path: Path) -> None:
    """There are three verdicts, and no fourth."""
    run = HandMadeRun(tmp_path)
    verdict = msgspec.to_builtins(run.judge())
    assert not validator("verdict").is_valid({**verdict, "verdict": "MAYBE"})
