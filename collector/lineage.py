"""What a table's metadata says of its past, and what a commit on top of it may rely on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pyiceberg.io import FileIO
from pyiceberg.manifest import ManifestContent, ManifestFile
from pyiceberg.schema import Schema
from pyiceberg.table import CommitTableRequest
from pyiceberg.table.metadata import TableMetadata, TableMetadataV1
from pyiceberg.table.snapshots import Snapshot
from pyiceberg.table.update import AddSnapshotUpdate

from collector.errors import StoreUnavailable
from collector.store import Intent


def schema_of(intent: Intent, metadata: TableMetadata) -> Schema:
    """Return the schema for which the flush's data files were made."""
    request = CommitTableRequest.model_validate_json(intent.body)
    ids = [update.snapshot.schema_id for update in request.updates if isinstance(update, AddSnapshotUpdate)]
    return next((one for one in metadata.schemas if one.schema_id in ids), metadata.schema())


def unchanged(metadata: TableMetadata) -> list[dict[str, Any]]:
    """Require that the table is still the same and its main branch where it was read."""
    return [
        {"type": "assert-table-uuid", "uuid": str(metadata.table_uuid)},
        {"type": "assert-ref-snapshot-id", "ref": "main", "snapshot-id": metadata.current_snapshot_id},
    ]


def ancestors(metadata: TableMetadata) -> Iterator[Snapshot]:
    """Walk main from its head; pyiceberg's own walk searches the whole list for each parent."""
    by_id = {snapshot.snapshot_id: snapshot for snapshot in metadata.snapshots}
    snapshot = by_id.get(metadata.current_snapshot_id) if metadata.current_snapshot_id is not None else None
    while snapshot is not None:
        yield snapshot
        parent = snapshot.parent_snapshot_id
        snapshot = by_id.get(parent) if parent is not None else None


def last_sequence(metadata: TableMetadata) -> int:
    """Return the newest sequence number. Raises StoreUnavailable for a table of format version 1."""
    if isinstance(metadata, TableMetadataV1):
        raise StoreUnavailable("the table has format version 1; upgrade it to 2")
    return metadata.last_sequence_number


def sound_manifests(parent: Snapshot | None, file_io: FileIO) -> list[ManifestFile]:
    """Read the parent's manifests and compare them with its totals.

    A manifest list cut after its header reads as empty; a commit on top of it would drop every older row.
    """
    if parent is None:
        return []
    manifests = parent.manifests(file_io)
    total = parent.summary.additional_properties.get("total-data-files") if parent.summary else None
    listed = sum(
        (m.added_files_count or 0) + (m.existing_files_count or 0)
        for m in manifests
        if m.content == ManifestContent.DATA
    )
    if total is not None and int(total) != listed:
        raise StoreUnavailable(
            f"the manifest list {parent.manifest_list} names {listed} data files, its snapshot {total}: "
            "the table is damaged; repair it or roll back before events can be committed"
        )
    return manifests


def is_small(manifest: ManifestFile, spec_id: int, limit: int) -> bool:
    """Tell whether it lists fewer than *limit* data files of the partition spec, so that it is better merged."""
    entries = (manifest.added_files_count or 0) + (manifest.existing_files_count or 0)
    plain = manifest.content == ManifestContent.DATA and manifest.partition_spec_id == spec_id
    return plain and 0 < entries < limit
