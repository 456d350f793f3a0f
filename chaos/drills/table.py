"""What drills ask of the run's table: its files, the doctor, a repair, and what its store denies the collector."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from chaos.drills.desk import DrillFailed, Key, Mended
from loadtests.records.target import Columns

# pyiceberg takes a second to import, which only drills need to spend: it, and what imports it, is imported where it is used.

T = TypeVar("T")


class RunTable:
    """The table of a run, see `chaos.drills.desk.Table`.

    Args:
        direct: pyiceberg catalog properties, past every fault.
        faulted: By the collector's own way.
        columns: Names of its columns.
        backup: Where a repair keeps the old bytes of what it replaces.
    """

    def __init__(
        self,
        direct: Mapping[str, str],
        faulted: Mapping[str, str],
        identifier: str,
        columns: Columns,
        *,
        backup: Path,
    ) -> None:
        self._direct, self._faulted = dict(direct), dict(faulted)
        self._identifier, self._columns, self._backup = identifier, columns, backup

    def rows_of(self, paths: list[str]) -> dict[str, int]:
        """Return the number of rows read from each of *paths* that the current snapshot references."""
        from chaos.table.errors import NoTable

        def read() -> dict[str, int]:
            try:
                table = self._load(self._direct)
            except NoTable:
                return {}
            referenced = {task.file.file_path for task in table.scan().plan_files()}
            return {path: _rows(table, path) for path in paths if path in referenced}

        return _translated("the table could not be read", read)

    def holds(self, keys: set[Key]) -> set[Key]:
        """Return those of *keys* that a scan returns; a table that does not exist yet holds none."""
        from chaos.table.errors import NoTable

        def read() -> set[Key]:
            source, id_ = self._columns.source, self._columns.id
            try:
                rows = self._load(self._direct).scan(selected_fields=(source, id_)).to_arrow()
            except NoTable:
                return set()
            return keys & set(zip(rows[source].to_pylist(), rows[id_].to_pylist(), strict=True))

        return _translated("the table could not be read", read)

    def critical(self) -> list[str]:
        """Let the doctor look at all of the table."""
        from chaos.table.findings import Severity

        found = self._examine().findings.kept
        return [f"{one.name} {one.object}: {one.detail}" for one in found if one.severity is Severity.CRITICAL]

    def mend(self, *, accept_loss: bool, export: bytes | None = None) -> Mended:
        """Do the first thing that is to be done about what the doctor finds."""
        return _translated("the table could not be mended", lambda: self._mend(accept_loss, export))

    def _mend(self, accept_loss: bool, export: bytes | None) -> Mended:
        from chaos.table.treatment import Case, next_step

        file = self._kept(export) if export is not None else None
        case = Case(self._direct, self._identifier, export=file)
        step = next_step(case, self._examine(), now_ms=int(time.time() * 1000))
        left = tuple(f"{one.finding.name} {one.finding.object}: {one.why}" for one in step.refused)
        if step.plan is None:
            return Mended(left=left)
        if step.plan.rows_lost and not accept_loss:
            return Mended(left=(*left, f"{step.plan.recipe} would lose {step.plan.rows_lost} rows for good"))
        step.carry_out(self._backup)
        return Mended(step.plan.recipe, step.plan.rows_lost, left)

    def _kept(self, export: bytes) -> Path:
        """Keep an export beside what repairs replace."""
        self._backup.mkdir(parents=True, exist_ok=True)
        file = self._backup / "export.ndjson"
        file.write_bytes(export)
        return file

    def denied(self) -> dict[str, str]:
        """Try every operation once, below the table's prefix."""
        from chaos.table.preflight import Preflight

        def tried() -> dict[str, str]:
            location, properties = self._load(self._direct).location(), self._faulted
            found = list(Preflight(properties, location, secrets.token_hex(4)).permissions())
            return {one.operation: one.detail for one in found if one.allowed is False}

        return _translated("permissions could not be tried", tried)

    def _examine(self) -> Any:
        from chaos.table.clinic import Visit, visit

        return visit(Visit(self._direct, self._identifier, time.time(), secrets.token_hex(4), writes=False))

    def _load(self, properties: Mapping[str, str]) -> Any:
        from chaos.table.doctor import load

        return load(dict(properties), self._identifier)


def _translated(what: str, action: Callable[[], T]) -> T:
    try:
        return action()
    except DrillFailed:
        raise
    except Exception as error:  # whatever pyiceberg, Arrow, boto3 or the network has to say, it was not done
        raise DrillFailed(f"{what}: {' '.join(str(error).split())[:300]}") from error


def _rows(table: Any, path: str) -> int:
    import pyarrow.parquet as pq

    with table.io.new_input(path).open() as file:
        return int(pq.read_table(file).num_rows)
