"""A manifest list again: at its path from the parent's list and the manifests of its snapshot, or as a new snapshot."""

from __future__ import annotations

from collections.abc import Sequence

from pyiceberg.manifest import DataFile, ManifestFile, write_manifest_list
from pyiceberg.table.snapshots import Snapshot

from chaos.table.committer import CODEC, Committer, is_data
from chaos.table.errors import CannotRepair
from chaos.table.evidence import Evidence, marks, note
from chaos.table.findings import Finding
from chaos.table.plans import Plan
from chaos.table.rewriting import MemoryOutput, bare, described
from chaos.table.store import ObjectStore
from chaos.table.tree_checks import total
from chaos.table.walk import read_manifest


class ListRepair:
    """Plans the repair of the current snapshot's manifest list.

    Args:
        now_ms: Time of snapshots that a repair commits.
    """

    def __init__(self, found: Evidence, *, now_ms: int) -> None:
        self._found, self._now_ms = found, now_ms

    def plan(self, findings: list[Finding]) -> Plan:
        """Rebuild it in place; where manifests are gone as well, roll back and add. Raises CannotRepair, StoreFailed."""
        try:
            return self._rebuilt(findings)
        except CannotRepair as why:
            return self._rolled_back(findings, str(why))

    def _rebuilt(self, findings: list[Finding]) -> Plan:
        """The parent's manifests, and those in the metadata directory whose entries this snapshot added."""
        snapshot = self._found.current()
        manifests = [*self._found.of_parent(snapshot), *self._own_manifests(snapshot)]
        self._must_add_up(snapshot, manifests)
        evidence = [
            f"{len(manifests)} manifests: those of the parent snapshot, and what snapshot {snapshot.snapshot_id} added",
            "their entries add up to the totals in the snapshot's summary",
        ]
        return Plan(
            "rebuild-manifest-list",
            findings,
            evidence,
            lambda: write_list(self._found.store, snapshot, manifests),
            replaces=[snapshot.manifest_list],
        )

    def _own_manifests(self, snapshot: Snapshot) -> list[ManifestFile]:
        """Surviving manifests of a snapshot; a retried commit may have left several with the same entries."""
        found: dict[frozenset[str], ManifestFile] = {}
        for stat in self._found.store.list(f"{self._found.table.location()}/metadata"):
            name = stat.path.rpartition("/")[2]
            if not name.endswith(".avro") or name.startswith("snap-") or name.endswith("-list.avro"):
                continue
            seen = read_manifest(bare(stat.path, stat.size, snapshot), self._found.store, live=True)
            if (
                seen.problem is None
                and seen.entries
                and all(one.snapshot_id == snapshot.snapshot_id for one in seen.entries)
            ):
                files = frozenset(one.data_file.file_path for one in seen.entries)
                found[files] = described(self._found.table, stat.path, stat.size, seen.entries, seen.header, snapshot)
        return list(found.values())

    def _must_add_up(self, snapshot: Snapshot, manifests: Sequence[ManifestFile]) -> None:
        files = sum((one.added_files_count or 0) + (one.existing_files_count or 0) for one in manifests if is_data(one))
        rows = sum((one.added_rows_count or 0) + (one.existing_rows_count or 0) for one in manifests if is_data(one))
        claimed = (total(snapshot, "total-data-files"), total(snapshot, "total-records"))
        if claimed != (files, rows):
            raise CannotRepair(
                f"the manifests that can be found have {files} data files and {rows} rows, "
                f"the snapshot's summary counts {claimed[0]} and {claimed[1]}."
            )

    def _rolled_back(self, findings: list[Finding], why: str) -> Plan:
        """The parent's manifests and one new manifest with the data files of the lost snapshot, as one commit."""
        snapshot = self._found.current()
        parent = self._found.table.metadata.snapshot_by_id(snapshot.parent_snapshot_id or -1)
        kept = self._found.of_parent(snapshot)
        live = [entry.data_file for manifest in kept for entry in self._found.live_entries(manifest)]
        files = self._lost_files(snapshot, {file.file_path for file in live})
        expected = total(snapshot, "total-records")
        rows = sum(file.record_count for file in [*live, *files])
        if rows != expected:
            raise CannotRepair(
                f"{why} Nor do the data files that can be found: {rows} rows, the summary counts {expected}."
            )

        def execute() -> None:
            committer = Committer(self._found.table, now_ms=self._now_ms)
            added = [committer.added(files, self._found.table.metadata.default_spec_id)] if files else []
            committer.commit([*kept, *added], parent, [*live, *files], note("roll-back-and-re-add", snapshot))

        evidence = [
            why,
            f"{len(files)} data files that nothing lists make up exactly what is missing: {rows} rows in all",
        ]
        loss = [f"snapshot {snapshot.snapshot_id} stays unreadable as history; its rows are in the new snapshot"]
        return Plan("roll-back-and-re-add", findings, evidence, execute, loss=loss)

    def _lost_files(self, snapshot: Snapshot, known: set[str]) -> list[DataFile]:
        """Unlisted data files, where those that carry one of the snapshot's own marks are the only candidates."""
        paths = [
            path for path in self._found.data_paths() if path not in known and path not in self._found.listed_anywhere()
        ]
        own = marks(snapshot)
        marked = [path for path in paths if any(mark in path for mark in own)]
        return [self._found.data_file(path) for path in marked or paths]


def write_list(store: ObjectStore, snapshot: Snapshot, manifests: Sequence[ManifestFile]) -> None:
    """Write a snapshot's manifest list at its path. Raises StoreFailed."""
    output = MemoryOutput(snapshot.manifest_list)
    number = snapshot.sequence_number or 0
    parent = snapshot.parent_snapshot_id
    with write_manifest_list(2, output, snapshot.snapshot_id, parent, number, CODEC) as writer:
        writer.add_manifests(list(manifests))
    store.put(snapshot.manifest_list, output.data)
