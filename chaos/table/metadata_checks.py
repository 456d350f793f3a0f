"""Checks of a table's metadata: the chain of metadata.json objects, the snapshots and their log."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass

from pyiceberg.table import Table
from pyiceberg.table.metadata import TableMetadata, TableMetadataUtil, TableMetadataV1

from chaos.table.errors import ObjectMissing, StoreFailed, sentence
from chaos.table.findings import Finding
from chaos.table.lineage import missing_from_lineage
from chaos.table.store import ObjectStore, Stat

_VERSION = re.compile(r"/v?(\d+)[^/]*\.metadata\.json$")
_NEWER_READ = 5
_CLOCK_SKEW_MS = 60_000
"""The specification lets logs go back by a minute, since clocks of writers differ."""


@dataclass(frozen=True)
class Parsed:
    """One metadata.json object, or why it is none: *problem* is missing, undecodable or unanswered."""

    path: str
    metadata: TableMetadata | None
    problem: str | None = None
    detail: str = ""


def read_metadata(path: str, store: ObjectStore) -> Parsed:
    """Read one metadata.json object."""
    try:
        return Parsed(path, TableMetadataUtil.parse_raw(store.get(path).decode("utf-8")))
    except ObjectMissing:
        return Parsed(path, None, "missing", "the object does not exist")
    except StoreFailed as error:
        return Parsed(path, None, "unanswered", str(error))
    except Exception as error:  # broken JSON and broken metadata raise whatever their parser does
        return Parsed(path, None, "undecodable", sentence(error))


def version_of(path: str) -> int | None:
    """Return the version number in a metadata.json name, such as `00012-<uuid>.metadata.json`."""
    match = _VERSION.search(path)
    return int(match.group(1)) if match else None


def last_sequence(metadata: TableMetadata) -> int:
    """Return the table's last sequence number; tables of format version 1 have none, which counts as 0."""
    return 0 if isinstance(metadata, TableMetadataV1) else metadata.last_sequence_number


def check_chain(table: Table, store: ObjectStore) -> Iterator[Finding]:
    """The object that the catalog names, and those of its log."""
    current = read_metadata(table.metadata_location, store)
    if current.problem is not None:
        name = "unanswered" if current.problem == "unanswered" else f"metadata-{current.problem}"
        yield Finding(name, current.path, current.detail)
    elif current.metadata is not None and (difference := _difference(table.metadata, current.metadata)):
        yield Finding("metadata-differs", current.path, difference)
    for entry in table.metadata.metadata_log:
        earlier = read_metadata(entry.metadata_file, store)
        if earlier.problem == "unanswered":
            yield Finding("unanswered", earlier.path, earlier.detail, live=False)
        elif earlier.problem is not None:
            yield Finding("metadata-log-broken", earlier.path, earlier.detail, live=False)


def _difference(catalog: TableMetadata, stored: TableMetadata) -> str | None:
    pairs = {
        "table uuid": (catalog.table_uuid, stored.table_uuid),
        "current snapshot": (catalog.current_snapshot_id, stored.current_snapshot_id),
        "last sequence number": (last_sequence(catalog), last_sequence(stored)),
        "snapshots": ({one.snapshot_id for one in catalog.snapshots}, {one.snapshot_id for one in stored.snapshots}),
        "current schema": (catalog.current_schema_id, stored.current_schema_id),
    }
    for what, (here, there) in pairs.items():
        if here != there:
            shown = (
                f"{len(here)} and {len(there)}"
                if isinstance(here, set) and isinstance(there, set)
                else f"{here} and {there}"
            )
            return f"{what}: {shown} (the catalog's answer, and the object's)"
    return None


def check_newer(table: Table, others: list[Stat], store: ObjectStore) -> Iterator[Finding]:
    """Metadata objects that the catalog does not know of and that have more commits in them.

    Args:
        others: Objects that nothing references.
    """
    known = table.metadata
    mine = version_of(table.metadata_location) or 0
    candidates = [stat.path for stat in others if (version_of(stat.path) or -1) >= mine]
    for path in sorted(candidates, key=lambda one: version_of(one) or 0, reverse=True)[:_NEWER_READ]:
        parsed = read_metadata(path, store).metadata
        if (
            parsed is not None
            and parsed.table_uuid == known.table_uuid
            and last_sequence(parsed) > last_sequence(known)
        ):
            detail = f"it ends at sequence number {last_sequence(parsed)}, the catalog's at {last_sequence(known)}"
            yield Finding("metadata-ahead", path, detail)


def check_snapshots(metadata: TableMetadata) -> Iterator[Finding]:
    """Parents, sequence numbers, and the log that time travel goes by."""
    by_id = {one.snapshot_id: one for one in metadata.snapshots}
    current = metadata.current_snapshot_id
    if current is not None and current not in by_id:
        yield Finding("snapshot-chain-wrong", str(current), "the current snapshot is not among the snapshots")
    for snapshot in metadata.snapshots:
        number = snapshot.sequence_number or 0
        if number > last_sequence(metadata):
            detail = f"its sequence number {number} is above the table's last, {last_sequence(metadata)}"
            yield Finding("snapshot-chain-wrong", str(snapshot.snapshot_id), detail)
        parent = by_id.get(snapshot.parent_snapshot_id or -1)
        if parent is not None and metadata.format_version > 1 and (parent.sequence_number or 0) >= number:
            detail = f"its sequence number {number} does not come after its parent's, {parent.sequence_number}"
            yield Finding("snapshot-chain-wrong", str(snapshot.snapshot_id), detail)
    yield from _check_log(metadata, set(by_id))


def check_lineage(metadata: TableMetadata, store: ObjectStore) -> Iterator[Finding]:
    """Appends that no branch leads to any more, whose files no snapshot of the lineage lists or removed.

    Nothing is said while the lineage itself cannot be read, which has findings of its own.
    """
    try:
        missing = missing_from_lineage(metadata, store)
    except StoreFailed:
        return
    for snapshot_id, files in missing.items():
        rows = sum(file.record_count for file in files)
        detail = f"{len(files)} of its files with {rows} rows are listed by no snapshot that leads to the current one"
        yield Finding("rolled-back", str(snapshot_id), detail)


def _check_log(metadata: TableMetadata, known: set[int]) -> Iterator[Finding]:
    log = metadata.snapshot_log
    if log and metadata.current_snapshot_id is not None and log[-1].snapshot_id != metadata.current_snapshot_id:
        detail = f"its last entry is {log[-1].snapshot_id}, the current snapshot is {metadata.current_snapshot_id}"
        yield Finding("snapshot-log-wrong", "snapshot-log", detail)
    for before, after in itertools.pairwise(log):
        if before.timestamp_ms - after.timestamp_ms > _CLOCK_SKEW_MS:
            detail = f"it goes back {(before.timestamp_ms - after.timestamp_ms) / 1000:.0f} s at snapshot {after.snapshot_id}"
            yield Finding("snapshot-log-wrong", "snapshot-log", detail)
    for entry in log:
        if entry.snapshot_id not in known:
            yield Finding("snapshot-log-wrong", str(entry.snapshot_id), "the log names a snapshot that is not there")
