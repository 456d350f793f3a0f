"""Commits to one table or several: every metadata file is written first, then all pointers move in one database transaction.

A process that is killed anywhere has committed everything or nothing. What it leaves then are metadata files that nothing
points to, as on any catalog.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from pyiceberg.catalog import Catalog as Pyiceberg
from pyiceberg.catalog.sql import ICEBERG_TABLE_TYPE, IcebergTables, SqlCatalog
from pyiceberg.exceptions import CommitFailedException, NoSuchTableError
from pyiceberg.io import FileIO, load_file_io
from pyiceberg.schema import Schema
from pyiceberg.serializers import ToOutputFile
from pyiceberg.table import CommitTableResponse, Table
from pyiceberg.table.locations import load_location_provider
from pyiceberg.table.metadata import TableMetadata, TableMetadataV1
from pyiceberg.table.update import (
    AddSortOrderUpdate,
    SetDefaultSortOrderUpdate,
    TableRequirement,
    TableUpdate,
    update_table_metadata,
)
from sqlalchemy import insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

Identifier = tuple[str, ...]
Note = Callable[[Session, Sequence[CommitTableResponse]], None]
"""Told of a commit inside its transaction: what it writes there is kept when the commit is, and only then."""


class Change(NamedTuple):
    """What is to happen to one table: its name as :func:`~chaos.stack.facade.names.stored`, conditions, updates."""

    identifier: Identifier
    requirements: Sequence[TableRequirement]
    updates: Sequence[TableUpdate]


@dataclass(frozen=True)
class _Staged:
    """A change that holds on the table as it is now; ``base`` is None for a table that the change makes."""

    identifier: Identifier
    base: Table | None
    metadata: TableMetadata
    location: str
    io: FileIO

    @property
    def changes_nothing(self) -> bool:
        return self.base is not None and self.metadata == self.base.metadata

    def response(self) -> CommitTableResponse:
        location = self.base.metadata_location if self.base is not None and self.changes_nothing else self.location
        values: dict[str, Any] = {"metadata": self.metadata, "metadata-location": location}
        return CommitTableResponse(**values)


class Committer:
    """Commits to the tables of one SqlCatalog.

    Args:
        sql: Where the pointers are.
        properties: Of the FileIO; a table's own properties do not change where its catalog writes.
    """

    def __init__(self, sql: SqlCatalog, properties: dict[str, str]) -> None:
        self._sql = sql
        self._properties = properties

    def commit(self, changes: Sequence[Change], note: Note = lambda *_: None) -> list[CommitTableResponse]:
        """Apply all changes when every requirement holds on every table, or nothing at all.

        Raises CommitFailedException when one does not, or when another commit came first.
        """
        staged = [self._stage(change) for change in changes]
        written: list[_Staged] = []
        responses = [one.response() for one in staged]
        with Session(self._sql.engine) as session:
            try:
                for one in staged:
                    if not one.changes_nothing:
                        written.append(one)
                        ToOutputFile.table_metadata(one.metadata, one.io.new_output(one.location))
                for one in written:
                    self._point(session, one)
                note(session, responses)
            except BaseException:
                session.rollback()
                _remove(written)
                raise
            session.commit()  # when this fails the outcome is not known, so the files stay
        return responses

    def _stage(self, change: Change) -> _Staged:
        base = self._load(change.identifier)
        for requirement in change.requirements:
            requirement.validate(base.metadata if base else None)
        metadata = update_table_metadata(
            base_metadata=base.metadata
            if base
            else TableMetadataV1.model_construct(last_column_id=-1, schema=Schema()),
            updates=_renumbered(change.updates, base.metadata) if base else tuple(change.updates),
            enforce_validation=base is None,
            metadata_location=base.metadata_location if base else None,
        )
        provider = load_location_provider(metadata.location, metadata.properties)
        location = provider.new_table_metadata_file_location(_version(base.metadata_location) + 1 if base else 0)
        io = load_file_io({**metadata.properties, **self._properties}, location)
        return _Staged(change.identifier, base, metadata, location, io)

    def pointer(self, identifier: Identifier) -> str:
        """Return where the metadata of a table is said to be; empty when there is no such table."""
        with Session(self._sql.engine) as session:
            found = session.scalar(select(IcebergTables.metadata_location).filter_by(**self._row(identifier)))
        return found or ""

    def _row(self, identifier: Identifier) -> dict[str, str]:
        namespace = Pyiceberg.namespace_to_string(Pyiceberg.namespace_from(identifier))
        return {"catalog_name": self._sql.name, "table_namespace": namespace, "table_name": identifier[-1]}

    def _load(self, identifier: Identifier) -> Table | None:
        try:
            return self._sql.load_table(identifier)
        except NoSuchTableError:
            return None

    def _point(self, session: Session, one: _Staged) -> None:
        """Let the table's name lead to the new metadata, if it still leads to the old."""
        row = self._row(one.identifier)
        if one.base is None:
            values = {**row, "metadata_location": one.location, "iceberg_type": ICEBERG_TABLE_TYPE}
            try:
                session.execute(insert(IcebergTables).values(**values))
            except IntegrityError as error:
                raise CommitFailedException("Table already exists") from error
            return
        statement = (
            update(IcebergTables)
            .filter_by(**row, metadata_location=one.base.metadata_location)
            .values(metadata_location=one.location, previous_metadata_location=one.base.metadata_location)
        )
        if not session.execute(statement).rowcount:  # type: ignore[attr-defined]  # a Result of an UPDATE has it
            name = f"{row['table_namespace']}.{row['table_name']}"
            raise CommitFailedException(f"Requirement failed: another commit came first: {name}")


def _remove(written: Sequence[_Staged]) -> None:
    """Delete metadata that nothing points to, where that is possible."""
    for one in written:
        with contextlib.suppress(OSError):
            one.io.delete(one.location)


def _version(location: str) -> int:
    """Return the number that a metadata file's name begins with; -1 when it has none."""
    number, dash, _ = location.rpartition("/")[2].partition("-")
    return int(number) if dash and number.isdecimal() else -1


def _renumbered(updates: Sequence[TableUpdate], base: TableMetadata) -> tuple[TableUpdate, ...]:
    """Give an added sort order the next free id where another writer's order has its own: catalogs number them, not clients."""
    orders = {order.order_id: order for order in base.sort_orders}
    new: dict[int, int] = {}
    result: list[TableUpdate] = []
    for one in updates:
        if isinstance(one, AddSortOrderUpdate):
            order = one.sort_order
            if orders.get(order.order_id, order) != order:
                new[order.order_id] = max(orders) + 1
                order = order.model_copy(update={"order_id": new[order.order_id]})
                one = one.model_copy(update={"sort_order": order})
            orders[order.order_id] = order
        elif isinstance(one, SetDefaultSortOrderUpdate) and one.sort_order_id in new:
            one = one.model_copy(update={"sort_order_id": new[one.sort_order_id]})
        result.append(one)
    return tuple(result)
