"""What can be wrong with a table, by name: how bad it is, what it breaks, and the procedure that mends it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Severity(StrEnum):
    """How bad a finding is.

    CRITICAL: reading or writing the table fails now, or rows are missing, doubled or wrong.
    WARNING: history, other engines, or a later procedure will trip over it; what is current can be read whole.
    UNKNOWN: something did not answer, so it could not be checked.
    """

    CRITICAL = "critical"
    WARNING = "warning"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Kind:
    """One kind of finding.

    Attributes:
        breaks: What fails or goes wrong because of it.
        procedure: What an operator does about it.
        recipe: The `icequake repair` recipe that does it; None where there is none.
    """

    severity: Severity
    breaks: str
    procedure: str
    recipe: str | None = None


_C, _W, _U = Severity.CRITICAL, Severity.WARNING, Severity.UNKNOWN
_FROM_BACKUP = "Put the object back from a backup or the bucket's versions"

KINDS: dict[str, Kind] = {
    "catalog-unreachable": Kind(_U, "Nothing of the table can be checked; writers buffer until it answers.", "Look at the catalog's own health and at the network between; then run the doctor again."),
    "table-missing": Kind(_C, "Every read and write fails.", "Check the table's name; a dropped table comes back by registering its newest metadata.json, if its files were kept.", "register-from-log"),
    "table-unloadable": Kind(_C, "Every read and write fails; to clients it looks like an outage of the catalog.", "Find the newest metadata.json that can be read (see detail) and register the table from it; then add the data files of later snapshots again.", "register-from-log"),
    "commit-refused": Kind(_C, "Writers can store files but never commit them: orphans grow, nothing becomes visible.", "Grant the catalog permission to commit to this table to these credentials."),
    "permission-missing": Kind(_C, "The operation it names fails for the collector.", "Grant the named operation on the table's prefix to these credentials; on R2 allow a minute for it to spread."),
    "metadata-missing": Kind(_W, "The catalog answers from a copy of its own; readers that open the file directly, and registering the table elsewhere, fail.", f"{_FROM_BACKUP}, or write it anew from what the catalog answers.", "rewrite-metadata"),
    "metadata-undecodable": Kind(_W, "The catalog answers from a copy of its own; readers that open the file directly, and registering the table elsewhere, fail.", f"{_FROM_BACKUP}, or write it anew from what the catalog answers.", "rewrite-metadata"),
    "metadata-differs": Kind(_W, "Readers that open the file directly see another table than readers that ask the catalog.", "Find out which of the two is right before anything else is written."),
    "metadata-ahead": Kind(_W, "A newer version than the catalog's was written: a commit in flight, one that lost, or a catalog that was set back (then acknowledged commits are gone).", "Compare its snapshots with the current ones; when the catalog was set back, register the newer one."),
    "metadata-log-broken": Kind(_W, "Falling back to this earlier version of the table fails.", f"{_FROM_BACKUP}; nothing current needs it."),
    "snapshot-log-wrong": Kind(_W, "Time travel by timestamp, and rollback to a timestamp, go to the wrong snapshot or fail.", "Roll forward with a new commit; the log is written by the catalog and cannot be mended from outside."),
    "snapshot-chain-wrong": Kind(_C, "Sequence numbers or parents contradict each other, so deletes may apply to the wrong rows and conflict checks err.", "Stop writers; compare with the previous metadata.json and register that one if it is sound."),
    "manifest-list-missing": Kind(_C, "Every scan and every append fails.", "Rebuild the list from the parent's list and the manifests of this snapshot; where those are gone too, roll back to the parent and add the lost files again.", "rebuild-manifest-list"),
    "manifest-list-undecodable": Kind(_C, "Every scan and every append fails.", "Rebuild the list from the parent's list and the manifests of this snapshot; where those are gone too, roll back to the parent and add the lost files again.", "rebuild-manifest-list"),
    "manifest-list-incomplete": Kind(_C, "Rows are silently missing, and the next append makes that permanent.", "Stop writers at once; rebuild the list from the parent's list and the manifests of this snapshot.", "rebuild-manifest-list"),
    "manifest-list-foreign": Kind(_C, "Scans silently show another state of the table, and the next append builds on it.", "Stop writers at once; rebuild the list from the parent's list and the manifests of this snapshot.", "rebuild-manifest-list"),
    "manifest-missing": Kind(_C, "Scans that need its partitions fail; appends go on and hide it.", "Rebuild the manifest from the data files that nothing else lists.", "rebuild-manifest"),
    "manifest-undecodable": Kind(_C, "Scans that need its partitions fail; appends go on and hide it.", "Rebuild the manifest from the data files that nothing else lists.", "rebuild-manifest"),
    "manifest-incomplete": Kind(_C, "Rows are silently missing or wrong: it holds other entries than its manifest list counts.", "Rebuild the manifest from the data files that nothing else lists.", "rebuild-manifest"),
    "manifest-foreign": Kind(_C, "Rows are silently missing, others doubled: these are the bytes of another manifest.", "Rebuild the manifest from the data files that nothing else lists.", "rebuild-manifest"),
    "manifest-length": Kind(_W, "Engines that trust the recorded length (DuckDB, Trino, Java) fail; pyiceberg does not.", "Rewrite the manifest at its recorded length, or the list with the right one.", "rebuild-manifest"),
    "data-file-missing": Kind(_C, "Scans that need it fail; counts from statistics still include it.", f"{_FROM_BACKUP}, or from the collector's export; else remove it from the table and account for the loss.", "remove-file"),
    "data-file-undecodable": Kind(_C, "Scans that need it fail; counts from statistics still include it.", f"{_FROM_BACKUP}, or from the collector's export; else remove it from the table and account for the loss.", "remove-file"),
    "data-file-length": Kind(_W, "Engines that trust the recorded length (DuckDB, Trino, Java) fail; pyiceberg does not.", f"{_FROM_BACKUP}; else rewrite its rows as a new file."),
    "data-file-rows": Kind(_C, "It holds another number of rows than its manifest says: rows are missing or unexpected, and counts are wrong.", f"{_FROM_BACKUP}, or from the collector's export; else remove it from the table and account for the loss.", "remove-file"),
    "data-file-foreign": Kind(_C, "Its values lie outside the statistics its manifest records: these are other rows than were committed.", f"{_FROM_BACKUP}, or from the collector's export; else remove it from the table and account for the loss.", "remove-file"),
    "data-file-partition": Kind(_C, "Its rows belong to another partition, so filtered scans miss or misplace them.", f"{_FROM_BACKUP}, or from the collector's export; else remove it from the table and account for the loss.", "remove-file"),
    "delete-points-nowhere": Kind(_W, "A delete file hides rows of files or positions that are not there.", "Compact the table, which drops deletes that apply to nothing."),
    "duplicate-reference": Kind(_C, "Every row of the file is counted and read more than once.", "Drop all references but one.", "drop-duplicate-reference"),
    "rolled-back": Kind(_W, "Rows of these commits are in no current read: the table was set back past them, by an operator or a restored catalog.", "Find out whether that was meant; if not, add their files again.", "add-rolled-back"),
    "totals-differ": Kind(_W, "The snapshot's summary does not add up to its entries: rows may have been lost unnoticed, or an earlier repair left it so.", "Look for another finding that explains it; if there is none, restate the totals.", "restate-totals"),
    "orphans": Kind(_W, "They cost storage, and may hold rows that were never committed or that a lost manifest listed.", "Check that none of them is needed for a repair; then delete those older than the longest commit."),
    "unfinished-uploads": Kind(_W, "Their parts cost storage and are invisible in listings.", "Abort uploads older than the longest flush, or set a lifecycle rule."),
    "not-listed": Kind(_U, "Orphans could not be looked for.", "Grant LIST on the table's prefix to these credentials."),
    "unanswered": Kind(_U, "This object could not be checked.", "Run the doctor again when the store answers."),
}  # fmt: skip
"""Every finding there is."""

ONLY_HISTORY = "Only older snapshots need it: time travel and rollback to them fail; the current table is whole."

INVISIBLE: tuple[str, ...] = (
    "a data file replaced by one of the same length, partition, row count and column statistics",
    "bits flipped inside a Parquet page whose values stay readable, equally many and within the recorded bounds",
    "an object changed together with everything that describes it (statistics, counts, lengths, totals)",
    "a data file, manifest or list damaged and put back, or not read at all under --quick",
    "rows that were acknowledged but never committed, when their file is gone too",
    "a catalog that was set back together with its newer metadata.json objects",
)
"""What no look at the table alone can show; a second source can: a ledger of what was sent, an export, a checksum list."""

EXAMPLES_PER_KIND = 50


@dataclass(frozen=True)
class Finding:
    """Something wrong with one object.

    Attributes:
        name: A key of `KINDS`.
        object: The object's path, or what else is meant (a permission, a snapshot id).
        detail: What was seen, with figures.
        live: The current snapshot is concerned.
    """

    name: str
    object: str
    detail: str
    live: bool = True

    @property
    def kind(self) -> Kind:
        """What findings of this name mean."""
        return KINDS[self.name]

    @property
    def severity(self) -> Severity:
        """How bad it is; what only history needs is never critical."""
        severity = self.kind.severity
        return Severity.WARNING if severity is Severity.CRITICAL and not self.live else severity

    @property
    def breaks(self) -> str:
        """What fails or goes wrong because of it."""
        return self.kind.breaks if self.live else ONLY_HISTORY

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON-ready data."""
        return {
            "name": self.name,
            "severity": str(self.severity),
            "object": self.object,
            "detail": self.detail,
            "breaks": self.breaks,
            "procedure": self.kind.procedure,
            "repair": self.kind.recipe,
            "live": self.live,
        }


@dataclass
class Findings:
    """Findings in the order in which they were made; of each name and reach the first `EXAMPLES_PER_KIND` are kept."""

    kept: list[Finding] = field(default_factory=list)
    counts: Counter[tuple[str, bool]] = field(default_factory=Counter)

    def add(self, name: str, obj: str, detail: str, *, live: bool = True) -> None:
        """Add one."""
        self.counts[name, live] += 1
        if self.counts[name, live] <= EXAMPLES_PER_KIND:
            self.kept.append(Finding(name, obj, detail, live))

    def extend(self, found: Iterable[Finding]) -> None:
        """Add several."""
        for finding in found:
            self.add(finding.name, finding.object, finding.detail, live=finding.live)

    def omitted(self) -> dict[str, int]:
        """How many of each name are counted but not kept."""
        over: Counter[str] = Counter()
        for (name, _), count in self.counts.items():
            over[name] += max(0, count - EXAMPLES_PER_KIND)
        return {name: count for name, count in over.items() if count}

    def names(self) -> set[str]:
        """Which names there are."""
        return {name for name, _ in self.counts}

    def exit_code(self) -> int:
        """0 healthy, 1 something is wrong, 2 something could not be checked and nothing is known to be wrong."""
        severities = {finding.severity for finding in self.kept}
        if severities & {Severity.CRITICAL, Severity.WARNING}:
            return 1
        return 2 if severities else 0
