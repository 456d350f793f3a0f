"""What an ended run left injected is undone; a run that goes on is left alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from chaos.errors import BadState
from chaos.journal import Journal
from chaos.leftovers import describe, heal_leftovers, put_back_leftovers
from chaos.table.mutate import Original
from chaos.table.originals import Originals
from loadtests.records.documents import write_document
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


def a_damaged_table(runs: Path, location: Path) -> tuple[RunDir, Path]:
    """A run that ended after it had cut an object of its table short, and before it was put back."""
    run, journal = a_run(runs, location / "left")
    journal.close()
    victim = location / "manifest.avro"
    victim.write_bytes(b"cut")
    whole = b"a whole manifest"
    Originals(run.root / "originals").keep(Original(str(victim), whole, None), b"cut")
    write_document(run.stack, {"direct": {"catalog": {"uri": "http://127.0.0.1:1"}}, "table": "a.b"})
    return run, victim


def test_damage_on_a_stack_that_is_still_up_is_put_back_once(tmp_path: Path) -> None:
    """Its catalog is the one that the run wrote down."""
    _, victim = a_damaged_table(tmp_path / "runs", tmp_path)
    up = {"uri": "http://127.0.0.1:1"}

    healed = put_back_leftovers(tmp_path / "runs", up)

    assert [(one.ok, one.entry["path"]) for one in healed] == [(True, str(victim))]
    assert describe(healed[0]).startswith(f"healed: object {victim} (16 bytes put back")
    assert victim.read_bytes() == b"a whole manifest"
    assert put_back_leftovers(tmp_path / "runs", up) == []


@pytest.mark.parametrize("up", [None, {"uri": "http://127.0.0.1:2"}])
def test_damage_on_a_stack_that_is_gone_is_given_up(tmp_path: Path, up: dict[str, str] | None) -> None:
    """Nothing is written anywhere, it is said once, and not tried again."""
    _, victim = a_damaged_table(tmp_path / "runs", tmp_path)

    healed = put_back_leftovers(tmp_path / "runs", up)

    assert [(one.ok, one.detail) for one in healed] == [(True, "its storage ended with the run")]
    assert victim.read_bytes() == b"cut"
    assert put_back_leftovers(tmp_path / "runs", up) == []


def test_damage_of_a_run_that_goes_on_stays(tmp_path: Path) -> None:
    """The verdict is to be about damage that is there."""
    run, victim = a_damaged_table(tmp_path / "runs", tmp_path)
    journal = Journal(run.journal)

    assert put_back_leftovers(tmp_path / "runs", {"uri": "http://127.0.0.1:1"}) == []
    assert victim.read_bytes() == b"cut"
    journal.close()


def test_what_something_else_has_changed_since_is_left_and_said(tmp_path: Path) -> None:
    """A repair is worth more than the original."""
    _, victim = a_damaged_table(tmp_path / "runs", tmp_path)
    victim.write_bytes(b"repaired")

    [one] = put_back_leftovers(tmp_path / "runs", {"uri": "http://127.0.0.1:1"})

    assert (one.ok, victim.read_bytes()) == (False, b"repaired")
    assert describe(one).startswith("NOT healed: object")
