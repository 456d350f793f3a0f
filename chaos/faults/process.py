"""End the target, without warning or with one, and start it again: a node failure, a rolling restart, a crash loop."""

from __future__ import annotations

import time
from typing import Annotated, ClassVar, Literal

from msgspec import Meta, Struct

from chaos.faults.env import Effect, Env

Seconds = Annotated[float, Meta(ge=0, le=3600)]
KILLED = -9


class KillProcess(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """End the target's process group, wait, start it on the same data directory and ports; perhaps again and again.

    Attributes:
        signal: KILL, or TERM, which leaves it half a minute to end by itself.
        down_s: How long it stays dead.
        within_s: The first end comes at a moment drawn from the run's seed, within so many seconds.
        times: How often, at most; the step's end ends it too.
        up_s: How long it lives in between.
    """

    restarts_target: ClassVar[bool] = True

    signal: Literal["KILL", "TERM"] = "KILL"
    down_s: Seconds = 1.0
    within_s: Seconds = 0.0
    times: Annotated[int, Meta(ge=1, le=1000)] = 1
    up_s: Seconds = 1.0

    def problem(self, *, starts_target: bool) -> str | None:
        """A process that is not ours is not ours to kill."""
        return None if starts_target else "the target file has no `process`, so the harness cannot kill and restart it"

    def inject(self, env: Env, name: str) -> KillInjection:  # noqa: ARG002  # the mechanism's signature
        """Kill it. Nothing outlives the run, so there is nothing to journal."""
        return KillInjection(self, env)


class KillInjection:
    """A target that is killed as often as was planned; healing starts it for good."""

    def __init__(self, kill: KillProcess, env: Env) -> None:
        assert env.target is not None
        self._kill, self._env, self._target = kill, env, env.target
        self._statuses: list[int | None] = []
        self._down = False
        self._next_at = time.monotonic() + env.rng.uniform(0, kill.within_s)
        self._since_ns = self._until_ns = time.monotonic_ns()
        if not kill.within_s:
            self._end()

    def finished(self) -> bool:
        """It was down for the last time, long enough; asked often, this is where the next end or start is made."""
        if time.monotonic() < self._next_at:
            return False
        if not self._down:
            self._end()
            return False
        if len(self._statuses) >= self._kill.times:
            return True
        self._start()
        return False

    def heal(self) -> None:
        """Start it and wait until it says it is ready, or does not come back."""
        if self._down:
            self._start()
        self._until_ns = time.monotonic_ns()

    def effect(self) -> Effect:
        """Count the requests of clients that it cost."""
        measured = {
            "status": self._statuses[0] if self._statuses else None,
            "times": len(self._statuses),
            "down_s": round((self._until_ns - self._since_ns) / 1e9, 3),
        }
        if not self._statuses:
            return Effect(0, 0, "the step ended before the moment that was drawn for it", measured)
        if self._kill.signal == "KILL" and self._statuses[0] != KILLED:
            why = f"the target had ended by itself with status {self._statuses[0]} before it was killed"
            return Effect(0, 0, why, measured)
        hit = self._env.seen.disturbed(self._since_ns, self._until_ns)
        escaped = max(0, self._env.seen.on_path("ingest", self._since_ns, self._until_ns) - hit)
        return Effect(hit, escaped, None if hit else "no request of a client met a dead target", measured)

    def _end(self) -> None:
        status = self._target.kill() if self._kill.signal == "KILL" else self._target.stop()
        self._statuses.append(status)
        self._down, self._next_at = True, time.monotonic() + self._kill.down_s

    def _start(self) -> None:
        self._target.come_back()
        self._down, self._next_at = False, time.monotonic() + self._kill.up_s
