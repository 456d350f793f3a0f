"""The target's quarantine is read whole, however long; what could not be read is said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from chaos.drills.desk import AdminClient
from chaos.kept_aside import keep_quarantine
from loadtests.records.quarantine import NAME, read_quarantine
from tests.chaos.fakes import ok, replying

pytestmark = pytest.mark.integration
RUN_ID = "ab12cd34"


def lines(count: int, *, total: int | None = None) -> str:
    events: list[dict[str, Any]] = [{"source": "s", "id": f"{n:016x}", "reason": "no", "more": 1} for n in range(count)]
    last: list[dict[str, Any]] = [] if total is None else [{"total": total}]
    return "".join(json.dumps(one) + "\n" for one in [*events, *last])


def keep(answer: bytes, run: Path) -> str | None:
    with replying(lambda _: answer) as server:
        return keep_quarantine(AdminClient(f"{server.url}/admin", "t"), run, RUN_ID)


def test_every_event_is_kept_for_the_judge(tmp_path: Path) -> None:
    """Also more than fit in an answer that a person reads."""
    assert keep(ok(lines(3000, total=3000)), tmp_path) is None
    kept = list(read_quarantine(tmp_path))
    assert (len(kept), kept[0]["id"], kept[-1]["id"]) == (3000, f"{0:016x}", f"{2999:016x}")


@pytest.mark.parametrize(
    ("answer", "problem", "kept"),
    [
        (lines(2, total=5), "lists 2 of 5 events", 2),
        (lines(2), "does not end with its total: it was cut off after 2 events", 2),
        (lines(2) + "{", "2 events were: /quarantine did not answer JSON", 2),
        ("[]\n", "0 events were: /quarantine did not answer a JSON object", 0),
    ],
)
def test_a_list_that_is_not_whole_is_said_and_kept(tmp_path: Path, answer: str, problem: str, kept: int) -> None:
    """What was listed is accounted for; the rest counts as lost."""
    assert problem in str(keep(ok(answer), tmp_path))
    assert len(list(read_quarantine(tmp_path))) == kept


def test_a_target_without_a_quarantine_says_nothing_about_it(tmp_path: Path) -> None:
    """No list is not an empty list."""
    assert "was answered with 404" in str(keep(ok("no", "404 Not Found"), tmp_path))
    assert not (tmp_path / NAME).exists()
