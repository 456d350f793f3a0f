"""Tables that the catalog cannot load, or has lost; rows that come back from an export; each killed at every step."""

from __future__ import annotations

import hashlib
import json
import random
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from chaos.cli import run_command
from chaos.table import foreign
from chaos.table.clinic import Visit, visit
from chaos.table.doctor import Report
from chaos.table.errors import CannotRepair, TableError
from chaos.table.exports import check_receipt, row_of
from chaos.table.findings import KINDS
from chaos.table.mutate import choose, damage
from chaos.table.store import FileIOStore
from chaos.table.treatment import Case, Next, next_step
from tests.chaos.table.lake import NAME, Lake, rows

ALL = [f"event-{number:06d}" for number in range(30)]


def case_of(lake: Lake, **more: Any) -> Case:
    return Case(lake.properties, NAME, f"file://{lake.root}/warehouse/lake/events", **more)


def examined(lake: Lake) -> Report:
    case = case_of(lake)
    return visit(Visit(case.properties, NAME, time.time(), "t", location=case.location, writes=False))


def planned(lake: Lake, **more: Any) -> Next:
    return next_step(case_of(lake, **more), examined(lake), now_ms=1)


def mended(lake: Lake, backup: Path, **more: Any) -> list[str]:
    """Carry out step after step; return the recipes."""
    done = []
    while (step := planned(lake, **more)).plan is not None:
        assert step.refused == []
        step.carry_out(backup)
        done.append(step.plan.recipe)
        assert len(done) < 5
    return done


def live(lake: Lake) -> set[str]:
    return {one.name for one in examined(lake).findings.kept if one.live}


@pytest.mark.parametrize("mutation", ["deleted", "zero-bytes", "cut-half", "garbage-appended"])
def test_an_unreadable_metadata_is_replaced_by_what_its_manifest_lists_tell(
    lake: Lake, mutation: str, tmp_path: Path
) -> None:
    """Registered anew with the snapshot that only it knew, under its own id; a second visit finds a whole table."""
    table = lake.load()
    head = table.metadata.current_snapshot_id
    damage(lake.store, choose(table, lake.store, "metadata", random.Random(1)), mutation, 1)
    assert live(lake) == {"table-unloadable"}
    assert mended(lake, tmp_path / "backup") == ["register-from-log"]
    assert lake.load().metadata.current_snapshot_id == head
    assert lake.ids() == ALL
    assert live(lake) == set()
    lake.load().append(rows(30, 10, hour=3))


def test_a_dropped_table_comes_back(lake: Lake, tmp_path: Path) -> None:
    """Its files were kept; nothing is lost."""
    lake.catalog.drop_table(NAME)
    plan = planned(lake).plan
    assert plan is not None
    assert (plan.recipe, plan.loss) == ("register-from-log", [])
    assert mended(lake, tmp_path / "backup") == ["register-from-log"]
    assert lake.ids() == ALL
    assert examined(lake).healthy


def test_a_table_of_another_name_is_not_invented(lake: Lake) -> None:
    """A typing error finds no metadata, and is refused with a sentence."""
    case = Case(lake.properties, "lake.evnts")
    report = visit(Visit(case.properties, case.identifier, time.time(), "t", writes=False))
    step = next_step(case, report, now_ms=1)
    assert step.plan is None
    assert "--location" in step.refused[0].why


def test_a_catalog_that_deletes_files_is_noticed_before_the_table_is_dropped(
    lake: Lake, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The scratch table shows it; the real one stays as it is."""
    damage(lake.store, choose(lake.load(), lake.store, "metadata", random.Random(1)), "zero-bytes", 1)
    step = planned(lake)
    catalog = type(lake.catalog)
    drop = catalog.drop_table

    def purges(self: Any, identifier: str) -> None:
        for stat in list(lake.store.list(f"file://{lake.root}/warehouse/lake/{identifier.rpartition('.')[2]}")):
            lake.store.delete(stat.path)
        drop(self, identifier)

    monkeypatch.setattr(catalog, "drop_table", purges)
    with pytest.raises(CannotRepair, match="deletes the files"):
        step.carry_out(tmp_path)
    monkeypatch.undo()
    assert live(lake) == {"table-unloadable"}
    assert mended(lake, tmp_path) == ["register-from-log"]
    assert lake.ids() == ALL


def test_two_lists_that_could_both_have_been_committed_are_a_guess(lake: Lake) -> None:
    """A writer that lost a race left one as well; which of them counts is not known."""
    table = lake.load()
    lists = [one.manifest_list for one in table.metadata.snapshots]
    foreign.roll_back(table, 1)
    lake.load().append(rows(30, 10, hour=3))
    current = lake.load()
    for entry in current.metadata.metadata_log[3:]:
        lake.store.put(entry.metadata_file, b"{")
    lake.store.put(current.metadata_location, b"{")
    step = planned(lake)
    assert len(lists) == 3
    assert step.plan is None
    assert "would be a guess" in step.refused[0].why


def test_what_was_rolled_back_is_named_and_added_again(lake: Lake, tmp_path: Path) -> None:
    """A warning, since it may have been meant; the repair says what it adds."""
    foreign.roll_back(lake.load(), 1)
    assert live(lake) == {"rolled-back"}
    assert mended(lake, tmp_path) == ["add-rolled-back"]
    assert lake.ids() == ALL
    assert examined(lake).healthy


def lines(first: int, last: int) -> list[dict[str, Any]]:
    table = rows(first, last - first, hour=first // 10)
    return [
        {"specversion": "1.0", "id": row["id"], "source": "s", "type": row["type"], "time": row["time"].isoformat()}
        for row in table.to_pylist()
    ]


def export_of(path: Path, events: list[dict[str, Any]]) -> Path:
    content = b"".join(json.dumps(one).encode() + b"\n" for one in events)
    receipt = {"events": len(events), "sha256": hashlib.sha256(content).hexdigest()}
    path.write_bytes(content + json.dumps({"receipt": receipt}, separators=(",", ":")).encode() + b"\n")
    return path


class Events(Lake):
    """A table with the columns of an export."""

    def __init__(self, root: Path) -> None:
        super().__init__(root, snapshots=0)
        self.catalog.drop_table(NAME)
        table = self.catalog.create_table(NAME, _events(0, 1).schema, properties={"format-version": "2"})
        with table.update_spec() as spec:
            spec.add_identity("type")
        for index in range(3):
            self.load().append(_events(index * 10, index * 10 + 10))


def _events(first: int, last: int) -> Any:
    import pyarrow as pa

    found = rows(first, last - first, hour=first // 10).select(["id", "time", "type"])
    return found.append_column("source", pa.array(["s"] * found.num_rows)).select(["id", "source", "type", "time"])


@pytest.fixture
def events(tmp_path: Path) -> Events:
    root = tmp_path / "events"
    root.mkdir()
    return Events(root)


def lose(events: Events) -> int:
    """Delete one data file and return how many rows it had."""
    file = choose(events.load(), events.store, "data-file", random.Random(3)).path
    gone = next(task.file for task in events.load().scan().plan_files() if task.file.file_path == file)
    events.store.delete(file)
    return int(gone.record_count)


def test_lost_rows_come_back_from_an_export(events: Events, tmp_path: Path) -> None:
    """The events of that partition that the table lacks, exactly as many as the file had; the dry run writes nothing."""
    assert lose(events) > 0
    export = export_of(tmp_path / "export.ndjson", lines(0, 10) + lines(10, 20) + lines(20, 30))
    before = {stat.path for stat in events.store.list(events.load().location())}
    plan = planned(events, export=export).plan
    assert plan is not None
    assert (plan.recipe, plan.loss, plan.rows_lost) == ("append-from-export", [], 0)
    assert {stat.path for stat in events.store.list(events.load().location())} == before
    assert mended(events, tmp_path / "b", export=export) == ["append-from-export"]
    assert events.ids() == ALL
    assert live(events) == set()


def test_what_the_export_lacks_is_lost_and_said(events: Events, tmp_path: Path) -> None:
    """To the row, with its partition."""
    gone = lose(events)
    missing = {one["id"] for one in lines(0, 30)} - set(readable(events))
    export = export_of(tmp_path / "e", [one for one in lines(0, 30) if one["id"] != min(missing)])
    plan = planned(events, export=export).plan
    assert plan is not None
    assert plan.rows_lost == 1
    assert plan.loss[0].startswith("1 rows of partition")
    step = planned(events, export=export)
    step.carry_out(tmp_path / "b")
    assert len(events.ids()) == 29
    assert gone > 1


def readable(events: Events) -> list[str]:
    import pyarrow.parquet as pq

    found: list[str] = []
    for task in events.load().scan().plan_files():
        if events.store.head(task.file.file_path) is not None:
            with events.load().io.new_input(task.file.file_path).open() as stream:
                found += pq.read_table(stream)["id"].to_pylist()
    return found


def test_an_export_that_could_be_about_others_is_refused(events: Events, tmp_path: Path) -> None:
    """More candidates than the file had rows; a cut export; one that was changed; something else."""
    lose(events)
    more = lines(0, 30) + [{**one, "id": f"other-{one['id']}"} for one in lines(0, 30)]
    step = planned(events, export=export_of(tmp_path / "more", more))
    assert step.plan is None
    assert "would be a guess" in step.refused[0].why
    whole = export_of(tmp_path / "whole", lines(0, 10))
    cut = tmp_path / "cut"
    cut.write_bytes(whole.read_bytes().partition(b"\n")[2])
    for path, why in ((cut, "not what its receipt"), (tmp_path / "none", "cannot be read"), (tmp_path, "cannot be")):
        with pytest.raises(CannotRepair, match=why):
            check_receipt(path)
    noise = tmp_path / "noise"
    noise.write_bytes(b"{}\n[]\n")
    with pytest.raises(CannotRepair, match="does not end with a receipt"):
        check_receipt(noise)


def test_a_line_becomes_the_row_that_it_was() -> None:
    """Data as it was written, text and bytes told apart, extensions kept."""
    base = {"id": "1", "source": "s", "type": "t", "time": "2026-11-24T10:00:00.123456Z", "specversion": "1.0"}

    def row(**more: Any) -> dict[str, Any]:
        return row_of(json.dumps({**base, **more}).encode())

    assert row_of(b'{"id":"1","source":"s","type":"t","time":"2026-11-24T10:00:00Z","data":{"a": 1.0 }}')["data"] == (
        '{"a": 1.0 }'
    )
    assert row(data="x", datacontenttype="text/plain")["data"] == "x"
    assert row(data="x")["data"] == '"x"'
    assert row(data_base64="AAE=")["data_binary"] == b"\0\1"
    assert row(data_base64="e30K", data_kind="json")["data"] == "{}\n"
    assert row(traceid="7")["extensions"] == '{"traceid":"7"}'
    assert row()["data_kind"] is None
    assert row()["time"].microsecond == 123456
    with pytest.raises(KeyError):
        row_of(b'{"id":"1"}')


# -- killed at every step


class Killed(BaseException):
    """As SIGKILL: nothing after it runs."""


class Dying:
    """Counts what a repair changes, object by object and commit by commit, and dies at the n-th, before or after it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, lake: Lake) -> None:
        self.left = 0
        self.after = False
        catalog = type(lake.catalog)
        for owner, names in (
            (FileIOStore, ("put", "delete")),
            (catalog, ("commit_table", "drop_table", "register_table")),
        ):
            for name in names:
                monkeypatch.setattr(owner, name, self._counted(getattr(owner, name)))

    def _counted(self, action: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*given: Any, **named: Any) -> Any:
            self.left -= 1
            if self.left == 0 and not self.after:
                raise Killed
            result = action(*given, **named)
            if self.left == 0:
                raise Killed
            return result

        return counted


def hurt_metadata(lake: Lake) -> None:
    damage(lake.store, choose(lake.load(), lake.store, "metadata", random.Random(1)), "zero-bytes", 1)


def hurt_list(lake: Lake) -> None:
    damage(lake.store, choose(lake.load(), lake.store, "manifest-list", random.Random(1)), "header-only", 1)


def hurt_list_and_manifest(lake: Lake) -> None:
    damage(lake.store, choose(lake.load(), lake.store, "manifest", random.Random(1), newest=True), "deleted", 1)
    damage(lake.store, choose(lake.load(), lake.store, "manifest-list", random.Random(1)), "deleted", 1)


def hurt_manifest(lake: Lake) -> None:
    damage(lake.store, choose(lake.load(), lake.store, "manifest", random.Random(1)), "cut-at-block", 1)


def double(lake: Lake) -> None:
    table = lake.load()
    file = next(iter(table.scan().plan_files())).file
    with table.transaction() as tx, tx.update_snapshot().fast_append() as append:
        append.append_data_file(file)


def set_back(lake: Lake) -> None:
    foreign.roll_back(lake.load(), 1)


def lose_a_file(lake: Lake) -> None:
    lake.store.delete(choose(lake.load(), lake.store, "data-file", random.Random(3)).path)


def miscount(lake: Lake) -> None:
    double(lake)
    table = lake.load()
    file = next(iter(table.scan().plan_files())).file
    with table.transaction() as tx, tx.update_snapshot().overwrite() as over:
        over.delete_data_file(file)
        over.append_data_file(file)


RECIPES: dict[str, Callable[[Lake], None]] = {
    "register-from-log": hurt_metadata,
    "rebuild-manifest-list": hurt_list,
    "roll-back-and-re-add": hurt_list_and_manifest,
    "rebuild-manifest": hurt_manifest,
    "drop-duplicate-reference": double,
    "add-rolled-back": set_back,
    "remove-file": lose_a_file,
    "restate-totals": miscount,
}


def deaths() -> Iterator[tuple[int, bool]]:
    for nth in range(1, 20):
        yield nth, False
        yield nth, True


QUICK = ("rebuild-manifest-list", "add-rolled-back")


@pytest.mark.parametrize(
    "recipe", [pytest.param(one, marks=() if one in QUICK else (pytest.mark.slow,)) for one in RECIPES]
)
def test_a_repair_killed_at_any_step_is_run_again(recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before and after each object it writes and each call of the catalog; the next run ends with every row there once."""
    finished = False
    for nth, after in deaths():
        root = tmp_path / f"{nth}{after}"
        root.mkdir()
        lake = Lake(root)
        RECIPES[recipe](lake)
        step = planned(lake)
        assert step.plan is not None
        assert step.plan.recipe == recipe
        whole = len(ALL) - (step.plan.rows_lost if recipe == "remove-file" else 0)
        with monkeypatch.context() as patch:
            dying = Dying(patch, lake)
            dying.left, dying.after = nth, after
            try:
                step.carry_out(root / "backup")
                finished = True
            except Killed:
                finished = False
        mended(lake, root / "backup")
        assert len(set(lake.ids())) == len(lake.ids()) == whole, (nth, after)
        assert not [one for one in examined(lake).findings.kept if one.severity == "critical"], (nth, after)
        if finished:
            break
    assert finished


@pytest.mark.slow
def test_rows_from_an_export_that_were_half_written_are_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before and after each object and the commit: in the end every row is there once."""
    for nth, after in deaths():
        root = tmp_path / f"{nth}{after}"
        root.mkdir()
        events = Events(root)
        lose(events)
        export = export_of(root / "export.ndjson", lines(0, 10) + lines(10, 20) + lines(20, 30))
        step = planned(events, export=export)
        finished = False
        with monkeypatch.context() as patch:
            dying = Dying(patch, events)
            dying.left, dying.after = nth, after
            with suppress(Killed):
                step.carry_out(root / "backup")
                finished = True
        mended(events, root / "backup", export=export)
        assert events.ids() == ALL, (nth, after)
        if finished:
            assert nth > 1
            return
    pytest.fail("it never came to its end")


def test_the_commands_name_every_recipe(lake: Lake, capsys: pytest.CaptureFixture[str]) -> None:
    """The dry run of a registration changes nothing."""
    hurt_metadata(lake)
    pairs = [f"--catalog-property={key}={value}" for key, value in lake.properties.items()]
    location = f"file://{lake.root}/warehouse/lake/events"
    assert run_command(["repair", *pairs, "--table", NAME, "--location", location]) == 1
    shown = capsys.readouterr().out
    assert "register-from-log" in shown
    assert "Nothing was changed" in shown
    assert live(lake) == {"table-unloadable"}
    with pytest.raises(TableError):
        next_step(Case({"type": "rest", "uri": "http://127.0.0.1:9"}, NAME), examined(lake), now_ms=1)
    assert {one.recipe for one in KINDS.values()} - {None} >= set(RECIPES) - {"roll-back-and-re-add"}
