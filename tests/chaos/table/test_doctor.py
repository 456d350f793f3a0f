"""The doctor: healthy tables stay healthy, and every damage that can be seen is named."""

from __future__ import annotations

import io
import random
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.table import Table
from pyiceberg.transforms import BucketTransform, DayTransform, TruncateTransform

from chaos.table.doctor import Doctor, Options, Report, check_commit, load, rescue
from chaos.table.errors import CatalogFailed, NoTable, StoreFailed
from chaos.table.findings import EXAMPLES_PER_KIND, KINDS, Findings, Severity
from chaos.table.mutate import Role, choose, damage
from chaos.table.store import FileIOStore
from tests.chaos.table.lake import NAME, Lake, rows
from tests.chaos.table.test_walk import Flaky
from tests.reports.tables import LocalTable, events, hide_rows


def diagnosed(table: Table, store: object = None, **options: object) -> Report:
    store = store or FileIOStore(table.io)
    return Doctor(table, store, now_s=time.time(), options=Options(workers=2, **options)).examine()  # type: ignore[arg-type]


def names(report: Report, *, live: bool = True) -> set[str]:
    return {finding.name for finding in report.findings.kept if finding.live == live}


def numbered(table: pa.Table, values: list[int | None]) -> pa.Table:
    return table.set_column(3, table.schema.field(3), pa.array(values, pa.int64()))


def damaged(lake: Lake, role: Role, mutation: str, *, newest: bool = False, seed: int = 5) -> str:
    table = lake.load()
    victim = choose(table, lake.store, role, random.Random(seed), newest=newest)
    damage(lake.store, victim, mutation, seed=seed)
    return victim.path


def test_a_healthy_table_is_healthy(lake: Lake) -> None:
    """No finding, exit 0, and figures of what was really read."""
    report = diagnosed(lake.load())
    assert report.findings.kept == []
    assert (report.healthy, report.findings.exit_code()) == (True, 0)
    assert report.figures["rows_read"] == report.figures["records"] == 30
    assert (report.figures["snapshots"], report.figures["manifests"], report.figures["data_files"]) == (3, 3, 6)
    assert report.as_json()["healthy"] is True


def test_a_table_without_a_snapshot_is_healthy(tmp_path: Path) -> None:
    """There is nothing to be wrong."""
    assert diagnosed(Lake(tmp_path, snapshots=0).load()).healthy


def test_a_longer_manifest_list_is_the_one_length_nobody_records(lake: Lake) -> None:
    """Metadata of format version 2 has no length for it; the content is whole, and so is the table."""
    damaged(lake, "manifest-list", "wrong-length")
    assert diagnosed(lake.load()).healthy


@pytest.mark.parametrize("role", ["manifest-list", "manifest", "data-file"])
def test_a_flipped_bit_is_named_or_changed_nothing_that_is_read(lake: Lake, role: Role) -> None:
    """Bits anywhere in an object: whenever the doctor finds nothing wrong, every row is what it was.

    Parquet pages carry no checksum, so in a data file a value may change within its bounds (see `INVISIBLE`).
    """
    table = lake.load()
    whole = table.scan().to_arrow().sort_by("id")
    victim = choose(table, lake.store, role, random.Random(1))
    named = 0
    for seed in range(25):
        before = damage(lake.store, victim, "bit-flip", seed)
        report = diagnosed(table)
        named += not report.healthy
        if report.healthy and role != "data-file":
            assert lake.load().scan().to_arrow().sort_by("id").equals(whole)
        lake.store.put(before.path, before.data)
    assert named >= 5


def test_what_only_older_snapshots_need_is_a_warning(lake: Lake) -> None:
    """A lost manifest list of an earlier snapshot, and a lost file that is no longer current."""
    before = lake.load()
    lake.load().delete("number < 10")
    table = lake.load()
    lake.store.delete(before.metadata.snapshots[0].manifest_list)
    gone = next(task.file.file_path for task in before.scan("number < 10").plan_files())
    lake.store.delete(gone)
    report = diagnosed(table)
    assert names(report) == set()
    assert names(report, live=False) == {"manifest-list-missing", "data-file-missing"}
    assert {finding.severity for finding in report.findings.kept} == {Severity.WARNING}
    assert all("older snapshots" in finding.breaks for finding in report.findings.kept)
    assert diagnosed(table, history=False).healthy


def test_an_older_metadata_object_that_is_lost_is_a_warning(lake: Lake) -> None:
    """Nothing current needs it, a rollback by registration does."""
    lake.store.put(lake.load().metadata.metadata_log[0].metadata_file, b"{")
    report = diagnosed(lake.load())
    assert names(report, live=False) == {"metadata-log-broken"}


def test_a_newer_metadata_object_than_the_catalogs_is_named(lake: Lake) -> None:
    """As after a catalog was set back: its later snapshots are in an object that it does not know of."""
    old = lake.load()
    lake.load().append(rows(30, 10, hour=3))
    report = diagnosed(old)
    assert names(report) == {"metadata-ahead"}


def test_a_file_listed_twice_is_named(lake: Lake) -> None:
    """The rows would be read twice; the totals agree with the doubled count."""
    table = lake.load()
    file = next(iter(table.scan().plan_files())).file
    with table.transaction() as tx, tx.update_snapshot().fast_append() as append:
        append.append_data_file(file)
    report = diagnosed(lake.load())
    assert [(one.name, one.object) for one in report.findings.kept] == [("duplicate-reference", file.file_path)]


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        (lambda table: table.slice(1), "data-file-rows"),
        (lambda table: table.set_column(3, "number", pa.array([99] * table.num_rows)), "data-file-foreign"),
        (
            lambda table: table.set_column(3, "number", pa.array([None] * table.num_rows, pa.int64())),
            "data-file-foreign",
        ),
    ],
)
def test_other_rows_than_were_committed_are_named(lake: Lake, change: object, finding: str) -> None:
    """A row fewer, values outside the recorded bounds, nulls that were not there, a column less."""
    table = lake.load()
    path = next(iter(table.scan().plan_files())).file.file_path
    other = change(pq.read_table(io.BytesIO(lake.store.get(path))))  # type: ignore[operator]
    sink = io.BytesIO()
    pq.write_table(other, sink)
    lake.store.put(path, sink.getvalue())
    assert finding in names(diagnosed(table))


def test_rows_of_another_partition_are_named(tmp_path: Path) -> None:
    """The file of another hour, written in place: bounds and partition disagree."""
    lake = Lake(tmp_path)
    table = lake.load()
    victim = choose(table, lake.store, "data-file", random.Random(0))
    damage(lake.store, victim, "replaced-by-sibling", seed=0)
    assert {"data-file-foreign", "data-file-partition"} <= names(diagnosed(table))
    assert not {"data-file-foreign", "data-file-partition"} & names(diagnosed(table, quick=True))


def test_other_transforms_are_checked_too(tmp_path: Path) -> None:
    """Day, bucket and truncate: healthy as written."""
    spec = PartitionSpec(
        PartitionField(source_id=2, field_id=1000, transform=DayTransform(), name="day"),
        PartitionField(source_id=1, field_id=1001, transform=BucketTransform(4), name="bucket"),
        PartitionField(source_id=4, field_id=1002, transform=TruncateTransform(10), name="ten"),
    )
    assert diagnosed(Lake(tmp_path, spec=spec).load()).findings.kept == []


def test_position_deletes_are_read_and_must_point_at_rows(tmp_path: Path) -> None:
    """Hidden rows are counted; a position past the end of its file points nowhere."""
    local = LocalTable(tmp_path)
    local.table.append(events(range(10)))
    hide_rows(local.load(), [1, 4])
    report = diagnosed(local.load())
    assert report.figures["rows_hidden_by_position"] == 2
    assert names(report) <= {"totals-differ"}
    hide_rows_again = tmp_path / "again"
    hide_rows_again.mkdir()
    other = LocalTable(hide_rows_again)
    other.table.append(events(range(10)))
    hide_rows(other.load(), [10])
    assert "delete-points-nowhere" in names(diagnosed(other.load()))


def test_orphans_count_when_they_are_old(lake: Lake) -> None:
    """A stray object may belong to a commit in flight until it is older than any commit."""
    table = lake.load()
    lake.store.put(f"{table.location()}/data/stray.parquet", b"12345")
    report = diagnosed(table)
    assert report.healthy
    assert (report.figures["unreferenced_objects"], report.figures["unreferenced_bytes"]) == (1, 5)
    [orphans] = diagnosed(table, orphan_age_s=0.0).findings.kept
    assert orphans.name == "orphans"
    assert "stray.parquet" in orphans.detail


def test_totals_that_do_not_add_up_are_named(lake: Lake) -> None:
    """The summary of a snapshot made by a writer that cannot count."""
    table = lake.load()
    snapshot = table.current_snapshot()
    assert snapshot is not None
    assert snapshot.summary is not None
    snapshot.summary.additional_properties["total-records"] = "31"
    assert names(diagnosed(table)) == {"totals-differ"}


def test_a_store_that_does_not_answer_is_not_damage(lake: Lake) -> None:
    """Exit 2: nothing is known to be wrong, not everything could be checked."""
    for refused in ("list ", ".parquet", "-m0.avro", "snap-", ".metadata.json"):
        report = diagnosed(lake.load(), Flaky(lake.store, refused))
        assert report.findings.exit_code() == 2, refused
        assert {finding.severity for finding in report.findings.kept} == {Severity.UNKNOWN}


def test_a_catalog_without_the_table_and_one_that_fails_are_told_apart(lake: Lake) -> None:
    """NoTable, and CatalogFailed when the table's metadata object is gone."""
    with pytest.raises(NoTable, match=r"lake\.nothing"):
        load(lake.properties, "lake.nothing")
    assert load(lake.properties, NAME).metadata.current_snapshot_id is not None
    with pytest.raises(CatalogFailed):
        load({"type": "rest", "uri": "http://127.0.0.1:9"}, NAME)
    location = lake.load().location()
    path = damaged(lake, "metadata", "zero-bytes")
    with pytest.raises(CatalogFailed):
        load(lake.properties, NAME)
    said = rescue(location, lake.store)
    assert said.startswith(f"{path} is undecodable")
    assert "the newest that can be read is" in said
    with pytest.raises(StoreFailed, match=r"no metadata\.json"):
        rescue(f"{location}/nowhere", lake.store)


def test_permission_to_commit_is_tried_without_changing_anything(lake: Lake) -> None:
    """A commit that requires another table's uuid is refused as a conflict, which only a permitted one is."""
    table = lake.load()
    assert check_commit(table) is None
    assert lake.load().metadata_location == table.metadata_location


def test_many_findings_of_one_kind_are_counted_not_kept() -> None:
    """Memory stays bounded when everything is broken."""
    findings = Findings()
    for number in range(EXAMPLES_PER_KIND + 7):
        findings.add("data-file-missing", str(number), "gone")
    assert len(findings.kept) == EXAMPLES_PER_KIND
    assert findings.omitted() == {"data-file-missing": 7}


def test_every_kind_of_finding_says_what_it_breaks_and_what_to_do() -> None:
    """Sentences, each."""
    assert all(kind.breaks.endswith(".") and kind.procedure.endswith(".") for kind in KINDS.values())
