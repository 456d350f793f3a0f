"""Reading real tables: what a scan returns, what it does not, and what is broken."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.io.pyarrow import _dataframe_to_data_files  # the only way to write a data file without committing it

from loadtests.records.rundir import RunDir
from loadtests.records.target import Columns
from reports.judge import judge
from reports.observe import observe
from reports.observed import read_index, read_keys
from reports.verdict import Verdict, VerdictDoc
from tests.reports.tables import LocalTable, events, hide_rows


@pytest.fixture
def lake(tmp_path: Path) -> LocalTable:
    return LocalTable(tmp_path)


def verdict_on(run: RunDir) -> VerdictDoc:
    observe(run)
    return judge(run.root)


def failed(verdict: VerdictDoc) -> set[str]:
    return {check.id for check in verdict.checks if check.verdict is Verdict.FAIL}


def test_a_whole_table_passes_and_two_engines_agree(lake: LocalTable) -> None:
    """Two flushes hold all events once; DuckDB counts the same."""
    lake.table.append(events(range(100)))
    lake.table.append(events(range(100, 150)), snapshot_properties={"collector.flush-id": "c1/1/2"})
    run = lake.run(sent=150)

    verdict = verdict_on(run)

    assert not failed(verdict)
    assert "duckdb" in verdict.check("run.read").claim
    assert (verdict.totals.rows_read, verdict.totals.distinct) == (150, 150)
    assert [f.flush_ids for f in read_index(run.observed).files if f.ours == 50] == [["c1/1/2"]]


def test_a_deleted_a_doubled_and_an_altered_row_are_three_different_failures(lake: LocalTable) -> None:
    """What is done to one row decides which check fails, and the row is named."""
    lake.table.append(events(range(100)))
    run = lake.run(sent=100)
    table = lake.load()

    victim = events([42])["id"][0].as_py()
    table.delete(f"id = '{victim}'")
    deleted = verdict_on(run)

    table = lake.load()
    table.append(events([42, 43]))
    doubled = verdict_on(run)

    table = lake.load()
    table.delete(f"id = '{events([43])['id'][0].as_py()}'")
    forged = events([43]).set_column(3, "data", pa.array(['{"n": "forged"}']))
    table.append(forged)
    altered = verdict_on(run)

    assert failed(deleted) == {"events.lost"}
    assert deleted.check("events.lost").examples[0]["id"] == victim
    assert deleted.check("events.lost").examples[0]["stage"] == "manifest"
    assert failed(doubled) == {"events.duplicated"}
    assert doubled.check("events.duplicated").examples[0]["first"] == 43
    assert failed(altered) == {"events.altered"}
    assert altered.check("events.altered").examples[0]["stored"] == '{"n": "forged"}'


def test_a_changed_type_is_an_altered_event(lake: LocalTable) -> None:
    """`type` is judged where the target file names its column."""
    rows = events(range(10))
    lake.table.append(rows.set_column(2, "type", pa.array(["nonsense"] * 10)))

    assert failed(verdict_on(lake.run(sent=10))) == {"events.altered"}


def test_a_type_column_that_is_not_named_is_not_judged(lake: LocalTable) -> None:
    """Without a name in the target file, `type` may hold anything."""
    rows = events(range(10))
    lake.table.append(rows.set_column(2, "type", pa.array(["nonsense"] * 10)))

    assert not failed(verdict_on(lake.run(sent=10, columns=Columns())))


def test_json_in_other_words_is_the_same_content(lake: LocalTable) -> None:
    """A target may reorder keys and drop or add white space."""
    rows = events(range(10))
    spaced = [text.replace('":"', '" : "') for text in rows["data"].to_pylist()]
    lake.table.append(rows.set_column(3, "data", pa.array(spaced)))

    assert not failed(verdict_on(lake.run(sent=10)))


def test_odd_ids_and_foreign_sources_are_told_apart(lake: LocalTable) -> None:
    """A malformed or random id under our source is unexpected; another source is none of our business."""
    lake.table.append(events(range(10)))
    odd = events(range(5))
    lake.table.append(odd.set_column(0, "id", pa.array(["short", "F" * 16, "0" * 17, None, "0123456789abcdef"])))
    lake.table.append(odd.set_column(1, "source", pa.array(["urn:other", None, "urn:icequake:zzzz9999:0", "", "x"])))
    run = lake.run(sent=10)

    verdict = verdict_on(run)

    assert failed(verdict) == {"events.unexpected"}
    assert verdict.totals.unexpected == 5
    assert verdict.check("run.read").verdict is Verdict.PASS
    assert sum(f.foreign for f in read_index(run.observed).files) == 5


def test_a_file_that_is_listed_twice_doubles_its_rows(lake: LocalTable) -> None:
    """The cause is the second reference, not a second copy."""
    lake.table.append(events(range(10)))
    path = next(iter(lake.load().inspect.files()["file_path"].to_pylist()))
    lake.table.add_files([path], check_duplicate_files=False)

    verdict = verdict_on(lake.run(sent=10))

    assert failed(verdict) == {"events.duplicated"}
    assert verdict.check("events.duplicated").cause == "same file referenced twice"


def test_a_file_that_was_never_committed_is_found_among_the_objects(lake: LocalTable) -> None:
    """Written, but in no manifest: the lost events are located there."""
    lake.table.append(events(range(10)))
    table = lake.load()
    list(_dataframe_to_data_files(table.metadata, events(range(10, 15)), table.io))

    verdict = verdict_on(lake.run(sent=15))

    assert verdict.check("events.lost").counts == {"lost": 5, "stage_object": 5}


def test_a_stray_manifest_is_read(lake: LocalTable) -> None:
    """A commit that failed after its manifest was written: the events are one stage further."""
    lake.table.append(events(range(10)))
    before = lake.load().metadata_location
    lake.table.append(events(range(10, 15)))
    lake.catalog.drop_table("lake.events")
    lake.catalog.register_table("lake.events", before)

    verdict = verdict_on(lake.run(sent=15))

    assert verdict.check("events.lost").counts == {"lost": 5, "stage_manifest": 5}


def test_a_row_that_a_delete_file_hides_is_located_there(lake: LocalTable) -> None:
    """Merge-on-read: the row is in a file of the current snapshot, but no scan returns it."""
    lake.table.append(events(range(10)))
    hide_rows(lake.load(), [3, 4])

    verdict = verdict_on(lake.run(sent=10))

    assert failed(verdict) == {"events.lost"}
    assert verdict.check("events.lost").counts == {"lost": 2, "stage_snapshot": 2}
    assert "duckdb" in verdict.check("run.read").claim


@pytest.mark.parametrize("damage", ["delete", "empty", "garbage"])
def test_a_broken_data_file_is_named(lake: LocalTable, damage: str) -> None:
    """A file that the current snapshot needs and that cannot be read fails run.read; nothing is skipped in silence."""
    lake.table.append(events(range(10)))
    lake.table.append(events(range(10, 20)))
    path = lake.load().inspect.files()["file_path"].to_pylist()[0].removeprefix("file://")
    if damage == "delete":
        Path(path).unlink()
    else:
        Path(path).write_bytes(b"" if damage == "empty" else b"garbage" * 100)

    verdict = verdict_on(lake.run(sent=20))

    assert failed(verdict) == {"run.read", "events.lost"}
    assert verdict.check("run.read").examples[0]["path"].endswith(path.rpartition("/")[2])


@pytest.mark.parametrize("kind", ["snap-", "-m0"])
def test_a_broken_manifest_is_named(lake: LocalTable, kind: str) -> None:
    """The same for the manifest list and the manifests of the current snapshot."""
    lake.table.append(events(range(10)))
    table = lake.load()
    snapshot = table.current_snapshot()
    assert snapshot is not None
    path = snapshot.manifest_list if kind == "snap-" else snapshot.manifests(table.io)[0].manifest_path
    Path(path.removeprefix("file://")).write_bytes(b"not avro")

    assert "run.read" in failed(verdict_on(lake.run(sent=10)))


def test_a_column_that_is_not_there_is_said(lake: LocalTable) -> None:
    """The sentence names the column and where to set it."""
    lake.table.append(events(range(10)))

    check = verdict_on(lake.run(sent=10, columns=Columns(data="payload"))).check("run.read")

    assert "'payload'" in check.evidence[0]
    assert "table.columns" in check.evidence[0]


def test_a_table_that_does_not_exist_is_no_error(lake: LocalTable) -> None:
    """Nothing was ever flushed: everything acked is lost, and nothing was read."""
    run = lake.run(sent=10)
    lake.catalog.drop_table("lake.events")

    verdict = verdict_on(run)

    assert failed(verdict) == {"events.lost"}
    assert verdict.check("run.read").verdict is Verdict.INCONCLUSIVE


def test_a_catalog_that_does_not_answer_leaves_everything_open(lake: LocalTable, tmp_path: Path) -> None:
    """No answer is not an empty table."""
    run = lake.run(sent=10)
    lake.catalog.close()
    (tmp_path / "catalog.db").write_bytes(b"not a database")

    verdict = verdict_on(run)

    assert verdict.verdict is Verdict.INCONCLUSIVE
    assert not failed(verdict)


def test_keys_survive_the_way_through_the_file(lake: LocalTable) -> None:
    """What is written to observed/ is read back, copies and altered rows included."""
    lake.table.append(events([3, 1, 2, 3, 3, 90_000]))
    run = lake.run(sent=10)

    [file] = observe(run).files
    assert file.keys is not None
    keys = read_keys(run.observed / file.keys)

    assert keys.found[0].keys.sequences().tolist() == [1, 2, 3, 90_000]
    assert keys.found[0].again.tolist() == [3]
    assert keys.found[0].copies.tolist() == [2]


def test_flush_ids_are_read_from_the_files_themselves(lake: LocalTable, tmp_path: Path) -> None:
    """Parquet key-value metadata carries the flush id when the snapshot summary does not."""
    path = tmp_path / "flush.parquet"
    rows = events(range(10)).replace_schema_metadata({"collector.flush-id": "c1/9/1"})
    pq.write_table(rows, path)
    with lake.table.update_schema() as update:
        assert update is not None
    lake.table.add_files([f"file://{path}"])

    assert [f.flush_ids for f in observe(lake.run(sent=10)).files] == [["c1/9/1"]]
