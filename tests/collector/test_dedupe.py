"""The dedupe window: exact, bounded, and few runs however many flushes there were."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from collector.dedupe import Hashes, Window, concatenate, hash_events, run_from_bytes
from tests.collector.keep_support import event, events

KEY = b"k" * 32


def hashes(*pairs: tuple[int, int]) -> Hashes:
    return Hashes(np.array([p[0] for p in pairs], np.uint64), np.array([p[1] for p in pairs], np.uint64))


def record(window: Window, found: Hashes, now: float) -> list[bool]:
    repeated = window.duplicates(found, now)
    window.apply(window.plan(Hashes(found.high[~repeated], found.low[~repeated]), now, now))
    return [bool(value) for value in repeated]


def test_the_pair_is_the_identity() -> None:
    """Equal ids of different sources differ, and the border between source and id cannot be shifted."""
    found = hash_events([event(1), event(1, source="urn:t"), event(1, data=b"other")], KEY)
    assert (found.high[0], found.low[0]) == (found.high[2], found.low[2])
    assert (found.high[0], found.low[0]) != (found.high[1], found.low[1])
    assert len(hash_events(events(0, 0), KEY)) == 0


def test_the_key_changes_every_hash() -> None:
    """Without the buffer's key nobody can predict a hash."""
    assert hash_events([event(1)], KEY).high[0] != hash_events([event(1)], b"x" * 32).high[0]


@given(st.lists(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=12), max_size=12))
def test_it_agrees_with_a_set(batches: list[list[tuple[int, int]]]) -> None:
    """Over any batches, with many equal halves, exactly the repeats are found."""
    window = Window(1000, 10_000)
    seen: set[tuple[int, int]] = set()
    for number, batch in enumerate(batches):
        expected = []
        for pair in batch:
            expected.append(pair in seen)
            seen.add(pair)
        assert record(window, hashes(*batch), float(number)) == expected


def test_many_flushes_leave_few_runs() -> None:
    """The number of runs to search grows with the logarithm of the number of flushes."""
    window = Window(1e9, 1_000_000)
    random = np.random.default_rng(1)
    for number in range(300):
        columns = random.integers(0, 2**63, (2, 50)).astype(np.uint64)
        record(window, Hashes(columns[0], columns[1]), float(number))
    assert len(window) == 15_000
    assert window.runs <= 10


def test_age_and_number_are_bounded() -> None:
    """What is older than the window, or too much, is forgotten, oldest first."""
    window = Window(80, 100)
    for now in range(0, 400, 20):
        record(window, hashes((now, now)), float(now))
    assert record(window, hashes((380, 380), (0, 0)), 400.0) == [True, False]
    assert len(window) < 12
    bounded = Window(1e9, 100)
    for now in range(50):
        record(bounded, hashes(*[(now, n) for n in range(10)]), float(now))
    assert len(bounded) <= 100
    assert record(bounded, hashes((49, 0), (0, 0)), 50.0) == [True, False]


def test_an_outage_does_not_shorten_the_window() -> None:
    """What an event that waited long may repeat is remembered until it is sealed."""
    window = Window(100, 1000)
    record(window, hashes((1, 1)), 0.0)
    assert list(window.duplicates(hashes((1, 1)), 90.0)) == [True]
    change = window.plan(hashes((2, 2)), 5000.0, 90.0)
    window.apply(change)
    assert list(window.duplicates(hashes((1, 1)), 90.0)) == [True]


def test_a_run_survives_its_encoding() -> None:
    """Stored and read back, a run finds the same hashes."""
    window = Window(100, 1000)
    change = window.plan(hashes((5, 1), (2**64 - 1, 2**64 - 1)), 1.0, 1.0)
    assert change.add is not None
    run = change.add
    again = Window(100, 1000, [run_from_bytes(run.id, run.oldest, run.newest, run.to_bytes())])
    assert list(again.duplicates(hashes((5, 1), (5, 2), (2**64 - 1, 2**64 - 1)), 1.0)) == [True, False, True]


def test_concatenating_nothing_gives_nothing() -> None:
    """No parts, no hashes."""
    assert len(concatenate([])) == 0
