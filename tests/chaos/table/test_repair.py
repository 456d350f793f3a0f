"""Repairs: what is broken is whole again, to the row, and what is lost is said exactly."""

from __future__ import annotations

import contextlib
import random
import time
from pathlib import Path

import pytest

from chaos.cli import run_command
from chaos.table.doctor import Doctor, Options, Report
from chaos.table.errors import CatalogFailed, StoreFailed
from chaos.table.mutate import Role, choose, damage
from chaos.table.repair import Plan, Repairer, backup_into, carry_out
from chaos.table.store import FileIOStore
from chaos.table.walk import read_list, read_manifest
from tests.chaos.table.lake import NAME, Lake, rows

ALL = [f"event-{number:06d}" for number in range(30)]


def examined(lake: Lake) -> Report:
    return Doctor(lake.load(), lake.store, now_s=time.time(), options=Options(workers=2)).examine()


def planned(lake: Lake) -> Plan:
    plan, refused = Repairer(lake.load(), lake.store, now_ms=1).next(examined(lake))
    assert refused == []
    assert plan is not None
    return plan


def live_names(lake: Lake) -> set[str]:
    return {one.name for one in examined(lake).findings.kept if one.live}


def hurt(lake: Lake, role: Role, mutation: str, *, newest: bool = False) -> bytes:
    victim = choose(lake.load(), lake.store, role, random.Random(2), newest=newest)
    return damage(lake.store, victim, mutation, seed=2).data


@pytest.mark.parametrize("mutation", ["deleted", "zero-bytes", "cut-half", "header-only", "replaced-by-older"])
def test_a_manifest_list_is_rebuilt_in_place(lake: Lake, mutation: str, tmp_path: Path) -> None:
    """Same path, same snapshot, all rows, history intact; its old bytes are in the backup."""
    snapshots = [one.snapshot_id for one in lake.load().metadata.snapshots]
    hurt(lake, "manifest-list", mutation)
    plan = planned(lake)
    assert (plan.recipe, plan.loss) == ("rebuild-manifest-list", [])
    carry_out(plan, lake.store, backup_into(tmp_path / "backup"))
    assert live_names(lake) == set()
    assert lake.ids() == ALL
    assert [one.snapshot_id for one in lake.load().metadata.snapshots] == snapshots
    assert (tmp_path / "backup").exists() == (mutation != "deleted")
    lake.load().append(rows(30, 10, hour=3))
    assert len(lake.ids()) == 40


@pytest.mark.parametrize(
    "mutation",
    ["deleted", "zero-bytes", "cut-half", "cut-at-block", "header-only", "replaced-by-sibling", "wrong-length"],
)
@pytest.mark.parametrize("newest", [False, True])
def test_a_manifest_is_rebuilt_from_the_files_that_only_it_listed(
    lake: Lake, mutation: str, newest: bool, tmp_path: Path
) -> None:
    """All rows are back, partition filters still work, and the lists agree about its length."""
    hurt(lake, "manifest", mutation, newest=newest)
    assert planned(lake).recipe == "rebuild-manifest"
    carry_out(planned(lake), lake.store, backup_into(tmp_path / "backup"))
    assert examined(lake).findings.kept == []
    assert lake.ids() == ALL
    assert len(lake.load().scan("type == 'view'").to_arrow()) == 9


def test_a_lost_list_and_its_manifest_are_rolled_back_and_re_added(lake: Lake, tmp_path: Path) -> None:
    """The data files of the lost snapshot are added again in one commit, with totals that add up and its flush id."""
    hurt(lake, "manifest", "deleted", newest=True)
    hurt(lake, "manifest-list", "deleted")
    plan = planned(lake)
    assert plan.recipe == "roll-back-and-re-add"
    assert plan.rows_lost == 0
    carry_out(plan, lake.store, backup_into(tmp_path / "backup"))
    assert lake.ids() == ALL
    assert live_names(lake) == set()
    current = lake.load().current_snapshot()
    assert current is not None
    assert current.summary is not None
    assert current.summary["flush-id"] == "f2"
    lake.load().append(rows(30, 10, hour=3))
    assert len(lake.ids()) == 40


def test_a_stray_file_is_never_taken_for_a_lost_one(lake: Lake) -> None:
    """A committed-looking orphan beside the lost files: the ones that carry the commit's mark are taken, else it refuses."""
    hurt(lake, "manifest", "deleted")
    table = lake.load()
    source = next(stat for stat in lake.store.list(f"{table.location()}/data") if stat.path.endswith(".parquet"))
    lake.store.put(f"{table.location()}/data/stray.parquet", lake.store.get(source.path))
    plan = planned(lake)
    plan.execute()
    assert lake.ids() == ALL


def test_a_guess_is_refused(lake: Lake) -> None:
    """One of the lost manifest's data files is gone as well: what it listed cannot be proved."""
    victim = choose(lake.load(), lake.store, "manifest", random.Random(2))
    snapshot = lake.load().current_snapshot()
    assert snapshot is not None
    listed = next(
        one for one in read_list(snapshot, lake.store, live=True).manifests if one.manifest_path == victim.path
    )
    lake.store.delete(read_manifest(listed, lake.store, live=True).entries[0].data_file.file_path)
    lake.store.delete(victim.path)
    plan, refused = Repairer(lake.load(), lake.store, now_ms=1).next(examined(lake))
    assert plan is None
    assert "would be a guess" in refused[0].why


def test_a_file_listed_twice_is_listed_once(lake: Lake, tmp_path: Path) -> None:
    """The totals count it once afterwards."""
    table = lake.load()
    file = next(iter(table.scan().plan_files())).file
    with table.transaction() as tx, tx.update_snapshot().fast_append() as append:
        append.append_data_file(file)
    assert len(lake.ids()) > 30
    plan = planned(lake)
    assert plan.recipe == "drop-duplicate-reference"
    carry_out(plan, lake.store, backup_into(tmp_path))
    assert lake.ids() == ALL
    assert examined(lake).healthy


@pytest.mark.parametrize("mutation", ["deleted", "cut-half", "replaced-by-sibling"])
def test_a_lost_file_is_removed_with_its_loss_accounted(lake: Lake, mutation: str, tmp_path: Path) -> None:
    """How many rows, of which file and partition; every other row stays, and the totals add up."""
    hurt(lake, "data-file", mutation)
    plan = planned(lake)
    assert plan.recipe == "remove-file"
    [loss] = plan.loss
    assert loss.startswith(f"{plan.rows_lost} rows of file://")
    assert "time_hour=" in loss
    carry_out(plan, lake.store, backup_into(tmp_path))
    assert live_names(lake) == set()
    assert len(lake.ids()) == 30 - plan.rows_lost
    assert set(lake.ids()) < set(ALL)


def test_totals_are_restated(lake: Lake, tmp_path: Path) -> None:
    """After pyiceberg re-adds a lost manifest's files, the summary is off; a commit that changes no file sets it right."""
    table = lake.load()
    file = next(iter(table.scan().plan_files())).file
    with table.transaction() as tx, tx.update_snapshot().fast_append() as append:
        append.append_data_file(file)
    with lake.load().transaction() as tx, tx.update_snapshot().overwrite() as over:
        over.delete_data_file(file)
        over.append_data_file(file)
    assert live_names(lake) == {"totals-differ"}
    assert planned(lake).rows_lost > 0
    carry_out(planned(lake), lake.store, backup_into(tmp_path))
    assert examined(lake).healthy
    assert lake.ids() == ALL


class Killed(BaseException):
    """As SIGKILL: nothing after it runs."""


class DiesAtPut:
    """A store whose process dies before (or right after) its n-th PUT."""

    def __init__(self, store: FileIOStore, nth: int, *, after: bool) -> None:
        self._store, self._left, self._after = store, nth, after

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)

    def put(self, path: str, data: bytes) -> None:
        self._left -= 1
        if self._left == 0 and not self._after:
            raise Killed
        self._store.put(path, data)
        if self._left == 0:
            raise Killed


@pytest.mark.parametrize(("nth", "after"), [(1, False), (1, True), (2, False), (2, True)])
def test_a_repair_killed_in_the_middle_is_run_again(lake: Lake, nth: int, after: bool, tmp_path: Path) -> None:
    """Whatever was replaced before the kill, the next run finishes, and the first backup is kept."""
    whole = hurt(lake, "manifest", "cut-at-block")
    assert whole
    broken = lake.store.get(choose(lake.load(), lake.store, "manifest", random.Random(2)).path)
    dying = DiesAtPut(lake.store, nth, after=after)
    plan, _ = Repairer(lake.load(), dying, now_ms=1).next(examined(lake))  # type: ignore[arg-type]
    assert plan is not None
    with contextlib.suppress(Killed):
        carry_out(plan, lake.store, backup_into(tmp_path / "backup"))
    for _ in range(2):
        plan, refused = Repairer(lake.load(), lake.store, now_ms=1).next(examined(lake))
        assert refused == []
        if plan is not None:
            carry_out(plan, lake.store, backup_into(tmp_path / "backup"))
    assert examined(lake).healthy
    assert lake.ids() == ALL
    assert any(kept.read_bytes() == broken for kept in (tmp_path / "backup").iterdir())


def test_a_writer_that_commits_meanwhile_makes_the_repair_fail_whole(lake: Lake) -> None:
    """The plan was for another state of the table, so nothing of it is done."""
    hurt(lake, "data-file", "deleted")
    plan = planned(lake)
    lake.load().append(rows(30, 10, hour=3))
    before = lake.load().metadata.current_snapshot_id
    with pytest.raises(CatalogFailed):
        plan.execute()
    assert lake.load().metadata.current_snapshot_id == before


def arguments(lake: Lake, *more: str) -> list[str]:
    return [
        "repair",
        *[f"--catalog-property={key}={value}" for key, value in lake.properties.items()],
        "--table",
        NAME,
        *more,
    ]


def test_the_command_shows_a_plan_and_changes_nothing_without_yes(
    lake: Lake, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Dry run first: exit 1, the object as broken as before."""
    hurt(lake, "manifest", "header-only")
    path = choose(lake.load(), lake.store, "manifest", random.Random(2)).path
    broken = lake.store.get(path)
    assert run_command(arguments(lake, "--backup", str(tmp_path / "b"))) == 1
    shown = capsys.readouterr().out
    assert "rebuild-manifest" in shown
    assert "Nothing was changed" in shown
    assert lake.store.get(path) == broken


def test_the_command_mends_one_thing_after_the_other(
    lake: Lake, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """List, manifest and a data file at once; the file stays missing from older snapshots, so it ends with a warning."""
    hurt(lake, "data-file", "deleted", newest=True)
    hurt(lake, "manifest", "cut-half")
    hurt(lake, "manifest-list", "header-only")
    more = ("--yes", "--backup", str(tmp_path / "b"))
    assert run_command(arguments(lake, *more)) == 254
    assert "--accept-loss" in capsys.readouterr().err
    assert run_command(arguments(lake, *more, "--accept-loss")) == 1
    assert "3 rows in all" in (shown := capsys.readouterr().out)
    assert "0 critical findings left" in shown
    assert live_names(lake) == set()
    assert run_command(arguments(lake, *more)) == 1
    assert "plan" not in capsys.readouterr().out
    assert len(lake.ids()) == 27


def test_what_cannot_be_mended_is_said(lake: Lake, capsys: pytest.CaptureFixture[str]) -> None:
    """The command ends with the doctor's report and exit code."""
    hurt(lake, "manifest-list", "deleted")
    for stat in list(lake.store.list(f"{lake.load().location()}/data")):
        lake.store.delete(stat.path)
    for stat in list(lake.store.list(f"{lake.load().location()}/metadata")):
        if stat.path.endswith("-m0.avro"):
            lake.store.delete(stat.path)
    assert run_command(arguments(lake, "--yes")) == 1
    assert "cannot" in capsys.readouterr().out


def test_a_store_that_refuses_is_a_sentence(lake: Lake, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Exit 255, and the advice to run it again."""
    hurt(lake, "manifest", "header-only")

    def refuse(self: FileIOStore, path: str, data: bytes) -> None:
        raise StoreFailed(f"{path}: refused.")

    monkeypatch.setattr(FileIOStore, "put", refuse)
    assert run_command(arguments(lake, "--yes", "--backup", str(tmp_path / "b"))) == 255
