"""The command line: exit codes a script can rely on, and exactly one sentence for every mistake."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

from chaos import cli
from chaos.errors import BadScenario, ChaosError, NotReady
from chaos.warden_client import PACKAGE_ROOT
from loadtests.records.errors import MissingRecord
from tests.chaos.fakes import make_run

SCENARIO = "name: mine\nquestion: q?\n"
NAIVE_NAME = "name: mine\ningest: {url: 'http://a'}\n"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty directory to work in, with a few bad files."""
    monkeypatch.chdir(tmp_path)
    files = {
        "broken.yaml": "name: [x\nquestion: q\n",
        "typo.yaml": SCENARIO + "stesp: []\n",
        "outside.yaml": SCENARIO + "steps:\n  - {fault: nothing, at_s: 29, for_s: 5}\n",
        "unknown.yaml": SCENARIO + "steps:\n  - {fault: quake, at_s: 1}\n",
        "never.yaml": SCENARIO + "steps:\n  - {fault: nothing, for_s: 5}\n",
        "trigger.yaml": SCENARIO + "steps:\n  - {fault: nothing, after: soon}\n",
        "future.yaml": SCENARIO + "schema: icequake.scenario/2.0\n",
        "target.yaml": NAIVE_NAME,
        "bad-target.yaml": NAIVE_NAME + "contract: {delivery: twice}\n",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "a-file").write_text("")
    return tmp_path


def sentence(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on standard error; standard output is empty."""
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" not in err
    (line,) = err.splitlines()
    assert line.rstrip()[-1] in ".)", line
    return line


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("nonsense", r"icequake: No such command 'nonsense'; `icequake --help` shows how it is used\."),
        ("--nonsense", r"icequake: No such option '?--nonsense'?; "),
        ("run", r"icequake: Missing argument 'SCENARIO'; `icequake run --help` shows"),
        ("run control --nonsense", r"icequake: No such option '?--nonsense'?.*; `icequake run --help`"),
        ("run control --seed x", r"icequake: Invalid value for '--seed': 'x' is not a valid integer"),
        ("run control --seed -1", r"icequake: Invalid value for '--seed': -1 is not in the range"),
        ("run control --runs a-file", r"icequake: Invalid value for '--runs': Directory 'a-file' is a file; "),
        ("run control --stack moon", r"icequake: there is no stack 'moon'; there are seaweedfs, moto, remote, and `up` for a running one\."),
        ("run nonsense", r"icequake: there is no scenario 'nonsense'; there are .*control, "),
        ("run none.yaml", r"icequake: the scenario file none\.yaml does not exist\."),
        ("run broken.yaml", r"icequake: broken\.yaml:2: expected ',' or '\]'"),
        ("run typo.yaml", r"icequake: typo\.yaml:3: Object contains unknown field `stesp`\."),
        ("run outside.yaml", r"icequake: outside\.yaml:4: steps\[0\]: it ends at 34 s, but traffic ends at 30 s; shorten it\."),
        ("run unknown.yaml", r"icequake: unknown\.yaml:4: steps\[0\]: there is no fault 'quake'; catalogue\.yaml has "),
        ("run never.yaml", r"icequake: never\.yaml:4: steps\[0\]: give either at_s or after or when, one of them\."),
        ("run trigger.yaml", r"icequake: trigger\.yaml:4: steps\[0\]: after: 'soon' is not of the form"),
        ("run future.yaml", r"icequake: future\.yaml has format icequake\.scenario/2\.0; "),
        ("run control --target nobody", r"icequake: there is no target 'nobody'; there are "),
        ("run control --target none.yaml", r"icequake: none\.yaml does not exist\."),
        ("run control --target broken.yaml", r"icequake: broken\.yaml:2: "),
        ("run control --target target.yaml", r"icequake: target\.yaml: table: without `process` the table's "),
        ("run control --target bad-target.yaml", r"icequake: bad-target\.yaml:3: contract\.delivery: Invalid enum value 'twice'\."),
        ("run control --set traffic", r"icequake: --set 'traffic': write key=value"),
        ("run control --set traffic.for_s=[", r"icequake: --set 'traffic\.for_s=\[': the value is not YAML\."),
        ("run control --set trafic.for_s=1", r"icequake: .*control\.yaml with --set trafic\.for_s=1: .*unknown field `trafic`\."),
        ("gameday --scenario nonsense", r"icequake: there is no scenario 'nonsense'; "),
        ("gameday --set steps.9.at_s=1", r"icequake: --set 'steps\.9\.at_s=1': the scenario has no '9' there\."),
        ("plan", r"icequake: Missing argument 'SCENARIO'; `icequake plan --help`"),
        ("plan outside.yaml", r"icequake: outside\.yaml:4: "),
        ("plan control --target nobody", r"icequake: there is no target 'nobody'; "),
        ("list nonsense", r"icequake: Invalid value for .*'nonsense' is not one of 'scenarios', 'faults'"),
        ("schema nonsense", r"icequake: Invalid value for .*'nonsense' is not one of 'scenario', 'target'"),
        ("bench nonsense", r"icequake: Invalid value for .*'nonsense' is not one of 'verify'"),
        ("up --stack moon", r"icequake: Invalid value for '--stack': 'moon' is not "),
        ("judge nowhere", r"judge: there is no run 'nowhere' in runs; `icequake list runs` shows"),
        ("explain nowhere lost", r"explain: there is no run 'nowhere' in runs; "),
        ("explain nowhere", r"icequake: Missing argument "),
        ("observe nowhere", r"observe: there is no run 'nowhere' in runs; "),
        ("report nowhere", r"render: there is no run 'nowhere' in runs; `icequake list runs` shows what there is\."),
    ],
)  # fmt: skip
def test_bad_arguments_and_files_end_with_254_and_one_sentence(
    here: Path, arguments: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is wrong, where, and what to do; nothing is started, nothing is written."""
    before = sorted(here.rglob("*"))
    assert cli.run_command(arguments.split()) == 254
    assert re.match(says, sentence(capsys))
    assert sorted(here.rglob("*")) == before


def test_a_run_directory_of_a_newer_version_is_refused(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By every command that reads one."""
    run = make_run(here)
    head = run.root / "run.json"
    head.write_text(head.read_text().replace("icequake.run/1.0", "icequake.run/2.0"))
    for command in ("judge", "observe", "report"):
        assert cli.run_command([command, str(run.root)]) == 254
        assert "has format icequake.run/2.0; this icequake reads up to icequake.run/1.0." in sentence(capsys)


def test_a_listing_shows_a_newer_run_and_goes_on(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One directory that cannot be read does not hide the others."""
    run = make_run(here)
    head = run.root / "run.json"
    head.write_text(head.read_text().replace("icequake.run/1.0", "icequake.run/2.0"))
    assert cli.run_command(["list", "runs"]) == 0
    assert "has format icequake.run/2.0" in capsys.readouterr().out


def test_what_the_operating_system_refuses_ends_with_255(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A runs directory that cannot be made is no traceback."""
    assert cli.run_command(["run", "control", "--runs", "a-file/runs"]) == 255
    assert sentence(capsys) == "icequake: a-file/runs: Not a directory."


@click.command()
@click.argument("what")
def breaks(what: str) -> int:
    """A command that ends in the way it is told."""
    if what in ("0", "1", "2"):
        return int(what)
    raise {
        "harness": NotReady("the target", 30, "last words\n"),
        "input": BadScenario("mine.yaml:3: steps[0]: give either at_s or after."),
        "record": MissingRecord("runs/x does not exist."),
        "disk": OSError(28, "No space left on device", "runs/x/timeline.jsonl"),
        "abort": click.Abort(),
        "interrupt": KeyboardInterrupt(),
        "exit": SystemExit(1),
        "words": SystemExit("words"),
        "bug": KeyError("x"),
    }[what]


@pytest.fixture
def broken_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(cli.COMMANDS, "breaks", (f"{__name__}:breaks", "Ends as it is told."))


@pytest.mark.parametrize(
    ("what", "code", "line"),
    [
        ("harness", 255, "icequake: the target was not ready after 30.0 s; its last line was: last words"),
        ("input", 254, "icequake: mine.yaml:3: steps[0]: give either at_s or after."),
        ("record", 254, "icequake: runs/x does not exist."),
        ("disk", 255, "icequake: runs/x/timeline.jsonl: No space left on device."),
        ("abort", 2, "icequake: interrupted."),
    ],
)
@pytest.mark.usefixtures("broken_command")
def test_every_kind_of_error_has_its_code_and_one_line(
    what: str, code: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """254: change something; 255: the harness failed; 2: somebody interrupted."""
    assert cli.run_command(["breaks", what]) == code
    assert capsys.readouterr().err.splitlines() == [line]


@pytest.mark.usefixtures("broken_command")
def test_an_interrupt_is_not_a_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    """Ctrl-C outside a run is INCONCLUSIVE's code, never PASS or FAIL."""
    assert cli.run_command(["breaks", "interrupt"]) == 2
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(("what", "code"), [("0", 0), ("1", 1), ("2", 2), ("exit", 1), ("words", 255)])
@pytest.mark.usefixtures("broken_command")
def test_a_verdicts_code_is_passed_on(what: str, code: int) -> None:
    """0 PASS, 1 FAIL, 2 INCONCLUSIVE, whether a command returns or exits."""
    assert cli.run_command(["breaks", what]) == code


@pytest.mark.usefixtures("broken_command")
def test_a_fault_of_icequake_itself_keeps_its_traceback(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only a bug shows one, and says that it is a bug."""
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
    assert cli.run_command(["breaks", "bug"]) == 255
    err = capsys.readouterr().err
    assert err.startswith("icequake: this is a fault of icequake itself: KeyError('x'); the traceback follows.\n")
    assert "Traceback" in err


def test_errors_have_stable_codes() -> None:
    """`error.code` in JSON is for programs: every class has its own."""
    found: list[type[ChaosError]] = [ChaosError]
    for one in found:
        found.extend(one.__subclasses__())
    ours = [one for one in found if one.__module__ == "chaos.errors"]
    assert len({one.code for one in ours}) == len(ours) > 10
    assert {one.exit_code for one in ours} == {254, 255}


def test_json_has_the_error_on_standard_output(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One JSON document whatever happens; the sentence stands on standard error too."""
    assert cli.run_command(["run", "nonsense", "--json"]) == 254
    out, err = capsys.readouterr()
    error = json.loads(out)["error"]
    assert error["code"] == "bad_scenario"
    assert err == f"icequake: {error['sentence']}\n"


@pytest.mark.parametrize("name", sorted(cli.COMMANDS))
def test_every_command_can_be_asked_for_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It exists where the table says, and explains itself."""
    module, _, attribute = cli.COMMANDS[name][0].partition(":")
    command = getattr(__import__(module, fromlist=[attribute]), attribute)
    assert isinstance(command, click.Command)
    assert command.help
    if command.context_settings.get("help_option_names") != []:  # those pass everything on
        assert cli.run_command([name, "--help"]) == 0
        assert "Usage: icequake " in capsys.readouterr().out


def test_help_lists_every_command_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    """Without importing any of them; the exit codes stand there too."""
    assert cli.run_command(["--help"]) == 0
    out = capsys.readouterr().out
    listed = re.findall(r"^  ([a-z][a-z-]*)  +[A-Z]", out, re.MULTILINE)
    assert listed == list(cli.COMMANDS)
    assert "254 bad arguments or files, 255 icequake itself failed" in " ".join(out.split())


def test_help_is_quick() -> None:
    """Listing commands imports neither the stack nor the judge."""
    program = "import sys; from chaos.cli import run_command; run_command(['--help']); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], cwd=PACKAGE_ROOT, capture_output=True, text=True, check=True)
    loaded = done.stdout.splitlines()[-1].split()
    assert not {"pyarrow", "numpy", "locust", "bokeh", "pyiceberg", "duckdb"} & set(loaded)


def test_no_command_shows_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    """A newcomer who types the name alone learns what there is; a script learns that it was wrong."""
    assert cli.run_command([]) == 254
    assert "Commands:" in capsys.readouterr().err


@pytest.mark.integration
def test_the_process_ends_with_the_code(here: Path) -> None:
    """`main` is what the installed command calls."""
    program = "from chaos.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program, "plan", "outside.yaml"],
        cwd=here, env={"PYTHONPATH": str(PACKAGE_ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 254
    assert done.stderr.startswith("icequake: outside.yaml:4: steps[0]: it ends at 34 s")


def test_lists_name_what_there_is(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Scenarios with their question, faults with what breaks, targets with what they promise."""
    assert cli.run_command(["list"]) == 0
    out = capsys.readouterr().out
    for word in ("quick", "commit-answer-lost", "naive", "seaweedfs", "poisson"):
        assert re.search(rf"^  {word} +\S", out, re.MULTILINE)
    assert cli.run_command(["list", "runs"]) == 0
    assert capsys.readouterr().out == "there are no runs yet.\n"


def test_runs_are_listed_with_how_far_they_got(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The first line of the summary, or the phase of one that was never judged."""
    run = make_run(here.relative_to(here))
    cli.run_command(["list", "runs"])
    assert capsys.readouterr().out == "ab12cd34  test on test: not judged (it got as far as created)\n"
    run.summary.write_text("PASS  test on test\nmore\n")
    cli.run_command(["list", "runs"])
    assert capsys.readouterr().out == "ab12cd34  PASS  test on test\n"


def test_a_plan_says_what_a_run_would_do(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Traffic, time, each step, what it touches, the worst that can happen, and how to stop it. Nothing is started."""
    assert cli.run_command(["plan", "quick", "--set", "traffic.events_per_s=100"]) == 0
    out = capsys.readouterr().out
    for words in (
        "quick on reference: ",
        "100 events/s in requests of 20",
        "at 1 s, up to 6 s: slow-r2",
        "Touches ",
        "Worst ",
        "Ctrl-C",
    ):
        assert words in out
    assert not (here / "runs").exists()


def test_a_plan_says_which_steps_a_foreign_target_cannot_take(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Such a run cannot PASS, and a person learns it before, not after."""
    foreign = NAIVE_NAME + "table: {catalog: {uri: 'http://b'}, identifier: a.b}\n"
    (here / "foreign.yaml").write_text(foreign + "allow_faults: [toxic, http, process]\n")
    assert cli.run_command(["plan", "quick", "--target", "foreign.yaml"]) == 0
    assert capsys.readouterr().out.count("will be skipped: ") == 3


def test_nothing_to_heal_is_said(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And is no error."""
    assert cli.run_command(["heal"]) == 0
    assert capsys.readouterr().out == "nothing to heal: every journaled fault was undone.\n"
