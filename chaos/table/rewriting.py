"""Descriptions of manifests as manifest lists hold them, made from a manifest's own entries."""

from __future__ import annotations

import io
from collections.abc import Sequence

from pyiceberg.io import InputFile, OutputFile, OutputStream
from pyiceberg.manifest import (
    DataFileContent,
    ManifestContent,
    ManifestEntry,
    ManifestEntryStatus,
    ManifestFile,
    construct_partition_summaries,
)
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot

from chaos.table.walk import MemoryInput

_FIELDS = (
    "manifest_path",
    "manifest_length",
    "partition_spec_id",
    "content",
    "sequence_number",
    "min_sequence_number",
    "added_snapshot_id",
    "added_files_count",
    "existing_files_count",
    "deleted_files_count",
    "added_rows_count",
    "existing_rows_count",
    "deleted_rows_count",
    "partitions",
    "key_metadata",
)


def bare(path: str, size: int, snapshot: Snapshot) -> ManifestFile:
    """A manifest of which only the object is known, as if *snapshot* had added it."""
    number = snapshot.sequence_number or 0
    return ManifestFile.from_args(
        manifest_path=path,
        manifest_length=size,
        partition_spec_id=0,
        content=ManifestContent.DATA,
        sequence_number=number,
        min_sequence_number=number,
        added_snapshot_id=snapshot.snapshot_id,
    )


def described(
    table: Table, path: str, size: int, entries: Sequence[ManifestEntry], header: dict[str, bytes], snapshot: Snapshot
) -> ManifestFile:
    """Describe a manifest that *snapshot* added, from its header and entries."""
    spec_id = int(header.get("partition-spec-id", b"0"))
    spec = table.metadata.specs()[spec_id]
    deletes = any(entry.data_file.content != DataFileContent.DATA for entry in entries)
    rows: dict[ManifestEntryStatus, list[int]] = {status: [] for status in ManifestEntryStatus}
    for entry in entries:
        rows[entry.status].append(entry.data_file.record_count)
    number = snapshot.sequence_number or 0
    live = [entry.sequence_number for entry in entries if entry.status != ManifestEntryStatus.DELETED]
    return ManifestFile.from_args(
        manifest_path=path,
        manifest_length=size,
        partition_spec_id=spec_id,
        content=ManifestContent.DELETES if deletes else ManifestContent.DATA,
        sequence_number=number,
        min_sequence_number=min((one for one in live if one is not None), default=number),
        added_snapshot_id=snapshot.snapshot_id,
        added_files_count=len(rows[ManifestEntryStatus.ADDED]),
        existing_files_count=len(rows[ManifestEntryStatus.EXISTING]),
        deleted_files_count=len(rows[ManifestEntryStatus.DELETED]),
        added_rows_count=sum(rows[ManifestEntryStatus.ADDED]),
        existing_rows_count=sum(rows[ManifestEntryStatus.EXISTING]),
        deleted_rows_count=sum(rows[ManifestEntryStatus.DELETED]),
        partitions=construct_partition_summaries(
            spec, table.metadata.schema(), [entry.data_file.partition for entry in entries]
        ),
        key_metadata=None,
    )


def resized(manifest: ManifestFile, length: int) -> ManifestFile:
    """The same description with another length."""
    fields = {name: getattr(manifest, name) for name in _FIELDS}
    return ManifestFile.from_args(**{**fields, "manifest_length": length})


class MemoryOutput(OutputFile):
    """Bytes to be, as a pyiceberg output file; so an object is replaced by one whole PUT, or not at all."""

    def __init__(self, location: str) -> None:
        super().__init__(location)
        self._stream = _Kept()

    @property
    def data(self) -> bytes:
        """What was written."""
        return self._stream.getvalue()

    def __len__(self) -> int:
        return len(self.data)

    def exists(self) -> bool:
        """Not yet."""
        return False

    def to_input_file(self) -> InputFile:
        """What was written, to be read."""
        return MemoryInput(self.location, self.data)

    def create(self, overwrite: bool = False) -> OutputStream:  # noqa: ARG002  # pyiceberg's signature
        """Begin to write."""
        return self._stream


class _Kept(io.BytesIO):
    """A buffer whose content outlives its closing."""

    def close(self) -> None:
        """Keep what was written."""
