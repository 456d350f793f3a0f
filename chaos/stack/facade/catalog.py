"""Namespaces and tables over pyiceberg's ``SqlCatalog``: what the REST endpoints do, without HTTP."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError as InvalidModel
from pyiceberg.catalog import PropertiesUpdateSummary
from pyiceberg.catalog.rest import CreateTableRequest, RegisterTableRequest, TableResponse
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.exceptions import NamespaceAlreadyExistsError, NoSuchTableError, TableAlreadyExistsError
from pyiceberg.exceptions import ValidationError as InvalidMetadata
from pyiceberg.io import load_file_io
from pyiceberg.partitioning import UNPARTITIONED_PARTITION_SPEC
from pyiceberg.serializers import FromInputFile
from pyiceberg.table import CommitTableResponse, Table
from pyiceberg.table.metadata import new_table_metadata
from pyiceberg.table.sorting import UNSORTED_SORT_ORDER
from pyiceberg.table.update import AssertCreate, SetLocationUpdate, TableRequirement, TableUpdate

from chaos.stack.facade.commits import Change, Committer, Note
from chaos.stack.facade.config import Config
from chaos.stack.facade.errors import (
    AlreadyExists,
    BadRequest,
    NamespaceNotEmpty,
    NoSuchNamespace,
    NoSuchTable,
    NotFound,
    Unprocessable,
    Unsupported,
)
from chaos.stack.facade.names import Levels, checked, original, shown, stored
from chaos.stack.facade.replies import Replies

_EXISTS = {"exists": "true"}
"""SqlCatalog keeps a namespace as its properties: with this one it is still there when all others are removed."""


_FORMATS = ("1", "2")


class TableChange(NamedTuple):
    """What is to happen to one table."""

    levels: Levels
    name: str
    requirements: Sequence[TableRequirement]
    updates: Sequence[TableUpdate]


class Catalog:
    """All namespaces and tables of one warehouse; every method may be called from any thread.

    Methods raise :class:`~chaos.stack.facade.errors.ApiError`, or what
    :func:`~chaos.stack.facade.errors.translate` makes one of.
    """

    def __init__(self, config: Config) -> None:
        with sqlite3.connect(config.database) as database:
            database.execute("PRAGMA journal_mode=WAL")  # readers do not wait for a commit
        database.close()
        self._warehouse = config.warehouse.rstrip("/")
        self._properties = {
            "warehouse": self._warehouse,
            "s3.endpoint": config.s3_url,
            "s3.access-key-id": config.access_key,
            "s3.secret-access-key": config.secret_key,
            "s3.region": config.region,
        }
        uri = f"sqlite:///{config.database}?timeout={config.lock_timeout_s}"
        self._sql = SqlCatalog("icequake", uri=uri, **self._properties)
        self._committer = Committer(self._sql, self._properties)
        self.replies = Replies(self._sql.engine)

    @property
    def client_defaults(self) -> dict[str, str]:
        """Where a client that does not say otherwise finds the object store; the keys are its own."""
        region = self._properties["s3.region"]
        where = {"s3.endpoint": self._properties["s3.endpoint"], "s3.path-style-access": "true"}
        return {**where, "s3.region": region, "client.region": region}

    def close(self) -> None:
        """Close the database."""
        self._sql.close()

    # -- namespaces

    def list_namespaces(self, parent: Levels) -> list[Levels]:
        """List the namespaces directly below one, or at the top, in order."""
        if parent:
            self._need_namespace(parent)
        return sorted(original(levels) for levels in self._sql.list_namespaces(stored(parent)))

    def create_namespace(self, levels: Levels, properties: dict[str, str]) -> None:
        """Create a namespace."""
        checked(levels)
        if any(not isinstance(value, str) for value in properties.values()):
            raise BadRequest("Namespace properties must be text")
        try:
            self._sql.create_namespace(stored(levels), {**properties, **_EXISTS})
        except NamespaceAlreadyExistsError:
            raise AlreadyExists(f"Namespace already exists: {shown(levels)}") from None

    def namespace_exists(self, levels: Levels) -> bool:
        """Tell whether there is such a namespace."""
        return self._sql.namespace_exists(stored(levels))

    def namespace_properties(self, levels: Levels) -> dict[str, str]:
        """Return a namespace's properties."""
        self._need_namespace(levels)
        found = self._sql.load_namespace_properties(stored(levels))
        return {key: value for key, value in found.items() if key not in _EXISTS}

    def update_properties(
        self, levels: Levels, removals: Iterable[str], updates: dict[str, str]
    ) -> PropertiesUpdateSummary:
        """Remove and set properties of a namespace."""
        removed = set(removals)
        if both := removed & updates.keys():
            raise Unprocessable(f"Invalid: keys both set and removed: {', '.join(sorted(both))}")
        self._need_namespace(levels)
        summary = self._sql.update_namespace_properties(stored(levels), removed - _EXISTS.keys(), updates)
        return PropertiesUpdateSummary(
            removed=summary.removed, updated=summary.updated, missing=[*summary.missing, *(removed & _EXISTS.keys())]
        )

    def drop_namespace(self, levels: Levels) -> None:
        """Drop a namespace that is empty."""
        self._need_namespace(levels)
        if self._sql.list_tables(stored(levels)) or self._sql.list_namespaces(stored(levels)):
            raise NamespaceNotEmpty(f"Namespace is not empty: {shown(levels)}")
        self._sql.drop_namespace(stored(levels))

    def _need_namespace(self, levels: Levels) -> None:
        if not self.namespace_exists(levels):
            raise NoSuchNamespace(f"Namespace does not exist: {shown(levels)}")

    # -- tables

    def list_tables(self, levels: Levels) -> list[str]:
        """List a namespace's tables, in order."""
        self._need_namespace(levels)
        return sorted(identifier[-1] for identifier in self._sql.list_tables(stored(levels)))

    def table_exists(self, levels: Levels, name: str) -> bool:
        """Tell whether the catalog knows a table; its metadata is not read."""
        return self.namespace_exists(levels) and name in self.list_tables(levels)

    def load(self, levels: Levels, name: str) -> TableResponse:
        """Read a table's metadata from the object store."""
        self._need_table(levels, name)
        try:
            return _response(self._sql.load_table((*stored(levels), name)))
        except FileNotFoundError:
            location = self._committer.pointer((*stored(levels), name))
            if location.startswith("file:"):  # as compatibility kits want it; why S3 differs: docs/stacks.md
                raise NotFound(f"Failed to open input stream for file: {location}") from None
            raise

    def credentials(self, levels: Levels, name: str) -> tuple[str, dict[str, str]]:
        """Return where the table is, and the keys for what is below; they are those of the stack, and do not end."""
        location = self.load(levels, name).metadata.location
        wanted = ("s3.access-key-id", "s3.secret-access-key", "s3.region")
        return location, {key: self._properties[key] for key in wanted}

    def create(self, levels: Levels, request: CreateTableRequest) -> TableResponse:
        """Create a table, or only say what it would be (stage-create)."""
        self._need_namespace(levels)
        self._need_no_table(levels, request.name)
        location = (request.location or self._default_location(levels, request.name)).rstrip("/")
        self._check_location(location)
        version = request.properties.get("format-version", "2")
        if version == "3":
            raise Unsupported("Cannot create a table of format version 3: pyiceberg does not write it")
        if version not in _FORMATS:
            raise BadRequest(f"Cannot create a table of format version {version}; there are {', '.join(_FORMATS)}")
        spec = request.partition_spec or UNPARTITIONED_PARTITION_SPEC
        order = request.write_order or UNSORTED_SORT_ORDER
        if request.stage_create:
            staged = new_table_metadata(request.table_schema, spec, order, location, request.properties)
            return TableResponse(metadata=staged)
        try:
            table = self._sql.create_table(
                (*stored(levels), request.name), request.table_schema, location, spec, order, request.properties
            )
        except TableAlreadyExistsError:
            raise _taken(levels, request.name) from None
        return _response(table)

    def commit(self, changes: Sequence[TableChange], note: Note = lambda *_: None) -> list[CommitTableResponse]:
        """Apply the updates of all tables when all requirements hold, or nothing at all."""
        names = [(change.levels, change.name) for change in changes]
        if len(set(names)) < len(names):
            raise BadRequest("A table can be named only once in a transaction")
        creates = [self._check(change) for change in changes]
        try:
            return self._committer.commit(
                [Change((*stored(one.levels), one.name), one.requirements, one.updates) for one in changes], note
            )
        except (StopIteration, InvalidModel, InvalidMetadata) as error:
            for change, new in zip(changes, creates, strict=True):
                if new and not self.table_exists(
                    change.levels, change.name
                ):  # no metadata was read: the updates make it
                    raise BadRequest(f"The updates do not make a table: {error!r}") from None
            raise

    def _check(self, change: TableChange) -> bool:
        """Refuse a change that can never be applied; tell whether it makes a table."""
        for update in change.updates:
            if isinstance(update, SetLocationUpdate):
                self._check_location(update.location)
        creates = any(isinstance(requirement, AssertCreate) for requirement in change.requirements)
        if creates:
            self._need_namespace(change.levels)
        else:
            self._need_table(change.levels, change.name)
        return creates

    def drop(self, levels: Levels, name: str, *, purge: bool) -> None:
        """Forget a table; its files stay unless ``purge``."""
        self._need_table(levels, name)
        try:
            (self._sql.purge_table if purge else self._sql.drop_table)((*stored(levels), name))
        except NoSuchTableError:
            raise _missing(levels, name) from None

    def rename(self, source: Levels, name: str, target: Levels, new_name: str) -> None:
        """Give a table another name, perhaps in another namespace; its files stay where they are."""
        self._need_table(source, name)
        self._need_namespace(target)
        self._need_no_table(target, new_name)
        try:
            self._sql.rename_table((*stored(source), name), (*stored(target), new_name))
        except TableAlreadyExistsError:
            raise _taken(target, new_name) from None
        except NoSuchTableError:
            raise _missing(source, name) from None

    def register(self, levels: Levels, request: RegisterTableRequest) -> TableResponse:
        """Make a table of metadata that exists."""
        if request.overwrite:
            raise Unsupported("Cannot overwrite a table by registering another")
        self._need_namespace(levels)
        self._need_no_table(levels, request.name)
        self._check_metadata(request.metadata_location)
        try:
            return _response(self._sql.register_table((*stored(levels), request.name), request.metadata_location))
        except TableAlreadyExistsError:
            raise _taken(levels, request.name) from None

    def _check_metadata(self, location: str) -> None:
        """Refuse metadata that cannot be read; SqlCatalog would keep a table that nobody can load."""
        self._check_location(location)
        file = load_file_io(self._properties, location).new_input(location)
        if not file.exists():
            raise BadRequest(f"Cannot register: there is no metadata file {location}")
        FromInputFile.table_metadata(file)

    def _need_table(self, levels: Levels, name: str) -> None:
        if not self.table_exists(levels, name):
            raise _missing(levels, name)

    def _need_no_table(self, levels: Levels, name: str) -> None:
        if not name:
            raise BadRequest("Invalid table name: it is empty")
        if self.table_exists(levels, name):
            raise _taken(levels, name)

    def _default_location(self, levels: Levels, name: str) -> str:
        """Below the namespace's own location when it has one, else below the warehouse."""
        base = self.namespace_properties(levels).get("location") or f"{self._warehouse}/{'/'.join(levels)}"
        return f"{base.rstrip('/')}/{name}"

    def _check_location(self, location: str) -> None:
        """Keep a slip of the pen from writing outside object store and temporary directory."""
        scheme, _, rest = location.partition(":")
        if scheme in ("s3", "s3a", "s3n") and rest.startswith("//"):
            return
        if scheme == "file":
            path = Path("/" + rest.lstrip("/")).resolve()
            if path.is_relative_to(Path(tempfile.gettempdir()).resolve()):
                return
        raise BadRequest(f"Cannot use the location {location}: give one that begins with s3://")


def _response(table: Table) -> TableResponse:
    values: dict[str, Any] = {"metadata-location": table.metadata_location, "metadata": table.metadata}
    return TableResponse(**values)


def _missing(levels: Levels, name: str) -> NoSuchTable:
    return NoSuchTable(f"Table does not exist: {shown((*levels, name))}")


def _taken(levels: Levels, name: str) -> AlreadyExists:
    return AlreadyExists(f"Table already exists: {shown((*levels, name))}")
