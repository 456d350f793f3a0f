"""How the report writes numbers and names."""

from __future__ import annotations

import pytest

from reports.wording import Fact, duration, elapsed, facts_of, grid_of, label_of, number, value_of


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("lag_p99_ms", 4.0213, "4.02 ms"),
        ("probe_ms_before", 147.2, "147 ms"),
        ("held_s", 61.0, "61 s"),
        ("caught_up_s", None, "never, or no fault"),
        ("lag_p50_ms", None, "not measured"),
        ("max_fill", 0.97, "97 %"),
        ("capacity_events", 2000, "2,000 events"),
        ("snapshots_with_events", 13, "13"),
        ("offered_events_per_s", 400.6, "401 events/s"),
        ("first_refusal_unix_ns", 1_795_000_000_000_000_000, "2026-11-18 11:06:40 UTC"),
        ("content_checked", True, "yes"),
        ("statuses", {"202": 7, "-2": 3}, "202: 7, reset: 3"),
        ("params", {"latency_ms": 800}, "latency 800 ms"),
        ("names", ["a", "b"], "a, b"),
        ("names", [], "none"),
        ("seed", 1_000_000, "1000000"),
    ],
)
def test_a_value_is_written_with_the_unit_of_its_name(name: str, value: object, words: str) -> None:
    """Units come from the field's name, as everywhere in the records."""
    assert value_of(name, value) == words


@pytest.mark.parametrize(("seconds", "words"), [(8.44, "8.44 s"), (252, "4 m 12 s"), (3900, "1 h 5 m")])
def test_durations_are_written_for_people(seconds: float, words: str) -> None:
    """Two units at most."""
    assert duration(seconds) == words


@pytest.mark.parametrize(
    ("seconds", "words"), [(0, "00:00.0"), (83.44, "01:23.4"), (59.97, "01:00.0"), (3723, "1:02:03")]
)
def test_places_on_the_time_axis_are_elapsed_time(seconds: float, words: str) -> None:
    """The next minute is not written as the sixtieth second."""
    assert elapsed(seconds) == words


@pytest.mark.parametrize(
    ("value", "words"), [(0.0, "0"), (1234.5, "1,234"), (0.01234, "0.0123"), (float("inf"), "inf")]
)
def test_numbers_have_three_significant_digits(value: float, words: str) -> None:
    """Unless they are whole."""
    assert number(value) == words


def test_a_label_is_words_without_the_unit() -> None:
    """Known abbreviations keep their case."""
    assert label_of("slow_r2_ms") == "Slow R2"
    assert label_of("probe_ms_before") == "Probe before"


def test_lists_of_objects_become_tables() -> None:
    """Columns are all that any row has; a row without one has an empty cell."""
    facts, grids = facts_of({"lag_ms": 2, "held": [{"a": 1}, {"b": None}]})

    assert facts == [Fact("Lag", "2 ms")]
    assert grids == [grid_of("What was held", [{"a": 1}, {"b": None}])]
    assert grids[0].rows == (("1", ""), ("", "not measured"))
