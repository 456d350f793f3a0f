"""Several warm stacks side by side, each with a worker process that does one trial after the other."""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from chaos.errors import ChaosError
from chaos.faults import catalogue
from chaos.trials.outcome import Outcome, Trial, Word, definition_of
from chaos.trials.worker_process import Worker, Workplace

HEAL_S = 120.0
"""How long workers that were told to stop may say nothing while they heal, judge and end their stacks."""


@dataclass(frozen=True)
class Event:
    """What happened in a lane: a trial has begun or come further (*phase*), or ended (*outcome*); neither: the lane is done."""

    lane: int
    trial: Trial | None = None
    phase: str = ""
    outcome: Outcome | None = None
    error: ChaosError | None = None


class Pool:
    """Does trials in *jobs* lanes, each a worker with a stack of its own.

    Args:
        listener: Told of every event, in the thread that called `run`.
        start: Starts a worker.
    """

    def __init__(
        self,
        workplace: Workplace,
        *,
        jobs: int,
        listener: Callable[[Event], None],
        start: Callable[[Sequence[str]], Worker] = Worker,
    ) -> None:
        self._workplace, self._jobs, self._listener, self._start = workplace, jobs, listener, start
        self._waiting: deque[Trial] = deque()
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._workers: dict[int, Worker] = {}
        self._lock = threading.Lock()
        self._stopping = False
        self._lanes = 0
        self._problem: ChaosError | None = None

    def run(self, trials: Sequence[Trial]) -> None:
        """Do *trials*, begun in their order.

        A trial that icequake itself fails at gets the word `icequake failed`, and the next one a fresh stack.

        Raises:
            ChaosError: a stack could not be started.
            KeyboardInterrupt: the person asked for the end; everything is healed and has ended. A second one does not wait
                for that: the wardens see to it.
        """
        self._waiting.extend(trials)
        self._lanes = min(self._jobs, len(trials))
        for lane in range(self._lanes):
            threading.Thread(target=self._lane, args=(lane,), name=f"lane-{lane}", daemon=True).start()
        interrupt: KeyboardInterrupt | None = None
        while self._lanes:
            try:
                self._hear(timeout_s=HEAL_S if self._stopping else None)
            except KeyboardInterrupt as another:
                if interrupt is not None:
                    self._kill()
                    raise
                interrupt = another
                self._stop()
        for problem in (interrupt, self._problem):
            if problem is not None:
                raise problem

    def _hear(self, timeout_s: float | None) -> None:
        try:
            event = self._events.get(timeout=timeout_s)
        except queue.Empty:
            self._kill()
            return
        if event.outcome is not None:
            if event.outcome.word is Word.STOPPED:  # somebody halted the run
                self._stop()
        elif event.trial is None:
            self._lanes -= 1
        if event.error is not None:
            self._problem = self._problem or event.error
            self._stop()
        self._listener(event)

    def _stop(self) -> None:
        """Begin no more trials, and interrupt those that go on."""
        with self._lock:
            self._stopping = True
            for worker in self._workers.values():
                worker.interrupt()

    def _kill(self) -> None:
        with self._lock:
            for worker in self._workers.values():
                worker.kill()

    # -- in the thread of a lane

    def _lane(self, lane: int) -> None:
        error: ChaosError | None = None
        try:
            while (trial := self._next()) is not None:
                self._events.put(Event(lane, trial, "begins"))
                outcome = self._try(lane, trial)
                if outcome is not None:
                    self._stopping |= outcome.word is Word.STOPPED  # before this lane asks for its next trial
                    self._events.put(Event(lane, trial, outcome=outcome))
        except ChaosError as problem:
            error = problem
        finally:
            self._dismiss(lane)
            self._events.put(Event(lane, error=error))

    def _next(self) -> Trial | None:
        with self._lock:
            return self._waiting.popleft() if self._waiting and not self._stopping else None

    def _try(self, lane: int, trial: Trial) -> Outcome | None:
        worker = self._worker(lane)
        if worker is None:
            return None
        outcome = worker.do(trial, lambda phase: self._events.put(Event(lane, trial, phase.name)))
        if outcome is None and not self._stopping:
            outcome = self._lost(trial, worker.obituary())
        if outcome is None or outcome.word is Word.BROKEN:
            self._dismiss(lane)
        return outcome

    def _worker(self, lane: int) -> Worker | None:
        """The worker of a lane, started when there is none; None when all is to stop. Raises ChaosError."""
        with self._lock:
            if self._stopping:
                return None
            fresh = lane not in self._workers
            worker = (
                self._workers.setdefault(lane, self._start(self._workplace.argv())) if fresh else self._workers[lane]
            )
        if fresh:
            try:
                worker.wait_ready()
            except ChaosError:
                if self._stopping:
                    return None
                raise
        return worker

    def _dismiss(self, lane: int) -> None:
        worker = self._workers.get(lane)
        if worker is not None:
            worker.end()
            with self._lock:
                del self._workers[lane]

    def _lost(self, trial: Trial, why: str) -> Outcome:
        return Outcome(
            fault=trial.fault, target=trial.target, word=Word.BROKEN, blamed=[], detail=why, run=None, seconds=0.0,
            unix_ns=time.time_ns(), seed=self._workplace.seed, definition=definition_of(catalogue()[trial.fault]),
            planted=trial.planted,
        )  # fmt: skip
