"""What an event says can be recomputed from (seed, producer, sequence) alone."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtests.records.content import TYPE_NAMES, Content

SEQUENCES = st.lists(st.integers(0, 2**32 - 1), max_size=40)


@settings(deadline=None)
@given(st.integers(0, 2**31), st.integers(0, 65_535), SEQUENCES)
def test_data_is_json_of_one_width_that_names_its_sequence(seed: int, producer: int, sequences: list[int]) -> None:
    """Every `data` is valid JSON, as long as the next, and starts with its twelve-digit sequence."""
    content = Content(seed)
    texts = content.expected(producer, np.array(sequences, dtype=np.uint64)).tolist()
    assert {len(text) for text in texts} <= {content.width(producer)}
    assert [json.loads(text)["n"] for text in texts] == [f"{n:012}" for n in sequences]


@settings(deadline=None)
@given(st.integers(0, 2**31), st.integers(0, 65_535), SEQUENCES)
def test_data_is_what_plain_arithmetic_says(seed: int, producer: int, sequences: list[int]) -> None:
    """The vectorised text equals (sequence * factor + offset) mod a prime, computed by Python's integers."""
    content = Content(seed)
    pairs = np.array([0, 1], dtype=np.uint64)
    zero, one = (json.loads(text) for text in content.expected(producer, pairs).tolist())
    got = content.expected(producer, np.array(sequences, dtype=np.uint64)).tolist()
    prime = 99_999_989
    for sequence, text in zip(sequences, got, strict=True):
        for name in "abcd":
            step = int(one[name]) - int(zero[name])
            assert json.loads(text)[name] == f"{(int(zero[name]) + step * sequence) % prime:08}"


def test_a_range_is_its_sequences_across_blocks() -> None:
    """`data` is `expected` for consecutive sequences, whatever the block size inside."""
    content = Content(7)
    some = np.array([0, 16_383, 16_384, 39_999], dtype=np.uint64)
    assert content.data(1, 0, 40_000)[some.astype(int)].tolist() == content.expected(1, some).tolist()
    assert content.data(1, 5, 0).tolist() == []


def test_seed_and_producer_change_content() -> None:
    """Two producers, or two seeds, never say the same for one sequence."""
    first = Content(7).data(0, 0, 1000)
    assert not (first == Content(7).data(1, 0, 1000)).any()
    assert not (first == Content(8).data(0, 0, 1000)).any()
    assert (first == Content(7).data(0, 0, 1000)).all()


def test_version_one_is_frozen() -> None:
    """Recorded runs are judged by recomputing content: this text must never change within version 1."""
    assert Content(7).data(3, 41, 1).tolist() == [
        b'{"n":"000000000041","a":"91948761","b":"10790515","c":"23374568","d":"13945730","pad":"8c7b33ab9f53f5868c7b33ab9f53f586"}'
    ]


def test_types_have_their_shares() -> None:
    """Over many sequences each type comes as often as its weight says, and never without one."""
    weights = {"page.view": 90, "click": 9, "purchase": 1}
    types = Content(7, weights).types(0, np.arange(100_000, dtype=np.uint64))
    shares = np.bincount(types, minlength=len(TYPE_NAMES)) / 1000
    assert shares == pytest.approx([90, 9, 0, 1, 0], abs=0.5)


def test_types_are_a_function_of_producer_and_sequence() -> None:
    """The seed plays no part; asking in another order gives the same answers."""
    sequences = np.arange(1000, dtype=np.uint64)
    types = Content(1).types(2, sequences)
    assert (Content(9).types(2, sequences[::-1].copy()) == types[::-1]).all()
    assert (Content(1).types(3, sequences) != types).any()


@pytest.mark.parametrize("weights", [{"page.view": 0}, {"page.view": -1, "click": 2}, {"pageview": 1}])
def test_wrong_weights_are_refused_with_the_known_names(weights: dict[str, float]) -> None:
    """Unknown names, negative shares and nothing at all are errors that say what there is."""
    with pytest.raises(ValueError, match=r"use non-negative shares of page\.view, click"):
        Content(7, weights)


def test_types_follow_the_phase_from_its_turn_on():
    """Names of its own, shares by phase, and the same answer in any order; before the first turn the whole's shares hold."""
    phases = [{"order": 1.0}, {"order": 1.0, "refund": 3.0}]
    content = Content(7, {"order": 5.0, "refund": 3.0}, phases=phases)
    content.turn(0, 400, 1)
    content.turn(0, 0, 0)
    content.turn(0, 800, 0)
    sequences = np.arange(1000, dtype=np.uint64)

    types = content.types(0, sequences)

    refund = content.names.index("refund")
    assert content.names == ("order", "refund")
    assert not (types[:400] == refund).any()
    assert abs(int((types[400:800] == refund).sum()) - 300) <= 3
    assert not (types[800:] == refund).any()
    assert (content.types(0, sequences[::-1].copy()) == types[::-1]).all()
    assert abs(int((content.types(1, sequences) == refund).sum()) - 375) <= 10


def test_too_many_types_are_refused():
    """An index is one byte."""
    many = {f"type-{number}": 1.0 for number in range(300)}
    with pytest.raises(ValueError, match="at most 250"):
        Content(7, many, phases=[many])
