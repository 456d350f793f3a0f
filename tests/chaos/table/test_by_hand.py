"""Damage that is in no catalogue: entries edited by hand, objects of two tables exchanged. Named, or honestly invisible."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pyiceberg.manifest import (
    ManifestEntry,
    ManifestEntryStatus,
    ManifestFile,
    write_manifest,
    write_manifest_list,
)
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot

from chaos.table.rewriting import MemoryOutput
from chaos.table.walk import read_list, read_manifest
from tests.chaos.table.lake import NAME, Lake, rows
from tests.chaos.table.test_doctor import diagnosed, names

Edit = Callable[[ManifestEntry], object]


def current(table: Table) -> Snapshot:
    snapshot = table.current_snapshot()
    assert snapshot is not None
    return snapshot


def manifests(lake: Lake) -> list[ManifestFile]:
    return list(read_list(current(lake.load()), lake.store, live=True).manifests)


def edited(lake: Lake, edit: Edit) -> str:
    """Rewrite the oldest manifest with its first entry changed, at its own length or not."""
    listed = min(manifests(lake), key=lambda one: one.sequence_number or 0)
    entries = list(read_manifest(listed, lake.store, live=True).entries)
    edit(entries[0])
    output, metadata = MemoryOutput(listed.manifest_path), lake.load().metadata
    spec = metadata.specs()[listed.partition_spec_id]
    with write_manifest(2, spec, metadata.schema(), output, listed.added_snapshot_id or 0, "deflate") as writer:
        for entry in entries:
            writer.add_entry(entry)
    lake.store.put(listed.manifest_path, output.data)
    return listed.manifest_path


def set_data(name: str, value: Any) -> Edit:
    def edit(entry: ManifestEntry) -> None:
        position = next(i for i, field in enumerate(FIELDS) if field == name)
        entry.data_file[position] = value

    return edit


FIELDS = (
    "content", "file_path", "file_format", "partition", "record_count", "file_size_in_bytes", "column_sizes",
    "value_counts", "null_value_counts", "nan_value_counts", "lower_bounds", "upper_bounds",
)  # fmt: skip


def other_partition(entry: ManifestEntry) -> None:
    entry.data_file.partition[0] = int(entry.data_file.partition[0]) + 1


def deleted(entry: ManifestEntry) -> None:
    entry[0] = ManifestEntryStatus.DELETED


def later(entry: ManifestEntry) -> None:
    entry[2] = 99


@pytest.mark.parametrize(
    ("edit", "finding"),
    [
        (set_data("record_count", 99), "manifest-incomplete"),
        (set_data("file_path", "file:///nowhere/x.parquet"), "data-file-missing"),
        (set_data("file_size_in_bytes", 7), "data-file-length"),
        (set_data("upper_bounds", {4: (0).to_bytes(8, "little")}), "data-file-foreign"),
        (set_data("null_value_counts", {3: 5}), "data-file-foreign"),
        (other_partition, "data-file-partition"),
        (deleted, "manifest-incomplete"),
        (later, "manifest-foreign"),
    ],
)
def test_an_entry_that_was_edited_by_hand_is_named(lake: Lake, edit: Edit, finding: str) -> None:
    """By what it no longer agrees with: its list, its file's rows, the table."""
    edited(lake, edit)
    assert finding in names(diagnosed(lake.load()))


@pytest.mark.parametrize("field", ["column_sizes", "value_counts"])
def test_an_edited_figure_that_nothing_depends_on_is_invisible(lake: Lake, field: str) -> None:
    """Only the manifest's own length may tell, which its list records."""
    edited(lake, set_data(field, {1: 1}))
    assert names(diagnosed(lake.load())) <= {"manifest-length"}


def test_an_entry_whose_list_was_edited_to_match_is_named_by_reading(lake: Lake) -> None:
    """More rows in entry, list and all: the file itself has fewer, and the snapshot's totals say so too."""
    path = edited(lake, set_data("record_count", 99))
    snapshot, found = current(lake.load()), manifests(lake)
    for one in found:
        if one.manifest_path == path:
            one[9] = 99 + (one.added_rows_count or 0) - _rows_of_first(lake, one)
    output = MemoryOutput(snapshot.manifest_list)
    parent, number = snapshot.parent_snapshot_id, snapshot.sequence_number or 0
    with write_manifest_list(2, output, snapshot.snapshot_id, parent, number, "deflate") as writer:
        writer.add_manifests(found)
    lake.store.put(snapshot.manifest_list, output.data)
    assert {"data-file-rows", "totals-differ"} <= names(diagnosed(lake.load()))


def _rows_of_first(lake: Lake, listed: ManifestFile) -> int:
    """What the file of the edited entry really holds."""
    first = read_manifest(listed, lake.store, live=True).entries[0].data_file
    import pyarrow.parquet as pq

    return int(pq.read_metadata(first.file_path.removeprefix("file://")).num_rows)


def two(tmp_path: Path, *, alike: bool) -> tuple[Lake, Lake]:
    """Two tables of one schema; alike: with the same rows."""
    lakes = []
    for name, first in (("a", 0), ("b", 0 if alike else 500)):
        (tmp_path / name).mkdir()
        lake = Lake(tmp_path / name, snapshots=0)
        for index in range(2):
            lake.load().append(rows(first + index * 10, 10, hour=index))
        lakes.append(lake)
    return lakes[0], lakes[1]


def exchange(one: Lake, here: str, other: Lake, there: str) -> None:
    ours, theirs = one.store.get(here), other.store.get(there)
    one.store.put(here, theirs)
    other.store.put(there, ours)


@pytest.mark.parametrize("alike", [False, True])
def test_manifests_of_two_tables_that_were_exchanged_are_named_in_both(tmp_path: Path, alike: bool) -> None:
    """Even when the tables hold the same rows: entries say which snapshot added them."""
    one, other = two(tmp_path, alike=alike)
    here, there = manifests(one)[0].manifest_path, manifests(other)[0].manifest_path
    exchange(one, here, other, there)
    for lake, path in ((one, here), (other, there)):
        findings = diagnosed(lake.load()).findings.kept
        [foreign] = [found for found in findings if found.object == path and found.name == "manifest-foreign"]
        elsewhere = (other if lake is one else one).load().location()
        assert foreign.detail.endswith(f"its files lie below {elsewhere}: if that is another table, look at it too")


def test_manifest_lists_of_two_tables_that_were_exchanged_are_named_in_both(tmp_path: Path) -> None:
    """Their headers name another snapshot."""
    one, other = two(tmp_path, alike=True)
    exchange(one, current(one.load()).manifest_list, other, current(other.load()).manifest_list)
    for lake in (one, other):
        assert "manifest-list-foreign" in names(diagnosed(lake.load()))


@pytest.mark.parametrize(("alike", "expected"), [(False, True), (True, False)])
def test_data_files_of_two_tables_that_were_exchanged(tmp_path: Path, alike: bool, expected: bool) -> None:
    """Other rows are named; the same rows in the same bytes are the same file, so there is nothing to see."""
    one, other = two(tmp_path, alike=alike)
    here = min(task.file.file_path for task in one.load().scan().plan_files())
    by_partition = {str(task.file.partition): task.file.file_path for task in other.load().scan().plan_files()}
    partition = next(str(t.file.partition) for t in one.load().scan().plan_files() if t.file.file_path == here)
    there = by_partition[partition]
    exchange(one, here, other, there)
    assert ("data-file-foreign" in names(diagnosed(one.load()))) is expected
    assert one.load().name() == tuple(NAME.split("."))
