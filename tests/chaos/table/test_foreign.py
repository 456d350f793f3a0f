"""Other clients of a table: what they do leaves every row where it was, and what they undo leaves nothing behind."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Operation

from chaos.table import foreign
from chaos.table.errors import CatalogFailed, NotApplicable, StoreFailed
from chaos.table.lineage import left_aside, missing_from_lineage
from chaos.table.recreate import recreate, restore
from chaos.table.store import FileIOStore
from tests.chaos.table.lake import NAME, SCHEMA, SPEC, Lake, rows
from tests.chaos.table.test_doctor import diagnosed

ALL = [f"event-{number:06d}" for number in range(30)]


def test_compaction_keeps_every_row(lake: Lake) -> None:
    """Files of one partition become one, as a `replace` snapshot, with totals that add up."""
    lake.load().append(rows(30, 10, hour=0))
    assert foreign.compact(lake.load(), lake.store) == 4
    table = lake.load()
    current = table.current_snapshot()
    assert current is not None
    assert current.summary is not None
    assert current.summary.operation == Operation.REPLACE
    assert len(lake.ids()) == len(set(lake.ids())) == 40
    assert len(list(table.scan().plan_files())) == 6
    assert len(table.scan("type == 'view'").to_arrow()) == 12
    assert diagnosed(table).healthy
    with pytest.raises(NotApplicable):
        foreign.compact(lake.load(), lake.store)


def test_compaction_of_a_table_that_moved_begins_again_or_fails_whole(lake: Lake) -> None:
    """The other writer's rows stay, nothing is doubled."""
    lake.load().append(rows(30, 10, hour=0))
    old = lake.load()
    lake.load().append(rows(40, 10, hour=0))
    with pytest.raises(CatalogFailed):
        foreign.compact(old, lake.store)
    assert len(lake.ids()) == len(set(lake.ids())) == 50
    assert foreign.compact(old, lake.store, lake.load) == 4
    assert len(lake.ids()) == len(set(lake.ids())) == 50
    assert diagnosed(lake.load()).healthy


def test_compaction_of_files_that_others_replaced_is_given_up(lake: Lake) -> None:
    """Its copy of their rows would double them."""
    lake.load().append(rows(30, 10, hour=0))
    old = lake.load()
    foreign.compact(lake.load(), lake.store)
    with pytest.raises(CatalogFailed, match="not there any more"):
        foreign.compact(old, lake.store, lake.load)
    assert len(lake.ids()) == len(set(lake.ids())) == 40


def test_compaction_after_a_schema_change_fills_the_new_column_with_nulls(lake: Lake) -> None:
    """Old files do not have it."""
    foreign.add_column(lake.load(), "note")
    lake.load().append(rows(30, 10, hour=0).append_column("note", [["x"] * 10]))
    foreign.compact(lake.load(), lake.store)
    assert lake.load().scan().to_arrow()["note"].null_count == 30
    assert diagnosed(lake.load()).healthy


def test_expiry_deletes_what_only_old_snapshots_needed(lake: Lake) -> None:
    """After a compaction the small files go, the table stays whole, and nothing is left as an orphan."""
    lake.load().append(rows(30, 10, hour=0))
    foreign.compact(lake.load(), lake.store)
    assert foreign.expire(lake.load(), lake.store, lake.load) == 4
    assert len(lake.load().metadata.snapshots) == 1
    assert len(lake.ids()) == 40
    report = diagnosed(lake.load(), orphan_age_s=0.0)
    assert report.findings.kept == []
    with pytest.raises(NotApplicable):
        foreign.expire(lake.load(), lake.store, lake.load)


def test_a_rollback_is_undone_with_what_was_committed_since(lake: Lake) -> None:
    """Rows that were set aside come back once, beside those that a writer added meanwhile."""
    foreign.roll_back(lake.load(), 2)
    assert len(lake.ids()) == 10
    assert len(left_aside(lake.load().metadata)) == 2
    lake.load().append(rows(30, 10, hour=3))
    assert foreign.add_again(lake.load(), lake.store) == 4
    assert lake.ids() == [f"event-{number:06d}" for number in range(40)]
    assert missing_from_lineage(lake.load().metadata, lake.store) == {}
    assert foreign.add_again(lake.load(), lake.store) == 0
    with pytest.raises(NotApplicable):
        foreign.roll_back(lake.load(), 9)


def test_adding_again_begins_anew_when_a_writer_was_faster(lake: Lake) -> None:
    """Its rows are there too; nothing is there twice."""
    foreign.roll_back(lake.load(), 1)
    old = lake.load()
    lake.load().append(rows(30, 10, hour=3))
    with pytest.raises(CatalogFailed):
        foreign.add_again(old, lake.store)
    assert foreign.add_again(old, lake.store, lake.load) == 2
    assert lake.ids() == [f"event-{number:06d}" for number in range(40)]
    foreign.roll_back(lake.load(), 1)
    late = lake.load()
    lake.load().append(rows(40, 10, hour=3))
    foreign.roll_back(lake.load(), 2)
    with pytest.raises(CatalogFailed, match="set back once more"):
        foreign.add_again(late, lake.store, lake.load)


def test_what_was_added_again_and_then_compacted_is_not_missing(lake: Lake) -> None:
    """The lineage removed the file itself, so its rows are accounted for."""
    foreign.roll_back(lake.load(), 1)
    foreign.add_again(lake.load(), lake.store)
    lake.load().append(rows(30, 10, hour=2))
    foreign.compact(lake.load(), lake.store)
    assert missing_from_lineage(lake.load().metadata, lake.store) == {}


def test_an_over_eager_cleaner_takes_a_flush_in_flight(lake: Lake) -> None:
    """An age guard saves it; without one it is gone, while what is referenced stays."""
    table = lake.load()
    stray = f"{table.location()}/data/in-flight.parquet"
    lake.store.put(stray, b"x")
    assert foreign.clean_orphans(table, lake.store, now_s=time.time(), min_age_s=3600) == 0
    assert foreign.clean_orphans(table, lake.store, now_s=time.time() + 1, min_age_s=0) == 1
    assert lake.store.head(stray) is None
    assert diagnosed(lake.load()).healthy
    assert lake.ids() == ALL


def test_a_column_that_comes_back_has_its_values(lake: Lake) -> None:
    """By its old id, which a column of the same name would not have."""
    before = foreign.drop_column(lake.load(), "number")
    assert "number" not in lake.load().schema().column_names
    foreign.set_schema(lake.load(), before)
    assert lake.load().scan().to_arrow()["number"].null_count == 0
    with pytest.raises(NotApplicable):
        foreign.drop_column(lake.load(), "nothing")


def test_a_recreated_table_is_replaced_by_the_old_one_with_all_rows(lake: Lake) -> None:
    """What was written to its successor is there too, and so are the properties that a writer set there."""
    uuid = lake.load().metadata.table_uuid
    dropped = recreate(lake.load())
    assert lake.load().metadata.table_uuid != uuid
    assert lake.ids() == []
    lake.load().append(rows(30, 10, hour=3))
    with lake.load().transaction() as change:
        change.set_properties({"writer.watermark": "4"})
    assert restore(lake.catalog, dropped, FileIOStore(lake.load().io), "t") == 2
    table = lake.load()
    assert table.metadata.table_uuid == uuid
    assert table.properties["writer.watermark"] == "4"
    assert lake.ids() == [f"event-{number:06d}" for number in range(40)]
    assert NAME in [".".join(one) for one in lake.catalog.list_tables("lake")]
    assert not [one for one in diagnosed(table).findings.kept if one.live]


def test_a_recreated_table_that_nobody_wrote_to_is_just_replaced(lake: Lake) -> None:
    """Nothing is committed then."""
    dropped = recreate(lake.load())
    assert restore(lake.catalog, dropped, lake.store, "t") == 0
    assert lake.ids() == ALL


def test_a_writer_that_creates_the_missing_table_loses_nothing(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes the name while the old table is on its way; its table is moved aside and added too."""
    dropped = recreate(lake.load())
    register = lake.catalog.register_table

    def creates_first(identifier: str, location: str) -> Table:
        made = lake.catalog.create_table(NAME, SCHEMA, location=f"file://{lake.root}/third", partition_spec=SPEC)
        made.append(rows(30, 10, hour=3))
        return register(identifier, location)

    monkeypatch.setattr(lake.catalog, "register_table", creates_first)
    assert restore(lake.catalog, dropped, lake.store, "t") == 2
    assert lake.ids() == [f"event-{number:06d}" for number in range(40)]


class Deaf(FileIOStore):
    """A store that does not return some objects, though they are there."""

    def __init__(self, lake: Lake, part: str) -> None:
        super().__init__(lake.load().io)
        self.part = part

    def get(self, path: str) -> bytes:
        if self.part in path:
            raise StoreFailed(f"{path}: it did not answer")
        return super().get(path)


@pytest.mark.parametrize("part", ["snap-", "-m0.avro"])
def test_what_cannot_be_read_is_never_taken_for_not_needed(lake: Lake, part: str) -> None:
    """Neither expiry nor clean-up deletes anything then, and nothing is added again."""
    lake.load().append(rows(30, 10, hour=0))
    foreign.compact(lake.load(), lake.store)
    foreign.roll_back(lake.load(), 1)
    deaf = Deaf(lake, part)
    with pytest.raises(StoreFailed):
        foreign.clean_orphans(lake.load(), deaf, now_s=time.time() + 9, min_age_s=0)
    with pytest.raises(StoreFailed):
        foreign.expire(lake.load(), deaf, lake.load)
    assert len(lake.ids()) == 40
    set_aside = Lake(_below(lake))
    foreign.roll_back(set_aside.load(), 1)
    with pytest.raises(StoreFailed):
        foreign.add_again(set_aside.load(), Deaf(set_aside, part))


def _below(lake: Lake) -> Path:
    (lake.root / "second").mkdir()
    return lake.root / "second"
