"""The clocks of recovery, from a hand-made run with one fault from 20 s to 30 s."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from loadtests.records.jsonl import JsonlWriter
from loadtests.records.ledger import Outcome
from reports.runrecords import read_run
from reports.sections.clocks import clocks_section, detection_power
from tests.histories import HandMadeRun, mono_ns

QUIET: dict[str, Any] = {"rules": []}


@pytest.fixture
def run(tmp_path: Path) -> HandMadeRun:
    made = HandMadeRun(tmp_path)
    made.fault("catalog-down", 20, 30)
    return made


def looked(run: HandMadeRun, *looks: tuple[float, float, int]) -> None:
    """Looks of the auditor: when, age of the oldest pending event, how many were pending."""
    writer = JsonlWriter(run.run.visible, "visible", "abcd1234")
    for at, age_s, pending in looks:
        writer.append({"t_ns": mono_ns(at), "snapshots": 0, "files": [], "freshness_s": age_s, "pending": pending})
    writer.close()


def clocks(run: HandMadeRun, alerts: dict[str, Any] = QUIET) -> dict[str, Any]:
    (row,) = clocks_section(read_run(run.written()), alerts)
    return row


def test_four_clocks_start_when_the_fault_is_healed(run: HandMadeRun) -> None:
    """First ack after two seconds, last error after three, drained after five, fresh after six."""
    run.acked(1, at=10)
    run.refused(2, at=25)
    run.acked(3, at=32)
    run.refused(4, at=33)
    run.acked(5, at=34)
    looked(run, (15, 0.5, 10), (25, 5.0, 50), (33, 8.0, 60), (35, 4.0, 20), (36, 0.4, 5))

    found = clocks(run)

    assert [found[name] for name in ("first_ack_s", "errors_normal_s", "drained_s", "freshness_normal_s")] == [
        2,
        3,
        5,
        6,
    ]
    assert (found["mitigated_s"], found["recovered_s"], found["detected_s"]) == (10, 16, None)


def test_what_never_happened_has_no_time(run: HandMadeRun) -> None:
    """No ack, never drained, stale to the end."""
    run.refused(2, at=35)
    looked(run, (15, 0.5, 10), (35, 15.0, 50), (50, 30.0, 50))

    found = clocks(run)

    assert [found[name] for name in ("first_ack_s", "drained_s", "freshness_normal_s", "recovered_s")] == [None] * 4


def test_an_ack_of_a_request_sent_before_the_heal_does_not_count(run: HandMadeRun) -> None:
    """It may have been waiting."""
    run.batch(1, 1, outcome=Outcome.ACKED, at=29)
    assert clocks(run)["first_ack_s"] is None


def test_detection_is_the_first_page_or_mark_within_the_fault(run: HandMadeRun) -> None:
    """Tickets, and pages of another time, are not; a mark of an operator is."""
    rules = [
        {"severity": "ticket", "fired_at_s": 21.0},
        {"severity": "page", "fired_at_s": 12.0},
        {"severity": "page", "fired_at_s": 27.5},
        {"severity": "page", "fired_at_s": None},
    ]
    assert clocks(run, {"rules": rules})["detected_s"] == 7.5
    run.timeline("operator", at=23, action="mark", text="paged: the catalog")
    run.timeline("operator", at=26, action="mark", text="mitigated")
    found = clocks(run, {"rules": rules})
    assert (found["detected_s"], found["mitigated_s"]) == (3, 6)


def test_kills_bound_what_was_not_seen(run: HandMadeRun) -> None:
    """Nothing lost in three kills: at most three in three, so no claim; in thirty, a tenth; nothing once something was lost."""
    for _ in range(10):
        run.step("healed", at=31, step=1, fault="kill-collector", measured={"status": -9, "times": 3})
    run.timeline("process", name="target", state="ready", pid=1)
    records = read_run(run.written())
    assert detection_power(records, 0) == {"kills": 30, "loss_per_kill_below": 0.1}
    assert detection_power(records, 1)["loss_per_kill_below"] is None


def test_without_kills_nothing_is_claimed(run: HandMadeRun) -> None:
    """Zero kills bound nothing."""
    assert detection_power(read_run(run.written()), 0) == {"kills": 0, "loss_per_kill_below": None}
