"""Faults and drills by an operator's hand: each is a step of its own, with a number after those of the scenario."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import msgspec

from chaos.drills import MODULES, find_drill
from chaos.errors import BadInput, ChaosError, NotNow
from chaos.faults import MECHANISMS, FaultSpec, catalogue
from chaos.faults.env import Env
from chaos.nemesis import Nemesis
from chaos.scenario import Step
from loadtests.records.target import Target
from loadtests.records.timeline import Timeline

UNTIL_HEALED_S = 86_400.0
"""How long a fault lasts whose end nobody gave."""
ACTIVE_MAX = 20


class Interactive:
    """Inject and heal by hand, through the same nemesis that runs a scenario's steps. Safe from several threads.

    Args:
        first_index: The number of the first step.
        env_of: Gives a step its environment.
        starts_target: Whether the target is a process of the harness; faults that need that are refused otherwise.
    """

    def __init__(
        self, first_index: int, env_of: Callable[[Step], Env], timeline: Timeline, *, starts_target: bool
    ) -> None:
        self._next, self._env_of, self._timeline = first_index, env_of, timeline
        self._starts_target = starts_target
        self._open: dict[int, Nemesis] = {}
        self._lock = threading.Lock()
        self._closed = False

    @property
    def active(self) -> list[str]:
        """Names of the faults that are on."""
        return [name for nemesis in list(self._open.values()) for name in nemesis.active]

    def inject(self, fault: str, params: dict[str, Any], for_s: float | None) -> int:
        """Begin a step and return its number; what becomes of it stands in the timeline.

        Raises:
            BadInput: there is no such fault, or its parameters are wrong.
            NotNow: it is not possible on this target, or faults are being healed for good.
        """
        spec = checked(fault, params)
        problem = spec.build().problem(starts_target=self._starts_target)
        if problem:
            raise NotNow(f"{fault} is not possible here: {problem}.")
        if for_s is not None and not 0 < for_s <= UNTIL_HEALED_S:
            raise BadInput(f"for_s is between 0 and {UNTIL_HEALED_S:g} seconds, or null for until it is healed.")
        with self._lock:
            if self._closed:
                raise NotNow("the run is ending: no fault begins any more.")
            if len(self.active) >= ACTIVE_MAX:
                raise NotNow(f"{ACTIVE_MAX} faults are on; heal some first.")
            if spec.mechanism == "process" and self.restarting:
                raise NotNow("the target is being killed or restarted by hand already; wait until that is healed.")
            index = self._take()
            nemesis = Nemesis([Step(index, spec, 0.0, None, for_s or UNTIL_HEALED_S)], self._env_of, self._timeline)
            self._open[index] = nemesis
            nemesis.start(time.monotonic_ns())
        return index

    def take_index(self) -> int:
        """Return the number of a step that is no fault, such as a drill."""
        with self._lock:
            return self._take()

    def _take(self) -> int:
        index, self._next = self._next, self._next + 1
        return index

    @property
    def restarting(self) -> bool:
        """Whether a fault that was injected by hand kills or restarts the target."""
        return "process" in self._mechanisms()

    def _mechanisms(self) -> list[str]:
        return [
            state.step.spec.mechanism
            for nemesis in list(self._open.values())
            for state in nemesis.states
            if state.state in ("armed", "injected")
        ]

    def heal(self, index: int) -> None:
        """Heal one step and wait until that is done. Raises BadInput, or ChaosError when it could not be healed."""
        nemesis = self._open.get(index)
        if nemesis is None:
            raise BadInput(f"step {index} was not injected by hand in this run.")
        nemesis.stop()

    def heal_all(self) -> None:
        """Heal every step; raises the first ChaosError after all were tried."""
        failures = [failure for nemesis in list(self._open.values()) if (failure := _stopped(nemesis)) is not None]
        if failures:
            raise failures[0]

    def close(self) -> None:
        """Let no further step begin, and heal what is on."""
        with self._lock:
            self._closed = True
        self.heal_all()


def checked(fault: str, params: dict[str, Any]) -> FaultSpec:
    """Return a fault of the catalogue with *params* laid over its own. Raises BadInput."""
    known = catalogue()
    if fault not in known:
        raise BadInput(f"there is no fault {fault!r}; `icequake list faults` shows what there is.")
    try:
        return known[fault].with_params(params)
    except (ValueError, TypeError, msgspec.ValidationError) as error:
        raise BadInput(f"{fault}: {error}") from error


def described(*, starts_target: bool) -> list[dict[str, Any]]:
    """Return the catalogue for a form: name, about, mechanism, parameters, JSON Schema, and why it is not possible."""
    schemas = {name: msgspec.json.schema(kind) for name, kind in MECHANISMS.items()}
    return [
        {
            "name": name,
            "about": spec.about,
            "mechanism": spec.mechanism,
            "with": spec.params,
            "schema": schemas[spec.mechanism],
            "problem": spec.build().problem(starts_target=starts_target),
        }
        for name, spec in catalogue().items()
    ]


def described_drills(target: Target) -> list[dict[str, Any]]:
    """Return the drills for a form: name, about, the procedure, parameters, JSON Schema, and why it is not possible."""
    return [
        {
            "name": name,
            "about": drill.about,
            "text": drill.text,
            "with": dict(drill.params),
            "schema": dict(drill.schema),
            "problem": drill.problem(target),
        }
        for name, drill in ((name, find_drill(name)) for name in MODULES)
    ]


def _stopped(nemesis: Nemesis) -> ChaosError | None:
    try:
        nemesis.stop()
    except ChaosError as error:
        return error
    return None
