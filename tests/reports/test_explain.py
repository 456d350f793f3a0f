"""Anomalies one by one."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from reports.explain import SETS, main
from reports.visible import visible
from tests.histories import A, B, C, D, HandMadeRun


@pytest.fixture
def run(tmp_path: Path) -> HandMadeRun:
    return HandMadeRun(tmp_path)


def explained(run: HandMadeRun, what: str, *options: str) -> str:
    result = CliRunner().invoke(main, [str(run.written()), what, *options])
    assert result.exit_code == 0, result.output
    return result.output


def test_a_lost_event_is_told_down_to_its_object(run: HandMadeRun) -> None:
    """Attempts, stage, object, flush, and the fault."""
    run.fault("slow-r2", 19, 25)
    run.acked(A)
    run.unknown(B, at=20)
    run.acked(B, at=21, attempt=2)
    run.table(A)
    path = run.table(B, stage="object", flush="c1/7/88")

    text = explained(run, "lost")

    assert "sequence 1\n" in text
    assert "attempt   1 (normal) sent 11:33:40.000, answered after 0.0 ms: no HTTP status (-3), unknown" in text
    assert "attempt   2 (normal) sent 11:33:41.000, answered after 0.0 ms: 202, acked" in text
    assert "stage     object: in Parquet objects that no manifest references" in text
    assert path in text
    assert "c1/7/88" in text
    assert "fault     during slow-r2" in text


def test_a_duplicated_event_is_told_with_both_files_and_its_cause(run: HandMadeRun) -> None:
    """Both objects, both snapshots."""
    run.acked(A)
    one, two = run.table(A, flush="f1"), run.table(A, flush="f1")

    text = explained(run, "duplicated")

    assert one in text
    assert two in text
    assert "cause     two snapshots of one flush" in text


@pytest.mark.parametrize("what", sorted(SETS))
def test_nothing_to_explain_is_said(run: HandMadeRun, what: str) -> None:
    """Every set answers, also when it is empty."""
    run.acked(A)
    run.table(A)

    assert explained(run, what) == f"No event of this run is {what}.\n"


def test_stuck_events_are_not_called_lost(run: HandMadeRun) -> None:
    """The word is the judge's."""
    run.acked(A, B)
    run.table(A)
    run.ended(settle="timeout", buffered_at_end=1)

    assert "No event of this run is lost" in explained(run, "lost")
    assert "sequence 1\n" in explained(run, "stuck")


def test_unknown_events_are_told_whether_they_landed_or_not(run: HandMadeRun) -> None:
    """Both kinds are printed."""
    run.acked(A)
    run.unknown(B)
    run.attempted(C)
    run.table(A, B)

    text = explained(run, "unknown")

    assert "stage     scan: in the table" in text
    assert "no answer recorded: unknown" in text


def test_the_limit_is_kept_and_the_rest_counted(run: HandMadeRun) -> None:
    """`... 2 of 4`."""
    run.acked(A, B, C, D)
    run.no_table()

    text = explained(run, "lost", "--limit", "2")

    assert text.count("sequence") == 2
    assert text.endswith("... 2 of 4; --limit shows more.\n")


def test_hostile_text_does_not_steer_the_terminal(run: HandMadeRun) -> None:
    """Control characters are printed as escapes."""
    assert visible("\x1b[2Jid\n") == "\\x1b[2Jid\\n"
    run.acked(A)
    run.table(A, flush="\x1b[31mred")
    run.table(A)

    assert "\x1b" not in explained(run, "duplicated")
