"""A night: expected verdicts, what is written in the morning, and schedulers that name what exists."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from chaos.cli import COMMANDS, icequake, run_command
from chaos.scenario import find_scenario, load_plan
from chaos.target import find_target
from reports.history.commands import history
from reports.history.entry import read_history
from reports.history.page import trends_of
from reports.history.prune import KEPT, prune
from reports.nightly.command import write_morning
from reports.nightly.mail import LINES_MAX, body, payload, subject
from reports.nightly.night import NightRun, exit_code
from reports.nightly.preset import PresetRun, read_presets
from reports.verdict import Verdict
from tests.chaos.fakes import ok, replying
from tests.reports.test_history import written

ROOT = Path(__file__).parents[2]
WORKFLOW = ROOT / ".github" / "workflows" / "nightly.yml"
PASS, FAIL, INCONCLUSIVE = Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE


def night_run(
    verdict: Verdict | None, expect: Verdict = PASS, *, headline: str = "all there", root: Path | None = None
) -> NightRun:
    return NightRun(PresetRun(scenario="control", expect=expect), verdict, headline, root)


@pytest.mark.parametrize(
    ("runs", "code"),
    [
        ([night_run(PASS), night_run(FAIL, FAIL)], 0),
        ([night_run(PASS), night_run(FAIL)], 1),
        ([night_run(PASS, FAIL)], 1),
        ([night_run(INCONCLUSIVE)], 2),
        ([night_run(INCONCLUSIVE), night_run(FAIL)], 1),
        ([night_run(INCONCLUSIVE, FAIL)], 2),
        ([night_run(None), night_run(FAIL)], 255),
        ([], 2),
    ],
)
def test_a_night_ends_by_its_worst_surprise(runs: list[NightRun], code: int) -> None:
    """A naive target that passes is one; a night without runs proves nothing."""
    assert exit_code(runs) == code


def test_every_preset_names_what_exists() -> None:
    """Scenarios, targets, and values that can be set; each night has a target that must FAIL, the soak excepted."""
    presets = read_presets()
    assert set(presets) == {"smoke", "nightly", "soak"}
    for preset in presets.values():
        for run in preset.runs:
            load_plan(find_scenario(run.scenario), run.set)
            find_target(run.target)
    for name in ("smoke", "nightly"):
        assert any(run.expect is FAIL for run in presets[name].runs)


def test_the_mail_has_what_went_wrong_first_and_fifteen_lines_at_most() -> None:
    """However long the night was."""
    runs = [night_run(PASS) for _ in range(30)] + [night_run(FAIL, headline="3 events are missing")]
    lines = body(runs, "nightly", []).splitlines()
    assert len(lines) == LINES_MAX
    assert lines[0].startswith("FAIL  icequake nightly: 30 of 31 runs as expected")
    assert "3 events are missing" in lines[1]
    assert "18 more lines" in lines[-1]


def test_a_regression_is_in_the_mail_and_in_the_subject(tmp_path: Path) -> None:
    """After what failed."""
    for number in range(80, 99):
        written(tmp_path, number, cpu_us=10.0)
    for number in (99, 100):
        written(tmp_path, number, cpu_us=12.0)
    trends = trends_of(read_history(tmp_path))
    assert "1 regressions" in subject([night_run(PASS)], "nightly", trends)
    assert "REGRESSION   calibrated_cpu_us_per_event of nightly on mine: +20.0%" in body(
        [night_run(PASS)], "nightly", trends
    )
    assert len(payload([night_run(PASS)], "nightly", trends)["regressions"]) == 1


def test_the_morning_writes_page_mail_and_job_summary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trends are those of the kinds that ran tonight."""
    root = written(tmp_path, 100)
    written(tmp_path, 99, scenario="other")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    write_morning([night_run(PASS, root=root)], "nightly", tmp_path, tmp_path / "mail.txt")
    assert "run00100" in (tmp_path / "index.html").read_text()
    assert (tmp_path / "mail.txt").read_text().startswith("PASS  icequake nightly: 1 of 1")
    assert "PASS" in (tmp_path / "summary.md").read_text()


@pytest.mark.integration
def test_a_webhook_is_told_and_a_dead_one_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    """As JSON; a webhook changes no exit code."""
    from reports.nightly.command import _post

    with replying(lambda _: ok("{}")) as server:
        _post(f"{server.url}/hook", json.dumps({"text": "x"}).encode())
        url = server.url
    assert capsys.readouterr().err == ""
    _post(f"{url}/hook", b"{}")
    assert "was not told" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--preset", "no"], "has no preset 'no'"),
        (["--webhook", "file:///etc/passwd"], "is not an http or https URL"),
        (["--presets", "none.yaml"], "does not exist"),
    ],
)
def test_bad_arguments_start_nothing(
    arguments: list[str], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """254 and one sentence."""
    assert run_command(["nightly", *arguments, "--runs", str(tmp_path)]) == 254
    assert sentence in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_pruning_strips_old_passed_runs_only(tmp_path: Path) -> None:
    """Failures are evidence, the newest are wanted."""
    for number in (96, 97, 98, 99):
        (written(tmp_path, number, verdict=FAIL if number == 97 else PASS) / "gateway.jsonl").write_text("x" * 1000)
    stripped, freed = prune(read_history(tmp_path), 1)
    assert stripped == 2
    assert freed >= 2000
    left = {entry.run_id for entry in read_history(tmp_path) if (entry.root / "gateway.jsonl").exists()}
    assert left == {"run00097", "run00099"}
    assert {path.name for path in read_history(tmp_path)[0].root.iterdir()} <= KEPT
    assert CliRunner().invoke(history, ["--runs", str(tmp_path), "--prune"]).output.startswith("0 runs stripped")


def test_the_workflow_is_one() -> None:
    """By GitHub's own schema."""
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows", str(WORKFLOW)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_workflows_commands_exist() -> None:
    """Every make target and every icequake command with its options."""
    steps = yaml.safe_load(WORKFLOW.read_text())["jobs"]["nightly"]["steps"]
    commands = [shlex.split(line) for step in steps for line in step.get("run", "").splitlines()]
    assert len(commands) >= 4
    targets = (ROOT / "Makefile").read_text()
    for words in commands:
        if words[0] == "make":
            assert f"\n{words[1]}:" in targets
        else:
            assert words[1] in COMMANDS
            known = {name for option in icequake.get_command(None, words[1]).params for name in option.opts}  # type: ignore[arg-type, union-attr]
            assert {word for word in words if word.startswith("--")} <= known


def test_the_units_are_ones(tmp_path: Path) -> None:
    """As far as systemd is here to say."""
    units = [
        shutil.copy(ROOT / "docs" / "nightly" / f"icequake-nightly.{kind}", tmp_path) for kind in ("service", "timer")
    ]
    for path in units:
        assert "[Unit]" in Path(path).read_text()
    if shutil.which("systemd-analyze"):
        done = subprocess.run(
            ["systemd-analyze", "verify", "--user", "--man=no", *map(str, units)],
            capture_output=True,
            text=True,
            check=False,
        )
        complaints = [
            line for line in done.stderr.splitlines() if "icequake-nightly" in line and "Failed to" not in line
        ]
        assert complaints == [], done.stderr
