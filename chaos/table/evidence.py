"""What a repair is derived from: what the table's own objects say, and what lies below its location."""

from __future__ import annotations

from collections.abc import Iterator

from pyiceberg.io.pyarrow import parquet_file_to_data_file
from pyiceberg.manifest import DataFile, ManifestEntry, ManifestEntryStatus, ManifestFile
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot

from chaos.table.errors import CannotRepair, sentence
from chaos.table.store import ObjectStore
from chaos.table.tree_checks import check_manifest
from chaos.table.walk import MemoryIO, read_list, read_manifest


class Evidence:
    """One table, as it was loaded, and its store. Methods raise CannotRepair for what cannot be told, and StoreFailed."""

    def __init__(self, table: Table, store: ObjectStore) -> None:
        self.table, self.store = table, store

    def current(self) -> Snapshot:
        """Return the current snapshot."""
        snapshot = self.table.current_snapshot()
        if snapshot is None:
            raise CannotRepair("the table has no snapshot.")
        return snapshot

    def of_parent(self, snapshot: Snapshot) -> list[ManifestFile]:
        """Return the manifests that a snapshot's parent lists; none without a parent."""
        if snapshot.parent_snapshot_id is None:
            return []
        parent = self.table.metadata.snapshot_by_id(snapshot.parent_snapshot_id)
        if parent is None:
            raise CannotRepair("the parent snapshot is expired, so the manifests it handed down are not known.")
        seen = read_list(parent, self.store, live=False)
        if seen.problem is not None:
            raise CannotRepair(f"the parent's manifest list {seen.path} is {seen.problem.kind} too.")
        return list(seen.manifests)

    def as_listed(self, path: str) -> ManifestFile:
        """Return how the current manifest list describes a manifest."""
        for manifest in read_list(self.current(), self.store, live=True).manifests:
            if manifest.manifest_path == path:
                return manifest
        raise CannotRepair(f"the current manifest list does not name {path}.")

    def live_entries(self, manifest: ManifestFile) -> list[ManifestEntry]:
        """Read the entries of a manifest that were not deleted."""
        seen = read_manifest(manifest, self.store, live=True)
        if seen.problem is not None:
            raise CannotRepair(f"{seen.path} is {seen.problem.kind}: {seen.problem.detail}.")
        return [entry for entry in seen.entries if entry.status != ManifestEntryStatus.DELETED]

    def live_files(self) -> Iterator[DataFile]:
        """Yield every file of the current snapshot."""
        for manifest in read_list(self.current(), self.store, live=True).manifests:
            yield from (entry.data_file for entry in self.live_entries(manifest))

    def listed_anywhere(self, leave_out: str | None = None) -> set[str]:
        """Every file that a sound manifest of any snapshot lists."""
        manifests: dict[str, ManifestFile] = {}
        for snapshot in self.table.metadata.snapshots:
            manifests.update((one.manifest_path, one) for one in read_list(snapshot, self.store, live=False).manifests)
        manifests.pop(leave_out or "", None)
        paths: set[str] = set()
        for manifest in manifests.values():
            seen = read_manifest(manifest, self.store, live=False)
            if not any(check_manifest(seen, seen.listed.sequence_number)):
                paths |= {entry.data_file.file_path for entry in seen.entries}
        return paths

    def lists_with(self, path: str) -> list[Snapshot]:
        """Return the snapshots whose list names a manifest."""
        seen = ((one, read_list(one, self.store, live=False)) for one in self.table.metadata.snapshots)
        return [one for one, listed in seen if any(manifest.manifest_path == path for manifest in listed.manifests)]

    def data_paths(self) -> list[str]:
        """Return the paths of all Parquet objects that are not empty, in the table's data directory."""
        location = self.table.properties.get("write.data.path", f"{self.table.location()}/data")
        return sorted(stat.path for stat in self.store.list(location) if stat.path.endswith(".parquet") and stat.size)

    def data_file(self, path: str) -> DataFile:
        """Describe a Parquet object as manifests do, from its own bytes."""
        try:
            io = MemoryIO({path: self.store.get(path)})
            file = parquet_file_to_data_file(io, self.table.metadata, path)
        except Exception as error:  # damaged Parquet raises anything
            raise CannotRepair(f"{path} is a candidate, but cannot be read: {sentence(error)}.") from error
        return file


def marks(snapshot: Snapshot) -> list[str]:
    """What a writer may have put into the names of a snapshot's data files: a commit's uuid, or its flush id."""
    name = snapshot.manifest_list.rpartition("/")[2].removesuffix(".avro")
    summary = snapshot.summary.additional_properties if snapshot.summary is not None else {}
    flush_ids = [value for key, value in summary.items() if key.endswith("flush-id") and len(value) >= 8]
    return [name[-36:]] * (name.count("-") >= 5) + flush_ids


def note(recipe: str, snapshot: Snapshot) -> dict[str, str]:
    """Keep what the writer noted on the snapshot (its flush id), so that it recognises its own work."""
    summary = snapshot.summary.additional_properties if snapshot.summary is not None else {}
    kept = {
        key: value
        for key, value in summary.items()
        if not key.startswith(("total-", "added-", "deleted-", "removed-", "changed-", "icequake."))
    }
    return {**kept, "icequake.repair": recipe, "icequake.repaired-snapshot": str(snapshot.snapshot_id)}
