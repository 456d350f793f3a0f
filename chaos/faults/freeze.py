"""Stop a process with SIGSTOP and let it go on: a long pause, after which it believes that no time has passed."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Annotated

from msgspec import Meta, Struct

from chaos.errors import HealFailed, NotPossible
from chaos.faults.dead_path import on_dead_path
from chaos.faults.env import Effect, Env
from chaos.faults.server import paths_of
from chaos.undo import process_identity

GOES_ON_WITHIN_S = 2.0


class Freeze(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """SIGSTOP, and SIGCONT at the step's end.

    Attributes:
        who: `target`, or a server of the stack: `storage`, `catalog` (one process on some stacks), `gateway`, `toxiproxy`.
    """

    who: Annotated[str, Meta(pattern=r"^[a-z]+$")] = "target"

    def problem(self, *, starts_target: bool) -> str | None:
        """A process that is not ours is not ours to stop."""
        return None if starts_target else "the target file has no `process`, so the harness cannot stop it"

    def inject(self, env: Env, name: str) -> FreezeInjection:  # noqa: ARG002  # the mechanism's signature
        """Stop it, journaled first. Raises NotPossible."""
        return FreezeInjection(self, env)


class FreezeInjection:
    """A process that stands still."""

    def __init__(self, freeze: Freeze, env: Env) -> None:
        self._who, self._env = freeze.who, env
        pid = self._pid = self._find()
        entry = {"kind": "signal", "pid": pid, "identity": process_identity(pid), "signal": "CONT", "group": True}
        self._undo = env.warden.undo(entry)
        env.warden.request("signal", pid=pid, signal=int(signal.SIGSTOP), group=True)
        self._stood = _reaches(pid, stopped=True)
        self._since_ns = self._until_ns = time.monotonic_ns()

    def finished(self) -> bool:
        """It stands still as long as the step lasts."""
        return False

    def heal(self) -> None:
        """Let it go on and see that it does. Raises HealFailed."""
        outcome = self._undo.play()
        self._until_ns = time.monotonic_ns()
        if not outcome.ok or not _reaches(self._pid, stopped=False):
            raise HealFailed(f"{self._who} (pid {self._pid}) does not go on after SIGCONT: {outcome.detail}")

    def effect(self) -> Effect:
        """Count the requests that were sent while it stood still."""
        measured = {"stopped_s": round((self._until_ns - self._since_ns) / 1e9, 3)}
        if not self._stood:
            return Effect(0, 0, f"{self._who} did not stop", measured)
        seen, since, until = self._env.seen, self._since_ns, self._until_ns
        if self._who != "target":
            return on_dead_path(seen, paths_of(self._env.stack, self._who), since, until, measured)
        met = seen.on_path("ingest", since, until)
        return Effect(met, 0, None if met else "nothing was sent to the target while it stood still", measured)

    def _find(self) -> int:
        if self._who == "target":
            assert self._env.target is not None
            if self._env.target.pid is None:
                raise NotPossible("the target is not running, so it cannot be stopped")
            return self._env.target.pid
        children, name = self._env.stack.children, self._env.stack.server(self._who)
        if name not in children:
            raise NotPossible(
                f"this run did not start a server {self._who!r}; it started {', '.join(children) or 'none'}"
            )
        return children[name].pid


def _reaches(pid: int, *, stopped: bool) -> bool:
    """Wait until a process is, or is no longer, stopped; where that cannot be seen, believe it."""
    stat = Path(f"/proc/{pid}/stat")
    deadline = time.monotonic() + GOES_ON_WITHIN_S
    while stat.exists() and (stat.read_text().rpartition(")")[2].split()[0] in "Tt") != stopped:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True
