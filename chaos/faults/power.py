"""A power cut: the target is killed, and of its files is left what had been synced.

A killed process loses nothing that it has written, so a target that acknowledges before it syncs looks right under `kill -9`. Here
strace writes down what it writes and what it syncs; then it is killed, and each file is put to what a disk is sure to have.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta, Struct

from chaos.errors import NotPossible
from chaos.faults.durable import AfterPowerCut, cut_power, half_of_them
from chaos.faults.env import Effect, Env
from chaos.faults.freeze import Freeze
from chaos.faults.process import KILLED
from chaos.faults.strace import attach, find_strace
from chaos.faults.syscalls import TRACED, read_calls

WRITE_BYTES_MAX = 16 << 20
_O_SYNC_MODES = 0o4010000
"""O_SYNC and O_DSYNC, as `/proc/PID/fdinfo` has them."""


class PowerCut(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Record what the target writes for *after_s*, kill it, leave of its files what was synced, start it.

    It needs Linux and `strace`, and the right to trace the target; else the step is void. So it is when what was recorded does not add
    up to the files, as with a target that writes through shared memory or renames.

    Attributes:
        after_s: How long it is watched before.
        keeps: Of what no sync covers: `nothing`, or `half` of the writes, drawn from the run's seed.
        volatile: Files below DATA_DIR, as a pattern, that are memory and gone with the power, such as SQLite's index of its log.
        down_s: How long it stays dead.
    """

    restarts_target: ClassVar[bool] = True

    after_s: Annotated[float, Meta(gt=0, le=600)] = 3.0
    keeps: Literal["nothing", "half"] = "nothing"
    volatile: str = "*-shm"
    down_s: Annotated[float, Meta(ge=0, le=3600)] = 0.5

    def problem(self, *, starts_target: bool) -> str | None:
        """Only a process that we start can be traced, and only of it do we know the files."""
        return None if starts_target else "the target file has no `process`, so what it writes cannot be watched"

    def inject(self, env: Env, name: str) -> PowerInjection:
        """Sync its files, and begin to watch. strace ends with the run, so there is nothing to journal. Raises NotPossible."""
        return PowerInjection(self, env, name)


class PowerInjection:
    """A target that is watched, then dead."""

    def __init__(self, spec: PowerCut, env: Env, name: str) -> None:
        assert env.target is not None
        self._spec, self._env, self._target = spec, env, env.target
        find_strace()
        pid = self._target.pid
        if pid is None:
            raise NotPossible("the target does not run")
        words = ["-y", "-xx", "-s", str(WRITE_BYTES_MAX), "-e", f"trace={','.join(TRACED)}"]
        frozen = Freeze(who="target").inject(
            env, f"{name}-begins"
        )  # nothing is written between the reading and the watching
        try:
            self._before = {str(path): _synced(path) for path in self._files()}
            self._always_synced = _open_synced(pid)
            self._strace, self._log = attach(env, name, pid, words)
        finally:
            frozen.heal()
        self._since_ns = self._until_ns = time.monotonic_ns()
        self._cut_at = time.monotonic() + spec.after_s
        self._died_at: float | None = None
        self._status: int | None = None
        self._problem: str | None = None
        self._measured: dict[str, Any] = {}

    def finished(self) -> bool:
        """The power went, and the target was dead long enough; asked often, this is where the power goes."""
        if self._died_at is None and (time.monotonic() >= self._cut_at or self._target.pid is None):
            self._cut()
        return self._died_at is not None and time.monotonic() >= self._died_at + self._spec.down_s

    def heal(self) -> None:
        """Start it and wait until it says it is ready; where the power is still there, watch no longer."""
        self._strace.stop(grace_s=3)
        if self._died_at is not None:
            self._target.come_back()
        self._until_ns = time.monotonic_ns()

    def effect(self) -> Effect:
        """Count the requests of clients that it cost; one dead process at least."""
        if self._died_at is None:
            return Effect(0, 0, "the step ended before the power was to go", self._measured)
        if self._status != KILLED:
            why = f"the target had ended by itself with status {self._status} before the power went"
            return Effect(0, 0, why, self._measured)
        if self._problem is not None or not self._measured["writes"]:
            return Effect(0, 0, self._problem or "the target wrote nothing while it was watched", self._measured)
        return Effect(max(1, self._env.seen.disturbed(self._since_ns, self._until_ns)), 0, None, self._measured)

    def _cut(self) -> None:
        self._since_ns = time.monotonic_ns()
        self._status = self._target.kill()
        self._strace.wait(timeout_s=10)
        self._died_at = time.monotonic()
        survives = {"survives": half_of_them(self._env.rng)} if self._spec.keeps == "half" else {}
        with self._log.open(encoding="ascii", errors="replace") as lines:
            files = cut_power(self._before, read_calls(lines), synced_paths=self._always_synced, **survives)
        self._leave(files)

    def _leave(self, files: Mapping[str, AfterPowerCut]) -> None:
        now = {str(path): path.read_bytes() for path in self._files()}
        mine = {path: file for path, file in files.items() if path in now}
        self._measured = {
            "status": self._status,
            "writes": sum(file.writes for file in mine.values()),
            "lost_writes": sum(file.lost for file in mine.values()),
            "files": {Path(path).name: {"writes": f.writes, "lost": f.lost} for path, f in mine.items()},
        }
        for path, data in now.items():
            as_recorded = mine[path].whole if path in mine else (self._before.get(path, b""),)
            if data not in as_recorded:
                self._problem = (
                    f"what was recorded of {Path(path).name} does not add up to it, so nobody knows what was synced"
                )
                return
        for path, file in mine.items():
            Path(path).write_bytes(file.data)
        for gone in self._env.data_dir.resolve().rglob(self._spec.volatile):
            gone.unlink()

    def _files(self) -> list[Path]:
        found = self._env.data_dir.resolve().rglob("*")
        return [path for path in found if path.is_file() and not path.match(self._spec.volatile)]


def _synced(path: Path) -> bytes:
    """Read a file, and see to it that all of it is on the disk."""
    with path.open("rb") as stream:
        os.fsync(stream.fileno())
        return stream.read()


def _open_synced(pid: int) -> list[str]:
    """Return the files that a process has open in a mode in which each write is synced."""
    found = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            info = Path(f"/proc/{pid}/fdinfo/{link.name}").read_text()
            flags = next(int(line.split()[1], 8) for line in info.splitlines() if line.startswith("flags:"))
            if flags & _O_SYNC_MODES:
                found.append(str(link.readlink()))
        except OSError:
            continue
    return found
