"""Repairs as plans: what would be done, from which evidence, and what is lost; then done, one atomic step at a time.

A plan is made from the table as it is now. It changes either one object, whose old bytes are backed up first, or the table by
one commit. So a repair that was killed in the middle is run again and finds either nothing or everything done. What cannot be
brought back without guessing is refused with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from pyiceberg.table import Table

from chaos.table.commit_repair import CommitRepair
from chaos.table.doctor import Report
from chaos.table.errors import CannotRepair, ObjectMissing, StoreFailed
from chaos.table.evidence import Evidence
from chaos.table.findings import Finding
from chaos.table.list_repair import ListRepair
from chaos.table.manifest_repair import ManifestRepair
from chaos.table.plans import Plan, Refusal, backup_into, carry_out
from chaos.table.store import ObjectStore

__all__ = ["Plan", "Refusal", "Repairer", "backup_into", "carry_out"]


class Repairer:
    """Plans repairs of one table, as it was loaded.

    Args:
        now_ms: Time of snapshots that a repair commits.
        export: A collector's export (`chaos.table.exports`), from which rows of lost files are taken again.
    """

    def __init__(self, table: Table, store: ObjectStore, *, now_ms: int, export: Path | None = None) -> None:
        self._found = Evidence(table, store)
        self._now_ms, self._export = now_ms, export

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
        commit = CommitRepair(self._found, now_ms=self._now_ms, export=self._export)
        return [
            ("rebuild-manifest-list", ListRepair(self._found, now_ms=self._now_ms).plan),
            ("rebuild-manifest", ManifestRepair(self._found).plan),
            ("drop-duplicate-reference", commit.duplicates),
            ("add-rolled-back", commit.rolled_back),
            ("remove-file", commit.remove),
            ("restate-totals", commit.totals),
            ("rewrite-metadata", self._metadata),
        ]

    def _metadata(self, findings: list[Finding]) -> Plan:
        """The catalog's own copy, written where the object should be."""
        path = self._found.table.metadata_location
        data = self._found.table.metadata.model_dump_json(exclude_none=True).encode()
        evidence = ["the catalog answers with the table's metadata from a copy of its own"]
        return Plan("rewrite-metadata", findings, evidence, lambda: self._found.store.put(path, data), replaces=[path])


def _grouped(recipe: str, findings: list[Finding]) -> Iterable[list[Finding]]:
    """One plan for all files, one for each manifest."""
    if recipe in ("rebuild-manifest", "rebuild-manifest-list"):
        return ([one] for one in findings)
    return [findings] if findings else []
