"""What a stack can show, tried on a table of its own in about half a second, past every faulted path.

Each name in the result is one of :data:`MEANINGS`; nothing is taken on trust, and nothing stays behind.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from pyiceberg.catalog import Catalog, load_catalog
from pyiceberg.exceptions import (
    CommitFailedException,
    NoSuchNamespaceError,
    NoSuchTableError,
    NoSuchViewError,
    RESTError,
    TableAlreadyExistsError,
    ValidationError,
)
from pyiceberg.table import Table

from chaos.table.preflight import Preflight

MEANINGS: dict[str, str] = {
    "s3_conditional_put": "a PUT with If-None-Match: * does not replace an object",
    "survives_kill": "acknowledged objects are in files, so they outlive the storage process",
    "metadata_objects_matter": "the catalog reads metadata.json back: damage to it has its effect",
    "drop_keeps_files": "dropping a table without purge leaves its files",
    "register_table": "a table is registered with its snapshots from a metadata.json",
    "create_existing_fails": "creating a table that exists is refused",
    "stale_commit_fails": "a commit on a parent that is no longer the head is refused",
    "vends_credentials": "loading a table answers with keys for its objects",
    "views": "views can be asked for",
}
"""Capability -> what it means when a stack has it."""

_ROWS = pa.table({"id": ["a"]})
FAILURES = (
    RESTError, CommitFailedException, NoSuchNamespaceError, NoSuchTableError, ValidationError, OSError, ValueError,
)  # fmt: skip
"""What pyiceberg raises when catalog or store do not do what was asked; ValueError is an answer that cannot be read."""

_BLOCK = 1 << 20


@dataclass(frozen=True)
class _Place:
    """A catalog, and a table in it with one snapshot."""

    properties: Mapping[str, str]
    catalog: Catalog
    namespace: str
    table: Table
    files: Path | None


def probe(properties: Mapping[str, str], files: Path | None) -> dict[str, bool]:
    """Measure every capability of :data:`MEANINGS`.

    Args:
        properties: Of pyiceberg's catalog and FileIO, for the path without faults.
        files: Where the servers of the stack keep what they keep; None for a storage elsewhere, which nobody here can kill.

    Raises:
        One of FAILURES: it cannot even keep a table.
    """
    catalog = load_catalog("probe", **properties)
    namespace = f"probe_{secrets.token_hex(4)}"
    catalog.create_namespace(namespace)
    try:
        table = catalog.create_table(f"{namespace}.events", _ROWS.schema, properties={"commit.retry.num-retries": "0"})
        table.append(_ROWS)
        place = _Place(properties, catalog, namespace, table, files)
        return {
            name: measure(place) for name, measure in _MEASURES.items() if files is not None or name != "survives_kill"
        }
    finally:
        for identifier in catalog.list_tables(namespace):
            with contextlib.suppress(*FAILURES):
                catalog.purge_table(identifier)
        catalog.drop_namespace(namespace)


def _conditional_put(place: _Place) -> bool:
    preflight = Preflight(place.properties, place.table.location(), secrets.token_hex(4))
    return any(one.operation == "conditional PUT" and one.allowed is True for one in preflight.permissions())


def _survives_kill(place: _Place) -> bool:
    """Look for an acknowledged object's bytes in the stack's files: what a process wrote there, its end does not take away."""
    content = secrets.token_bytes(4096)
    location = f"{place.table.location()}/data/probe-{secrets.token_hex(4)}.parquet"
    _write(place.table, location, content)
    try:
        files = place.files.rglob("*") if place.files is not None else ()
        return any(_holds(path, content[:64]) for path in files if path.is_file())
    finally:
        place.table.io.delete(location)


def _holds(path: Path, words: bytes) -> bool:
    """Tell whether a file has these bytes; it is read a block at a time."""
    try:
        with path.open("rb") as file:
            tail = b""
            while block := file.read(_BLOCK):
                if words in tail + block:
                    return True
                tail = block[-len(words) :]
    except OSError:  # gone meanwhile, or a socket
        return False
    return False


def _create_existing_fails(place: _Place) -> bool:
    try:
        place.catalog.create_table(place.table.name(), _ROWS.schema)
    except TableAlreadyExistsError:
        return True
    return False


def _stale_commit_fails(place: _Place) -> bool:
    """Append twice on the same parent, without pyiceberg's rebasing."""
    stale = place.catalog.load_table(place.table.name())
    place.catalog.load_table(place.table.name()).append(_ROWS)
    try:
        stale.append(_ROWS)
    except CommitFailedException:
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
    except FAILURES:
        return True
    finally:
        _write(place.table, location, content)


def _vends_credentials(place: _Place) -> bool:
    return "s3.secret-access-key" in place.catalog.load_table(place.table.name()).config


def _views(place: _Place) -> bool:
    """Ask for a view that is not there: making one would leave it behind where views can be made and not dropped."""
    try:
        place.catalog.load_view(f"{place.namespace}.view")
    except NoSuchViewError:
        return True
    except (RESTError, NotImplementedError):
        return False
    return False


def _drop_keeps_files(place: _Place) -> bool:
    """Drop a table of its own and look for its data file."""
    table = place.catalog.create_table(f"{place.namespace}.dropped", _ROWS.schema)
    table.append(_ROWS)
    file = next(iter(table.scan().plan_files())).file.file_path
    place.catalog.drop_table(table.name())
    kept = table.io.new_input(file).exists()
    if kept:
        table.io.delete(file)
    return kept


def _register_table(place: _Place) -> bool:
    """Drop the table, bring its metadata.json back if that went too, and register it under another name."""
    loaded = place.catalog.load_table(place.table.name())
    content = _read(loaded, loaded.metadata_location)
    place.catalog.drop_table(loaded.name())
    if not loaded.io.new_input(loaded.metadata_location).exists():
        _write(loaded, loaded.metadata_location, content)
    try:
        back = place.catalog.register_table(f"{place.namespace}.back", loaded.metadata_location)
    except FAILURES:
        return False
    return back.metadata.table_uuid == loaded.metadata.table_uuid and back.current_snapshot() is not None


_MEASURES: dict[str, Callable[[_Place], bool]] = {
    "s3_conditional_put": _conditional_put,
    "survives_kill": _survives_kill,
    "create_existing_fails": _create_existing_fails,
    "stale_commit_fails": _stale_commit_fails,
    "metadata_objects_matter": _metadata_objects_matter,
    "vends_credentials": _vends_credentials,
    "views": _views,
    "drop_keeps_files": _drop_keeps_files,
    "register_table": _register_table,  # the last: the table has another name afterwards
}


def _read(table: Table, location: str) -> bytes:
    with table.io.new_input(location).open() as stream:
        return bytes(stream.read())


def _write(table: Table, location: str, content: bytes) -> None:
    with table.io.new_output(location).create(overwrite=True) as stream:
        stream.write(content)
