"""Repairs that are one commit: what the current snapshot lists, less or more of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from pyiceberg.manifest import DataFile, DataFileContent, ManifestEntry, ManifestEntryStatus, ManifestFile
from pyiceberg.table import Table

from chaos.table.committer import Committer
from chaos.table.errors import CannotRepair
from chaos.table.evidence import Evidence, note
from chaos.table.exports import restored
from chaos.table.findings import Finding
from chaos.table.lineage import missing_from_lineage
from chaos.table.plans import Plan
from chaos.table.tree_checks import total
from chaos.table.walk import read_list


class CommitRepair:
    """Plans repairs of one table; each raises CannotRepair, StoreFailed.

    Args:
        now_ms: Time of the snapshot that is committed.
        export: A collector's export (`chaos.table.exports`), from which rows of lost files are taken again.
    """

    def __init__(self, found: Evidence, *, now_ms: int, export: Path | None = None) -> None:
        self._found, self._now_ms, self._export = found, now_ms, export

    def duplicates(self, findings: list[Finding]) -> Plan:
        """List each file once."""
        paths = {one.object for one in findings}

        def keep(seen: Counter[str], entry: ManifestEntry) -> bool:
            return entry.data_file.file_path not in paths or seen[entry.data_file.file_path] == 0

        evidence = [f"{len(paths)} files are listed more than once; the first reference to each stays"]
        return self._rewritten("drop-duplicate-reference", findings, evidence, keep)

    def remove(self, findings: list[Finding]) -> Plan:
        """List what cannot be read no more; with an export, its rows again in a new file."""
        paths = {one.object for one in findings}
        gone = {file.file_path: file for file in self._found.live_files() if file.file_path in paths}
        evidence = [f"{len(gone)} files cannot be read as what was committed"]
        if self._export is not None:
            return self._from_export(self._export, findings, gone)
        plan = self._rewritten("remove-file", findings, evidence, lambda _, one: one.data_file.file_path not in paths)
        plan.loss = [_loss(file, self._found.table) for file in gone.values()]
        plan.rows_lost = sum(file.record_count for file in gone.values())
        return plan

    def _from_export(self, export: Path, findings: list[Finding], gone: dict[str, DataFile]) -> Plan:
        """One commit that replaces lost files by their rows; what the export lacks is lost."""
        found = restored(
            self._found.table, self._found.store, export, list(gone.values()), list(self._found.live_files())
        )
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
                self._found.store.put(path, data)
            commit()

        plan.execute = execute
        return plan

    def rolled_back(self, findings: list[Finding]) -> Plan:
        """One commit that appends what was set aside; its files are whole and nothing removed them on purpose."""
        by_id = missing_from_lineage(self._found.table.metadata, self._found.store)
        files = [file for one in by_id.values() for file in one]
        if broken := [file.file_path for file in files if self._found.store.head(file.file_path) is None]:
            raise CannotRepair(f"{broken[0]} is gone, so what was rolled back cannot be added again whole.")
        evidence = [
            f"{len(files)} files with {sum(file.record_count for file in files)} rows of {len(by_id)} snapshots, "
            "which no snapshot of the main branch lists or removed"
        ]
        return self._rewritten("add-rolled-back", findings, evidence, lambda _, __: True, files)

    def totals(self, findings: list[Finding]) -> Plan:
        """Rows that a summary counts and no entry has may never have been, or be lost: forgetting them is a loss."""
        evidence = ["every entry of the current snapshot was read, and nothing else is wrong with it"]
        plan = self._rewritten("restate-totals", findings, evidence, lambda _, __: True)
        found = sum(file.record_count for file in self._found.live_files() if file.content == DataFileContent.DATA)
        plan.rows_lost = max(0, (total(self._found.current(), "total-records") or 0) - found)
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
        snapshot = self._found.current()
        seen: Counter[str] = Counter()
        parts: list[tuple[ManifestFile, list[ManifestEntry], list[ManifestEntry]]] = []
        for manifest in read_list(snapshot, self._found.store, live=True).manifests:
            kept: list[ManifestEntry] = []
            dropped: list[ManifestEntry] = []
            for entry in self._found.live_entries(manifest):
                (kept if keep(seen, entry) else dropped).append(entry)
                seen[entry.data_file.file_path] += 1
            parts.append((manifest, kept, dropped))

        def execute() -> None:
            committer = Committer(self._found.table, now_ms=self._now_ms)
            manifests = [
                one if not dropped else _rewrite(committer, one, kept, dropped) for one, kept, dropped in parts
            ]
            for spec_id in {file.spec_id for file in added}:
                manifests.append(committer.added([file for file in added if file.spec_id == spec_id], spec_id))
            live = [*(entry.data_file for _, kept, _ in parts for entry in kept), *added]
            committer.commit(manifests, snapshot, live, note(recipe, snapshot))

        return Plan(recipe, findings, evidence, execute)


def _loss(file: DataFile, table: Table) -> str:
    spec = table.metadata.specs()[file.spec_id]
    partition = (
        ", ".join(f"{part.name}={file.partition[index]}" for index, part in enumerate(spec.fields)) or "no partition"
    )
    return f"{file.record_count} rows of {file.file_path} ({partition})"


def _rewrite(
    committer: Committer, manifest: ManifestFile, kept: list[ManifestEntry], dropped: list[ManifestEntry]
) -> ManifestFile:
    entries = [(ManifestEntryStatus.EXISTING, entry) for entry in kept] + [
        (ManifestEntryStatus.DELETED, entry) for entry in dropped
    ]
    return committer.manifest(manifest.partition_spec_id, entries)
