"""One process judges run after run as the commands would."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from reports import judge, judging, observe
from tests.histories import A, B, HandMadeRun

ROOT = Path(__file__).parents[2]


@pytest.fixture
def observed_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """The table of a hand-made run was written by hand: there is nothing to read."""
    monkeypatch.setattr(judging, "STAGES", judging.STAGES[1:])


@pytest.mark.usefixtures("observed_before")
def test_a_run_gets_its_verdict(tmp_path: Path) -> None:
    """As `icequake judge` would write it, with its output in the run's logs."""
    run = HandMadeRun(tmp_path)
    run.acked(A, B)
    run.table(A)
    root = run.written()
    (root / "logs").mkdir(exist_ok=True)

    assert judging.judged(root) == {"code": 1}
    assert json.loads((root / "verdict.json").read_text())["verdict"] == "FAIL"
    assert "FAIL" in (root / "logs" / "judge.log").read_text()


def test_the_stages_are_those_of_the_commands() -> None:
    """First the table is read, then it is judged."""
    assert [(name, command) for name, command, _ in judging.STAGES] == [
        ("observe", observe.main),
        ("judge", judge.main),
    ]


@pytest.mark.integration
def test_what_cannot_be_judged_does_not_end_the_judging(tmp_path: Path) -> None:
    """Each line of input gets one line of output, which says why."""
    (tmp_path / "logs").mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "reports.judging"],
        input=f"{tmp_path}\n{tmp_path / 'nowhere'}\n", capture_output=True, text=True, cwd=ROOT, check=True, timeout=60,
    )  # fmt: skip

    first, second = (json.loads(line) for line in done.stdout.splitlines())
    assert first["error"].startswith("reports.observe ended with status 254: observe: there is no run ")
    assert "nowhere" in second["error"]
