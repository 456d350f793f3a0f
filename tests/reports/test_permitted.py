"""A promise that was not made is not broken: what the contract permits to be lost does not fail, anything beyond does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from loadtests.records.series import SeriesWriter
from reports.verdict import Verdict
from tests.histories import HandMadeRun, mono_ns


def a_run(tmp_path: Path, **contract: Any) -> HandMadeRun:
    """Events 1 to 3 were acked, and only 3 is there; of its contract the target says *contract*."""
    run = HandMadeRun(tmp_path, capacity_events=100)
    document = yaml.safe_load(run.run.target.read_text())
    document["contract"] |= contract
    run.run.target.write_text(yaml.safe_dump(document))
    run.acked(1, 2, at=20)
    run.acked(3, at=40)
    run.table(3, at=41)
    return run


def killed(run: HandMadeRun, *, status: int = -9, at: float = 30) -> None:
    run.step("injected", at=at, fault="kill-collector")
    run.step("healed", at=at + 1, fault="kill-collector", requests_affected=3, measured={"status": status, "times": 1})


def fill(run: HandMadeRun, *values: tuple[float, float]) -> None:
    series = SeriesWriter(run.run.series, "target", "abcd1234")
    for at, value in values:
        series.add(mono_ns(at), "fill_ratio", value)
    series.close()


def test_what_died_with_the_process_was_never_promised(tmp_path: Path) -> None:
    """Under durability: memory. The check passes, and says how many are missing and why that may be."""
    run = a_run(tmp_path, durability="memory")
    killed(run)
    verdict = run.judge()
    check = verdict.check("events.lost")

    assert "as promised: 2 lost, as the contract permits" in " ".join(verdict.first_screen)
    assert check.verdict == Verdict.PASS
    assert check.claim == "2 acknowledged events are missing, as the contract permits (durability: memory)"
    assert (check.counts["lost"], check.counts["permitted"]) == (2, 2)


@pytest.mark.parametrize(
    ("durability", "status", "at"),
    [("fsync", -9, 30), ("page_cache", -9, 30), ("memory", 0, 30), ("memory", -9, 15)],
    ids=["promised", "written", "ended in order", "killed before"],
)
def test_what_was_promised_is_lost(tmp_path: Path, durability: str, status: int, at: float) -> None:
    """More was promised; or the process was asked to end; or it was killed before any of them was acked."""
    run = a_run(tmp_path, durability=durability)
    killed(run, status=status, at=at)
    check = run.judge().check("events.lost")

    assert check.verdict == Verdict.FAIL
    assert "permitted" not in check.counts


def test_a_loss_that_only_a_part_of_is_permitted_fails(tmp_path: Path) -> None:
    """The rest was acked after the kill."""
    run = a_run(tmp_path, durability="memory")
    killed(run)
    run.acked(4, at=50)
    check = run.judge().check("events.lost")

    assert check.verdict == Verdict.FAIL
    assert (check.counts["lost"], check.counts["permitted"]) == (3, 2)
    assert any("2 of them may be lost" in line for line in check.evidence)


@pytest.mark.parametrize(
    ("overflow", "values", "verdict"),
    [
        ("drop_oldest", [(10, 0.2), (25, 1.0), (35, 0.1)], Verdict.PASS),
        ("drop_oldest", [(10, 0.2), (25, 0.7)], Verdict.FAIL),
        ("drop_oldest", [(10, 1.0), (25, 0.7)], Verdict.FAIL),
        ("reject", [(10, 0.2), (25, 1.0)], Verdict.FAIL),
        ("block", [(10, 0.2), (25, 1.0)], Verdict.FAIL),
    ],
)
def test_a_full_buffer_may_drop_what_it_said_it_would(
    tmp_path: Path, overflow: str, values: list[tuple[float, float]], verdict: Verdict
) -> None:
    """Once it was full, and what it had before that."""
    run = a_run(tmp_path, overflow=overflow)
    fill(run, *values)

    assert run.judge().check("events.lost").verdict == verdict


@pytest.mark.parametrize(("durability", "verdict"), [("page_cache", Verdict.PASS), ("fsync", Verdict.FAIL)])
def test_what_was_not_synced_is_gone_with_the_power(tmp_path: Path, durability: str, verdict: Verdict) -> None:
    """Who promises the page cache loses nothing of his promise; the run no longer says that power loss was not tested."""
    run = a_run(tmp_path, durability=durability)
    run.step("injected", at=25, fault="power-cut")
    measured = {"status": -9, "writes": 7, "lost_writes": 2}
    run.step("healed", at=31, fault="power-cut", requests_affected=3, measured=measured)

    judged = run.judge()
    assert judged.check("events.lost").verdict is verdict
    assert "power loss" not in judged.sections["trust"]["not_tested"]


def test_a_killed_process_does_not_lose_the_page_cache(tmp_path: Path) -> None:
    """So the promise is broken, and power loss was not tested."""
    run = a_run(tmp_path, durability="page_cache")
    killed(run)

    judged = run.judge()
    assert judged.check("events.lost").verdict is Verdict.FAIL
    assert "power loss" in judged.sections["trust"]["not_tested"]
