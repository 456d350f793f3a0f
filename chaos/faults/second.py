"""Start a second process of the target on the data of the first: a rollout that overlaps, a failed fencing, a split brain."""

from __future__ import annotations

import time

from msgspec import Struct

from chaos.faults.env import Effect, Env


class SecondProcess(Struct, frozen=True, forbid_unknown_fields=True):
    """A second target with the same environment and data directory, on ports of its own; ended at the step's end."""

    def problem(self, *, starts_target: bool) -> str | None:
        """Only a target that we start can be started twice."""
        return None if starts_target else "the target file has no `process`, so a second one cannot be started"

    def inject(self, env: Env, name: str) -> SecondInjection:  # noqa: ARG002  # the mechanism's signature
        """Start it. It ends with the run, so there is nothing to journal."""
        return SecondInjection(env)


class SecondInjection:
    """Two processes where one should be; or one, when the second is refused its data, as it should be."""

    def __init__(self, env: Env) -> None:
        assert env.target is not None
        self._env = env
        self._since_ns = self._until_ns = time.monotonic_ns()
        self._twin = env.target.twin()
        self._status: int | None = None
        self._served = False

    def finished(self) -> bool:
        """It gave up by itself."""
        self._served = self._served or self._twin.ready()
        return self._twin.status is not None

    def heal(self) -> None:
        """End it, if it still runs."""
        self._status = self._twin.status
        self._twin.end()
        self._until_ns = time.monotonic_ns()

    def effect(self) -> Effect:
        """Count what clients sent meanwhile; whether the second was refused is measured, and the judge sees what it did."""
        measured = {
            "refused": self._status is not None and not self._served,
            "served": self._served,
            "status": self._status,
        }
        met = self._env.seen.on_path("ingest", self._since_ns, self._until_ns)
        if self._status is None and not self._served:
            return Effect(0, met, "the second process neither served nor gave up before the step ended", measured)
        return Effect(met, 0, None if met else "no client sent anything while there were two", measured)
