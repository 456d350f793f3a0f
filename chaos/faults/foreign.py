"""Another client of the run's table: maintenance that competes with the target, and operators who change the table under it.

`compact`, `expire`, `maintain` (both) and `clean-orphans` are repeated as long as the step lasts. `rollback`, `recreate` and
`drop-column` are done once and undone when the step ends, so that what the verdict misses was lost by the target: what was rolled
back is added again, the dropped table comes back with what was written to its successor, the column comes back with its values.
`add-column` is done once and stays. It is the run's own table, so nothing outlives the run that would have to be journaled.
"""

from __future__ import annotations

import secrets
import time
from collections import Counter
from collections.abc import Callable
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct
from pyiceberg.table import Table

from chaos.errors import HealFailed, NotPossible
from chaos.faults.env import Effect, Env
from chaos.table import foreign
from chaos.table.doctor import connect, load
from chaos.table.errors import CatalogFailed, NotApplicable, StoreFailed, TableError
from chaos.table.recreate import Dropped, recreate, restore
from chaos.table.store import FileIOStore

Act = Literal["compact", "expire", "maintain", "clean-orphans", "rollback", "recreate", "add-column", "drop-column"]
REPEATED = ("compact", "expire", "maintain", "clean-orphans")
COUNTED = {"compact": "files_compacted", "expire": "snapshots_expired", "clean-orphans": "objects_deleted"}
ATTEMPTS = 40
PAUSE_S = 0.1
NEEDS = {"recreate": ("drop_keeps_files", "register_table")}
"""Capabilities of the stack without which an act cannot be undone."""


class ForeignWriter(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Be another client.

    Attributes:
        act: What it does.
        every_s: How often, where it is repeated.
        depth: How many snapshots a rollback goes back.
        min_age_s: How old an unreferenced object must be to be deleted.
        column: The column that is added or dropped.
    """

    act: Act
    every_s: Annotated[float, Meta(gt=0, le=600)] = 1.0
    depth: Annotated[int, Meta(ge=1, le=100)] = 1
    min_age_s: Annotated[float, Meta(ge=0)] = 0.0
    column: str = "icequake_note"

    def problem(self, *, starts_target: bool) -> str | None:
        """A table that the harness did not make is not ours to change."""
        return None if starts_target else "the target is not started by the harness, so its table is not ours to change"

    @property
    def needs(self) -> tuple[str, ...]:
        """Capabilities of the stack without which its step is void."""
        return NEEDS.get(self.act, ())

    def inject(self, env: Env, name: str) -> ForeignInjection:  # noqa: ARG002  # the mechanism's signature
        """Begin. Raises NotPossible."""
        able = env.stack.capabilities()
        lacks = [one for one in NEEDS.get(self.act, ()) if not able.get(one, False)]
        if lacks:
            raise NotPossible(f"it could not be undone: this stack lacks {', '.join(lacks)}")
        return ForeignInjection(self, env)


class ForeignInjection:
    """Another client at work."""

    def __init__(
        self,
        spec: ForeignWriter,
        env: Env,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._spec, self._env, self._clock, self._sleep = spec, env, clock, sleep
        self._properties = env.stack.pyiceberg_properties(direct=True)
        self._done: Counter[str] = Counter()
        self._undo: Callable[[Table], int] | None = None
        self._dropped: Dropped | None = None
        self._since_ns = time.monotonic_ns()
        self._until_ns = self._since_ns
        if spec.act in REPEATED:
            self._try()
        else:
            self._once()
        self._next_s = self._clock() + spec.every_s

    def finished(self) -> bool:
        """Do it again when it is time; it lasts as long as the step."""
        if self._spec.act in REPEATED and self._clock() >= self._next_s:
            self._try()
            self._next_s = self._clock() + self._spec.every_s
        return False

    def heal(self) -> None:
        """Undo what was done once. Raises HealFailed."""
        self._until_ns = time.monotonic_ns()
        if self._dropped is not None:
            self._restore(self._dropped)
        elif self._undo is not None:
            undo = self._undo
            self._done["files_added_again"] = self._persist(lambda: undo(self._load()))

    def effect(self) -> Effect:
        """Count requests of the target since the table was changed under it."""
        met = sum(self._env.seen.on_path(path, self._since_ns, self._until_ns) for path in ("r2", "catalog"))
        reason = None if met else "the target asked nothing of the table while another client was at work"
        if not self._done["acts"]:
            reason = "the other client found nothing to do"
        return Effect(met, 0, reason, dict(self._done))

    # -- doing

    def _load(self) -> Table:
        return load(self._properties, self._env.table)

    def _try(self) -> None:
        for act in ("compact", "expire") if self._spec.act == "maintain" else (self._spec.act,):
            try:
                table = self._load()
                self._done[COUNTED[act]] += self._act(act, table)
            except NotApplicable:
                continue
            except CatalogFailed:
                self._done["conflicts"] += 1
            except TableError:
                self._done["unanswered"] += 1
            else:
                self._done["acts"] += 1

    def _act(self, act: str, table: Table) -> int:
        store = FileIOStore(table.io)
        if act == "compact":
            return foreign.compact(table, store, self._load)
        if act == "expire":
            return foreign.expire(table, store, self._load)
        gone = foreign.clean_orphans(table, store, now_s=time.time(), min_age_s=self._spec.min_age_s)
        if not gone:
            raise NotApplicable("there is no orphan of that age.")
        return gone

    def _once(self) -> None:
        try:
            self._persist(self._change)
        except (TableError, HealFailed) as error:
            raise NotPossible(f"the table could not be changed: {error}") from error
        self._done["acts"] = 1

    def _change(self) -> int:
        table, spec = self._load(), self._spec
        if spec.act == "rollback":
            foreign.roll_back(table, spec.depth)
            self._undo = lambda again: foreign.add_again(again, FileIOStore(again.io), self._load)
        elif spec.act == "drop-column":
            before = foreign.drop_column(table, spec.column)
            self._undo = lambda again: self._old_schema(again, before)
        elif spec.act == "recreate":
            self._dropped = recreate(table)
        else:
            foreign.add_column(table, spec.column)
        return 0

    @staticmethod
    def _old_schema(table: Table, schema_id: int) -> int:
        foreign.set_schema(table, schema_id)
        return 0

    def _restore(self, dropped: Dropped) -> None:
        try:
            store = FileIOStore(self._load().io)
            token = secrets.token_hex(4)
            self._done["files_added_again"] = restore(connect(self._properties), dropped, store, token)
        except TableError as error:
            raise HealFailed(f"the table that was dropped is not back: {error}") from error

    def _persist(self, action: Callable[[], int]) -> int:
        """Do it although the target commits at the same time. Raises HealFailed, NotApplicable."""
        last: Any = None
        for _ in range(ATTEMPTS):
            try:
                return action()
            except (CatalogFailed, StoreFailed) as error:
                last = error
                self._done["conflicts"] += 1
                self._sleep(PAUSE_S)
        raise HealFailed(f"another client could not do it beside the target's commits: {last}")
