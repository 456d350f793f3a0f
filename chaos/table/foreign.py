"""What other clients do to a table that somebody is writing to: maintenance jobs, operators, and clean-ups that go too far.

Every act is one commit (or one call of the catalog) that a correct writer survives: it fails when the table has moved since it was
loaded (`CatalogFailed`), and is then tried again with the table loaded afresh. Nothing here waits or repeats.
"""

from __future__ import annotations

import io
import time
import uuid
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.io.pyarrow import parquet_file_to_data_file, schema_to_pyarrow
from pyiceberg.manifest import DataFile, ManifestEntry, ManifestEntryStatus, ManifestFile
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Operation, Snapshot
from pyiceberg.table.update import RemoveSnapshotsUpdate, SetCurrentSchemaUpdate, SetSnapshotRefUpdate
from pyiceberg.types import StringType

from chaos.table.committer import Committer, is_data, send
from chaos.table.errors import CatalogFailed, NotApplicable, ObjectMissing, StoreFailed, sentence
from chaos.table.lineage import ancestors, listed_by, manifests_of, missing_from_lineage
from chaos.table.store import ObjectStore
from chaos.table.walk import MemoryIO, read_list, read_manifest

_FIELD_ID = b"PARQUET:field_id"
_ADDED, _EXISTING, _DELETED = ManifestEntryStatus.ADDED, ManifestEntryStatus.EXISTING, ManifestEntryStatus.DELETED

Partition = tuple[int, tuple[Any, ...]]
Reload = Callable[[], Table]
COMMIT_ATTEMPTS = 5


@dataclass(frozen=True)
class Part:
    """A manifest of the current snapshot with its live entries."""

    manifest: ManifestFile
    entries: list[ManifestEntry]


def now_ms() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000


def current_parts(table: Table, store: ObjectStore, known: dict[str, Part] | None = None) -> list[Part]:
    """Return the current snapshot's manifests with their live entries.

    Args:
        known: Manifests that were read already, by path: they never change. What is read is added.

    Raises:
        NotApplicable: there is no snapshot, or it has delete files, or it cannot be read.
    """
    snapshot = table.current_snapshot()
    if snapshot is None:
        raise NotApplicable("the table has no snapshot.")
    known = {} if known is None else known
    seen = read_list(snapshot, store, live=True)
    if seen.problem is not None:
        raise NotApplicable(f"{seen.path} is {seen.problem.kind}.")
    for manifest in seen.manifests:
        if manifest.manifest_path in known:
            continue
        read = read_manifest(manifest, store, live=True)
        if read.problem is not None or not is_data(manifest):
            raise NotApplicable(f"{manifest.manifest_path} cannot be rewritten: damaged, or of delete files.")
        known[manifest.manifest_path] = Part(manifest, [one for one in read.entries if one.status != _DELETED])
    return [known[manifest.manifest_path] for manifest in seen.manifests]


# -- compaction


def compact(table: Table, store: ObjectStore, reload: Reload | None = None) -> int:
    """Rewrite the files of every partition that has several as one, and return how many were replaced.

    Args:
        reload: Loads the table afresh after a conflict: what others added meanwhile does no harm as long as the files that are to
            be replaced are all there still. Without it a conflict is final.

    Raises:
        NotApplicable: no partition has two files, or the table has what this cannot rewrite.
        CatalogFailed: the table moved meanwhile; the new file stays behind as an orphan.
    """
    known: dict[str, Part] = {}
    parts = current_parts(table, store, known)
    groups: dict[Partition, list[DataFile]] = defaultdict(list)
    for part in parts:
        for entry in part.entries:
            groups[_partition(entry.data_file, part.manifest)].append(entry.data_file)
    several = {key: files for key, files in groups.items() if len(files) > 1}
    if not several:
        raise NotApplicable("no partition has two files.")
    written = [(spec_id, _merged(table, store, files)) for (spec_id, _), files in several.items()]
    replaced = {file.file_path for files in several.values() for file in files}
    for attempt in range(COMMIT_ATTEMPTS):
        try:
            _commit_replaced(table, parts, replaced, written)
            return len(replaced)
        except CatalogFailed:
            if reload is None or attempt == COMMIT_ATTEMPTS - 1:
                raise
        table = reload()
        parts = current_parts(table, store, known)
        if not replaced <= {entry.data_file.file_path for part in parts for entry in part.entries}:
            raise CatalogFailed("files that were to be replaced are not there any more.")
    raise AssertionError("unreachable")


def _partition(file: DataFile, manifest: ManifestFile) -> Partition:
    return manifest.partition_spec_id, tuple(file.partition[index] for index in range(len(file.partition)))


def _merged(table: Table, store: ObjectStore, files: list[DataFile]) -> DataFile:
    target = schema_to_pyarrow(table.schema())
    rows = pa.concat_tables([_rows(store.get(file.file_path), target) for file in files])
    sink = io.BytesIO()
    pq.write_table(rows, sink, compression="zstd")
    path = f"{table.location()}/data/compacted-{uuid.uuid4()}.parquet"
    merged = parquet_file_to_data_file(MemoryIO({path: sink.getvalue()}), table.metadata, path)
    for index in range(len(files[0].partition)):
        merged.partition[index] = files[0].partition[index]
    store.put(path, sink.getvalue())
    return merged


def _rows(data: bytes, target: pa.Schema) -> pa.Table:
    """The rows of a file in the table's columns, matched by field id; columns it does not have are null."""
    found = pq.read_table(io.BytesIO(data))
    by_id = {(one.metadata or {}).get(_FIELD_ID): one.name for one in found.schema}
    columns = []
    for field in target:
        name = by_id.get((field.metadata or {}).get(_FIELD_ID))
        columns.append(found[name].cast(field.type) if name else pa.nulls(found.num_rows, field.type))
    return pa.Table.from_arrays(columns, schema=target)


def _commit_replaced(table: Table, parts: list[Part], gone: set[str], written: list[tuple[int, DataFile]]) -> None:
    committer = Committer(table, now_ms=now_ms())
    manifests = [
        committer.manifest(
            part.manifest.partition_spec_id,
            ((_DELETED if one.data_file.file_path in gone else _EXISTING, one) for one in part.entries),
        )
        if any(one.data_file.file_path in gone for one in part.entries)
        else part.manifest
        for part in parts
    ]
    for spec_id in {spec_id for spec_id, _ in written}:
        manifests.append(committer.added([file for of, file in written if of == spec_id], spec_id))
    kept = [one.data_file for part in parts for one in part.entries if one.data_file.file_path not in gone]
    live = [*kept, *(file for _, file in written)]
    committer.commit(manifests, table.current_snapshot(), live, {}, operation=Operation.REPLACE)


# -- snapshots


def expire(table: Table, store: ObjectStore, reload: Reload) -> int:
    """Expire every snapshot but those that a branch or tag points at, delete what only they needed, and return their number.

    Args:
        reload: Loads the table afresh once they are expired, to see what is needed then.

    Raises:
        NotApplicable: there is none to expire.
        CatalogFailed: the table moved meanwhile; nothing is deleted then.
        StoreFailed: what is needed still cannot be told; nothing is deleted then.
    """
    kept_ids = {ref.snapshot_id for ref in table.metadata.refs.values()} | {table.metadata.current_snapshot_id}
    old = [one for one in table.metadata.snapshots if one.snapshot_id not in kept_ids]
    if not old:
        raise NotApplicable("there is no snapshot to expire.")
    ids = {"snapshot-ids": [one.snapshot_id for one in old]}
    send(table, [RemoveSnapshotsUpdate.model_validate(ids)])
    needed = _objects(list(reload().metadata.snapshots), store, strict=True)
    _delete(_objects(old, store, strict=False) - needed, store)
    return len(old)


def _objects(snapshots: list[Snapshot], store: ObjectStore, *, strict: bool) -> set[str]:
    lists = {one.manifest_list for one in snapshots}
    manifests = set(manifests_of(snapshots, store, strict=strict))
    return lists | manifests | listed_by(snapshots, store, deleted=False, strict=strict)


def _delete(paths: set[str], store: ObjectStore) -> int:
    gone = 0
    for path in sorted(paths):
        try:
            store.delete(path)
            gone += 1
        except (ObjectMissing, StoreFailed):
            continue
    return gone


def roll_back(table: Table, depth: int) -> int:
    """Set the main branch back by *depth* snapshots and return the id it then points at.

    Raises:
        NotApplicable: there are not so many.
        CatalogFailed: the table moved meanwhile.
    """
    chain = list(ancestors(table.metadata, table.metadata.current_snapshot_id))
    if len(chain) <= depth:
        raise NotApplicable(f"the table has {len(chain)} snapshots; it cannot be rolled back by {depth}.")
    target = chain[depth].snapshot_id
    main = {"ref-name": "main", "type": "branch", "snapshot-id": target}
    send(table, [SetSnapshotRefUpdate.model_validate(main)])
    return target


def add_again(table: Table, store: ObjectStore, reload: Reload | None = None) -> int:
    """Add what was rolled back to the current snapshot in one commit, and return the number of files.

    Args:
        reload: Loads the table afresh after a conflict with somebody who only added to it. Without it a conflict is final.

    Raises:
        CatalogFailed: the table moved meanwhile.
        StoreFailed: whether something is missing cannot be told.
    """
    files = [file for found in missing_from_lineage(table.metadata, store).values() for file in found]
    if not files:
        return 0
    known: dict[str, Part] = {}
    for attempt in range(COMMIT_ATTEMPTS):
        try:
            _append(table, current_parts(table, store, known), files)
            return len(files)
        except CatalogFailed:
            if reload is None or attempt == COMMIT_ATTEMPTS - 1:
                raise
        parent, table = table.metadata.current_snapshot_id, reload()
        if parent not in {one.snapshot_id for one in ancestors(table.metadata, table.metadata.current_snapshot_id)}:
            raise CatalogFailed("the table was set back once more.")
    raise AssertionError("unreachable")


def _append(table: Table, parts: list[Part], files: list[DataFile]) -> None:
    committer = Committer(table, now_ms=now_ms())
    by_spec: dict[int, list[DataFile]] = defaultdict(list)
    for file in files:
        by_spec[file.spec_id].append(file)
    manifests = [*(part.manifest for part in parts), *(committer.added(some, of) for of, some in by_spec.items())]
    live = [*(one.data_file for part in parts for one in part.entries), *files]
    committer.commit(manifests, table.current_snapshot(), live, {}, operation=Operation.APPEND)


# -- clean-up


def clean_orphans(table: Table, store: ObjectStore, *, now_s: float, min_age_s: float) -> int:
    """Delete objects that no snapshot references and that are at least *min_age_s* old; return their number.

    A flush in flight has stored its files and references them later: one that waits longer than *min_age_s* refers to nothing, unless
    its writer looks and stores them again.

    Raises StoreFailed.
    """
    snapshots = list(table.metadata.snapshots)
    needed = _objects(snapshots, store, strict=True) | {table.metadata_location}
    needed |= {entry.metadata_file for entry in table.metadata.metadata_log}
    doomed = {
        stat.path
        for stat in store.list(table.location())
        if stat.path.endswith((".parquet", ".avro"))
        and stat.path not in needed
        and (stat.modified_s is None or now_s - stat.modified_s >= min_age_s)
    }
    return _delete(doomed, store)


# -- schema


def add_column(table: Table, name: str) -> None:
    """Add an optional text column. Raises CatalogFailed."""
    _changed(table, lambda change: change.add_column(name, StringType()))


def drop_column(table: Table, name: str) -> int:
    """Drop a column and return the id of the schema that had it.

    Raises:
        NotApplicable: there is no such column.
        CatalogFailed: the table moved meanwhile.
    """
    if name not in table.schema().column_names:
        raise NotApplicable(f"the table has no column {name}.")
    before = table.metadata.current_schema_id
    _changed(table, lambda change: change.delete_column(name))
    return before


def _changed(table: Table, change: Any) -> None:
    try:
        with table.update_schema() as update:
            change(update)
    except Exception as error:  # the catalog client raises whatever its transport and parsers do
        raise CatalogFailed(f"the schema was not changed: {sentence(error)}") from error


def set_schema(table: Table, schema_id: int) -> None:
    """Make an earlier schema the current one, so that its columns have their old ids and old rows their values.

    Raises CatalogFailed.
    """
    send(table, [SetCurrentSchemaUpdate.model_validate({"schema-id": schema_id})])
