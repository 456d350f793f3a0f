"""Drills as steps of a scenario: each is done when its moment comes, beside the traffic, one at a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from chaos.condition import Read
from chaos.drills.desk import Desk, DrillFailed, DrillStopped, perform
from chaos.errors import ChaosError
from chaos.moment import Requests, moment_came
from chaos.scenario import DrillStep
from loadtests.records.timeline import Timeline

LONGEST_S = 300.0
"""A drill that takes longer has failed."""


class DrillSteps:
    """Do *steps*, each in its own thread; every change of state goes to the timeline.

    Args:
        desk_of: Gives a drill its desk; the second argument is what it calls while it waits, the third writes its lines.
        seen, read: For the moments.
        clock: Monotonic nanoseconds.
        wait: Waits for an event, at most so many seconds; tells whether it was set.
    """

    def __init__(
        self,
        steps: Sequence[DrillStep],
        desk_of: Callable[[DrillStep, Callable[[], None], Callable[..., Any]], Desk],
        timeline: Timeline,
        *,
        seen: Requests,
        read: Read,
        clock: Callable[[], int] = time.monotonic_ns,
        wait: Callable[[threading.Event, float], bool] = threading.Event.wait,
    ) -> None:
        self._steps, self._desk_of, self._timeline = steps, desk_of, timeline
        self._seen, self._read, self._clock, self._wait = seen, read, clock, wait
        self._sealed, self._stop = threading.Event(), threading.Event()
        self._turn = threading.Lock()
        self._threads: list[threading.Thread] = []
        self.active: list[str] = []
        self.failure: ChaosError | None = None

    def start(self, origin_ns: int) -> None:
        """Begin; `at_s` and triggers count from *origin_ns*."""
        for step in self._steps:
            self._begin(step, origin_ns)

    def add(self, step: DrillStep) -> None:
        """Do one more, which a person asked for; it waits for its turn as the others do."""
        self._begin(step, self._clock())

    def _begin(self, step: DrillStep, origin_ns: int) -> None:
        self._write(step, "drill", drill=step.drill.name, state="armed", params=dict(step.drill.params))
        name = f"drill-{step.index}"
        thread = threading.Thread(target=self._run, args=(step, origin_ns), name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    @property
    def busy(self) -> bool:
        """Whether a drill is being done, or may still begin."""
        return any(thread.is_alive() for thread in self._threads)

    def seal(self) -> None:
        """Let none begin any more; the one that is being done goes on."""
        self._sealed.set()

    def stop(self, timeout_s: float = 60.0) -> None:
        """Let none begin, stop the one that is being done at its next wait, and wait until that has happened.

        Raises:
            ChaosError: the first failure of the harness in a drill, or a drill that did not stop within *timeout_s*.
        """
        self.seal()
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout_s)
        if self.failure is not None:
            raise self.failure
        if self.busy:
            raise ChaosError(f"the drill {', '.join(self.active)} did not stop within {timeout_s:g} s.")

    def _run(self, step: DrillStep, origin_ns: int) -> None:
        try:
            came = moment_came(
                step, self._seen, self._read, origin_ns, self._sealed, clock=self._clock, wait=self._wait
            )
            with self._turn:
                if not came or self._sealed.is_set():
                    why = "its turn" if came else "its moment"
                    self._void(step, f"{why} never came before traffic ended")
                else:
                    self._do(step)
        except ChaosError as error:
            self._failed(step, error)
        except Exception as error:  # a fault of the harness must be seen, not die with its thread
            self._failed(step, ChaosError(f"drill {step.drill.name} (step {step.index}): {error!r}"))

    def _do(self, step: DrillStep) -> None:
        deadline_ns = self._clock() + round(LONGEST_S * 1e9)

        def idle() -> None:
            if self._stop.is_set():
                raise DrillStopped("the run ended")
            if self._clock() > deadline_ns:
                raise DrillFailed(f"it was not done within {LONGEST_S:g} s.")

        def write(event: str, **fields: Any) -> None:
            self._write(step, event, **fields)

        self.active.append(step.drill.name)
        try:
            perform(step.drill.name, step.drill.perform, self._desk_of(step, idle, write))
        finally:
            self.active.remove(step.drill.name)

    def _void(self, step: DrillStep, reason: str) -> None:
        self._write(step, "drill", drill=step.drill.name, state="void", reason=reason)

    def _failed(self, step: DrillStep, error: ChaosError) -> None:
        self.failure = self.failure or error
        self._write(step, "drill", drill=step.drill.name, state="broken", reason=error.sentence)

    def _write(self, step: DrillStep, event: str, **fields: Any) -> None:
        self._timeline.write(event, step=step.index, **fields)
