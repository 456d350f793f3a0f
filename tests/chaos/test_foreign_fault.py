"""Another client of the run's table, as a fault: what it did is counted, what it did once is undone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import pytest

from chaos.errors import HealFailed, NotPossible
from chaos.faults.env import Env
from chaos.faults.foreign import ForeignInjection, ForeignWriter
from chaos.table.errors import CatalogFailed
from tests.chaos.fakes import FakeSeen, env
from tests.chaos.table.lake import NAME, Lake, rows
from tests.chaos.table.test_doctor import diagnosed

ABLE = {"drop_keeps_files": True, "register_table": True}


@dataclass
class LakeStack:
    """A stack whose only table is the lake's."""

    lake: Lake
    able: dict[str, bool]

    def pyiceberg_properties(self, direct: bool) -> dict[str, str]:
        """Past every fault."""
        assert direct
        return self.lake.properties

    def capabilities(self) -> dict[str, bool]:
        """As given."""
        return self.able


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path)


def env_of(lake: Lake, able: dict[str, bool] = ABLE) -> Env:
    return replace(env(None, FakeSeen()), stack=cast(Any, LakeStack(lake, able)), table=NAME)


def begun(lake: Lake, **params: Any) -> ForeignInjection:
    return ForeignWriter(**params).inject(env_of(lake), "step0")


def ids(first: int, last: int) -> list[str]:
    return [f"event-{number:06d}" for number in range(first, last)]


def test_a_rollback_is_undone_when_the_step_ends(lake: Lake) -> None:
    """With what the target committed meanwhile; nothing is doubled."""
    injection = begun(lake, act="rollback", depth=2)
    assert lake.ids() == ids(0, 10)
    lake.load().append(rows(30, 10, hour=3))
    injection.heal()
    assert lake.ids() == ids(0, 40)
    assert injection.effect().measured == {"acts": 1, "files_added_again": 4}


def test_maintenance_is_repeated_when_it_is_time(lake: Lake) -> None:
    """Compaction and expiry, each with its count; what finds nothing to do counts nothing."""
    now = [0.0]
    spec = ForeignWriter(act="maintain", every_s=5.0)
    injection = ForeignInjection(spec, env_of(lake), clock=lambda: now[0])
    lake.load().append(rows(30, 10, hour=0))
    assert injection.finished() is False
    now[0] = 5.0
    assert injection.finished() is False
    injection.heal()
    measured = injection.effect().measured
    assert (measured["files_compacted"], measured["acts"]) == (4, 3)
    assert lake.ids() == ids(0, 40)
    assert diagnosed(lake.load(), orphan_age_s=0.0).healthy


def test_a_recreated_table_comes_back(lake: Lake) -> None:
    """Under its name, with both halves; a stack that deletes the files of a dropped table makes the step void."""
    uuid = lake.load().metadata.table_uuid
    injection = begun(lake, act="recreate")
    lake.load().append(rows(30, 10, hour=3))
    injection.heal()
    assert lake.load().metadata.table_uuid == uuid
    assert lake.ids() == ids(0, 40)
    with pytest.raises(NotPossible, match="lacks drop_keeps_files"):
        ForeignWriter(act="recreate").inject(env_of(lake, {"register_table": True}), "step0")


def test_a_dropped_column_comes_back_with_its_values(lake: Lake) -> None:
    """An added one stays."""
    injection = begun(lake, act="drop-column", column="number")
    assert "number" not in lake.load().schema().column_names
    injection.heal()
    assert lake.load().scan().to_arrow()["number"].null_count == 0
    begun(lake, act="add-column").heal()
    assert "icequake_note" in lake.load().schema().column_names


def test_what_cannot_be_done_is_void(lake: Lake) -> None:
    """Too few snapshots, no such column, no orphan, no table, not our table."""
    for params in ({"act": "rollback", "depth": 9}, {"act": "drop-column", "column": "nothing"}):
        with pytest.raises(NotPossible):
            begun(lake, **params)
    assert begun(lake, act="clean-orphans", min_age_s=3600.0).effect().reason == "the other client found nothing to do"
    with pytest.raises(NotPossible):
        ForeignWriter(act="rollback").inject(replace(env_of(lake), table="lake.none"), "step0")
    assert ForeignWriter(act="expire").problem(starts_target=False) is not None


def test_a_writer_that_always_wins_is_said(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """An undoing that finds no room does not claim to be one."""
    slept: list[float] = []
    injection = ForeignInjection(ForeignWriter(act="rollback"), env_of(lake), sleep=slept.append)

    def lost(*_: object) -> int:
        raise CatalogFailed("main has moved")

    monkeypatch.setattr("chaos.table.foreign.add_again", lost)
    with pytest.raises(HealFailed, match="could not do it beside"):
        injection.heal()
    assert slept
