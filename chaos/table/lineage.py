"""Which snapshots lead to the present, which were left aside, and which objects each of them needs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pyiceberg.manifest import DataFile, ManifestEntryStatus, ManifestFile
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.snapshots import Operation, Snapshot

from chaos.table.errors import StoreFailed
from chaos.table.store import ObjectStore
from chaos.table.walk import read_list, read_manifest

_STAGED = "wap.id"
"""In the summary of a snapshot that was committed to be published later (write, audit, publish)."""


def ancestors(metadata: TableMetadata, snapshot_id: int | None) -> Iterator[Snapshot]:
    """A snapshot and what led to it, newest first, as far as it is not expired."""
    by_id = {one.snapshot_id: one for one in metadata.snapshots}
    at = by_id.get(snapshot_id) if snapshot_id is not None else None
    while at is not None:
        yield at
        at = by_id.get(at.parent_snapshot_id) if at.parent_snapshot_id is not None else None


def lineage(metadata: TableMetadata) -> set[int]:
    """Ids of the snapshots that some branch or tag leads to."""
    heads = {ref.snapshot_id for ref in metadata.refs.values()} | {metadata.current_snapshot_id}
    return {one.snapshot_id for head in heads for one in ancestors(metadata, head)}


def left_aside(metadata: TableMetadata) -> list[Snapshot]:
    """Appends that no branch leads to any more, oldest first: somebody rolled back past them."""
    known = lineage(metadata)
    aside = [
        one
        for one in metadata.snapshots
        if one.snapshot_id not in known
        and one.summary is not None
        and one.summary.operation == Operation.APPEND
        and _STAGED not in one.summary.additional_properties
    ]
    return sorted(aside, key=lambda one: one.sequence_number or 0)


def manifests_of(snapshots: Iterable[Snapshot], store: ObjectStore, *, strict: bool) -> dict[str, ManifestFile]:
    """Every manifest that the lists of *snapshots* name, by path.

    Args:
        strict: Whoever deletes or adds what is *not* named must know all that is: a list that cannot be read is an error then.

    Raises:
        StoreFailed: a list cannot be read, for whatever reason.
    """
    found: dict[str, ManifestFile] = {}
    for snapshot in snapshots:
        seen = read_list(snapshot, store, live=False)
        if strict and seen.problem is not None:
            raise StoreFailed(f"{seen.path} cannot be read: {seen.problem.detail}")
        found.update((one.manifest_path, one) for one in seen.manifests)
    return found


def listed_by(snapshots: Iterable[Snapshot], store: ObjectStore, *, deleted: bool, strict: bool) -> set[str]:
    """Paths of the files in the manifests of *snapshots*; with *deleted* also of those that a manifest removes.

    Strict and StoreFailed as for `manifests_of`.
    """
    paths: set[str] = set()
    for manifest in manifests_of(snapshots, store, strict=strict).values():
        seen = read_manifest(manifest, store, live=False)
        if strict and seen.problem is not None:
            raise StoreFailed(f"{seen.path} cannot be read: {seen.problem.detail}")
        for entry in seen.entries:
            if deleted or entry.status != ManifestEntryStatus.DELETED:
                paths.add(entry.data_file.file_path)
    return paths


def missing_from_lineage(metadata: TableMetadata, store: ObjectStore) -> dict[int, list[DataFile]]:
    """What each snapshot that was left aside added and no snapshot of the lineage lists or removes, by snapshot id.

    Raises StoreFailed when something of the lineage cannot be read, since nothing could be said then.
    """
    aside = left_aside(metadata)
    if not aside:
        return {}
    known = lineage(metadata)
    seen = listed_by((one for one in metadata.snapshots if one.snapshot_id in known), store, deleted=True, strict=True)
    missing: dict[int, list[DataFile]] = {}
    for snapshot in aside:
        for manifest in read_list(snapshot, store, live=False).manifests:
            if manifest.added_snapshot_id != snapshot.snapshot_id:
                continue
            for entry in read_manifest(manifest, store, live=False).entries:
                file = entry.data_file
                if entry.status == ManifestEntryStatus.ADDED and file.file_path not in seen:
                    seen.add(file.file_path)
                    missing.setdefault(snapshot.snapshot_id, []).append(file)
    return missing
