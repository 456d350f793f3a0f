"""A write that was under way when the target died: its files end in half a record, and everything before that is whole."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any, ClassVar

from msgspec import Meta, Struct

from chaos.errors import NotPossible
from chaos.faults.env import Effect, Env
from chaos.faults.process import KILLED
from chaos.faults.tear import tear


class TornTail(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Kill the target, let its files end in half a record that was never acknowledged, start it.

    Whatever it acknowledged is untouched, so a target that promises `fsync`, or only to survive its own death, loses nothing, and
    starts. Where the tear is comes from the run's seed.

    Attributes:
        files: Which files below DATA_DIR, as a pattern; each of them is torn.
        down_s: How long it stays dead.
    """

    restarts_target: ClassVar[bool] = True

    files: str = "*.sqlite3-wal"
    down_s: Annotated[float, Meta(ge=0, le=3600)] = 0.5

    def problem(self, *, starts_target: bool) -> str | None:
        """Only of a target that we start do we know the files."""
        return None if starts_target else "the target file has no `process`, so its files are not known"

    def inject(self, env: Env, name: str) -> TornInjection:  # noqa: ARG002  # the mechanism's signature
        """Kill it and tear its files. They are the run's own, and nothing of them is to come back. Raises NotPossible."""
        return TornInjection(self, env)


class TornInjection:
    """A target that is dead, and its files torn."""

    def __init__(self, spec: TornTail, env: Env) -> None:
        assert env.target is not None
        self._env, self._target, self._down_s = env, env.target, spec.down_s
        if not _files(env, spec.files):
            raise NotPossible(f"the target has no file {spec.files} below its data directory")
        self._since_ns = self._until_ns = time.monotonic_ns()
        self._status = self._target.kill()
        self._died_at = time.monotonic()
        self._torn: list[dict[str, Any]] = []
        self._whole: list[str] = []
        for path in _files(env, spec.files):
            self._tear(path)

    def finished(self) -> bool:
        """It has been dead long enough."""
        return time.monotonic() >= self._died_at + self._down_s

    def heal(self) -> None:
        """Start it and wait until it says it is ready, or does not come back."""
        self._target.come_back()
        self._until_ns = time.monotonic_ns()

    def effect(self) -> Effect:
        """Count the requests of clients that it cost; one dead process at least."""
        measured = {"status": self._status, "torn": self._torn}
        if self._status != KILLED:
            why = f"the target had ended by itself with status {self._status} before it was killed"
            return Effect(0, 0, why, measured)
        if not self._torn:
            return Effect(0, 0, f"nothing was torn: {'; '.join(self._whole)}", measured)
        return Effect(max(1, self._env.seen.disturbed(self._since_ns, self._until_ns)), 0, None, measured)

    def _tear(self, path: Path) -> None:
        try:
            torn = tear(path.read_bytes(), self._env.rng)
        except ValueError as error:
            self._whole.append(f"{path.name}: {error}")
            return
        path.write_bytes(torn.data)
        self._torn.append({"file": path.name, "whole_bytes": torn.end, "partial_bytes": torn.partial_bytes})


def _files(env: Env, pattern: str) -> list[Path]:
    return sorted(path for path in env.data_dir.resolve().rglob(pattern) if path.is_file())
