"""What an ended run left injected is undone; a run that goes on is left alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from chaos.errors import BadState
from chaos.journal import Journal
from chaos.leftovers import describe, heal_leftovers
from loadtests.records.rundir import RunDir, RunInfo
from loadtests.records.target import Ingest, Target


def a_run(runs: Path, left: Path) -> tuple[RunDir, Journal]:
    """A run that created the file *left* and journaled that it must go."""
    info = RunInfo(run_id="abcdefgh", scenario="s", target="t", seed=1)
    target = Target(name="t", ingest=Ingest(url="http://127.0.0.1:1/events"))
    run = RunDir.create(runs, info, scenario_text="", target=target)
    left.write_text("a fault")
    journal = Journal(run.journal, "abcdefgh")
    journal.add("1", {"kind": "file", "path": str(left)})
    return run, journal


def test_what_a_dead_run_left_is_undone_once(tmp_path: Path) -> None:
    """The first heal removes it and says so; the second has nothing to do."""
    left = tmp_path / "left"
    _, journal = a_run(tmp_path / "runs", left)
    journal.close()  # its warden is gone

    healed = heal_leftovers(tmp_path / "runs")

    assert [one.ok for one in healed] == [True]
    assert describe(healed[0]).startswith("healed: file")
    assert not left.exists()
    assert heal_leftovers(tmp_path / "runs") == []


def test_a_run_that_goes_on_is_left_alone(tmp_path: Path) -> None:
    """Its warden holds the journal, so its faults are its own."""
    left = tmp_path / "left"
    _, journal = a_run(tmp_path / "runs", left)

    assert heal_leftovers(tmp_path / "runs") == []
    assert left.exists()
    journal.close()


def test_an_unreadable_journal_is_one_sentence(tmp_path: Path) -> None:
    """A file that is no journal is named, not skipped."""
    run, journal = a_run(tmp_path / "runs", tmp_path / "left")
    journal.close()
    run.journal.write_text('{"schema": "icequake.other/1.0"}\n')

    with pytest.raises(BadState, match=r"journal\.jsonl"):
        heal_leftovers(tmp_path / "runs")
