"""The doctor: everything about a table that can be checked from outside, in one streaming pass.

Requests and decoding run in parallel; what is held per data file is a hash of its path and its row count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from pyiceberg.catalog import Catalog, load_catalog
from pyiceberg.exceptions import (
    CommitFailedException,
    ForbiddenError,
    NoSuchNamespaceError,
    NoSuchTableError,
    UnauthorizedError,
)
from pyiceberg.table import Table
from pyiceberg.table.update import AssertTableUUID

from chaos.table.datafile import Facts, examine
from chaos.table.errors import CatalogFailed, NoTable, StoreFailed, sentence
from chaos.table.findings import INVISIBLE, Findings, Severity
from chaos.table.inventory import Inventory
from chaos.table.metadata_checks import (
    check_chain,
    check_lineage,
    check_newer,
    check_snapshots,
    last_sequence,
    read_metadata,
    version_of,
)
from chaos.table.parallel import bounded_map
from chaos.table.store import ObjectStore, Stat
from chaos.table.tree_checks import Totals, check_deletes, check_file, check_list, check_manifest, check_totals
from chaos.table.walk import FileSeen, ListSeen, ManifestSeen, Walker

SCHEMA = "icequake.doctor/1.0"
DAY_S = 86_400.0


@dataclass(frozen=True)
class Options:
    """How thorough to be.

    Attributes:
        quick: Of data files read the footer alone: values, partitions, deletes and damaged pages go unseen.
        history: Check what only older snapshots need, too.
        workers: Requests at a time.
        orphan_age_s: Unreferenced objects younger than this may belong to a commit in flight and are only counted.
    """

    quick: bool = False
    history: bool = True
    workers: int = 8
    orphan_age_s: float = DAY_S


@dataclass
class Report:
    """What the doctor found.

    Attributes:
        figures: How much was looked at: snapshots, manifests, data_files, rows_read, bytes and more.
    """

    table: str
    findings: Findings = field(default_factory=Findings)
    figures: dict[str, int] = field(default_factory=dict)
    location: str = ""
    snapshot_id: int | None = None
    quick: bool = False

    @property
    def healthy(self) -> bool:
        """Nothing is wrong, and everything could be checked."""
        return not self.findings.kept

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON-ready data."""
        return {
            "schema": SCHEMA,
            "table": self.table,
            "location": self.location,
            "snapshot_id": self.snapshot_id,
            "healthy": self.healthy,
            "quick": self.quick,
            "exit_code": self.findings.exit_code(),
            "figures": self.figures,
            "findings": [finding.as_json() for finding in self.findings.kept],
            "omitted": self.findings.omitted(),
            "not_visible": list(INVISIBLE),
        }


Progress = Callable[[str, int, int | None], None]
"""Told what is being looked at, how many were done, and of how many (None: not known)."""


def silent(_what: str, _done: int, _of: int | None) -> None:
    """Show no progress."""


def load(properties: dict[str, str], identifier: str) -> Table:
    """Load a table afresh; a property `name` names the catalog, which matters to catalogs in a database.

    Raises:
        NoTable: the catalog says there is none.
        CatalogFailed: any other answer, or none.
    """
    try:
        return connect(properties).load_table(identifier)
    except (NoSuchTableError, NoSuchNamespaceError) as error:
        raise NoTable(f"the catalog has no table {identifier}.") from error
    except CatalogFailed:
        raise
    except Exception as error:  # the catalog client raises whatever its transport and parsers do
        raise CatalogFailed(sentence(error)) from error


def connect(properties: dict[str, str]) -> Catalog:
    """Open a catalog. Raises CatalogFailed."""
    try:
        return load_catalog(properties.get("name", "icequake"), **{k: v for k, v in properties.items() if k != "name"})
    except Exception as error:
        raise CatalogFailed(sentence(error)) from error


class Doctor:
    """Examines one table.

    Args:
        now_s: Seconds since 1970, for the age of objects.
        progress: Told how far it is.
    """

    def __init__(
        self,
        table: Table,
        store: ObjectStore,
        *,
        now_s: float,
        options: Options | None = None,
        progress: Progress = silent,
    ) -> None:
        self._table, self._store, self._now_s = table, store, now_s
        self._options = options or Options()
        self._progress = progress
        name = ".".join(table.name())
        current = table.metadata.current_snapshot_id
        self.report = Report(name, location=table.location(), snapshot_id=current, quick=self._options.quick)
        self._totals = Totals()
        self._deletes: list[tuple[str, dict[str, tuple[int, int]]]] = []

    def examine(self) -> Report:
        """Check everything. Nothing is raised for damage, nor for a store that does not answer."""
        findings, table = self.report.findings, self._table
        findings.extend(check_snapshots(table.metadata))
        findings.extend(check_chain(table, self._store))
        self._progress("listing objects", 0, None)
        inventory = Inventory(self._store, locations(table))
        inventory.take(table.metadata_location)
        for entry in table.metadata.metadata_log:
            inventory.take(entry.metadata_file)
        with ThreadPoolExecutor(self._options.workers) as walking, ThreadPoolExecutor(self._options.workers) as reading:
            self._walk(inventory, walking, reading)
        self._sum_up()
        self._orphans(inventory)
        return self.report

    # -- one pass over the tree

    def _walk(self, inventory: Inventory, walking: Executor, reading: Executor) -> None:
        walker = Walker(self._table.metadata, self._store, inventory, walking)
        files = self._structure(walker, inventory)
        ahead = self._options.workers * 4
        for seen, facts in bounded_map(reading, self._read, files, ahead=ahead):
            self._note(seen, facts)

    def _structure(self, walker: Walker, inventory: Inventory) -> Iterator[FileSeen]:
        """Check the tree as it is walked; hand on the live files that can be opened."""
        findings, metadata = self.report.findings, self._table.metadata
        for node in walker.walk(history=self._options.history):
            if isinstance(node, ListSeen):
                inventory.take(node.path)
                self._count("snapshots")
                self._totals.unread |= node.live and node.problem is not None
                findings.extend(check_list(node, metadata, self._store))
            elif isinstance(node, ManifestSeen):
                inventory.take(node.path)
                self._count("manifests")
                self._totals.unread |= node.live and node.problem is not None
                findings.extend(check_manifest(node, last_sequence(metadata)))
            else:
                self._count("files" if node.live else "historic_files")
                findings.extend(check_file(node, self._totals))
                if node.live and node.size is not None:
                    yield node

    def _read(self, seen: FileSeen) -> tuple[FileSeen, Facts]:
        file, metadata = seen.entry.data_file, self._table.metadata
        spec, schema = metadata.specs().get(file.spec_id), metadata.schema()
        if spec is None:
            return seen, Facts(complaints=[("data-file-partition", f"the table has no partition spec {file.spec_id}")])
        return seen, examine(file, schema, spec, self._store, footer_only=self._options.quick)

    def _note(self, seen: FileSeen, facts: Facts) -> None:
        self._count("rows_read", facts.rows)
        self._progress("reading data files", self._count("files_read"), self._expected_files())
        if facts.unanswered is not None:
            self.report.findings.add("unanswered", seen.path, facts.unanswered)
        for name, detail in facts.complaints:
            self.report.findings.add(name, seen.path, detail)
        if facts.deletes:
            self._deletes.append((seen.path, facts.deletes))

    def _expected_files(self) -> int | None:
        snapshot = self._table.current_snapshot()
        if snapshot is None or snapshot.summary is None:
            return None
        counts = [snapshot.summary.additional_properties.get(f"total-{kind}-files", "0") for kind in ("data", "delete")]
        return sum(int(count) for count in counts)

    # -- after the walk

    def _sum_up(self) -> None:
        snapshot, findings = self._table.current_snapshot(), self.report.findings
        if snapshot is not None and not self._totals.unread:
            findings.extend(check_totals(snapshot, self._totals))
        if self._options.history:
            findings.extend(check_lineage(self._table.metadata, self._store))
        for path, deletes in self._deletes:
            self._count("rows_hidden_by_position", sum(count for count, _ in deletes.values()))
            findings.extend(check_deletes(path, deletes, self._totals))
        figures = {
            "data_files": self._totals.data_files,
            "delete_files": self._totals.delete_files,
            "records": self._totals.records,
            "bytes": self._totals.bytes,
        }
        self.report.figures.update(figures)

    def _orphans(self, inventory: Inventory) -> None:
        findings, location = self.report.findings, self._table.location()
        if not inventory.listed:
            findings.add("not-listed", location, inventory.why)
            return
        if not self._options.history:
            return  # what only older snapshots reference would look like an orphan
        stray = inventory.unreferenced()
        findings.extend(check_newer(self._table, stray, self._store))
        stray = [stat for stat in stray if not stat.path.endswith(".metadata.json")]
        old = [stat for stat in stray if self._age_s(stat) >= self._options.orphan_age_s]
        self.report.figures["unreferenced_objects"] = len(stray)
        self.report.figures["unreferenced_bytes"] = sum(stat.size for stat in stray)
        if old:
            oldest = max(old, key=self._age_s)
            size = sum(stat.size for stat in old)
            detail = f"{len(old)} objects with {size} bytes that no snapshot references; the oldest is {self._age_s(oldest) / 3600:.1f} hours old: {oldest.path}"
            findings.add("orphans", location, detail)

    def _age_s(self, stat: Stat) -> float:
        return 0.0 if stat.modified_s is None else self._now_s - stat.modified_s

    def _count(self, figure: str, by: int = 1) -> int:
        self.report.figures[figure] = self.report.figures.get(figure, 0) + by
        return self.report.figures[figure]


def locations(table: Table) -> list[str]:
    """Where the table keeps its objects: its location, and what its properties put elsewhere."""
    root = table.location().rstrip("/")
    extra = [table.properties.get(f"write.{kind}.path", root) for kind in ("data", "metadata")]
    return [root, *{path.rstrip("/") for path in extra if not path.startswith(root)}]


def check_commit(table: Table) -> tuple[Severity, str] | None:
    """Try a commit that must be refused, since it requires another table's uuid: permission is asked for before that.

    Returns None when commits are permitted; else how bad it is, and what was answered.
    """
    try:
        table.catalog.commit_table(table, (AssertTableUUID(uuid=UUID(int=0)),), ())
    except CommitFailedException:
        return None
    except (ForbiddenError, UnauthorizedError) as error:
        return Severity.CRITICAL, sentence(error)
    except Exception as error:  # see `load`
        return Severity.UNKNOWN, sentence(error)
    return Severity.UNKNOWN, "the catalog accepted a commit whose requirement does not hold"


def rescue(location: str, store: ObjectStore) -> str:
    """Say which metadata.json of a table that cannot be loaded could be registered again. Raises StoreFailed."""
    found = [stat.path for stat in store.list(f"{location.rstrip('/')}/metadata") if version_of(stat.path) is not None]
    if not found:
        raise StoreFailed(f"there is no metadata.json below {location}/metadata.")
    broken: list[str] = []
    for path in sorted(found, key=lambda one: (version_of(one) or 0, one), reverse=True):
        parsed = read_metadata(path, store)
        if parsed.metadata is not None:
            prefix = f"{', '.join(broken)}; " if broken else ""
            return f"{prefix}the newest that can be read is {path}, with snapshot {parsed.metadata.current_snapshot_id}"
        broken.append(f"{path} is {parsed.problem} ({parsed.detail})")
    return "; ".join(broken)
