"""What steps did to requests, told from records: each request is in the span that it belongs to, and disturbed or not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from reports.runrecords import read_run
from reports.sections.effects import WHEN, effects, effects_section, gateway_requests
from reports.windows import Step
from tests.histories import HandMadeRun

S = 1_000_000_000
BETWEEN = Step(0, "slow-r2", "healed", 10 * S, 14 * S)


def line(begun_s: float, ms: float = 5, **more: Any) -> dict[str, Any]:
    usual = {"upstream": "r2", "path": "/analytics/x", "status": 200, "outcome": "passed"}
    return {"t_ns": int(begun_s * S), "ms": ms, **usual, **more}


def counts(*lines: dict[str, Any]) -> dict[str, tuple[int, int]]:
    """Requests and disturbed ones before, during and after the one step on r2."""
    by_path = gateway_requests(lines)
    rows = effects([BETWEEN], {"ingest": by_path["catalog"], **by_path})
    assert [row["path"] for row in rows] in ([], ["r2"])
    return {when: (row[when]["requests"], row[when]["disturbed"]) for row in rows for when in WHEN}


@pytest.mark.parametrize(
    ("one", "when"),
    [
        (line(6.1), {"before"}),
        (line(9.5, ms=1000), {"before", "during"}),  # open when the fault began
        (line(12), {"during"}),
        (line(13.9, ms=30_000), {"during"}),
        (line(17.9), {"after"}),
        (line(5.9), set()),
        (line(18.1), set()),
    ],
)
def test_a_request_is_counted_where_it_belongs(one: dict[str, Any], when: set[str]) -> None:
    """Before and after are as long as the step, which is from 10 to 14 s."""
    assert {name for name, (requests, _) in counts(one).items() if requests} == when


@pytest.mark.parametrize(
    "answer",
    [{"status": 503}, {"status": 403}, {"status": None, "outcome": "client-gone"}, {"outcome": "answer-replaced"}],
)
def test_a_request_whose_sender_did_not_get_what_it_asked_for_is_disturbed(answer: dict[str, Any]) -> None:
    """By a status, by silence, or by a rule of the gateway."""
    assert counts(line(12, **answer), line(12))["during"] == (2, 1)


def test_an_absent_object_disturbs_nobody() -> None:
    """That is how absence is learned."""
    assert counts(line(12, status=404))["during"] == (1, 0)


@pytest.mark.parametrize("other", [{"begin": True}, {"released": True}, {"path": "/icequake-probe"}])
def test_what_is_no_request_of_the_target_is_left_out(other: dict[str, Any]) -> None:
    """Second lines of one request, and our own probes."""
    assert counts(line(12, **other)) == {}


def test_a_step_that_never_was_has_no_row() -> None:
    """There is no span to count in."""
    requests = gateway_requests([line(12)])
    assert effects([Step(0, "slow-r2", "void")], {"ingest": requests["catalog"], **requests}) == []


def test_the_section_counts_what_clients_sent(tmp_path: Path) -> None:
    """A run without gateway still has its ledgers."""
    run = HandMadeRun(tmp_path, capacity_events=100)
    run.acked(1, 2, at=12.0)
    run.refused(3, at=13.0)
    run.acked(4, at=15.0)
    run.fault("kill-collector", 10.0, 14.0)
    rows = effects_section(read_run(run.written()))

    assert [(row["path"], row["fault"]) for row in rows] == [("ingest", "kill-collector")]
    assert [(rows[0][when]["requests"], rows[0][when]["disturbed"]) for when in WHEN] == [(0, 0), (3, 1), (1, 0)]
