"""Run directories for tests of the generator."""

from pathlib import Path

from loadtests.records.rundir import RunDir, RunInfo
from loadtests.records.target import Ingest, Target

RUN_ID = "ab12cd34"


def make_run(tmp_path: Path, *, mix: dict[str, float] | None = None) -> RunDir:
    info = RunInfo(run_id=RUN_ID, scenario="test", target="test", seed=7, mix=mix or {})
    target = Target(name="test", ingest=Ingest(url="http://127.0.0.1:1/events"))
    return RunDir.create(tmp_path / "runs", info, scenario_text="", target=target)
