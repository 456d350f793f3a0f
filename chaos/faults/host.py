"""What a machine does to a target's files: system calls that fail (through strace), and a database that another locks."""

from __future__ import annotations

import sys
import time
from typing import Annotated

from msgspec import Meta, Struct

from chaos.errors import HealFailed, NotPossible
from chaos.faults.env import Effect, Env
from chaos.faults.strace import ATTACHES_WITHIN_S, attach, find_strace, tracer_of
from chaos.warden_client import Child

SUPERVISOR_GRACE_S = 5.0
INJECTED = "(INJECTED)"


class SyscallError(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Let system calls of the target on its own files fail: a full disk, a disk that cannot be synced.

    It needs Linux and `strace`, and the right to trace the target; else the step is void.

    Attributes:
        calls: Such as `pwrite64` or `fdatasync`.
        error: Such as ENOSPC or EIO.
        files: Which files below DATA_DIR, as a pattern.
        when: The n-th such call, `n+` from then on; None: every one.
    """

    calls: Annotated[list[Annotated[str, Meta(pattern=r"^[a-z0-9_]+$")]], Meta(min_length=1)]
    error: Annotated[str, Meta(pattern=r"^E[A-Z0-9]+$")]
    files: str = "*"
    when: Annotated[str, Meta(pattern=r"^[0-9]+\+?$")] | None = None

    def problem(self, *, starts_target: bool) -> str | None:
        """Only a process that we start can be traced."""
        return None if starts_target else "the target file has no `process`, so its system calls cannot be reached"

    def inject(self, env: Env, name: str) -> SyscallInjection:
        """Attach. strace ends with the run, and with it the errors, so there is nothing to journal. Raises NotPossible."""
        return SyscallInjection(self, env, name)


class SyscallInjection:
    """A target whose system calls fail."""

    def __init__(self, spec: SyscallError, env: Env, name: str) -> None:
        assert env.target is not None
        self._env, self._error, self._restarted = env, spec.error, False
        pid, files = env.target.pid, [path for path in env.data_dir.resolve().rglob(spec.files) if path.is_file()]
        find_strace()
        if pid is None or not files:
            raise NotPossible(f"the target does not run, or has no file {spec.files} below its data directory")
        self._pid: int = pid
        calls = ",".join(spec.calls)
        when = f":when={spec.when}" if spec.when else ""
        paths = [word for path in files for word in ("-P", str(path))]
        words = [*paths, "-e", f"trace={calls}", "-e", f"inject={calls}:error={spec.error}{when}"]
        self._since_ns = self._until_ns = time.monotonic_ns()
        self._child, self._log = attach(env, name, pid, words)

    def finished(self) -> bool:
        """It lasts as long as the step, or as the target, which may well end."""
        return self._child.poll() is not None

    def heal(self) -> None:
        """Detach, and see that nobody traces the target any more; then do what a supervisor does. Raises HealFailed.

        A target that cannot trust its disk any more does right to end, or to say that it is not ready until it is started
        again.
        """
        self._child.stop(grace_s=3)
        self._until_ns = time.monotonic_ns()
        assert self._env.target is not None
        if tracer_of(self._pid):
            raise HealFailed(f"the target (pid {self._pid}) is still traced after strace has ended.")
        if not self._env.target.ready():
            self._restarted = True
            self._env.target.stop(SUPERVISOR_GRACE_S)
            self._env.target.come_back()

    def effect(self) -> Effect:
        """Count the calls that failed, and the clients that noticed."""
        failed = self._log.read_text(errors="replace").count(INJECTED) if self._log.exists() else 0
        noticed = self._env.seen.disturbed(self._since_ns, self._until_ns)
        measured = {
            "failed_calls": failed,
            "error": self._error,
            "requests_not_acknowledged": noticed,
            "restarted": self._restarted,
        }
        reason = None if failed else "the target made no such call on its files while it was on"
        return Effect(max(failed, noticed) if failed else 0, 0, reason, measured)


HOLD = """
import signal, sqlite3, sys
held = [sqlite3.connect(path, isolation_level=None, timeout=10) for path in sys.argv[1:]]
for database in held:
    database.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
signal.pause()
"""


class LockedDatabase(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Another process holds the write lock of the target's SQLite files: a backup tool, a person with a shell.

    Attributes:
        files: Which files below DATA_DIR, as a pattern.
    """

    files: str = "*.sqlite3"

    def problem(self, *, starts_target: bool) -> str | None:
        """Only of a target that we start do we know the data directory."""
        return None if starts_target else "the target file has no `process`, so its data directory is not known"

    def inject(self, env: Env, name: str) -> LockInjection:
        """Take the lock. The holder ends with the run, so there is nothing to journal. Raises NotPossible."""
        return LockInjection(self, env, name)


class LockInjection:
    """A database that is locked."""

    def __init__(self, spec: LockedDatabase, env: Env, name: str) -> None:
        self._env = env
        files = [str(path) for path in env.data_dir.resolve().rglob(spec.files)]
        if not files:
            raise NotPossible(f"the target has no file {spec.files} below its data directory")
        log = env.data_dir.parent / "logs" / f"{name}.log"
        self._child: Child = env.warden.spawn("locker", [sys.executable, "-S", "-c", HOLD, *files], log=log)
        deadline = time.monotonic() + ATTACHES_WITHIN_S
        while "locked" not in self._child.log_tail():
            if self._child.poll() is not None or time.monotonic() > deadline:
                self._child.kill()
                raise NotPossible(f"the database cannot be locked: {self._child.log_tail().strip()[-200:]}")
            time.sleep(0.01)
        self._since_ns = self._until_ns = time.monotonic_ns()

    def finished(self) -> bool:
        """It lasts as long as the step."""
        return False

    def heal(self) -> None:
        """End the holder; the kernel gives its locks back."""
        self._child.kill()
        self._until_ns = time.monotonic_ns()

    def effect(self) -> Effect:
        """Count the requests that were sent while it was locked."""
        met = self._env.seen.on_path("ingest", self._since_ns, self._until_ns)
        noticed = self._env.seen.disturbed(self._since_ns, self._until_ns)
        measured = {"requests_not_acknowledged": noticed}
        return Effect(met, 0, None if met else "no client sent anything while it was locked", measured)
