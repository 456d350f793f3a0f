"""A snapshot made of given manifests, committed as one request whose totals are counted from entries.

pyiceberg's own producers copy totals forward, so a repair made with them leaves a summary that no longer adds up. Built from
public parts: nothing is deleted after a failed commit, and a concurrent writer makes the request fail as a whole.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from typing import Any, Final

from pyiceberg.manifest import (
    DataFile,
    DataFileContent,
    ManifestContent,
    ManifestEntry,
    ManifestEntryStatus,
    ManifestFile,
    write_manifest,
    write_manifest_list,
)
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Operation, Snapshot, Summary
from pyiceberg.table.update import (
    AddSnapshotUpdate,
    AssertRefSnapshotId,
    AssertTableUUID,
    SetPropertiesUpdate,
    SetSnapshotRefUpdate,
    TableRequirement,
    TableUpdate,
)

from chaos.table.errors import CannotRepair, CatalogFailed, sentence
from chaos.table.metadata_checks import last_sequence

CODEC: Final = "deflate"


def new_snapshot_id() -> int:
    """Return a random positive 63-bit id."""
    return uuid.uuid4().int >> 65


class Committer:
    """Writes manifests for, and commits, one snapshot of one table.

    Args:
        table: As it was loaded; the commit requires that its main branch has not moved since.
        now_ms: The snapshot's time; never before the table's last update.
    """

    def __init__(self, table: Table, *, now_ms: int) -> None:
        if table.metadata.format_version != 2:
            raise CannotRepair(f"tables of format version {table.metadata.format_version} are checked, not repaired.")
        self._table = table
        self.snapshot_id = new_snapshot_id()
        attempt, directory = uuid.uuid4(), f"{table.location()}/metadata"
        self._stem = f"{directory}/repair-{attempt}"
        self._list_path = f"{directory}/snap-{self.snapshot_id}-0-{attempt}.avro"
        self._written = 0
        self._now_ms = max(now_ms, table.metadata.last_updated_ms)

    def manifest(self, spec_id: int, entries: Iterable[tuple[ManifestEntryStatus, ManifestEntry]]) -> ManifestFile:
        """Write a manifest with these entries: kept ones EXISTING, removed ones DELETED, new ones ADDED."""
        metadata = self._table.metadata
        output = self._table.io.new_output(f"{self._stem}-m{self._written}.avro")
        self._written += 1
        spec = metadata.specs()[spec_id]
        with write_manifest(2, spec, metadata.schema(), output, self.snapshot_id, CODEC) as writer:
            for status, entry in entries:
                if status == ManifestEntryStatus.EXISTING:
                    writer.existing(entry)
                elif status == ManifestEntryStatus.DELETED:
                    writer.delete(entry)
                else:
                    writer.add(entry)
        return writer.to_manifest_file()

    def added(self, files: Sequence[DataFile], spec_id: int) -> ManifestFile:
        """Write a manifest that adds these data files."""
        entries = (_entry(file, self.snapshot_id) for file in files)
        return self.manifest(spec_id, ((ManifestEntryStatus.ADDED, entry) for entry in entries))

    def commit(
        self,
        manifests: Sequence[ManifestFile],
        parent: Snapshot | None,
        live: Sequence[DataFile],
        note: dict[str, str],
        *,
        operation: Operation = Operation.OVERWRITE,
        properties: dict[str, str] | None = None,
    ) -> int:
        """Make a snapshot of *manifests* the current one and return its id.

        Args:
            parent: What it follows; not necessarily what is current now (then the branch is set back in the same request).
            live: All files its manifests list, from which the totals are counted.
            note: Added to its summary.
            properties: Table properties that are set in the same request.

        Raises:
            CatalogFailed: the commit was refused, or its outcome is not known; running the repair again is safe.
        """
        metadata = self._table.metadata
        sequence = last_sequence(metadata) + 1
        path = self._list_path
        parent_id = parent.snapshot_id if parent is not None else None
        output = self._table.io.new_output(path)
        with write_manifest_list(2, output, self.snapshot_id, parent_id, sequence, CODEC) as writer:
            writer.add_manifests(list(manifests))
        snapshot: dict[str, Any] = {  # in the names of the REST specification
            "snapshot-id": self.snapshot_id,
            "parent-snapshot-id": parent_id,
            "sequence-number": sequence,
            "timestamp-ms": self._now_ms,
            "manifest-list": path,
            "summary": Summary(operation, **_totals(live), **note).model_dump(),
            "schema-id": metadata.current_schema_id,
        }
        main = {"ref-name": "main", "type": "branch", "snapshot-id": self.snapshot_id}
        updates: tuple[TableUpdate, ...] = (
            AddSnapshotUpdate.model_validate({"snapshot": snapshot}),
            SetSnapshotRefUpdate.model_validate(main),
            *((SetPropertiesUpdate(updates=properties),) if properties else ()),
        )
        send(self._table, updates)
        return self.snapshot_id


def send(table: Table, updates: Sequence[TableUpdate]) -> None:
    """Commit *updates* on the condition that the table is the same one and its main branch where it was loaded.

    Raises:
        CatalogFailed: the commit was refused, or its outcome is not known.
    """
    unmoved = {"ref": "main", "snapshot-id": table.metadata.current_snapshot_id}
    requirements: tuple[TableRequirement, ...] = (
        AssertTableUUID(uuid=table.metadata.table_uuid),
        AssertRefSnapshotId.model_validate(unmoved),
    )
    try:
        table.catalog.commit_table(table, requirements, tuple(updates))
    except Exception as error:  # the catalog client raises whatever its transport and parsers do
        raise CatalogFailed(f"it was not committed, as far as is known: {sentence(error)}") from error


def _entry(file: DataFile, snapshot_id: int) -> ManifestEntry:
    return ManifestEntry.from_args(
        status=ManifestEntryStatus.ADDED,
        snapshot_id=snapshot_id,
        sequence_number=None,
        file_sequence_number=None,
        data_file=file,
    )


def _totals(live: Sequence[DataFile]) -> dict[str, str]:
    data = [file for file in live if file.content == DataFileContent.DATA]
    deletes = [file for file in live if file.content != DataFileContent.DATA]
    positions = sum(file.record_count for file in deletes if file.content == DataFileContent.POSITION_DELETES)
    return {
        "total-data-files": str(len(data)),
        "total-records": str(sum(file.record_count for file in data)),
        "total-files-size": str(sum(file.file_size_in_bytes for file in live)),
        "total-delete-files": str(len(deletes)),
        "total-position-deletes": str(positions),
        "total-equality-deletes": str(sum(file.record_count for file in deletes) - positions),
    }


def is_data(manifest: ManifestFile) -> bool:
    """Tell whether a manifest lists data files, not delete files."""
    return manifest.content == ManifestContent.DATA
