"""Workers side by side: every trial is done once, whatever happens to a worker, and nothing is left when somebody stops it."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from chaos.errors import ChaosError
from chaos.trials.outcome import Outcome, Word
from chaos.trials.pool import Event, Pool
from chaos.trials.worker_process import Worker, Workplace
from tests.chaos.processes import PATIENCE_S, all_gone, python
from tests.chaos.trials.outcomes import trial

pytestmark = pytest.mark.integration


class Trials:
    """A pool of workers that play parts, and what it told."""

    def __init__(self, tmp_path: Path, jobs: int = 2) -> None:
        self.log = tmp_path / "workers.log"
        self.log.touch()
        self.events: list[Event] = []
        workplace = Workplace("none", tmp_path, 7)
        self.pool = Pool(workplace, jobs=jobs, listener=self.heard, start=self.start)
        self.interrupts: list[str] = []

    def start(self, argv: Sequence[str]) -> Worker:
        assert argv[1:3] == ["-m", "chaos.trials.worker"]
        return Worker([sys.executable, "-m", "tests.chaos.trials.workers", str(self.log)])

    def heard(self, event: Event) -> None:
        """Note it; a phase that is asked for is answered by Ctrl-C."""
        self.events.append(event)
        if event.phase in self.interrupts:
            self.interrupts.remove(event.phase)
            signal.raise_signal(signal.SIGINT)

    def run(self, *parts: str) -> list[Outcome]:
        self.pool.run([trial(target=part) for part in parts])
        return self.outcomes

    @property
    def outcomes(self) -> list[Outcome]:
        return [event.outcome for event in self.events if event.outcome is not None]

    @property
    def notes(self) -> Counter[str]:
        return Counter(line.partition(" ")[2] for line in self.log.read_text().splitlines())

    @property
    def pids(self) -> list[int]:
        return [int(line.partition(" ")[0]) for line in self.log.read_text().splitlines()]


def test_every_trial_is_done_once(tmp_path: Path) -> None:
    """By as many workers as there may be, and each of them ends its stack."""
    trials = Trials(tmp_path, jobs=3)

    outcomes = trials.run(*["passes"] * 7)

    assert [one.word for one in outcomes] == [Word.PASSED] * 7
    assert trials.notes == {"begins": 3, "ends": 3}
    assert {event.phase for event in trials.events if event.phase} == {"begins", "inject"}


def test_there_are_no_more_workers_than_trials(tmp_path: Path) -> None:
    """A stack that nobody needs is not started."""
    trials = Trials(tmp_path, jobs=5)
    trials.run("passes")

    assert trials.notes["begins"] == 1


def test_a_failed_trial_gets_the_next_one_a_fresh_stack(tmp_path: Path) -> None:
    """Nobody knows what became of the old one."""
    trials = Trials(tmp_path, jobs=1)

    assert [one.word for one in trials.run("breaks", "passes")] == [Word.BROKEN, Word.PASSED]
    assert trials.notes == {"begins": 2, "ends": 2}


def test_a_worker_that_dies_is_an_outcome(tmp_path: Path) -> None:
    """Its trial failed, with its last words; the others are done by another."""
    trials = Trials(tmp_path, jobs=1)

    outcomes = trials.run("dies", "passes")

    assert [one.word for one in outcomes] == [Word.BROKEN, Word.PASSED]
    assert outcomes[0].detail == "a worker ended with status 3: my last words"


def test_ctrl_c_heals_every_trial_that_goes_on(tmp_path: Path) -> None:
    """Nothing more is begun, each worker ends by itself, and what it still said is heard."""
    trials = Trials(tmp_path, jobs=2)
    trials.interrupts = ["waiting"]

    with pytest.raises(KeyboardInterrupt):
        trials.run("waits", "waits", "passes", "passes")

    assert Word.PASSED not in [one.word for one in trials.outcomes]
    assert trials.notes["healed"] >= 1
    assert trials.notes["begins"] <= 2
    assert all_gone(trials.pids)


def test_a_second_ctrl_c_does_not_wait(tmp_path: Path) -> None:
    """Workers that do not end are killed; what they started ends with them."""
    trials = Trials(tmp_path, jobs=1)
    trials.interrupts = ["waiting", "hears nothing"]

    with pytest.raises(KeyboardInterrupt):
        trials.run("deaf")

    assert all_gone(trials.pids)
    assert trials.notes["ends"] == 0


def test_a_run_that_is_halted_from_elsewhere_stops_all(tmp_path: Path) -> None:
    """`icequake halt` is meant for the whole command."""
    trials = Trials(tmp_path, jobs=1)

    assert [one.word for one in trials.run("halted", "passes")] == [Word.STOPPED]


def test_a_stack_that_does_not_start_is_an_error(tmp_path: Path) -> None:
    """With the worker's last words."""
    pool = Pool(
        Workplace("none", tmp_path, 7), jobs=2, listener=lambda _: None,
        start=lambda _: Worker(python("import sys; sys.exit('no room')")),
    )  # fmt: skip

    with pytest.raises(ChaosError, match="a worker ended with status 1: no room"):
        pool.run([trial()] * 3)


def test_a_worker_without_its_parent_interrupts_itself() -> None:
    """Its standard input ends without an `End`: the parent was killed."""
    code = (
        "import os, signal\nfrom chaos.trials.worker import Orders\n"
        "try:\n Orders()\n signal.pause()\nexcept KeyboardInterrupt:\n os._exit(42)"
    )
    worker = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE)
    assert worker.stdin is not None
    worker.stdin.close()

    assert worker.wait(PATIENCE_S) == 42
