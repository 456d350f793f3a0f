"""What a stack can show, tried on a table of its own in about a second, past every faulted path."""

from __future__ import annotations

import contextlib
import secrets
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa
from pyiceberg.catalog import Catalog, load_catalog
from pyiceberg.exceptions import NoSuchTableError, RESTError, TableAlreadyExistsError
from pyiceberg.table import Table

from chaos.table.preflight import Preflight

_ROWS = pa.table({"id": ["a"]})
_REFUSED = (RESTError, NoSuchTableError, OSError)


class Probed(Protocol):
    """All that a probe needs of a stack."""

    def pyiceberg_properties(self, direct: bool) -> dict[str, str]:
        """Properties of the catalog, keys of the object store among them."""
        ...


@dataclass(frozen=True)
class _Place:
    """A catalog, and a table in it with one snapshot."""

    properties: dict[str, str]
    catalog: Catalog
    namespace: str
    table: Table


def probe(stack: Probed) -> dict[str, bool]:
    """Measure capabilities, by the names that :meth:`chaos.stack.Stack.capabilities` uses; nothing stays behind.

    Raises pyiceberg's errors when the stack cannot even keep a table.
    """
    properties = stack.pyiceberg_properties(direct=True)
    catalog = load_catalog("probe", **properties)
    namespace = f"probe_{secrets.token_hex(4)}"
    catalog.create_namespace(namespace)
    try:
        table = catalog.create_table(f"{namespace}.events", _ROWS.schema)
        table.append(_ROWS)
        return _measure(_Place(properties, catalog, namespace, table))
    finally:
        for identifier in catalog.list_tables(namespace):
            with contextlib.suppress(*_REFUSED):
                catalog.purge_table(identifier)
        catalog.drop_namespace(namespace)


def _measure(place: _Place) -> dict[str, bool]:
    preflight = Preflight(place.properties, place.table.location(), secrets.token_hex(4))
    permissions = {permission.operation: permission.allowed for permission in preflight.permissions()}
    return {
        "s3_conditional_put": permissions["conditional PUT"] is True,
        "create_existing_fails": _create_existing_fails(place),
        "metadata_objects_matter": _metadata_objects_matter(place),
        **_after_drop(place),
    }


def _create_existing_fails(place: _Place) -> bool:
    try:
        place.catalog.create_table(place.table.name(), _ROWS.schema)
    except TableAlreadyExistsError:
        return True
    return False


def _metadata_objects_matter(place: _Place) -> bool:
    """Take the table's metadata.json away, load the table, put it back."""
    location = place.catalog.load_table(place.table.name()).metadata_location
    content = _read(place.table, location)
    place.table.io.delete(location)
    try:
        place.catalog.load_table(place.table.name())
        return False
    except RESTError:
        return True
    finally:
        _write(place.table, location, content)


def _after_drop(place: _Place) -> dict[str, bool]:
    """Drop the table, look for its files, and register it again from its metadata."""
    location = place.catalog.load_table(place.table.name()).metadata_location
    content = _read(place.table, location)
    file = next(iter(place.table.scan().plan_files())).file.file_path
    place.catalog.drop_table(place.table.name())
    kept = place.table.io.new_input(file).exists()
    try:
        if not kept:
            _write(place.table, location, content)
        back = place.catalog.register_table(f"{place.namespace}.back", location)
        same = back.metadata.table_uuid == place.table.metadata.table_uuid and back.current_snapshot() is not None
    except _REFUSED:
        same = False
    return {"drop_keeps_files": kept, "register_table": same}


def _read(table: Table, location: str) -> bytes:
    with table.io.new_input(location).open() as stream:
        return bytes(stream.read())


def _write(table: Table, location: str, content: bytes) -> None:
    with table.io.new_output(location).create(overwrite=True) as stream:
        stream.write(content)
