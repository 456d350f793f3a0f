"""Ids are a bijection that can be undone, keyed by run, seed and producer; anything else is told apart."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtests.records.identity import INVALID, Identity, parse_source, source_of, to_hex

IDENTITY = Identity(7, "ab12cd34")
PRODUCERS = st.integers(0, 65_535)
SEQUENCES = st.integers(0, 2**64 - 1)


def inverted(texts: list[bytes], producer: int = 0) -> list[int]:
    return [int(n) for n in IDENTITY.invert(producer, np.array(texts, dtype="S16"))]


@settings(deadline=None)
@given(PRODUCERS, st.lists(SEQUENCES, max_size=50))
def test_what_was_minted_is_taken_back(producer: int, sequences: list[int]) -> None:
    """Inverting an id gives the sequence it was minted from, for every 64-bit sequence."""
    given_ = np.array(sequences, dtype=np.uint64)
    assert (IDENTITY.invert(producer, IDENTITY.ids_of(producer, given_)) == given_).all()


@settings(deadline=None)
@given(PRODUCERS, st.lists(SEQUENCES, min_size=2, max_size=50, unique=True))
def test_different_sequences_have_different_ids(producer: int, sequences: list[int]) -> None:
    """The permutation never maps two sequences to one id."""
    ids = IDENTITY.ids_of(producer, np.array(sequences, dtype=np.uint64))
    assert len(set(ids.tolist())) == len(sequences)


@settings(deadline=None)
@given(st.integers(0, 2**64 - 1))
def test_every_well_formed_id_belongs_to_exactly_one_sequence(value: int) -> None:
    """The permutation is onto: minting what an id inverts to gives that id again."""
    text = b"%016x" % value
    sequences = IDENTITY.invert(3, np.array([text], dtype="S16"))
    assert IDENTITY.ids_of(3, sequences).tolist() == [text]


@settings(deadline=None)
@given(SEQUENCES)
def test_hex_is_what_python_prints(value: int) -> None:
    """The vectorised digits equal `%016x`."""
    assert to_hex(np.array([value], dtype=np.uint64)).tolist() == [b"%016x" % value]


@settings(deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 300))
def test_a_range_is_its_sequences(first: int, count: int) -> None:
    """`ids` is `ids_of` for consecutive sequences."""
    wanted = IDENTITY.ids_of(1, np.arange(first, first + count, dtype=np.uint64))
    assert (IDENTITY.ids(1, first, count) == wanted).all()


@pytest.mark.parametrize(
    ("other", "producer"), [(Identity(8, "ab12cd34"), 0), (Identity(7, "ab12cd35"), 0), (IDENTITY, 1)]
)
def test_run_seed_and_producer_each_change_every_id(other: Identity, producer: int) -> None:
    """No id of one key is minted for the same sequence by another, nor inverts to a small sequence there."""
    ours, theirs = IDENTITY.ids(0, 0, 10_000), other.ids(producer, 0, 10_000)
    assert not (ours == theirs).any()
    assert not set(ours.tolist()) & set(theirs.tolist())
    assert (other.invert(producer, ours) > 2**40).all()


def test_equal_keys_mint_equal_ids() -> None:
    """A run can be repeated: nothing but seed, run and producer goes in. The value is frozen with version 1."""
    assert Identity(7, "ab12cd34").ids(0, 0, 2).tolist() == IDENTITY.ids(0, 0, 2).tolist()
    assert IDENTITY.ids(0, 0, 2).tolist() == [b"927c5323913b2e05", b"2831377abd23bccf"]


def test_ids_of_neighbours_share_no_prefix_order() -> None:
    """Consecutive ids are not ordered: an index that dedupes by id is not flattered."""
    ids = IDENTITY.ids(0, 0, 1000).tolist()
    rising = sum(a < b for a, b in itertools.pairwise(ids))
    assert 400 < rising < 600


HOSTILE = [
    b"ABCDEF0123456789", b"0123456789abcdeF", b"0123456789abcde", b"", b"0", b"0123456789abcdeg", b"0123456789abcde ",
    b"\x00" * 16, b"0123456789\x00bcdef", b"\x000123456789abcde", b"0x23456789abcdef", b"-123456789abcdef",
    b"0123456789abcd\xc3\xa9", b"\xff" * 16, b"0123456789abcde\n",
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE)
def test_an_id_that_is_not_sixteen_lower_case_hex_digits_is_invalid(text: bytes) -> None:
    """Upper case, too short, foreign characters and NULs give INVALID, and do not disturb their neighbours."""
    good = IDENTITY.ids(0, 41, 2).tolist()
    assert inverted([good[0], text, good[1]]) == [41, int(INVALID), 42]


@pytest.mark.parametrize("place", range(16))
def test_every_byte_value_is_judged_at_every_place(place: int) -> None:
    """Of 256 byte values exactly 0-9 and a-f are digits, wherever they stand."""
    texts = np.full((256, 16), ord("a"), dtype=np.uint8)
    texts[:, place] = np.arange(256)
    valid = {i for i, n in enumerate(IDENTITY.invert(0, texts).tolist()) if n != INVALID}
    assert valid == set(b"0123456789abcdef")


def test_seventeen_characters_are_for_the_caller_to_tell_apart() -> None:
    """S16 holds no more, so a longer id must not be cut into one of ours: numpy would do so silently."""
    long = IDENTITY.ids(0, 5, 1).tolist()[0] + b"0"
    assert inverted([long]) == [5]
    assert np.array([long]).dtype == "S17"


def test_both_shapes_of_ids_are_read_alike() -> None:
    """S16 and (n, 16) bytes mean the same; none is fine too; blocks do not show."""
    ids = IDENTITY.ids(0, 0, 70_000)
    as_bytes = np.frombuffer(ids.tobytes(), dtype=np.uint8).reshape(-1, 16)
    assert (IDENTITY.invert(0, as_bytes) == np.arange(70_000, dtype=np.uint64)).all()
    assert IDENTITY.invert(0, np.empty(0, dtype="S16")).tolist() == []


@settings(deadline=None)
@given(st.text("abcdefghijklmnopqrstuvwxyz0123456789", min_size=8, max_size=8), PRODUCERS)
def test_a_source_names_its_run_and_producer(run_id: str, producer: int) -> None:
    """`parse_source` undoes `source_of`."""
    assert parse_source(source_of(run_id, producer)) == (run_id, producer)


@pytest.mark.parametrize(
    "source",
    [
        "", "urn:icequake:", "urn:icequake:ab12cd34", "urn:icequake:ab12cd34:", "urn:icequake:ab12cd34:01",
        "urn:icequake:ab12cd34:-1", "urn:icequake:ab12cd34:1:2", "urn:icequake:ab12cd34:²", "urn:icequake:ab12cd34:1 ",
        "URN:icequake:ab12cd34:1", "xurn:icequake:ab12cd34:1", "https://example.org/1",
        "urn:icequake:ab12cd34:" + "9" * 5000,
    ],
)  # fmt: skip
def test_a_source_of_another_form_is_not_ours(source: str) -> None:
    """Near misses are somebody else's events."""
    assert parse_source(source) is None
