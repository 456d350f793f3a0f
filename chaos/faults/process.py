"""Kill the target without warning and start it again, as a node failure would."""

from __future__ import annotations

import time
from typing import Annotated

from msgspec import Meta, Struct

from chaos.faults.env import Effect, Env


class KillProcess(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """SIGKILL the target's process group, wait, start it on the same data directory and ports.

    Attributes:
        down_s: How long it stays dead.
    """

    down_s: Annotated[float, Meta(ge=0, le=3600)] = 1.0

    def problem(self, *, starts_target: bool) -> str | None:
        """A process that is not ours is not ours to kill."""
        return None if starts_target else "the target file has no `process`, so the harness cannot kill and restart it"

    def inject(self, env: Env, name: str) -> KillInjection:  # noqa: ARG002  # the mechanism's signature
        """Kill it. Nothing outlives the run, so there is nothing to journal."""
        return KillInjection(self, env)


class KillInjection:
    """A target that was killed; healing starts it again."""

    def __init__(self, kill: KillProcess, env: Env) -> None:
        assert env.target is not None
        self._env, self._target = env, env.target
        self._ready_at = time.monotonic() + kill.down_s
        self._since_ns = time.monotonic_ns()
        self._status = self._target.kill()
        self._until_ns = self._since_ns

    def finished(self) -> bool:
        """It has been down long enough."""
        return time.monotonic() >= self._ready_at

    def heal(self) -> None:
        """Start it and wait until it says it is ready. Raises NotReady."""
        self._target.start()
        self._until_ns = time.monotonic_ns()

    def effect(self) -> Effect:
        """Count the requests of clients that it cost."""
        down_s = round((self._until_ns - self._since_ns) / 1e9, 3)
        measured = {"status": self._status, "down_s": down_s}
        if self._status != -9:
            return Effect(
                0, 0, f"the target had ended by itself with status {self._status} before it was killed", measured
            )
        hit = self._env.seen.disturbed(self._since_ns, self._until_ns)
        if hit == 0:
            return Effect(0, 0, "no request of a client met a dead target", measured)
        return Effect(hit, 0, None, measured)
