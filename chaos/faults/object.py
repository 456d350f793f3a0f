"""Damage to an object of the run's table. Its original is kept first, and put back after the verdict, unless the step says sooner.

What a verdict says about damage must be about damage that is there. So healing this fault removes nothing: the step only ends.
With `mended` the step's end puts the original back, as a restored backup does, and the verdict is about what the target did
meanwhile.
The runner puts the originals of the run directory back when it was judged; after a crash `icequake heal` and the next run do.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from msgspec import Struct
from pyiceberg.io import load_file_io

from chaos.errors import HealFailed, NotPossible
from chaos.faults.env import Effect, Env
from chaos.table.doctor import load
from chaos.table.errors import ObjectMissing, TableError
from chaos.table.mutate import MUTATIONS, choose, damage
from chaos.table.originals import Originals, PutBack
from chaos.table.store import FileIOStore


class DamagedObject(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Damage one live object.

    Attributes:
        role: What kind of object.
        mutation: A name of `chaos.table.mutate.MUTATIONS`.
        newest: The newest of its role; else an older one, which an append does not read.
        mended: The step's end puts the original back; else the damage stays until the verdict.
    """

    role: Literal["metadata", "manifest-list", "manifest", "data-file"]
    mutation: str
    newest: bool = False
    mended: bool = False

    def __post_init__(self) -> None:
        """Refuse an unknown mutation before anything runs. Raises ValueError."""
        if self.mutation not in MUTATIONS:
            raise ValueError(f"there is no mutation {self.mutation!r}; there are {', '.join(MUTATIONS)}.")

    def problem(self, *, starts_target: bool) -> str | None:
        """A table that the harness did not make is not ours to damage."""
        return None if starts_target else "the target is not started by the harness, so its table is not ours to damage"

    @property
    def needs(self) -> tuple[str, ...]:
        """Capabilities of the stack without which its step is void."""
        return ("metadata_objects_matter",) if self.role == "metadata" else ()

    def inject(self, env: Env, name: str) -> ObjectInjection:  # noqa: ARG002  # the mechanism's signature
        """Damage it, its original kept first. Raises NotPossible."""
        return ObjectInjection(self, env)


class ObjectInjection:
    """An object that is damaged until the verdict."""

    def __init__(self, spec: DamagedObject, env: Env) -> None:
        self._env, self._mended = env, spec.mended
        if spec.role == "metadata" and not env.stack.capabilities().get("metadata_objects_matter", True):
            raise NotPossible("the catalog of this stack never reads metadata.json back, so damage to it has no effect")
        try:
            table = load(env.stack.pyiceberg_properties(direct=True), env.table)
            self._store = FileIOStore(table.io)
            victim = choose(table, self._store, spec.role, env.rng, newest=spec.newest)
            self._path = victim.path
            self._before = damage(
                self._store, victim, spec.mutation, env.rng.randrange(2**32), Originals(env.originals).keep
            )
        except TableError as error:
            raise NotPossible(f"no {spec.role} could be damaged: {error}") from error
        self._since_ns = time.monotonic_ns()
        self._until_ns = self._since_ns
        self._measured: dict[str, Any] = {"object": victim.path, "mutation": spec.mutation, "etag": self._before.etag}

    def finished(self) -> bool:
        """It lasts as long as the step, and longer."""
        return False

    def heal(self) -> None:
        """End the step and see whether the damage is still there; it stays, unless it is to be mended. Raises HealFailed."""
        self._until_ns = time.monotonic_ns()
        try:
            self._measured["still_damaged"] = self._store.get(self._path) != self._before.data
        except ObjectMissing:
            self._measured["still_damaged"] = True
        except TableError as error:
            self._measured["still_damaged"] = str(error)
        if self._mended:
            self._mend()

    def effect(self) -> Effect:
        """Count the requests that the target sent to a store in which the object was damaged."""
        met = sum(self._env.seen.on_path(path, self._since_ns, self._until_ns) for path in ("r2", "catalog"))
        return Effect(
            met, 0, None if met else "the target asked the store nothing while it was damaged", self._measured
        )

    def _mend(self) -> None:
        try:
            back = [one for one in Originals(self._env.originals).put_back(self._store) if one.path == self._path]
        except TableError as error:
            raise HealFailed(f"{self._path} was not put back: {error}") from error
        self._measured["mended"] = "; ".join(one.detail for one in back)


def put_back_originals(directory: Path, properties: Mapping[str, str]) -> list[PutBack]:
    """Put back what a run damaged and nothing has changed since. Raises TableError.

    The store is reached by the paths that were kept, since the damage may keep the table from being loaded.
    """
    if not (directory / "originals.jsonl").is_file():
        return []
    kept = Originals(directory)
    pending = kept.pending()
    return kept.put_back(FileIOStore(load_file_io(dict(properties), pending[0]))) if pending else []
