"""Damage: who noticed it first, and when it was over."""

from __future__ import annotations

from typing import Any

from reports.sections.damage import damage, sentence

S = 1_000_000_000


def step(at_s: float, fault: str = "manifest-emptied", **params: Any) -> dict[str, Any]:
    return {"t_ns": int(at_s * S), "event": "step", "state": "injected", "fault": fault, "params": params}


def reached(at_s: float, milestone: str) -> dict[str, Any]:
    return {"t_ns": int(at_s * S), "event": "drill", "state": "reached", "milestone": milestone}


def look(at_s: float, visible: int | None) -> dict[str, Any]:
    return {"t_ns": int(at_s * S), "visible": visible} if visible is not None else {"t_ns": int(at_s * S), "error": "x"}


FAILED = ([0, 1 * S, 12 * S, 13 * S], [0.0, 1.0, 1.0, 2.0])


def test_each_damage_says_who_noticed_and_when_it_was_over() -> None:
    """Seconds from the damage; what happened before it does not count."""
    timeline = [
        step(10, mutation="header-only"),
        reached(11.5, "detected"),
        reached(14, "mitigated"),
        reached(16, "recovered"),
    ]
    looks = [look(9, 500), look(10.4, 480), look(17, 600)]
    [row] = damage(timeline, looks, FAILED, 30 * S)
    assert row == {
        "damage": "manifest-emptied", "noticed_first_by": "reader", "writer_s": 3.0, "reader_s": 0.4, "doctor_s": 1.5,
        "mitigated_s": 4.0, "recovered_s": 6.0,
    }  # fmt: skip
    assert sentence([row]) == (
        "manifest-emptied noticed by the reader after 0.4 s, mitigated after 4.0 s, recovered after 6.0 s"
    )


def test_a_look_that_fails_is_noticing() -> None:
    """And a damage that nobody noticed says so."""
    [row] = damage([step(10, mutation="deleted")], [look(9, 1), look(11, None)], ([], []), 30 * S)
    assert (row["noticed_first_by"], row["reader_s"], row["recovered_s"]) == ("reader", 1.0, None)
    [silent] = damage([step(10, mutation="deleted")], [look(9, 1), look(11, 2)], ([], []), 30 * S)
    assert silent["noticed_first_by"] is None
    assert sentence([silent]) == "manifest-emptied was never noticed"


def test_what_is_over_notices_nothing_more() -> None:
    """A later damage does not count for one that was recovered from; two at once are noticed at once. Other faults are none."""
    over = [step(10, "a", mutation="x"), reached(11, "recovered"), step(20, "b", mutation="y"), reached(21, "detected")]
    first, second = damage([step(5, "slow-r2", latency_ms=5), *over], [], ([], []), 30 * S)
    assert (first["doctor_s"], second["doctor_s"]) == (None, 1.0)
    at_once = [step(10, "a", mutation="x"), step(11, "b", mutation="y"), reached(13, "detected")]
    assert [row["doctor_s"] for row in damage(at_once, [], ([], []), 30 * S)] == [3.0, 2.0]
    assert damage([], [], ([], []), 0) == []
