"""The nemesis: applies and heals the steps of a scenario, each in its own thread, on schedule or at its trigger."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from chaos.errors import ChaosError, HealFailed, NotPossible
from chaos.faults.env import Env, Injection, Mechanism
from chaos.moment import moment_came
from chaos.scenario import Step
from loadtests.records.timeline import Timeline

POLL_S = 0.05


@dataclass
class StepState:
    """What became of a step so far: armed, injected, healed, void or failed."""

    step: Step
    state: str = "armed"


class Nemesis:
    """Run *steps* against *env*; every change of state goes to the timeline.

    Args:
        env_of: Gives a step its environment (each has its own random numbers).
        clock: Monotonic nanoseconds.
        wait: Waits for an event, at most so many seconds; tells whether it was set.
    """

    def __init__(
        self,
        steps: Sequence[Step],
        env_of: Callable[[Step], Env],
        timeline: Timeline,
        *,
        clock: Callable[[], int] = time.monotonic_ns,
        wait: Callable[[threading.Event, float], bool] = threading.Event.wait,
    ) -> None:
        self._env_of, self._timeline = env_of, timeline
        self._clock, self._wait_for = clock, wait
        self.states = [StepState(step) for step in steps]
        self._stop = threading.Event()
        self._restarting = threading.Lock()
        self._threads: list[threading.Thread] = []
        self.failure: ChaosError | None = None

    def start(self, origin_ns: int) -> None:
        """Begin; `at_s` and triggers count from *origin_ns*."""
        for state in self.states:
            self._note(state)
            name = f"step-{state.step.index}"
            thread = threading.Thread(target=self._run, args=(state, origin_ns), name=name, daemon=True)
            self._threads.append(thread)
            thread.start()

    @property
    def active(self) -> list[str]:
        """Names of the faults that are on."""
        return [state.step.spec.name for state in self.states if state.state == "injected"]

    def stop(self, timeout_s: float = 60.0) -> None:
        """Heal what is on, start nothing more, and wait until that is done.

        Raises:
            ChaosError: the first failure of a step; HealFailed when a step has not ended within *timeout_s*.
        """
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout_s)
        if self.failure is not None:
            raise self.failure
        if any(thread.is_alive() for thread in self._threads):
            raise HealFailed(
                f"{', '.join(self.active) or 'a step'} did not end within {timeout_s:g} s of being told to."
            )

    def _run(self, state: StepState, origin_ns: int) -> None:
        try:
            env = self._env_of(state.step)
            if self._wait(state.step, env, origin_ns):
                self._inject_and_heal(state, env)
            else:
                self._note(state, "void", reason="its moment never came before traffic ended")
        except NotPossible as error:
            self._note(state, "void", reason=f"not possible here: {error}")
        except ChaosError as error:
            self.failure = self.failure or error
            self._note(state, "failed", error=str(error))
        except Exception as error:  # a fault of the harness must be seen, not die with its thread
            self.failure = self.failure or ChaosError(f"step {state.step.index} ({state.step.spec.name}): {error!r}")
            self._note(state, "failed", error=repr(error))

    def _wait(self, step: Step, env: Env, origin_ns: int) -> bool:
        return moment_came(step, env.seen, env.read, origin_ns, self._stop, clock=self._clock, wait=self._wait_for)

    def _inject_and_heal(self, state: StepState, env: Env) -> None:
        mechanism = state.step.spec.build()
        with self._turn(mechanism) as came:
            if came:
                self._inject_in_turn(state, mechanism, env)
            else:
                self._note(state, "void", reason="other steps were restarting the target until traffic ended")

    @contextmanager
    def _turn(self, mechanism: Mechanism) -> Iterator[bool]:
        """Let one step at a time restart the target: two at once would end what the other has just started."""
        if not getattr(mechanism, "restarts_target", False):
            yield True
            return
        while not self._restarting.acquire(blocking=False):
            if self._wait_for(self._stop, POLL_S):
                yield False
                return
        try:
            yield True
        finally:
            self._restarting.release()

    def _inject_in_turn(self, state: StepState, mechanism: Mechanism, env: Env) -> None:
        step, began_ns = state.step, self._clock()
        injection = mechanism.inject(env, f"step{step.index}-{step.spec.name}")
        # It acts from then on; by now its effect has been measured, which takes as long as the fault makes it.
        self._note(state, "injected", params=step.spec.params, began_ns=began_ns)
        deadline_ns = self._clock() + round(step.for_s * 1e9)
        try:
            while self._clock() < deadline_ns and not injection.finished():
                if self._wait_for(self._stop, POLL_S):
                    break
        finally:  # a fault that cannot be asked any more must still be removed
            injection.heal()
        self._close(state, injection)

    def _close(self, state: StepState, injection: Injection) -> None:
        effect = injection.effect()
        fields: dict[str, Any] = {
            "requests_affected": effect.affected,
            "requests_escaped": effect.escaped,
            "measured": effect.measured,
        }
        if effect.reason is None:
            self._note(state, "healed", **fields)
        else:
            self._note(state, "void", reason=effect.reason, **fields)

    def _note(self, state: StepState, becomes: str = "armed", **fields: Any) -> None:
        state.state = becomes
        self._timeline.write("step", step=state.step.index, fault=state.step.spec.name, state=becomes, **fields)
