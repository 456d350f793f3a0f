"""A night: expected verdicts, what is written in the morning, and schedulers that name what exists."""

from __future__ import annotations

import json
import shlex
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar, cast

import pytest
import yaml
from click.testing import CliRunner

from chaos.cli import COMMANDS, icequake, run_command
from chaos.commands.session import Session
from chaos.errors import BadInput, NotReady
from chaos.request import Request, Result
from chaos.scenario import find_scenario, load_plan
from chaos.target import find_target
from loadtests.records.rundir import RunDir
from reports.history.commands import history
from reports.history.entry import read_history
from reports.history.page import trends_of
from reports.history.prune import KEPT, prune
from reports.nightly import command, night
from reports.nightly.command import write_morning
from reports.nightly.mail import LINES_MAX, body, payload, subject
from reports.nightly.night import NightRun, do_night, exit_code
from reports.nightly.preset import PresetRun, read_presets
from reports.nightly.webhook import post
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
    assert "1 regression" in subject([night_run(PASS)], "nightly", trends)
    assert subject([night_run(PASS)], "nightly", trends).startswith("REGRESSION  ")
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


class FakeRunner:
    """Runs nothing: passes, fails of itself, or is ended by a signal, by the seed of the run."""

    requests: ClassVar[list[Request]] = []

    def __init__(self, request: Request, **_: object) -> None:
        self._request, self.signalled = request, request.seed == 12
        self.requests.append(request)

    def execute(self) -> Result:
        if self._request.seed == 11:
            raise NotReady("the storage", 5)
        root = written(self._request.runs, self._request.seed, verdict=PASS)
        return Result(RunDir.open(root), 0)


def test_a_night_goes_on_after_a_run_that_failed_and_stops_when_it_is_asked_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One error is one line; after a signal the rest is inconclusive, and so is the night. Every run knows which part it is."""
    monkeypatch.setattr(night, "Runner", FakeRunner)
    monkeypatch.setattr(FakeRunner, "requests", [])
    asked = [PresetRun(scenario="control"), *[PresetRun(scenario="quick", target="naive", expect=FAIL)] * 4]
    told: list[str] = []
    running = cast(Session, SimpleNamespace(stack=None, warden=None))

    done = do_night(
        asked,
        running,
        preset="ours",
        runs=tmp_path,
        seed=10,
        argv=("icequake",),
        say=lambda run: told.append(run.line()),
    )

    assert [run.verdict for run in done] == [PASS, None, PASS, INCONCLUSIVE, INCONCLUSIVE]
    assert [run.headline for run in done[1:2] + done[3:]] == [
        str(NotReady("the storage", 5)),
        night.NOT_RUN,
        night.NOT_RUN,
    ]
    assert len(told) == 3
    parts = [request.night for request in FakeRunner.requests if request.night is not None]
    assert [(part.preset, part.number, part.of) for part in parts] == [("ours", 1, 5), ("ours", 2, 5), ("ours", 3, 5)]
    assert len({part.night for part in parts}) == 1
    assert [request.expect for request in FakeRunner.requests] == ["PASS", "FAIL", "FAIL"]
    assert subject(done, "ours", []).startswith("ERROR  icequake ours: 1 of 5 runs as expected")


def test_a_fault_of_icequake_in_one_run_does_not_end_the_night(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is an error with its traceback; the runs after it are made."""

    class Faulty(FakeRunner):
        def execute(self) -> Result:
            return Result(RunDir.open(written(tmp_path, self._request.seed)), 1 // (self._request.seed - 10))

    monkeypatch.setattr(night, "Runner", Faulty)
    monkeypatch.setattr(FakeRunner, "requests", [])
    running = cast(Session, SimpleNamespace(stack=None, warden=None))
    asked = [PresetRun(scenario="control")] * 2
    done = do_night(asked, running, preset="p", runs=tmp_path, seed=10, argv=(), say=lambda _: None)
    assert [run.verdict for run in done] == [None, PASS]
    assert "ZeroDivisionError" in done[0].headline
    assert "Traceback" in capsys.readouterr().err


def test_what_had_to_fail_and_did_is_said_to_be_expected() -> None:
    """In the mail, where a bare FAIL would alarm."""
    assert "FAIL         control on reference (as expected): 3 gone" in body(
        [night_run(FAIL, FAIL, headline="3 gone")], "n", []
    )


def test_a_night_that_did_not_end_is_never_taken_for_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No stack to be had: 255, and mail body, job summary and webhook say so instead of last night's PASS."""
    (tmp_path / "mail.txt").write_text("PASS  icequake nightly: 14 of 14 runs as expected\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    told: list[bytes] = []
    monkeypatch.setattr(command, "post", lambda url, outcome: told.append(outcome))
    arguments = ["nightly", "--stack", "up", "--runs", str(tmp_path), "--webhook", "http://127.0.0.1:1/secret"]
    assert run_command(arguments) != 0
    assert (tmp_path / "mail.txt").read_text().startswith("ERROR  icequake nightly: ")
    assert "ERROR  icequake nightly: " in (tmp_path / "summary.md").read_text()
    assert json.loads(told[0])["verdict"] == "ERROR"
    assert "secret" not in capsys.readouterr().err


def test_a_night_that_is_killed_leaves_a_mail_that_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The body is there before the first run begins."""

    def killed(*_: object) -> list[NightRun]:
        raise SystemExit(137)

    monkeypatch.setattr(command, "_night", killed)
    assert run_command(["nightly", "--runs", str(tmp_path)]) == 137
    assert "it began and did not end" in (tmp_path / "mail.txt").read_text()


def test_what_the_runs_came_to_is_in_the_mail_also_without_trends(tmp_path: Path) -> None:
    """A baselines file that cannot be read: a sentence in the mail, and 254."""
    (tmp_path / "baselines.json").write_text("{")
    with pytest.raises(BadInput, match=r"baselines.json cannot be read"):
        write_morning([night_run(FAIL, headline="3 gone")], "nightly", tmp_path, tmp_path / "mail.txt")
    lines = (tmp_path / "mail.txt").read_text().splitlines()
    assert (len(lines), "3 gone" in lines[1], "baselines.json" in lines[2]) == (3, True, True)


@pytest.mark.integration
def test_a_webhook_is_told_as_json() -> None:
    """By POST."""
    with replying(lambda _: ok("{}")) as server:
        assert post(f"{server.url}/hook", json.dumps({"text": "x"}).encode()) is None
        assert server.requests[0].startswith(b"POST /hook ")
        assert server.requests[0].endswith(b'{"text": "x"}')


@pytest.mark.integration
@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"HTTP/1.1 500 Out of order\r\nContent-Length: 0\r\n\r\n", "it answered 500 Out of order"),
        (b"HTTP/1.1 302 Found\r\nLocation: /login\r\nContent-Length: 0\r\n\r\n", "it answered 302 Found"),
        (b"220 mail.example ESMTP\r\n", "its answer is no HTTP"),
        (b"", "it closed the connection"),
    ],
)
def test_a_webhook_that_cannot_be_told_is_a_sentence(answer: bytes, why: str) -> None:
    """An error, a log-in page, another protocol, a hang-up."""
    with replying(lambda _: answer) as server:
        assert why in str(post(f"{server.url}/hook", b"{}"))


def test_a_webhook_that_is_not_there_is_a_sentence() -> None:
    """Nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert "refused" in str(post(f"http://127.0.0.1:{port}/hook", b"{}"))


@pytest.mark.integration
def test_a_webhook_that_hangs_is_left_to_itself() -> None:
    """It takes the request and says nothing; the night ends all the same."""
    with replying(lambda _: None) as server:
        assert post(f"{server.url}/hook", b"{}", deadline_s=0.5) == "it did not answer within 0.5 s"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--preset", "no"], "has no preset 'no'"),
        (["--webhook", "file:///etc/passwd"], "--webhook is not an http or https URL"),
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


def commands_of_cron() -> list[str]:
    """As cron takes them: after five fields, and without a per cent sign, which would end the line."""
    lines = (ROOT / "docs" / "nightly" / "crontab").read_text().splitlines()
    commands = [line.split(maxsplit=5)[5] for line in lines if line and not line.startswith("#")]
    assert not any("%" in command for command in commands)
    return commands


def program(directory: Path, name: str, script: str) -> None:
    path = directory / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


@pytest.mark.parametrize(
    ("made", "mailed"),
    [
        ("true", None),
        ("exit 2", "ERROR  icequake nightly: set-up failed"),
        (
            "echo FAIL  icequake nightly: 13 of 14 runs as expected >runs/mail.txt; exit 1",
            "FAIL icequake nightly: 13 of 14",
        ),
    ],
)
def test_the_cron_line_mails_what_was_not_as_expected(made: str, mailed: str | None, tmp_path: Path) -> None:
    """In the environment that cron gives; a set-up that fails is not taken for the night before."""
    home = tmp_path / "icequake"
    (home / "runs").mkdir(parents=True)
    (home / "runs" / "mail.txt").write_text("PASS  icequake nightly: 14 of 14 runs as expected\n")
    program(tmp_path / "bin", "make", made)
    program(tmp_path / "bin", "mail", f'echo "$2" >"{tmp_path}/subject"; cat >"{tmp_path}/body"')
    environment = {"HOME": str(tmp_path), "PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin", "SHELL": "/bin/sh"}
    done = subprocess.run(["/bin/sh", "-c", commands_of_cron()[0]], env=environment, capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    told = tmp_path / "subject"
    assert told.exists() is (mailed is not None)
    assert mailed is None or told.read_text().startswith(mailed)


def test_the_cron_line_that_asks_whether_it_ran_mails_when_it_did_not(tmp_path: Path) -> None:
    """With the answer as body."""
    home = tmp_path / "icequake"
    (home / "runs").mkdir(parents=True)
    program(home / ".venv" / "bin", "icequake", f'exec "{sys.executable}" -c "from chaos.cli import main; main()" "$@"')
    program(tmp_path / "bin", "mail", f'cat >"{tmp_path}/body"')
    environment = {"HOME": str(tmp_path), "PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin", "PYTHONPATH": str(ROOT)}
    subprocess.run(["/bin/sh", "-c", commands_of_cron()[1]], env=environment, capture_output=True, check=True)
    assert "no night of preset nightly within 26h" in (tmp_path / "body").read_text()
