"""Events that the target keeps aside are accounted for: not lost, not rows either, and the verdict says so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from loadtests.records.identity import Identity, source_of
from loadtests.records.quarantine import read_quarantine, write_quarantine
from reports.verdict import Verdict
from tests.histories import A, B, C, HandMadeRun


def keep_aside(run: HandMadeRun, *events: int, reason: str = "cannot be encoded") -> None:
    info = run.run.info
    ids = Identity(info.seed, info.run_id)
    lines: list[dict[str, Any]] = [
        {"source": source_of(info.run_id, 0), "id": ids.ids(0, event, 1)[0].decode(), "reason": reason, "more": 1}
        for event in events
    ]
    write_quarantine(run.run.root, info.run_id, [*lines, {"reason": "a stored request is damaged"}])


def test_a_quarantined_event_is_not_lost(tmp_path: Path) -> None:
    """The first line does not claim that it is in the table; the check names how many and why."""
    run = HandMadeRun(tmp_path)
    run.acked(A, B, C)
    run.table(A, C)
    keep_aside(run, B)
    verdict = run.judge()
    check = verdict.check("events.quarantined")

    assert verdict.verdict is Verdict.PASS
    assert (verdict.totals.lost, check.counts) == (0, {"quarantined": 1, "listed": 2})
    assert "1 acknowledged events are in quarantine instead of the table, by the target's own word" in check.claim
    assert check.evidence[0] == "1 x cannot be encoded"
    assert check.examples[0]["first"] == B
    assert verdict.first_screen[1].startswith("2 acknowledged events are in the table, 1 in the target's quarantine;")


def test_what_is_in_no_quarantine_is_lost_all_the_same(tmp_path: Path) -> None:
    """Of two missing events the one that is kept aside explains only itself."""
    run = HandMadeRun(tmp_path)
    run.acked(A, B, C)
    run.table(A)
    keep_aside(run, B)
    verdict = run.judge()

    assert (verdict.totals.lost, verdict.check("events.lost").verdict) == (1, Verdict.FAIL)
    assert verdict.check("events.quarantined").counts["quarantined"] == 1


def test_an_event_that_is_in_the_table_too_is_in_the_table(tmp_path: Path) -> None:
    """Listed or not, it is there; events of other runs and lines without an identity are nobody's."""
    run = HandMadeRun(tmp_path)
    run.acked(A)
    run.table(A)
    keep_aside(run, A)

    assert run.judge().check("events.quarantined").counts == {"quarantined": 0, "listed": 2}


def test_a_run_whose_target_was_not_asked_has_no_quarantine(tmp_path: Path) -> None:
    """Nothing is read, nothing is claimed."""
    run = HandMadeRun(tmp_path)
    run.acked(A)
    run.table(A)

    assert list(read_quarantine(run.run.root)) == []
    assert run.judge().check("events.quarantined").claim == "no acknowledged event is kept aside in quarantine"
