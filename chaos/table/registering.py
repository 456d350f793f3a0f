"""A table that its catalog cannot load, or does not know any more, registered again from the metadata that is left.

The newest metadata.json that can be read is the basis. Snapshots that only newer, unreadable ones knew are found by their manifest
lists, whose headers name snapshot, parent and sequence number; they go into a new metadata.json. Only then is the table dropped
(if the catalog still has it) and that object registered, so that a repair killed in the middle finds everything at its next start.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field

import pyarrow as pa
from pyiceberg.catalog import Catalog
from pyiceberg.manifest import ManifestContent
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.snapshots import Operation, Snapshot, Summary
from pyiceberg.table.update import AddSnapshotUpdate, SetSnapshotRefUpdate, TableUpdate, update_table_metadata

from chaos.table.container import read_container
from chaos.table.errors import CannotRepair, CatalogFailed, NotAContainer, ObjectMissing, StoreFailed, sentence
from chaos.table.findings import Finding
from chaos.table.metadata_checks import Parsed, last_sequence, read_metadata, version_of
from chaos.table.plans import Plan
from chaos.table.store import ObjectStore, Stat
from chaos.table.walk import read_list


@dataclass(frozen=True)
class Left:
    """What is left of a table's metadata.

    Attributes:
        base: The newest metadata.json that can be read.
        broken: Newer ones, which cannot.
        newest: The highest version number of all.
        lists: Manifest lists in the metadata directory.
    """

    base: Parsed
    metadata: TableMetadata
    broken: list[Parsed]
    newest: int
    lists: list[Stat] = field(default_factory=list)


class Registrar:
    """Plans the registration of one table.

    Args:
        location: Where the table is.
        now_ms: Time of snapshots whose own time is not known.
        token: Makes the name of a scratch table unique.
    """

    def __init__(
        self, catalog: Catalog, identifier: str, store: ObjectStore, location: str, *, now_ms: int, token: str
    ) -> None:
        self._catalog, self._identifier, self._store = catalog, identifier, store
        self._location, self._now_ms, self._token = location.rstrip("/"), now_ms, token

    def plan(self, finding: Finding) -> Plan:
        """Plan it. Raises CannotRepair, StoreFailed."""
        left = self._left()
        exists = finding.name == "table-unloadable"
        # when all that are left can be read, the one that the catalog cannot load is gone
        versions = len(left.broken) or (1 if exists else 0)
        found = list(self._lost_snapshots(left, versions))
        metadata = left.metadata
        for snapshot in found:
            metadata = update_table_metadata(metadata, _updates(snapshot))
        path = left.base.path
        if found:
            path = f"{self._location}/metadata/{left.newest + 1:05d}-{uuid.uuid4()}.metadata.json"

        def execute() -> None:
            if found:
                self._store.put(path, metadata.model_dump_json(exclude_none=True).encode())
            self._register(path, metadata, exists=exists)

        return Plan(
            "register-from-log",
            [finding],
            _evidence(left, found, path, exists=exists),
            execute,
            loss=_loss(versions, found),
        )

    # -- what is left

    def _left(self) -> Left:
        stats = list(self._store.list(f"{self._location}/metadata"))
        versions = sorted(
            ((number, stat.path) for stat in stats if (number := version_of(stat.path)) is not None), reverse=True
        )
        broken: list[Parsed] = []
        for _, path in versions:
            parsed = read_metadata(path, self._store)
            if parsed.problem == "unanswered":
                raise StoreFailed(f"{path}: {parsed.detail}")
            if parsed.metadata is not None:
                lists = [stat for stat in stats if stat.path.endswith(".avro")]
                return Left(parsed, parsed.metadata, broken, versions[0][0], lists)
            broken.append(parsed)
        raise CannotRepair(f"there is no metadata.json below {self._location}/metadata that can be read.")

    def _lost_snapshots(self, left: Left, versions: int) -> Iterator[Snapshot]:
        """Snapshots that follow the current one, at most as many as *versions* that cannot be read, oldest first."""
        by_parent: dict[int | None, dict[int, Snapshot]] = {}
        known = {one.snapshot_id for one in left.metadata.snapshots}
        for stat in left.lists:
            snapshot = self._snapshot_of(stat, left.metadata)
            if snapshot is not None and snapshot.snapshot_id not in known:
                by_parent.setdefault(snapshot.parent_snapshot_id, {})[snapshot.snapshot_id] = snapshot
        at = left.metadata.current_snapshot_id
        for _ in range(versions):
            following = by_parent.get(at, {})
            if len(following) > 1:
                with_children = {key: one for key, one in following.items() if key in by_parent}
                following = with_children or following
            if len(following) > 1:
                raise CannotRepair(
                    f"{len(following)} manifest lists follow snapshot {at}; which of them was committed would be a guess."
                )
            if not following:
                return
            [(at, snapshot)] = following.items()
            yield snapshot

    def _snapshot_of(self, stat: Stat, metadata: TableMetadata) -> Snapshot | None:
        """The snapshot whose manifest list this is, as far as the list tells; None when it is none."""
        try:
            header = read_container(self._store.get(stat.path)).metadata
            snapshot_id, number = int(header["snapshot-id"]), int(header["sequence-number"])
        except (NotAContainer, ObjectMissing, KeyError, ValueError):
            return None
        parent = header.get("parent-snapshot-id", b"null")
        bare = _snapshot(snapshot_id, parent, number, stat, self._now_ms, metadata, {})
        seen = read_list(bare, self._store, live=False)
        if seen.problem is not None or number <= last_sequence(metadata):
            return None
        data = [one for one in seen.manifests if one.content == ManifestContent.DATA]
        deletes = len(seen.manifests) - len(data)
        totals = {
            "total-data-files": str(
                sum((one.added_files_count or 0) + (one.existing_files_count or 0) for one in data)
            ),
            "total-records": str(sum((one.added_rows_count or 0) + (one.existing_rows_count or 0) for one in data)),
        }
        return _snapshot(snapshot_id, parent, number, stat, self._now_ms, metadata, {} if deletes else totals)

    # -- doing

    def _register(self, path: str, metadata: TableMetadata, *, exists: bool) -> None:
        namespace = self._identifier.rpartition(".")[0]
        try:
            if exists:
                self._must_keep_files(namespace)
                self._catalog.drop_table(self._identifier)
            table = self._catalog.register_table(self._identifier, path)
        except (CannotRepair, StoreFailed):
            raise
        except Exception as error:  # the catalog client raises whatever its transport and parsers do
            raise CatalogFailed(f"{path} was not registered, as far as is known: {sentence(error)}") from error
        if table.metadata.current_snapshot_id != metadata.current_snapshot_id:
            raise CatalogFailed(
                f"the catalog registered {path}, but shows snapshot {table.metadata.current_snapshot_id}."
            )

    def _must_keep_files(self, namespace: str) -> None:
        """Try with a scratch table what would be done to the real one: a catalog that deletes files would end it for good."""
        name = f"{namespace}.icequake_probe_{self._token}"
        table = self._catalog.create_table(name, pa.schema([("id", pa.string())]))
        kept = f"{table.location()}/data/icequake-probe"
        self._store.put(kept, b"icequake")
        self._catalog.drop_table(name)
        try:
            if self._store.head(kept) is None or self._store.head(table.metadata_location) is None:
                raise CannotRepair(
                    "this catalog deletes the files of a table that is dropped, so it cannot be registered again."
                )
            back = self._catalog.register_table(name, table.metadata_location)
            self._catalog.drop_table(name)
            if back.metadata.table_uuid != table.metadata.table_uuid:
                raise CannotRepair("this catalog registers an empty table instead of the one in the metadata.json.")
        finally:
            for stat in list(self._store.list(table.location())):
                self._store.delete(stat.path)


def _snapshot(
    snapshot_id: int,
    parent: bytes,
    number: int,
    stat: Stat,
    now_ms: int,
    metadata: TableMetadata,
    totals: dict[str, str],
) -> Snapshot:
    modified_ms = int(stat.modified_s * 1000) if stat.modified_s is not None else now_ms
    return Snapshot.model_validate(
        {
            "snapshot-id": snapshot_id,
            "parent-snapshot-id": None if parent == b"null" else int(parent),
            "sequence-number": number,
            "timestamp-ms": max(modified_ms, metadata.last_updated_ms),
            "manifest-list": stat.path,
            "summary": Summary(Operation.OVERWRITE, **totals, **{"icequake.repair": "register-from-log"}).model_dump(),
            "schema-id": metadata.current_schema_id,
        }
    )


def _updates(snapshot: Snapshot) -> tuple[TableUpdate, ...]:
    main = {"ref-name": "main", "type": "branch", "snapshot-id": snapshot.snapshot_id}
    return AddSnapshotUpdate(snapshot=snapshot), SetSnapshotRefUpdate.model_validate(main)


def _evidence(left: Left, found: list[Snapshot], path: str, *, exists: bool) -> list[str]:
    lines = [
        f"{left.base.path} is the newest metadata.json that can be read; it ends at snapshot {left.metadata.current_snapshot_id}"
    ]
    lines += [f"{one.path} is {one.problem}: {one.detail}" for one in left.broken]
    lines += [
        f"{one.manifest_list} is of snapshot {one.snapshot_id}, which followed; it is added again" for one in found
    ]
    if exists:
        lines.append(
            "first a scratch table shows whether this catalog keeps the files of a table that is dropped; else nothing is done"
        )
    return [*lines, f"registered is {path}"]


def _loss(versions: int, found: list[Snapshot]) -> list[str]:
    if not versions:
        return []
    lines = [
        "what the unreadable metadata alone knew: changed properties and schemas, summaries and times of its snapshots"
    ]
    if missing := versions - len(found):
        lines.append(
            f"{missing} commits of which no manifest list is left, or which made no snapshot; data files of theirs stay as orphans"
        )
    return lines
