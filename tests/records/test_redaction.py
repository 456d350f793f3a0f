"""What a run directory keeps of a scenario and a command line: what decides how a run goes, and no secret."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from loadtests.records.redaction import redacted_arguments, redacted_scenario
from loadtests.records.rundir import RunDir, RunInfo
from loadtests.records.target import Ingest, Target

SCENARIO = """\
# mine.yaml with --set env.API_TOKEN=hunter2 traffic.for_s=3
name: mine  # a comment
env:
  ICEBERG_BUFFER_SIZE: "500"
  API_TOKEN: hunter2
  DSN: postgres://me:hunter2@db/events?sslkey=hunter2
  DB_PASSWORD: 'hunter2'
steps: []
"""


def test_secrets_of_the_environment_are_hidden_and_the_rest_is_kept() -> None:
    """By their names; in URLs by their place. Comments and order stay."""
    text = redacted_scenario(SCENARIO)

    assert "hunter2" not in text
    assert text.startswith("# mine.yaml with --set env.API_TOKEN=*** traffic.for_s=3\nname: mine  # a comment\n")
    assert yaml.safe_load(text)["env"] == {
        "ICEBERG_BUFFER_SIZE": "500",
        "API_TOKEN": "***",
        "DSN": "postgres://***@db/events?***",
        "DB_PASSWORD": "***",
    }


@pytest.mark.parametrize("text", ["", "just words", "name: [", "env: none\n", "env: {A: {B: 1}}\n", "- env\n"])
def test_what_has_no_environment_stays_as_it_is(text: str) -> None:
    """Also what is no scenario at all: saying so is another's task."""
    assert redacted_scenario(text) == text


def test_a_flow_mapping_is_read_too() -> None:
    """As scenarios mostly write it."""
    assert redacted_scenario('env: {A: "1", MY_KEY: hunter2, B: x}\n') == 'env: {A: "1", MY_KEY: "***", B: x}\n'


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("env.API_TOKEN=hunter2", "env.API_TOKEN=***"),
        ("--set=env.API_TOKEN=hunter2", "--set=env.API_TOKEN=***"),
        ("env={API_TOKEN: hunter2}", "env=***"),
        ("env.ICEBERG_BUFFER_SIZE=5", "env.ICEBERG_BUFFER_SIZE=5"),
        ("traffic.for_s=3", "traffic.for_s=3"),
    ],
)
def test_a_command_line_is_kept_without_secrets(given: str, kept: str) -> None:
    """It is what repeats the run."""
    assert redacted_arguments(["icequake", "run", "--set", given]) == ["icequake", "run", "--set", kept]


def test_no_file_of_a_new_run_holds_a_secret(tmp_path: Path) -> None:
    """Neither run.json nor scenario.yaml."""
    info = RunInfo(
        run_id="ab12cd34", scenario="mine", target="t", seed=1, argv=["run", "--set", "env.API_TOKEN=hunter2"]
    )
    target = Target(name="t", ingest=Ingest(url="http://127.0.0.1:1/events"))
    run = RunDir.create(tmp_path, info, scenario_text=SCENARIO, target=target)

    files = [path for path in run.root.rglob("*") if path.is_file()]
    assert len(files) >= 3
    assert not [path for path in files if b"hunter2" in path.read_bytes()]
