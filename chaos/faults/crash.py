"""Let the target kill itself at a named point of its own code, with a given durable state, and start it again."""

from __future__ import annotations

import time
from typing import Annotated, ClassVar

from msgspec import Meta, Struct

from chaos.errors import NotPossible
from chaos.faults.env import Effect, Env
from chaos.faults.process import KILLED


class CrashPoint(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Restart the target with a crash point armed, wait for it to die there, start it as it was.

    Attributes:
        point: A name that the target knows, such as `commit.after_send`.
        nth: At the n-th passing.
        down_s: How long it stays dead.
    """

    restarts_target: ClassVar[bool] = True

    point: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.-]+$")]
    nth: Annotated[int, Meta(ge=1)] = 1
    down_s: Annotated[float, Meta(ge=0, le=3600)] = 0.2

    def problem(self, *, starts_target: bool) -> str | None:
        """Only a target that we start can be armed."""
        return None if starts_target else "the target file has no `process`, so no crash point can be armed"

    def inject(self, env: Env, name: str) -> CrashInjection:  # noqa: ARG002  # the mechanism's signature
        """Restart it armed. Nothing outlives the run, so there is nothing to journal. Raises NotPossible."""
        return CrashInjection(self, env)


class CrashInjection:
    """A target that is going to kill itself."""

    def __init__(self, crash: CrashPoint, env: Env) -> None:
        assert env.target is not None
        self._crash, self._env, self._target = crash, env, env.target
        points = self._target.crash_points
        if points is None:
            raise NotPossible(
                "the target file names no `process.crash_points`, so the target cannot be told where to die"
            )
        armed = {points.env: points.format.format(point=crash.point, nth=crash.nth)}
        self._target.stop()
        self._target.come_back(env=armed, arguments=points.arguments)  # it may die at its point before it is ready
        self._since_ns = self._until_ns = time.monotonic_ns()
        self._died_at: float | None = None
        self._status: int | None = None

    def finished(self) -> bool:
        """It died, and has been dead long enough."""
        if self._died_at is None and self._target.pid is None:
            self._died_at, self._status = time.monotonic(), self._target.status
        return self._died_at is not None and time.monotonic() >= self._died_at + self._crash.down_s

    def heal(self) -> None:
        """Start it unarmed and wait until it says it is ready, or does not come back."""
        if self._died_at is None:
            self._status = self._target.stop()
        self._target.come_back()
        self._until_ns = time.monotonic_ns()

    def effect(self) -> Effect:
        """Count the requests of clients that it cost; one dead process at least."""
        measured = {"status": self._status, "point": self._crash.point}
        if self._died_at is None:
            return Effect(0, 0, f"the target never came to {self._crash.point} while it was armed", measured)
        if self._status != KILLED:
            why = f"the target ended with status {self._status}, not by the signal of its crash point"
            return Effect(0, 0, why, measured)
        return Effect(max(1, self._env.seen.disturbed(self._since_ns, self._until_ns)), 0, None, measured)
