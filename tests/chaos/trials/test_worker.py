"""A worker's trials, without a stack: what goes wrong with icequake itself is an outcome, and so is a verdict."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from chaos import halt
from chaos.errors import ChaosError
from chaos.faults import catalogue
from chaos.readers import WarmJudge
from chaos.stack import Addresses
from chaos.trials.messages import TOLD, Phase, line
from chaos.trials.outcome import EFFECTIVE, Trial, Word
from chaos.trials.plan import plan_for
from chaos.trials.worker import Bench, PhaseTeller
from loadtests.records.rundir import RunDir
from tests.chaos.fakes import make_run
from tests.chaos.trials.outcomes import trial


class PlayedBench(Bench):
    """A bench whose runs ended before, with this verdict."""

    def __init__(self, run: RunDir, verdict: dict[str, Any], *, interrupted: bool = False) -> None:
        super().__init__(None, None, runs=run.root.parent, seed=7, say=lambda _: None)  # type: ignore[arg-type]
        run.verdict.write_text(json.dumps(verdict))
        self._played = SimpleNamespace(interrupted=interrupted), SimpleNamespace(run=run)

    def _run(self, trial: Trial, spec: Any, seed: int) -> Any:
        return self._played


VOID = {
    "verdict": "INCONCLUSIVE",
    "checks": [
        {"id": "run.complete", "verdict": "INCONCLUSIVE", "claim": "not whole"},
        {"id": EFFECTIVE, "verdict": "INCONCLUSIVE", "claim": "slow-r2 met nobody"},
    ],
}


def test_an_outcome_names_checks_run_and_reason(tmp_path: Path) -> None:
    """Of a void trial the reason is why the fault had no effect."""
    run = make_run(tmp_path)

    outcome = PlayedBench(run, VOID).do(trial())

    assert (outcome.word, outcome.blamed) == (Word.VOID, ["run.complete", EFFECTIVE])
    assert (outcome.detail, outcome.run) == ("slow-r2 met nobody", run.root.name)


def test_an_interrupted_trial_was_stopped(tmp_path: Path) -> None:
    """Whatever its verdict says."""
    assert PlayedBench(make_run(tmp_path), VOID, interrupted=True).do(trial()).word is Word.STOPPED


def test_a_trial_that_was_over_when_somebody_halted_it_was_stopped(tmp_path: Path) -> None:
    """So that the trials behind it are not begun."""
    run = make_run(tmp_path)
    halt.ask(run)

    assert PlayedBench(run, {"verdict": "PASS", "checks": []}).do(trial()).word is Word.STOPPED


class SeededBench(Bench):
    """A bench whose runs end with a verdict for their seed, and notes the seeds."""

    def __init__(self, run: RunDir, verdicts: dict[int, str]) -> None:
        super().__init__(None, None, runs=run.root.parent, seed=7, say=lambda _: None)  # type: ignore[arg-type]
        self.verdicts, self._one = verdicts, run
        self.seeds: list[int] = []

    def _run(self, trial: Trial, spec: Any, seed: int) -> Any:
        self.seeds.append(seed)
        checks = [
            {"id": EFFECTIVE, "verdict": "PASS", "claim": ""},
            {"id": "events.lost", "verdict": "FAIL", "claim": "lost"},
        ]
        self._one.verdict.write_text(json.dumps({"verdict": self.verdicts[seed], "checks": checks}))
        return SimpleNamespace(interrupted=False), SimpleNamespace(run=self._one)


@pytest.mark.parametrize(
    ("verdicts", "word", "tries"),
    [
        ({7: "FAIL"}, Word.KILLED, 1),
        ({7: "PASS", 8: "FAIL"}, Word.KILLED, 2),
        ({7: "PASS", 8: "PASS", 9: "PASS"}, Word.SURVIVED, 3),
    ],
)
def test_a_planted_bug_that_survives_is_tried_with_other_seeds(
    verdicts: dict[int, str], word: Word, tries: int, tmp_path: Path
) -> None:
    """At most three times, and the outcome says how often and with which seed at last."""
    bench = SeededBench(make_run(tmp_path), verdicts)

    outcome = bench.do(trial(check="events.lost"))

    assert (outcome.word, outcome.tries, outcome.seed) == (word, tries, 6 + tries)
    assert bench.seeds == list(verdicts)


def test_a_target_without_a_bug_gets_one_try(tmp_path: Path) -> None:
    """It must pass always, not once in three times."""
    bench = SeededBench(make_run(tmp_path), {7: "FAIL"})

    assert bench.do(trial()).word is Word.FAILED
    assert bench.seeds == [7]


def test_what_icequake_fails_at_is_an_outcome(tmp_path: Path) -> None:
    """Here a target that is not there any more."""
    bench = Bench(None, None, runs=tmp_path, seed=7, say=lambda _: None)  # type: ignore[arg-type]

    outcome = bench.do(Trial(fault="slow-r2", target="gone", path=str(tmp_path / "gone.yaml"), planted=True))

    assert (outcome.word, outcome.run, outcome.planted) == (Word.BROKEN, None, True)
    assert "gone.yaml does not exist" in outcome.detail


def test_phases_are_told() -> None:
    """And nothing else of the timeline."""
    told: list[msgspec.Struct] = []
    teller = PhaseTeller(told.append)
    teller.entry({"event": "phase", "phase": "settle"})
    teller.entry({"event": "note", "text": "x"})

    assert told == [Phase("settle")]
    assert TOLD.decode(line(told[0])) == told[0]


def test_a_planted_bug_is_not_waited_for_as_long() -> None:
    """What it lost never comes."""
    spec = catalogue()["slow-r2"]

    assert plan_for(spec).scenario.settle_s == spec.micro.settle_s
    assert plan_for(spec, planted=True).scenario.settle_s == spec.micro.planted_settle_s


@pytest.mark.integration
def test_a_judge_that_cannot_judge_or_is_gone_is_an_error(tmp_path: Path) -> None:
    """In a sentence; the judge goes on after a run that it cannot judge."""
    addresses = msgspec.convert(dict.fromkeys(Addresses.__dataclass_fields__, "x"), Addresses)
    run = make_run(tmp_path)
    (run.root / "run.json").unlink()
    with WarmJudge(addresses, tmp_path / "judging.log") as judge:
        for _ in range(2):
            with pytest.raises(ChaosError, match=r"reports\.observe ended with status 254: observe: "):
                judge.judge(run)
        judge._process.kill()
        judge._process.wait()
        with pytest.raises(ChaosError, match=r"the judge (ended with status -9|cannot be reached)"):
            judge.judge(run)
