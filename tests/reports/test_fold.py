"""One fold over a data file, against a naive reading of the same rows."""

from __future__ import annotations

from collections import Counter

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtests.records.content import Content
from loadtests.records.identity import Identity
from loadtests.records.target import Columns
from reports import fold as fold_module
from reports.fold import Subject, fold, same_json
from tests.reports.tables import RUN_ID, SEED, events

SUBJECT = Subject(RUN_ID, Identity(SEED, RUN_ID), Content(SEED), Columns(type="type"))
ROWS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 50)), max_size=60)


def table_of(rows: list[tuple[int, int]]) -> pa.Table:
    return pa.concat_tables([events([s], producer=p) for p, s in rows]) if rows else events([])


@settings(max_examples=40, deadline=None)
@given(ROWS, st.integers(1, 20))
def test_a_fold_counts_what_is_there(rows: list[tuple[int, int]], batch: int) -> None:
    """Producers may be mixed, events repeated, batches cut anywhere."""
    seen = fold(table_of(rows).combine_chunks().to_batches(max_chunksize=batch), SUBJECT)

    counted = {
        (p, s): 1 + int(c.copies[c.again == s].sum())
        for p, c in seen.found.items()
        for s in c.keys.sequences().tolist()
    }
    assert counted == Counter(rows)
    assert (seen.rows, seen.ours, seen.foreign, seen.stray, seen.altered) == (len(rows), len(rows), 0, 0, {})


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.binary(), pa.large_binary(), pa.string_view()])
def test_any_text_type_will_do(kind: pa.DataType) -> None:
    """Engines write strings in several types."""
    rows = events(range(20))
    cast = pa.table({name: rows[name].cast(kind) for name in rows.column_names})

    seen = fold(cast.to_batches(), SUBJECT)

    assert seen.found[0].keys.count == 20
    assert not seen.altered


def test_data_may_be_a_struct() -> None:
    """A target may parse the JSON; its values must be those that were sent."""
    rows = events(range(3))
    parsed = [msgspec.json.decode(text, type=dict[str, str]) for text in rows["data"].to_pylist()]
    right = fold(rows.set_column(3, "data", pa.array(parsed)).to_batches(), SUBJECT)
    parsed[1]["n"] = "000000000009"
    wrong = fold(rows.set_column(3, "data", pa.array(parsed)).to_batches(), SUBJECT)

    assert not right.altered
    assert wrong.altered[0].keys.sequences().tolist() == [1]


@pytest.mark.parametrize("position", [0, 5, 60, -1])
def test_every_byte_of_the_content_counts(position: int) -> None:
    """A flip anywhere is seen, and shown beside what was sent."""
    rows = events(range(10))
    texts = rows["data"].to_pylist()
    flipped = bytearray(texts[4].encode())
    flipped[position] ^= 1
    texts[4] = flipped.decode()

    seen = fold(rows.set_column(3, "data", pa.array(texts)).to_batches(), SUBJECT)

    assert seen.altered[0].keys.sequences().tolist() == [4]
    assert seen.altered_examples[0]["stored"] == texts[4]
    assert seen.altered_examples[0]["sent"] == rows["data"][4].as_py()


def test_one_odd_length_does_not_hide_another_flaw() -> None:
    """A batch with rows of several lengths is compared byte by byte all the same."""
    rows = events(range(10))
    texts = rows["data"].to_pylist()
    texts[2] = '{"n":"forged"}'
    texts[7] = texts[7].replace('"n":"0', '"n":"1')

    seen = fold(rows.set_column(3, "data", pa.array(texts)).to_batches(), SUBJECT)

    assert seen.altered[0].keys.sequences().tolist() == [2, 7]


def test_missing_content_is_altered_content() -> None:
    """A null is not what was sent."""
    rows = events(range(3))
    seen = fold(rows.set_column(3, "data", pa.array([None, *rows["data"].to_pylist()[1:]])).to_batches(), SUBJECT)

    assert seen.altered[0].keys.sequences().tolist() == [0]


def test_contents_swapped_between_events_are_altered() -> None:
    """Each row has content of this run, but not its own."""
    rows = events(range(2))
    seen = fold(rows.set_column(3, "data", pa.array(rows["data"].to_pylist()[::-1])).to_batches(), SUBJECT)

    assert seen.altered[0].keys.count == 2


def test_a_large_file_is_counted_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counting in parts gives the same result."""
    rows = events([*range(200), *range(100)])
    whole = fold(rows.to_batches(), SUBJECT)
    monkeypatch.setattr(fold_module, "_PENDING_ROWS", 30)
    parts = fold(rows.combine_chunks().to_batches(max_chunksize=7), SUBJECT)

    assert np.array_equal(parts.found[0].keys.sequences(), whole.found[0].keys.sequences())
    assert np.array_equal(parts.found[0].again, whole.found[0].again)


@pytest.mark.parametrize(
    ("stored", "same"),
    [
        (b'{"b":1,"a":"x"}', True),
        (b' {"a": "x", "b": 1.0 }', True),
        (b'{"a":"x"}', False),
        (b"{", False),
        (b"\xff", False),
    ],
)
def test_json_is_compared_by_meaning(stored: bytes, same: bool) -> None:
    """Key order, white space and number form do not matter; values do."""
    assert same_json(stored, b'{"a":"x","b":1}') is same
