"""A warm stack and the trials done on it: a child process of `icequake catalogue`.

    python -m chaos.trials.worker --stack seaweedfs --runs runs --seed 1

`messages` says what is read and written. SIGINT and SIGTERM heal the trial that goes on, and end the stack. So does the end of
standard input without an `End`: then the parent is gone.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
from msgspec import Struct, structs
from rich.console import Console

from chaos import halt
from chaos.commands.session import Session, session
from chaos.display import Display
from chaos.errors import ChaosError
from chaos.faults import FaultSpec, catalogue
from chaos.guard import refuse
from chaos.readers import Readers, WarmJudge
from chaos.request import Request, Result
from chaos.runner import Runner
from chaos.settling import POLL_S
from chaos.target import find_target
from chaos.trials.messages import ORDERS, Broken, Order, Phase, Ready, line
from chaos.trials.outcome import EFFECTIVE, Outcome, Trial, Word, definition_of, word_for
from chaos.trials.plan import plan_for

Say = Callable[[Struct], None]
AFTERWARDS_S = 1.0
"""How long traffic outlasts the last fault; the end of a micro-scenario is this long after that of its fault."""
OVER = ("healed", "void", "failed")
TRIES = 3
"""A planted bug that shows only when the fault meets a certain moment (a buffer that is not empty, a file that is being read) is
given this many runs, each with a seed of its own. A target without a bug gets one: it must always pass."""


class TrialReaders(Readers):
    """Judge by a warm process, and leave the report for whoever wants it."""

    def __init__(self, runner: TrialRunner) -> None:
        super().__init__(runner.run, runner.addresses)
        self._judge = runner.warm_judge

    def judge(self) -> int:
        """Read the table afresh and judge; return the verdict's exit code. Raises ChaosError."""
        return self._judge.judge(self._run)


class TrialRunner(Runner):
    """A run of a micro-scenario."""

    def __init__(self, request: Request, *, running: Session, judge: WarmJudge, display: Display) -> None:
        self.warm_judge, self.addresses = judge, running.stack.addresses
        super().__init__(request, stack=running.stack, warden=running.warden, display=display)

    def _make_readers(self) -> Readers:
        return TrialReaders(self)

    def _traffic_flows(self) -> None:
        """Let traffic flow until a little after the last fault is over; as long as planned at most."""
        left_s = self._plan.scenario.traffic.for_s
        while left_s > AFTERWARDS_S and not self._faults_are_over():
            started = time.monotonic()
            self._until(POLL_S)
            left_s -= time.monotonic() - started
        self._until(min(AFTERWARDS_S, left_s))

    def _faults_are_over(self) -> bool:
        return self._nemesis is not None and all(state.state in OVER for state in self._nemesis.states)


class PhaseTeller(Display):
    """Tell each phase to the parent, and show nothing."""

    def __init__(self, say: Say) -> None:
        super().__init__(Console(stderr=True), quiet=True)
        self._say = say

    def entry(self, entry: dict[str, Any]) -> None:
        """Pass on the beginning of a phase."""
        if entry["event"] == "phase":
            self._say(Phase(str(entry["phase"])))


class Bench:
    """Does trials, one after the other.

    Args:
        say: Tells the parent.
    """

    def __init__(self, running: Session, judge: WarmJudge, *, runs: Path, seed: int, say: Say) -> None:
        self._running, self._judge, self._runs, self._seed, self._say = running, judge, runs, seed, say

    def do(self, trial: Trial) -> Outcome:
        """Do a trial; a planted bug that survives is tried again. What goes wrong with icequake itself is an outcome too."""
        started = time.monotonic()
        for tries in range(1, TRIES + 1):
            found = self._try(trial, self._seed + tries - 1)
            if found.word is not Word.SURVIVED:
                break
        return structs.replace(found, tries=tries, seconds=round(time.monotonic() - started, 1))

    def _try(self, trial: Trial, seed: int) -> Outcome:
        spec = catalogue()[trial.fault]

        def outcome(word: Word, blamed: list[str], detail: str, run: str | None) -> Outcome:
            return Outcome(
                fault=trial.fault, target=trial.target, word=word, blamed=blamed, detail=detail, run=run,
                seconds=0.0, unix_ns=time.time_ns(), seed=seed, definition=definition_of(spec), planted=trial.planted,
            )  # fmt: skip

        try:
            runner, result = self._run(trial, spec, seed)
        except ChaosError as error:
            return outcome(Word.BROKEN, [], error.sentence, None)
        verdict = json.loads(result.run.verdict.read_text(encoding="utf-8"))
        stopped = runner.interrupted or halt.asked(result.run.root)  # a halt may come when the run is over
        word = Word.STOPPED if stopped else word_for(trial, verdict)
        found = [check for check in verdict["checks"] if check["verdict"] != "PASS"]
        return outcome(word, [check["id"] for check in found], _why(word, found), result.run.root.name)

    def _run(self, trial: Trial, spec: FaultSpec, seed: int) -> tuple[TrialRunner, Result]:
        path, loaded = find_target(trial.path)
        loaded = structs.replace(loaded, hooks={**spec.micro.hooks, **loaded.hooks})
        plan = plan_for(spec, planted=trial.planted)
        refuse(plan, loaded)
        where = () if trial.planted or trial.path == "reference" else ("--target", trial.path)
        request = Request(plan, path, loaded, self._runs, seed, ("icequake", "catalogue", trial.fault, *where))
        runner = TrialRunner(request, running=self._running, judge=self._judge, display=PhaseTeller(self._say))
        return runner, runner.execute()


def _why(word: Word, found: list[dict[str, Any]]) -> str:
    """The claim of the check that explains a void trial, or the first that was not PASS."""
    if word is Word.VOID:
        found = [check for check in found if check["id"] == EFFECTIVE] or found
    return str(found[0]["claim"]) if found else ""


class Orders:
    """The trials that the parent asks for, read by a thread so that its end is noticed at once."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[Trial | None] = queue.SimpleQueue()
        threading.Thread(target=self._read, name="orders", daemon=True).start()

    def __iter__(self) -> Iterator[Trial]:
        while (trial := self._queue.get()) is not None:
            yield trial

    def _read(self) -> None:
        for raw in sys.stdin.buffer:
            order = ORDERS.decode(raw)
            if not isinstance(order, Order):
                self._queue.put(None)
                return
            self._queue.put(order.trial)
        os.kill(os.getpid(), signal.SIGINT)


def teller() -> Say:
    """Return a function that writes messages to standard output; safe to call from several threads."""
    lock = threading.Lock()

    def say(message: Struct) -> None:
        with lock:
            sys.stdout.buffer.write(line(message))
            sys.stdout.buffer.flush()

    return say


@click.command()
@click.option("--stack", required=True)
@click.option("--runs", type=click.Path(path_type=Path), required=True)
@click.option("--seed", type=int, required=True)
def main(stack: str, runs: Path, seed: int) -> None:
    """Do the trials that standard input asks for."""
    for number in (signal.SIGINT, signal.SIGTERM):  # a parent in the background may have had them ignored
        signal.signal(number, signal.default_int_handler)
    say, orders = teller(), Orders()
    try:
        with session(stack, runs=runs, seed=seed, display=Display(Console(stderr=True))) as running:
            _serve(running, orders, runs=runs, seed=seed, say=say)
    except ChaosError as error:
        say(Broken(error.sentence))
        sys.exit(255)
    except KeyboardInterrupt:
        sys.exit(130)


def _serve(running: Session, orders: Orders, *, runs: Path, seed: int, say: Say) -> None:
    with WarmJudge(running.stack.addresses, running.stack.logs / "judging.log") as judge:
        say(Ready())
        bench = Bench(running, judge, runs=runs, seed=seed, say=say)
        for trial in orders:
            outcome = bench.do(trial)
            say(outcome)
            if outcome.word is Word.STOPPED:
                break


if __name__ == "__main__":
    main()
