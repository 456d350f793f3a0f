"""`icequake catalogue`: what is tried, what is printed and kept, and how it ends."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from chaos import cli
from chaos.commands import catalogue as command
from chaos.errors import ChaosError
from chaos.faults import catalogue
from chaos.trials import campaign
from chaos.trials.outcome import Kept, Trial, Word
from chaos.trials.pool import Event
from tests.chaos.trials.outcomes import KILLS, outcome


class FakePool:
    """Does every trial as it is told, without a stack."""

    words: Callable[[Trial], Word]
    ends_with: BaseException | None
    trials: list[Trial]
    stacks: dict[str, list[str]]
    jobs: int

    def __init__(self, workplace: Any, *, jobs: int, listener: Callable[[Event], None]) -> None:
        type(self).jobs, self._listener, self._stack = jobs, listener, workplace.stack

    def run(self, trials: Sequence[Trial]) -> None:
        type(self).trials += trials
        self.stacks[self._stack] = [one.fault for one in trials]
        for trial in trials:
            self._listener(Event(0, trial, "begins"))
            word = type(self).words(trial)
            done = outcome(trial.fault, trial.target, word, detail=f"why {word}")
            self._listener(Event(0, trial, outcome=done))
        if self.ends_with is not None:
            raise self.ends_with
        self._listener(Event(0))


def as_it_should_be(trial: Trial) -> Word:
    return Word.KILLED if trial.planted else Word.PASSED


@pytest.fixture(autouse=True)
def pool(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> type[FakePool]:
    """Trials without stacks, in an empty directory."""
    monkeypatch.chdir(tmp_path)
    FakePool.words, FakePool.ends_with, FakePool.trials = staticmethod(as_it_should_be), None, []
    FakePool.stacks = {}
    monkeypatch.setattr(campaign, "Pool", FakePool)
    monkeypatch.setattr(command, "kills", lambda: KILLS)
    monkeypatch.setattr(command, "FILE", mutants(tmp_path / "mutants.py"))
    return FakePool


def mutants(path: Path) -> Path:
    """A file of every mutant that a fault must kill; none of them can be started."""
    ingest = {"url": "http://127.0.0.1:1/events"}
    targets = {str(kill.mutant): {"name": kill.mutant, "ingest": ingest} for kill in KILLS.values()}
    path.write_text(f"print({json.dumps(targets)!r})")
    return path


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    code = cli.run_command(["catalogue", *arguments, "--seed", "7"])
    out, err = capsys.readouterr()
    return code, out + err


def test_each_fault_is_tried_on_the_reference_and_on_its_planted_bug(capsys: pytest.CaptureFixture[str]) -> None:
    """The longest first, and everything is said and kept."""
    code, out = run(capsys, "nothing", "slow-r2", "r2-latency-1s")

    kill = KILLS["slow-r2"]
    assert code == 0
    assert [(one.fault, one.target) for one in FakePool.trials] == [
        ("r2-latency-1s", "reference"), ("r2-latency-1s", KILLS["r2-latency-1s"].mutant),
        ("nothing", "reference"), ("nothing", KILLS["nothing"].mutant), ("slow-r2", "reference"), ("slow-r2", kill.mutant),
    ]  # fmt: skip
    assert FakePool.trials[-1].check == kill.check
    assert "  6/6  slow-r2" in out
    assert "6 of 6 trials in 0 min 0 s, 3 at a time, seed 7: 3 PASS, 3 killed" in out
    assert len(Kept(Path("runs")).read()) == 6


@pytest.mark.parametrize(
    ("word", "code"),
    [
        (Word.FAILED, 1),
        (Word.SURVIVED, 1),
        (Word.WRONG_CHECK, 1),
        (Word.VOID, 2),
        (Word.UNDECIDED, 2),
        (Word.BROKEN, 255),
    ],
)
def test_what_is_not_as_it_should_be_is_explained_and_is_the_exit_code(
    capsys: pytest.CaptureFixture[str], word: Word, code: int
) -> None:
    """With the run, to be looked at."""
    FakePool.words = staticmethod(lambda trial: word if trial.check else Word.PASSED)

    ended, out = run(capsys, "slow-r2")

    assert ended == code
    assert f"why {word}" in out
    mutant = KILLS["slow-r2"].mutant
    assert f"{word}: slow-r2 on {mutant}; icequake report runs/run-slow-r2-{mutant}\n" in out


def test_the_tiers(capsys: pytest.CaptureFixture[str]) -> None:
    """quick is the default; nightly has everything but what only the owner of a target can do."""
    for arguments, tiers in (([], ["quick"]), (["--tier", "nightly"], ["quick", "nightly"])):
        FakePool.trials = []
        run(capsys, *arguments)
        assert {one.fault for one in FakePool.trials} == {
            name for name, spec in catalogue().items() if spec.micro.tier in tiers
        }


def test_a_fault_is_tried_on_the_stack_where_it_takes_effect(capsys: pytest.CaptureFixture[str]) -> None:
    """After the others; on another stack only if that was asked for."""
    assert run(capsys, "metadata-deleted", "slow-r2", "--no-mutants")[0] == 0
    assert FakePool.stacks == {"seaweedfs": ["slow-r2"], "moto": ["metadata-deleted"]}

    FakePool.stacks = {}
    run(capsys, "metadata-deleted", "slow-r2", "--no-mutants", "--stack", "seaweedfs")
    assert {stack: sorted(faults) for stack, faults in FakePool.stacks.items()} == {
        "seaweedfs": ["metadata-deleted", "slow-r2"]
    }


def test_when_it_is_stopped_no_other_stack_is_started(capsys: pytest.CaptureFixture[str]) -> None:
    """By a person, or by a run that somebody halted."""
    FakePool.ends_with = KeyboardInterrupt()
    assert run(capsys, "metadata-deleted", "slow-r2", "--no-mutants")[0] == 2
    assert list(FakePool.stacks) == ["seaweedfs"]


def test_without_mutants_only_the_reference_is_tried(capsys: pytest.CaptureFixture[str]) -> None:
    """Because somebody asked for it."""
    code, _ = run(capsys, "slow-r2", "--no-mutants")

    assert (code, [one.target for one in FakePool.trials]) == (0, ["reference"])


def test_a_planted_bug_can_be_tried_under_any_fault(capsys: pytest.CaptureFixture[str]) -> None:
    """It need not be found; its own fault must find it all the same, and only once."""
    code, _ = run(capsys, "slow-r2", "--mutant", "gives-up", "--mutant", "impatient")

    assert code == 0
    assert [(one.target, one.planted, one.check) for one in FakePool.trials] == [
        ("reference", False, None), ("impatient", True, "events.duplicated"), ("gives-up", True, None),
    ]  # fmt: skip


def test_where_there_are_no_mutants_a_sentence_says_so(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As when icequake was installed without its checkout."""
    monkeypatch.setattr(command, "FILE", tmp_path / "none.py")
    code, out = run(capsys, "slow-r2")

    assert code == 0
    assert "come with a checkout of icequake and are not here; only the reference is tried." in out
    assert [one.target for one in FakePool.trials] == ["reference"]


def test_another_target_is_tried_alone(capsys: pytest.CaptureFixture[str]) -> None:
    """What its faults kill in others says nothing about it."""
    code, out = run(capsys, "slow-r2", "--target", "naive")

    assert (code, [one.target for one in FakePool.trials]) == (0, ["naive"])
    assert "1 of 1 trials" in out


def test_a_target_that_permits_no_faults_is_refused_before_anything_starts(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """With its own sentence."""
    (tmp_path / "mine.yaml").write_text("name: mine\ningest: {url: 'http://127.0.0.1:1/events'}\n")
    code, out = run(capsys, "slow-r2", "--target", "mine.yaml")

    assert (code, FakePool.trials) == (254, [])
    assert "mine.yaml" in out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["no-such-fault"], "there is no fault 'no-such-fault'; `icequake list faults` shows what there is."),
        (["--stack", "moon"], "there is no stack 'moon'; there are seaweedfs, "),
        (["--mutants", "none.py"], "there is no file of mutants none.py; name one with --mutants, or leave them out"),
        (["slow-r2", "--mutant", "nobody"], "there is no mutant 'nobody' in "),
        (["--target", "nobody"], "there is no target 'nobody'; there are "),
    ],
)
def test_bad_arguments_are_refused(capsys: pytest.CaptureFixture[str], arguments: list[str], says: str) -> None:
    """With one sentence, and nothing is made."""
    code, out = run(capsys, *arguments)

    assert (code, FakePool.trials) == (254, [])
    assert says in out
    assert not Path("runs").exists()


def test_the_stack_that_is_up_serves_one_trial_at_a_time(capsys: pytest.CaptureFixture[str]) -> None:
    """It is one stack, however many jobs there may be."""
    run(capsys, "slow-r2", "--stack", "up", "--jobs", "4")

    assert FakePool.jobs == 1


def test_ctrl_c_ends_with_what_is_known(capsys: pytest.CaptureFixture[str]) -> None:
    """It is printed and kept, and the exit code is that of an INCONCLUSIVE run."""
    FakePool.words = staticmethod(lambda trial: Word.STOPPED if trial.check else Word.PASSED)
    FakePool.ends_with = KeyboardInterrupt()

    code, out = run(capsys, "slow-r2")

    assert code == 2
    assert "stopped after 2 of 2 trials in 0 min 0 s, 3 at a time, seed 7: 1 PASS, 1 stopped" in out
    assert [one.word for one in Kept(Path("runs")).read()] == [Word.PASSED]


def test_a_stack_that_does_not_start_ends_with_255(capsys: pytest.CaptureFixture[str]) -> None:
    """And its sentence."""
    FakePool.ends_with = ChaosError("no room for a stack.")

    code, out = run(capsys, "slow-r2")

    assert code == 255
    assert "no room for a stack." in out


def test_what_was_tried_can_be_shown_later(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is tried; what never was is shown as such."""
    run(capsys, "slow-r2")
    FakePool.trials = []

    code, out = run(capsys, "--show")

    assert (code, FakePool.trials) == (0, [])
    (line,) = [line for line in out.splitlines() if line.startswith("slow-r2 ") and "PASS" in line]
    assert line.split() == ["slow-r2", "●", "●", "PASS", "killed", "01-01"]
    assert all(any(line.startswith(f"{name} ") for line in out.splitlines()) for name in catalogue())


def test_one_tier_can_be_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a tier, every fault is, also those that are tried by name only."""
    _, out = run(capsys, "--show", "--tier", "quick")

    quick = {name for name, spec in catalogue().items() if spec.micro.tier == "quick"}
    assert {
        line.split()[0] for line in out.splitlines() if line.split()[:1] and line.split()[0] in catalogue()
    } == quick


def test_nothing_tried_is_shown_too(capsys: pytest.CaptureFixture[str]) -> None:
    """Without making a runs directory."""
    code, out = run(capsys, "slow-r2", "--show")

    assert code == 0
    (line, *_) = [line for line in out.splitlines() if line.startswith("slow-r2 ")]
    assert line.split() == ["slow-r2", "-", "-", "-", "-"]
    assert not Path("runs").exists()


def test_a_report_is_written_where_it_was_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    """Of this command's trials."""
    code, out = run(capsys, "slow-r2", "--report", "reports")

    assert code == 0
    assert "Report    reports/catalogue.html" in out
    assert json.loads(Path("reports/catalogue.json").read_text())["rows"][0]["fault"] == "slow-r2"


def test_a_report_that_cannot_be_written_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    """A file is in its way."""
    Path("taken").write_text("")

    code, out = run(capsys, "slow-r2", "--report", "taken/below")

    assert code == 254
    assert "the report cannot be written: " in out
