"""Repairs as plans: what would be done, from which evidence, and what is lost; then done, one atomic step at a time.

A plan is made from the table as it is now. It changes either one object, whose old bytes are backed up first, or the table by
one commit. So a repair that was killed in the middle is run again and finds either nothing or everything done. What cannot be
brought back without guessing is refused with the reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from pyiceberg.io.pyarrow import parquet_file_to_data_file
from pyiceberg.manifest import (
    DataFile,
    DataFileContent,
    ManifestEntry,
    ManifestEntryStatus,
    ManifestFile,
    write_manifest,
    write_manifest_list,
)
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot

from chaos.table.committer import CODEC, Committer, is_data
from chaos.table.doctor import Report
from chaos.table.errors import CannotRepair, ObjectMissing, StoreFailed, sentence
from chaos.table.exports import restored
from chaos.table.findings import Finding
from chaos.table.lineage import missing_from_lineage
from chaos.table.plans import Plan, Refusal, backup_into, carry_out
from chaos.table.rewriting import MemoryOutput, bare, described, resized
from chaos.table.store import ObjectStore
from chaos.table.tree_checks import check_manifest, total
from chaos.table.walk import MemoryIO, read_list, read_manifest

__all__ = ["Plan", "Refusal", "Repairer", "backup_into", "carry_out"]

_ADDED, _EXISTING, _DELETED = ManifestEntryStatus.ADDED, ManifestEntryStatus.EXISTING, ManifestEntryStatus.DELETED


class Repairer:
    """Plans repairs of one table, as it was loaded.

    Args:
        now_ms: Time of snapshots that a repair commits.
        export: A collector's export (`chaos.table.exports`), from which rows of lost files are taken again.
    """

    def __init__(self, table: Table, store: ObjectStore, *, now_ms: int, export: Path | None = None) -> None:
        self._table, self._store, self._now_ms, self._export = table, store, now_ms, export

    def next(self, report: Report) -> tuple[Plan | None, list[Refusal]]:
        """Return the first thing to be done about what the doctor found, and what cannot be done.

        Lists come before manifests and manifests before files, since each hides what is below it.
        """
        refused: list[Refusal] = []
        for recipe, plan in self._recipes():
            matching = [one for one in report.findings.kept if one.kind.recipe == recipe and one.live]
            for group in _grouped(recipe, matching):
                try:
                    return plan(group), refused
                except (CannotRepair, StoreFailed, ObjectMissing) as error:
                    refused.extend(Refusal(one, str(error)) for one in group)
            if refused:
                break  # what is below cannot be judged while this is broken
        return None, refused

    def _recipes(self) -> list[tuple[str, Callable[[list[Finding]], Plan]]]:
        return [
            ("rebuild-manifest-list", self._list),
            ("rebuild-manifest", self._manifest),
            ("drop-duplicate-reference", self._duplicates),
            ("add-rolled-back", self._rolled_back_rows),
            ("remove-file", self._remove),
            ("restate-totals", self._totals),
            ("rewrite-metadata", self._metadata),
        ]

    # -- manifest list

    def _list(self, findings: list[Finding]) -> Plan:
        try:
            return self._rebuilt_list(findings)
        except CannotRepair as why:
            return self._rolled_back(findings, str(why))

    def _rebuilt_list(self, findings: list[Finding]) -> Plan:
        """The parent's manifests, and those in the metadata directory whose entries this snapshot added."""
        snapshot = self._current()
        manifests = [*self._of_parent(snapshot), *self._own_manifests(snapshot)]
        self._must_add_up(snapshot, manifests)
        evidence = [
            f"{len(manifests)} manifests: those of the parent snapshot, and what snapshot {snapshot.snapshot_id} added",
            "their entries add up to the totals in the snapshot's summary",
        ]
        return Plan(
            "rebuild-manifest-list",
            findings,
            evidence,
            lambda: self._write_list(snapshot, manifests),
            replaces=[snapshot.manifest_list],
        )

    def _of_parent(self, snapshot: Snapshot) -> list[ManifestFile]:
        if snapshot.parent_snapshot_id is None:
            return []
        parent = self._table.metadata.snapshot_by_id(snapshot.parent_snapshot_id)
        if parent is None:
            raise CannotRepair("the parent snapshot is expired, so the manifests it handed down are not known.")
        seen = read_list(parent, self._store, live=False)
        if seen.problem is not None:
            raise CannotRepair(f"the parent's manifest list {seen.path} is {seen.problem.kind} too.")
        return list(seen.manifests)

    def _own_manifests(self, snapshot: Snapshot) -> list[ManifestFile]:
        """Surviving manifests of a snapshot; a retried commit may have left several with the same entries."""
        found: dict[frozenset[str], ManifestFile] = {}
        for stat in self._store.list(f"{self._table.location()}/metadata"):
            name = stat.path.rpartition("/")[2]
            if not name.endswith(".avro") or name.startswith("snap-") or name.endswith("-list.avro"):
                continue
            seen = read_manifest(bare(stat.path, stat.size, snapshot), self._store, live=True)
            if (
                seen.problem is None
                and seen.entries
                and all(one.snapshot_id == snapshot.snapshot_id for one in seen.entries)
            ):
                files = frozenset(one.data_file.file_path for one in seen.entries)
                found[files] = described(self._table, stat.path, stat.size, seen.entries, seen.header, snapshot)
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

    def _write_list(self, snapshot: Snapshot, manifests: Sequence[ManifestFile]) -> None:
        output = MemoryOutput(snapshot.manifest_list)
        number = snapshot.sequence_number or 0
        parent = snapshot.parent_snapshot_id
        with write_manifest_list(2, output, snapshot.snapshot_id, parent, number, CODEC) as writer:
            writer.add_manifests(list(manifests))
        self._store.put(snapshot.manifest_list, output.data)

    def _rolled_back(self, findings: list[Finding], why: str) -> Plan:
        """The parent's manifests and one new manifest with the data files of the lost snapshot, as one commit."""
        snapshot = self._current()
        parent = self._table.metadata.snapshot_by_id(snapshot.parent_snapshot_id or -1)
        kept = self._of_parent(snapshot)
        live = [entry.data_file for manifest in kept for entry in self._live_entries(manifest)]
        files = self._lost_files(snapshot, {file.file_path for file in live})
        expected = total(snapshot, "total-records")
        rows = sum(file.record_count for file in [*live, *files])
        if rows != expected:
            raise CannotRepair(
                f"{why} Nor do the data files that can be found: {rows} rows, the summary counts {expected}."
            )

        def execute() -> None:
            committer = Committer(self._table, now_ms=self._now_ms)
            added = [committer.added(files, self._table.metadata.default_spec_id)] if files else []
            committer.commit([*kept, *added], parent, [*live, *files], _note("roll-back-and-re-add", snapshot))

        evidence = [
            why,
            f"{len(files)} data files that nothing lists make up exactly what is missing: {rows} rows in all",
        ]
        loss = [f"snapshot {snapshot.snapshot_id} stays unreadable as history; its rows are in the new snapshot"]
        return Plan("roll-back-and-re-add", findings, evidence, execute, loss=loss)

    def _lost_files(self, snapshot: Snapshot, known: set[str]) -> list[DataFile]:
        """Unlisted data files, where those that carry one of the snapshot's own marks are the only candidates."""
        paths = [path for path in self._data_paths() if path not in known and path not in self._listed_anywhere()]
        marks = _marks(snapshot)
        marked = [path for path in paths if any(mark in path for mark in marks)]
        return [self._data_file(path) for path in marked or paths]

    # -- manifest

    def _manifest(self, findings: list[Finding]) -> Plan:
        """The same manifest again, from the data files that only it can have listed."""
        path = findings[0].object
        listed = self._as_listed(path)
        if listed.existing_files_count or listed.deleted_files_count or not is_data(listed):
            raise CannotRepair(f"{path} held entries whose snapshots and sequence numbers are known to it alone.")
        if findings[0].name == "manifest-length":
            files = [entry.data_file for entry in self._live_entries(listed)]
        else:
            files = self._files_of(listed)
        snapshot_id = listed.added_snapshot_id
        assert snapshot_id is not None
        data = self._manifest_bytes(path, listed, files)

        def execute() -> None:
            if len(data) != listed.manifest_length:
                self._relist(path, len(data))
            self._store.put(path, data)

        lists = [] if len(data) == listed.manifest_length else [one.manifest_list for one in self._lists_with(path)]
        evidence = [
            f"its manifest list counts {listed.added_files_count} files with {listed.added_rows_count} rows",
            f"{len(files)} data files that no other manifest lists add up to exactly that",
            f"it becomes {len(data)} bytes (recorded: {listed.manifest_length})",
        ]
        return Plan("rebuild-manifest", findings, evidence, execute, replaces=[path, *lists])

    def _files_of(self, listed: ManifestFile) -> list[DataFile]:
        others = self._listed_anywhere(leave_out=listed.manifest_path)
        paths = [path for path in self._data_paths() if path not in others]
        stem = listed.manifest_path.rpartition("/")[2].rpartition("-m")[0]
        snapshot = self._table.metadata.snapshot_by_id(listed.added_snapshot_id or -1)
        marks = [stem] if stem else []
        marks += _marks(snapshot) if snapshot is not None else []
        marked = [path for path in paths if any(mark in path for mark in marks)]
        files = [self._data_file(path) for path in marked or paths]
        rows = sum(file.record_count for file in files)
        if (len(files), rows) != (listed.added_files_count, listed.added_rows_count):
            raise CannotRepair(
                f"{listed.manifest_path} listed {listed.added_files_count} files with {listed.added_rows_count} rows; "
                f"{len(files)} with {rows} can be found that nothing else lists, so which they were would be a guess."
            )
        return files

    def _manifest_bytes(self, path: str, listed: ManifestFile, files: Sequence[DataFile]) -> bytes:
        metadata = self._table.metadata
        output = MemoryOutput(path)
        spec = metadata.specs()[listed.partition_spec_id]
        with write_manifest(2, spec, metadata.schema(), output, listed.added_snapshot_id or 0, CODEC) as writer:
            for file in files:
                writer.add(ManifestEntry.from_args(status=_ADDED, sequence_number=None, data_file=file))
        return output.data

    def _relist(self, path: str, length: int) -> None:
        """Record the manifest's new length in every list that names it; done before the manifest, so it can be done again."""
        for snapshot in self._lists_with(path):
            manifests = list(read_list(snapshot, self._store, live=False).manifests)
            self._write_list(
                snapshot, [resized(one, length) if one.manifest_path == path else one for one in manifests]
            )

    def _lists_with(self, path: str) -> list[Snapshot]:
        seen = ((one, read_list(one, self._store, live=False)) for one in self._table.metadata.snapshots)
        return [one for one, listed in seen if any(manifest.manifest_path == path for manifest in listed.manifests)]

    # -- files

    def _duplicates(self, findings: list[Finding]) -> Plan:
        paths = {one.object for one in findings}

        def keep(seen: Counter[str], entry: ManifestEntry) -> bool:
            return entry.data_file.file_path not in paths or seen[entry.data_file.file_path] == 0

        evidence = [f"{len(paths)} files are listed more than once; the first reference to each stays"]
        return self._rewritten("drop-duplicate-reference", findings, evidence, keep)

    def _remove(self, findings: list[Finding]) -> Plan:
        paths = {one.object for one in findings}
        gone = {file.file_path: file for file in self._live_files() if file.file_path in paths}
        evidence = [f"{len(gone)} files cannot be read as what was committed"]
        if self._export is not None:
            return self._from_export(self._export, findings, gone)
        plan = self._rewritten("remove-file", findings, evidence, lambda _, one: one.data_file.file_path not in paths)
        plan.loss = [_loss(file, self._table) for file in gone.values()]
        plan.rows_lost = sum(file.record_count for file in gone.values())
        return plan

    def _from_export(self, export: Path, findings: list[Finding], gone: dict[str, DataFile]) -> Plan:
        """One commit that replaces lost files by their rows; what the export lacks is lost."""
        found = restored(self._table, self._store, export, list(gone.values()), list(self._live_files()))
        plan = self._rewritten(
            "append-from-export",
            findings,
            found.evidence,
            lambda _, one: one.data_file.file_path not in gone,
            found.files,
        )
        plan.loss = [
            f"{one.rows} rows of partition {one.partition}, which the export does not hold" for one in found.lost
        ]
        plan.rows_lost = sum(one.rows for one in found.lost)
        commit = plan.execute

        def execute() -> None:
            for path, data in found.objects.items():
                self._store.put(path, data)
            commit()

        plan.execute = execute
        return plan

    def _rolled_back_rows(self, findings: list[Finding]) -> Plan:
        """One commit that appends what was set aside; its files are whole and nothing removed them on purpose."""
        by_id = missing_from_lineage(self._table.metadata, self._store)
        files = [file for one in by_id.values() for file in one]
        if broken := [file.file_path for file in files if self._store.head(file.file_path) is None]:
            raise CannotRepair(f"{broken[0]} is gone, so what was rolled back cannot be added again whole.")
        evidence = [
            f"{len(files)} files with {sum(file.record_count for file in files)} rows of {len(by_id)} snapshots, "
            "which no snapshot of the main branch lists or removed"
        ]
        return self._rewritten("add-rolled-back", findings, evidence, lambda _, __: True, files)

    def _metadata(self, findings: list[Finding]) -> Plan:
        """The catalog's own copy, written where the object should be."""
        path = self._table.metadata_location
        data = self._table.metadata.model_dump_json(exclude_none=True).encode()
        evidence = ["the catalog answers with the table's metadata from a copy of its own"]
        return Plan("rewrite-metadata", findings, evidence, lambda: self._store.put(path, data), replaces=[path])

    def _totals(self, findings: list[Finding]) -> Plan:
        """Rows that a summary counts and no entry has may never have been, or be lost: forgetting them is a loss."""
        evidence = ["every entry of the current snapshot was read, and nothing else is wrong with it"]
        plan = self._rewritten("restate-totals", findings, evidence, lambda _, __: True)
        found = sum(file.record_count for file in self._live_files() if file.content == DataFileContent.DATA)
        plan.rows_lost = max(0, (total(self._current(), "total-records") or 0) - found)
        if plan.rows_lost:
            plan.loss = [f"the trace of {plan.rows_lost} rows that the summary counts beyond the {found} there are"]
        return plan

    def _rewritten(
        self,
        recipe: str,
        findings: list[Finding],
        evidence: list[str],
        keep: Callable[[Counter[str], ManifestEntry], bool],
        added: Sequence[DataFile] = (),
    ) -> Plan:
        """One commit whose manifests list what *keep* keeps, and *added*; manifests that stay whole are not rewritten."""
        snapshot = self._current()
        seen: Counter[str] = Counter()
        parts: list[tuple[ManifestFile, list[ManifestEntry], list[ManifestEntry]]] = []
        for manifest in read_list(snapshot, self._store, live=True).manifests:
            kept: list[ManifestEntry] = []
            dropped: list[ManifestEntry] = []
            for entry in self._live_entries(manifest):
                (kept if keep(seen, entry) else dropped).append(entry)
                seen[entry.data_file.file_path] += 1
            parts.append((manifest, kept, dropped))

        def execute() -> None:
            committer = Committer(self._table, now_ms=self._now_ms)
            manifests = [
                one if not dropped else _rewrite(committer, one, kept, dropped) for one, kept, dropped in parts
            ]
            for spec_id in {file.spec_id for file in added}:
                manifests.append(committer.added([file for file in added if file.spec_id == spec_id], spec_id))
            live = [*(entry.data_file for _, kept, _ in parts for entry in kept), *added]
            committer.commit(manifests, snapshot, live, _note(recipe, snapshot))

        return Plan(recipe, findings, evidence, execute)

    # -- what is there

    def _current(self) -> Snapshot:
        snapshot = self._table.current_snapshot()
        if snapshot is None:
            raise CannotRepair("the table has no snapshot.")
        return snapshot

    def _as_listed(self, path: str) -> ManifestFile:
        for manifest in read_list(self._current(), self._store, live=True).manifests:
            if manifest.manifest_path == path:
                return manifest
        raise CannotRepair(f"the current manifest list does not name {path}.")

    def _live_entries(self, manifest: ManifestFile) -> list[ManifestEntry]:
        seen = read_manifest(manifest, self._store, live=True)
        if seen.problem is not None:
            raise CannotRepair(f"{seen.path} is {seen.problem.kind}: {seen.problem.detail}.")
        return [entry for entry in seen.entries if entry.status != _DELETED]

    def _live_files(self) -> Iterator[DataFile]:
        for manifest in read_list(self._current(), self._store, live=True).manifests:
            yield from (entry.data_file for entry in self._live_entries(manifest))

    def _listed_anywhere(self, leave_out: str | None = None) -> set[str]:
        """Every file that a sound manifest of any snapshot lists."""
        manifests: dict[str, ManifestFile] = {}
        for snapshot in self._table.metadata.snapshots:
            manifests.update((one.manifest_path, one) for one in read_list(snapshot, self._store, live=False).manifests)
        manifests.pop(leave_out or "", None)
        paths: set[str] = set()
        for manifest in manifests.values():
            seen = read_manifest(manifest, self._store, live=False)
            if not any(check_manifest(seen, seen.listed.sequence_number)):
                paths |= {entry.data_file.file_path for entry in seen.entries}
        return paths

    def _data_paths(self) -> list[str]:
        location = self._table.properties.get("write.data.path", f"{self._table.location()}/data")
        return sorted(stat.path for stat in self._store.list(location) if stat.path.endswith(".parquet") and stat.size)

    def _data_file(self, path: str) -> DataFile:
        try:
            io = MemoryIO({path: self._store.get(path)})
            file = parquet_file_to_data_file(io, self._table.metadata, path)
        except Exception as error:  # damaged Parquet raises anything
            raise CannotRepair(f"{path} is a candidate, but cannot be read: {sentence(error)}.") from error
        return file


def _grouped(recipe: str, findings: list[Finding]) -> Iterable[list[Finding]]:
    """One plan for all files, one for each manifest."""
    if recipe in ("rebuild-manifest", "rebuild-manifest-list"):
        return ([one] for one in findings)
    return [findings] if findings else []


def _marks(snapshot: Snapshot) -> list[str]:
    """What a writer may have put into the names of a snapshot's data files: a commit's uuid, or its flush id."""
    name = snapshot.manifest_list.rpartition("/")[2].removesuffix(".avro")
    summary = snapshot.summary.additional_properties if snapshot.summary is not None else {}
    flush_ids = [value for key, value in summary.items() if key.endswith("flush-id") and len(value) >= 8]
    return [name[-36:]] * (name.count("-") >= 5) + flush_ids


def _note(recipe: str, snapshot: Snapshot) -> dict[str, str]:
    """Keep what the writer noted on the snapshot (its flush id), so that it recognises its own work."""
    summary = snapshot.summary.additional_properties if snapshot.summary is not None else {}
    kept = {
        key: value
        for key, value in summary.items()
        if not key.startswith(("total-", "added-", "deleted-", "removed-", "changed-", "icequake."))
    }
    return {**kept, "icequake.repair": recipe, "icequake.repaired-snapshot": str(snapshot.snapshot_id)}


def _loss(file: DataFile, table: Table) -> str:
    spec = table.metadata.specs()[file.spec_id]
    partition = (
        ", ".join(f"{part.name}={file.partition[index]}" for index, part in enumerate(spec.fields)) or "no partition"
    )
    return f"{file.record_count} rows of {file.file_path} ({partition})"


def _rewrite(
    committer: Committer, manifest: ManifestFile, kept: list[ManifestEntry], dropped: list[ManifestEntry]
) -> ManifestFile:
    entries = [(_EXISTING, entry) for entry in kept] + [(_DELETED, entry) for entry in dropped]
    return committer.manifest(manifest.partition_spec_id, entries)
