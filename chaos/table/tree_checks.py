"""Checks of a walk: every manifest list, manifest and file against what describes it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from pyiceberg.manifest import DataFileContent, ManifestEntry, ManifestEntryStatus, ManifestFile
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.snapshots import Snapshot

from chaos.table.findings import Finding
from chaos.table.inventory import path_hash
from chaos.table.store import ObjectStore
from chaos.table.walk import FileSeen, ListSeen, ManifestSeen, read_list

_ADDED, _EXISTING, _DELETED = ManifestEntryStatus.ADDED, ManifestEntryStatus.EXISTING, ManifestEntryStatus.DELETED


@dataclass
class Totals:
    """What the entries of the current snapshot add up to, and what is referenced how often.

    Attributes:
        rows_of: Row count of each live data file, by `path_hash` (some 100 bytes a file).
    """

    data_files: int = 0
    delete_files: int = 0
    records: int = 0
    bytes: int = 0
    rows_of: dict[int, int] = field(default_factory=dict)
    unread: bool = False


def check_list(seen: ListSeen, metadata: TableMetadata, store: ObjectStore) -> Iterator[Finding]:
    """A manifest list: there, decodable, of this snapshot, and whole."""
    if seen.problem is not None:
        yield _problem("manifest-list", seen.path, seen.problem.kind, seen.problem.detail, live=seen.live)
        return
    owner = seen.header.get("snapshot-id", b"").decode("ascii", "replace")
    if owner and owner != str(seen.snapshot.snapshot_id):
        detail = f"its header says it is of snapshot {owner}, not {seen.snapshot.snapshot_id}"
        yield Finding("manifest-list-foreign", seen.path, detail, seen.live)
    elif reason := _incomplete(seen, metadata, store):
        yield Finding("manifest-list-incomplete", seen.path, reason, seen.live)


def _incomplete(seen: ListSeen, metadata: TableMetadata, store: ObjectStore) -> str | None:
    """Why the list cannot be whole: fewer files than the summary counts, and manifests the parent had are gone."""
    expected = total(seen.snapshot, "total-data-files")
    listed = sum(
        (one.added_files_count or 0) + (one.existing_files_count or 0) for one in seen.manifests if one.content == 0
    )
    if expected is None or listed >= expected:
        return None
    if not seen.manifests:
        return f"it lists nothing, the summary counts {expected} data files"
    own = [one for one in seen.manifests if one.added_snapshot_id == seen.snapshot.snapshot_id]
    added = total(seen.snapshot, "added-data-files") or 0
    if added and sum(one.added_files_count or 0 for one in own) < added:
        return f"the manifests that this snapshot added are not in it ({added} data files)"
    parent = metadata.snapshot_by_id(seen.snapshot.parent_snapshot_id or -1)
    if parent is not None and not any(one.existing_files_count for one in own):
        before = {one.manifest_path for one in read_list(parent, store, live=False).manifests}
        if lost := before - {one.manifest_path for one in seen.manifests}:
            return f"{len(lost)} manifests of its parent are not in it, and it counts {listed} of {expected} data files"
    return None


def total(snapshot: Snapshot, key: str) -> int | None:
    """Return a number of the snapshot's summary; None when there is none."""
    value = snapshot.summary.additional_properties.get(key) if snapshot.summary is not None else None
    return int(value) if value is not None and value.isdigit() else None


def check_manifest(seen: ManifestSeen, last_sequence_number: int) -> Iterator[Finding]:
    """A manifest: there, decodable, of the recorded length, with the recorded entries, and its own."""
    if seen.problem is not None:
        yield _problem("manifest", seen.path, seen.problem.kind, seen.problem.detail, live=seen.live)
        return
    if reason := _foreign(seen, last_sequence_number):
        yield Finding("manifest-foreign", seen.path, reason, seen.live)
    elif reason := _miscounted(seen.listed, seen.entries):
        yield Finding("manifest-incomplete", seen.path, reason, seen.live)
    elif seen.size != seen.listed.manifest_length:
        detail = f"it has {seen.size} bytes, its manifest list says {seen.listed.manifest_length}"
        yield Finding("manifest-length", seen.path, detail, seen.live)


def _foreign(seen: ManifestSeen, last_sequence_number: int) -> str | None:
    spec = seen.header.get("partition-spec-id", b"").decode("ascii", "replace")
    if spec and spec != str(seen.listed.partition_spec_id):
        return f"it has partition spec {spec}, its manifest list says {seen.listed.partition_spec_id}"
    strangers = {one.snapshot_id for one in seen.entries if one.status == _ADDED} - {seen.listed.added_snapshot_id}
    if strangers:
        reason = f"its entries were added by snapshot {min(map(str, strangers))}, its manifest list says {seen.listed.added_snapshot_id}"
        return reason + _elsewhere(seen)
    late = [one.sequence_number for one in seen.entries if (one.sequence_number or 0) > last_sequence_number]
    if late:
        return f"an entry has the sequence number {late[0]}, the table's last is {last_sequence_number}"
    return None


def _elsewhere(seen: ManifestSeen) -> str:
    """Say where else the files lie: when two tables' manifests were exchanged, the other one is damaged as well."""
    home = seen.path.partition("/metadata/")[0]
    strays = sorted(
        one.data_file.file_path for one in seen.entries if not one.data_file.file_path.startswith(f"{home}/")
    )
    if not strays:
        return ""
    other = strays[0].partition("/data/")[0]
    return f"; its files lie below {other}: if that is another table, look at it too"


def _miscounted(listed: ManifestFile, entries: tuple[ManifestEntry, ...]) -> str | None:
    claims = {
        "added": (_ADDED, listed.added_files_count, listed.added_rows_count),
        "existing": (_EXISTING, listed.existing_files_count, listed.existing_rows_count),
        "deleted": (_DELETED, listed.deleted_files_count, listed.deleted_rows_count),
    }
    for word, (status, files, rows) in claims.items():
        matching = [one.data_file.record_count for one in entries if one.status == status]
        if files is not None and files != len(matching):
            return f"it holds {len(matching)} {word} entries, its manifest list says {files}"
        if rows is not None and rows != sum(matching):
            return f"its {word} entries have {sum(matching)} rows, its manifest list says {rows}"
    return None


def check_file(seen: FileSeen, totals: Totals) -> Iterator[Finding]:
    """A data or delete file: there, of the recorded length, listed once. Counts the live ones into *totals*."""
    file = seen.entry.data_file
    if seen.live:
        yield from _count(seen, totals)
    if seen.problem is not None:
        yield Finding("unanswered", seen.path, seen.problem.detail, seen.live)
    elif seen.size is None:
        yield Finding("data-file-missing", seen.path, f"{file.record_count} rows are gone with it", seen.live)
    elif seen.size != file.file_size_in_bytes:
        detail = f"it has {seen.size} bytes, its manifest says {file.file_size_in_bytes}"
        yield Finding("data-file-length", seen.path, detail, seen.live)


def _count(seen: FileSeen, totals: Totals) -> Iterator[Finding]:
    file = seen.entry.data_file
    totals.bytes += file.file_size_in_bytes
    if file.content != DataFileContent.DATA:
        totals.delete_files += 1
        return
    totals.data_files += 1
    totals.records += file.record_count
    key = path_hash(seen.path)
    if key in totals.rows_of:
        yield Finding("duplicate-reference", seen.path, f"{seen.manifest} lists it again ({file.record_count} rows)")
    totals.rows_of[key] = file.record_count


def check_totals(snapshot: Snapshot, totals: Totals) -> Iterator[Finding]:
    """The summary of the current snapshot against its entries."""
    pairs = {
        "total-records": totals.records,
        "total-data-files": totals.data_files,
        "total-delete-files": totals.delete_files,
    }
    for key, found in pairs.items():
        claimed = total(snapshot, key)
        if claimed is not None and claimed != found:
            yield Finding("totals-differ", str(snapshot.snapshot_id), f"{key} is {claimed}, its entries have {found}")


def check_deletes(path: str, deletes: dict[str, tuple[int, int]], totals: Totals) -> Iterator[Finding]:
    """Position deletes point at rows of live data files."""
    for target, (count, highest) in deletes.items():
        rows = totals.rows_of.get(path_hash(target))
        if rows is None:
            yield Finding(
                "delete-points-nowhere", path, f"{count} positions in {target}, which is not a live data file"
            )
        elif highest >= rows:
            yield Finding("delete-points-nowhere", path, f"position {highest} of {target}, which has {rows} rows")


def _problem(role: str, path: str, kind: str, detail: str, *, live: bool) -> Finding:
    return Finding("unanswered" if kind == "unanswered" else f"{role}-{kind}", path, detail, live)
