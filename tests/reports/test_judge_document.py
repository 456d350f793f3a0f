"""The verdict as a document: what it measures, and how it is written and printed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from reports.judge import judge, main
from reports.verdict import Verdict, read_verdict
from tests.histories import A, B, C, HandMadeRun, mono_ns

PASS, FAIL, INCONCLUSIVE = Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE


@pytest.fixture
def run(tmp_path: Path) -> HandMadeRun:
    return HandMadeRun(tmp_path)


def test_the_worst_check_wins(run: HandMadeRun) -> None:
    """FAIL beats INCONCLUSIVE."""
    run.acked(A, B)
    run.table(A)
    run.ended(roundtrip=None)

    assert run.judge().verdict is FAIL


def test_commits_without_an_answer_are_settled_by_the_table(run: HandMadeRun) -> None:
    """Of two undecided commits the one with a snapshot of its time landed."""
    run.acked(A, B)
    run.table(A, at=21)
    run.table(B, at=31)
    run.commit(at=21)
    run.commit(at=31, outcome="answer-dropped")
    run.commit(at=55, outcome="answer-replaced", status=503)
    run.commit(at=56, status=409)

    flush = run.judge().sections["flush"]

    assert (flush["committed"], flush["failed"], flush["undecided"], flush["undecided_landed"]) == (1, 1, 2, 1)


def test_catching_up_is_measured_from_the_heal(run: HandMadeRun) -> None:
    """The last event acked before the heal was seen four seconds after it."""
    run.fault("slow-r2", 19, 30)
    run.acked(A, at=20)
    run.acked(B, at=29)
    run.acked(C, at=50)
    run.table(A, at=21)
    run.table(B, at=34)
    run.table(C, at=51)

    assert run.judge().sections["flush"]["caught_up_s"] == 4.0


def test_what_compaction_and_expiry_took_away_is_not_taken_for_never(run: HandMadeRun) -> None:
    """Data files and snapshots that were seen and are gone leave open when the target had caught up, and what landed."""
    run.fault("slow-r2", 19, 30)
    run.acked(A, at=20)
    run.acked(B, at=29)
    run.table(A, B, at=34)
    run.commit(at=25, outcome="answer-dropped")
    root = run.written()
    look = {"t_ns": 10**15, "snapshots_seen": 9, "files": [{"path": "s3://gone.parquet", "after_ns": 0}]}
    with (root / "visible.jsonl").open("a") as lines:
        lines.write(json.dumps(look) + "\n")

    document = judge(root)

    assert document.sections["flush"]["files_replaced"] >= 1
    said = next(line for line in document.first_screen if line.startswith("Flush"))
    assert "at least 0 landed (8 snapshots are not there any more)" in said
    assert "never" not in said


def test_capacity_is_the_time_until_the_first_refusal(tmp_path: Path) -> None:
    """2,000 events were full after 6 s of outage, so ten minutes need 200,000."""
    run = HandMadeRun(tmp_path, capacity_events=2000)
    run.fault("catalog-outage", 20, 40)
    run.acked(A, at=21)
    run.refused(B, at=26)
    run.table(A, at=41)

    capacity = run.judge().sections["capacity"]

    assert capacity["longest"]["refused_at_s"] == 6.0
    assert capacity["longest"]["needs_capacity_events"] == 200_000


def test_a_fault_acts_before_its_effect_has_been_measured(tmp_path: Path) -> None:
    """R2 so slow that measuring it took six seconds: the buffer was full before the fault counted as injected."""
    run = HandMadeRun(tmp_path, capacity_events=2000)
    run.step("injected", at=26, fault="slow-r2", began_ns=mono_ns(20))
    run.step("healed", at=40, fault="slow-r2", requests_affected=9)
    run.sampled(25, "fill_ratio", 1.0)
    run.acked(A, at=21)
    run.refused(B, at=25)
    run.table(A, at=41)

    longest = run.judge().sections["capacity"]["longest"]

    assert (longest["held_s"], longest["refused_at_s"], longest["seconds"]) == (5.0, 5.0, 20.0)


def test_a_refusal_with_room_left_is_not_the_end_of_the_buffer(tmp_path: Path) -> None:
    """Something else was refused, or there was a moment's trouble; the buffer held as long as the fault lasted."""
    run = HandMadeRun(tmp_path, capacity_events=2000)
    run.fault("manifest-emptied", 20, 40)
    run.sampled(22, "fill_ratio", 0.16)
    run.acked(A, at=21)
    run.refused(B, at=20.2)
    run.table(A, at=41)

    document = run.judge()

    assert document.sections["capacity"]["longest"]["held_s"] == 20.0
    said = next(line for line in document.first_screen if line.startswith("Capacity"))
    assert "held 20 s of manifest-emptied" in said
    assert "first refusal after 0 s, not for want of room" in said


def test_where_nobody_says_how_full_it_was_that_is_not_known(tmp_path: Path) -> None:
    """The refusal is taken for one of a full buffer, and the table does not claim that it was full."""
    run = HandMadeRun(tmp_path, capacity_events=2000)
    run.fault("catalog-outage", 20, 40)
    run.acked(A, at=21)
    run.refused(B, at=26)
    run.table(A, at=41)

    longest = run.judge().sections["capacity"]["longest"]

    assert (longest["full"], longest["max_fill"], longest["held_s"]) == (None, None, 6.0)


def test_a_moved_run_gives_the_same_bytes(run: HandMadeRun, tmp_path: Path) -> None:
    """A verdict is a pure function of the run directory."""
    run.fault("slow-r2", 19, 30)
    run.acked(*range(40))
    run.table(*range(30), 3)
    root = run.written()
    CliRunner().invoke(main, [str(root)])
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(root, elsewhere)
    CliRunner().invoke(main, [str(elsewhere)])

    assert (root / "verdict.json").read_bytes() == (elsewhere / "verdict.json").read_bytes()
    assert (root / "summary.txt").read_bytes() == (elsewhere / "summary.txt").read_bytes()


def test_the_command_writes_the_verdict_and_exits_by_it(run: HandMadeRun) -> None:
    """verdict.json, summary.txt, the first screen, and the exit code say the same."""
    run.acked(A, B)
    run.table(A)
    root = run.written()

    result = CliRunner().invoke(main, [str(root)])

    assert result.exit_code == 1
    assert result.output == (root / "summary.txt").read_text()
    assert result.output.startswith("FAIL  control on hand-made · 24 Nov 11:33 UTC · 1 m 10 s · seed 7 · exit 1\n")
    assert read_verdict(root / "verdict.json").first_screen == result.output.splitlines()
    assert "icequake explain abcd1234 lost" in result.output


def test_what_is_printed_cannot_steer_a_terminal(run: HandMadeRun) -> None:
    """Names of flushes are the target's; in terminal, verdict.json and summary.txt they stand as escapes."""
    run.acked(A)
    run.table(A, A, flush="\x1b[2J\u202eflush")
    root = run.written()

    result = CliRunner().invoke(main, [str(root)])

    assert "(flush \\x1b[2J\\u202eflush)" in result.output
    assert all(line.isprintable() for line in (root / "summary.txt").read_text().splitlines())


def test_a_run_whose_table_nobody_read_is_refused_with_a_sentence(run: HandMadeRun) -> None:
    """Exit 254, and what to do."""
    result = CliRunner().invoke(main, [str(run.run.root)])

    assert result.exit_code == 254
    assert "reports.observe" in result.output


def test_something_that_is_no_run_is_refused_with_a_sentence(tmp_path: Path) -> None:
    """Exit 254, also as JSON."""
    result = CliRunner().invoke(main, [str(tmp_path), "--json"])

    assert result.exit_code == 254
    assert '"code":"MissingRecord"' in result.output
