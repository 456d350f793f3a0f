"""Compact sets of sequences: what goes in comes out, whatever its shape."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from reports.keyset import BITMAP, RUNS, count, merge

SEQUENCES = st.one_of(
    st.lists(st.integers(0, 60), min_size=1, max_size=80),
    st.lists(st.integers(5000, 9000), min_size=1, max_size=80),
    st.lists(st.integers(0, 2**40 - 1), min_size=1, max_size=20),
)


@settings(deadline=None)
@given(SEQUENCES)
def test_counting_gives_distinct_members_and_further_copies(sequences: list[int]) -> None:
    """As a Counter would."""
    counted = count(np.array(sequences, dtype=np.uint64))
    naive = Counter(sequences)

    assert counted.keys.sequences().tolist() == sorted(naive)
    assert (counted.keys.first, counted.keys.last, counted.keys.count) == (min(naive), max(naive), len(naive))
    assert dict(zip(counted.again.tolist(), counted.copies.tolist(), strict=True)) == {
        s: n - 1 for s, n in naive.items() if n > 1
    }
    assert counted.rows == len(sequences)


@settings(deadline=None)
@given(SEQUENCES, st.integers(0, 9100), st.integers(1, 300))
def test_a_mask_shows_a_window_of_the_set(sequences: list[int], first: int, size: int) -> None:
    """Members inside the window, and none of those around it."""
    mask = count(np.array(sequences, dtype=np.uint64)).keys.mask(first, size)

    assert len(mask) == size
    assert (np.flatnonzero(mask) + first).tolist() == sorted(s for s in set(sequences) if first <= s < first + size)


@settings(deadline=None)
@given(SEQUENCES)
def test_runs_are_the_maximal_stretches(sequences: list[int]) -> None:
    """They cover the set, and no two touch."""
    starts, ends = count(np.array(sequences, dtype=np.uint64)).keys.runs()

    assert [s for a, b in zip(starts.tolist(), ends.tolist(), strict=True) for s in range(a, b + 1)] == sorted(
        set(sequences)
    )
    assert all(b + 1 < a for b, a in zip(ends.tolist(), starts.tolist()[1:], strict=False))


@settings(deadline=None)
@given(st.lists(SEQUENCES, min_size=1, max_size=4))
def test_merged_counts_are_those_of_all_rows_at_once(parts: list[list[int]]) -> None:
    """A file that is read in parts gives what it gives in one piece."""
    whole = count(np.array([s for part in parts for s in part], dtype=np.uint64))
    merged = merge([count(np.array(part, dtype=np.uint64)) for part in parts])

    assert merged.keys.sequences().tolist() == whole.keys.sequences().tolist()
    assert merged.again.tolist() == whole.again.tolist()
    assert merged.copies.tolist() == whole.copies.tolist()


def test_more_than_255_copies_do_not_wrap() -> None:
    """A counter of one byte would show 0 of 256 rows."""
    counted = count(np.full(256, 7, dtype=np.uint64))

    assert (counted.keys.count, counted.copies.tolist()) == (1, [255])


def test_a_set_takes_its_smaller_form() -> None:
    """A slice of consecutive events is two numbers; every third one is a bit for each."""
    assert count(np.arange(10_000, dtype=np.uint64)).keys.form == RUNS
    every_third = count(np.arange(0, 10_000, 3, dtype=np.uint64)).keys
    assert every_third.form == BITMAP
    assert len(every_third.payload) == 1250
