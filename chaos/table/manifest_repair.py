"""A manifest again, at its path, from the data files that only it can have listed."""

from __future__ import annotations

from collections.abc import Sequence

from pyiceberg.manifest import DataFile, ManifestEntry, ManifestEntryStatus, ManifestFile, write_manifest

from chaos.table.committer import CODEC, is_data
from chaos.table.errors import CannotRepair
from chaos.table.evidence import Evidence, marks
from chaos.table.findings import Finding
from chaos.table.list_repair import write_list
from chaos.table.plans import Plan
from chaos.table.rewriting import MemoryOutput, resized
from chaos.table.walk import read_list


class ManifestRepair:
    """Plans the repair of one manifest of the current snapshot."""

    def __init__(self, found: Evidence) -> None:
        self._found = found

    def plan(self, findings: list[Finding]) -> Plan:
        """Plan the same manifest again, from the data files that only it can have listed. Raises CannotRepair, StoreFailed."""
        path = findings[0].object
        listed = self._found.as_listed(path)
        if listed.existing_files_count or listed.deleted_files_count or not is_data(listed):
            raise CannotRepair(f"{path} held entries whose snapshots and sequence numbers are known to it alone.")
        if findings[0].name == "manifest-length":
            files = [entry.data_file for entry in self._found.live_entries(listed)]
        else:
            files = self._files_of(listed)
        snapshot_id = listed.added_snapshot_id
        assert snapshot_id is not None
        data = self._manifest_bytes(path, listed, files)

        def execute() -> None:
            if len(data) != listed.manifest_length:
                self._relist(path, len(data))
            self._found.store.put(path, data)

        lists = (
            [] if len(data) == listed.manifest_length else [one.manifest_list for one in self._found.lists_with(path)]
        )
        evidence = [
            f"its manifest list counts {listed.added_files_count} files with {listed.added_rows_count} rows",
            f"{len(files)} data files that no other manifest lists add up to exactly that",
            f"it becomes {len(data)} bytes (recorded: {listed.manifest_length})",
        ]
        return Plan("rebuild-manifest", findings, evidence, execute, replaces=[path, *lists])

    def _files_of(self, listed: ManifestFile) -> list[DataFile]:
        others = self._found.listed_anywhere(leave_out=listed.manifest_path)
        paths = [path for path in self._found.data_paths() if path not in others]
        stem = listed.manifest_path.rpartition("/")[2].rpartition("-m")[0]
        snapshot = self._found.table.metadata.snapshot_by_id(listed.added_snapshot_id or -1)
        own = [stem] if stem else []
        own += marks(snapshot) if snapshot is not None else []
        marked = [path for path in paths if any(mark in path for mark in own)]
        files = [self._found.data_file(path) for path in marked or paths]
        rows = sum(file.record_count for file in files)
        if (len(files), rows) != (listed.added_files_count, listed.added_rows_count):
            raise CannotRepair(
                f"{listed.manifest_path} listed {listed.added_files_count} files with {listed.added_rows_count} rows; "
                f"{len(files)} with {rows} can be found that nothing else lists, so which they were would be a guess."
            )
        return files

    def _manifest_bytes(self, path: str, listed: ManifestFile, files: Sequence[DataFile]) -> bytes:
        metadata = self._found.table.metadata
        output = MemoryOutput(path)
        spec = metadata.specs()[listed.partition_spec_id]
        with write_manifest(2, spec, metadata.schema(), output, listed.added_snapshot_id or 0, CODEC) as writer:
            for file in files:
                writer.add(
                    ManifestEntry.from_args(status=ManifestEntryStatus.ADDED, sequence_number=None, data_file=file)
                )
        return output.data

    def _relist(self, path: str, length: int) -> None:
        """Record the manifest's new length in every list that names it; done before the manifest, so it can be done again."""
        for snapshot in self._found.lists_with(path):
            manifests = list(read_list(snapshot, self._found.store, live=False).manifests)
            write_list(
                self._found.store,
                snapshot,
                [resized(one, length) if one.manifest_path == path else one for one in manifests],
            )
