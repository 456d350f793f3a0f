"""Events become rows exactly, and one that cannot is set aside."""

from __future__ import annotations

import io

import msgspec
import pyarrow.parquet as pq

from collector.encode import SCHEMA, to_parquet, to_rows
from tests.collector.keep_support import event, events


def test_a_poison_event_is_set_aside_and_the_others_become_rows() -> None:
    """Invalid UTF-8 in one event of many costs that event only, and says why."""
    bad = event(5, data=b'"\xff"')
    rows, poison = to_rows([*events(0, 5), bad, *events(6, 4)])
    assert rows.num_rows == 9
    assert len(poison) == 1
    assert "UTF8" in poison[0].reason.upper().replace("-", "")
    assert msgspec.msgpack.decode(poison[0].event)[0] == "id-5"


def test_a_time_beyond_64_bits_is_poison() -> None:
    """A number no timestamp can hold does not stop the flush."""
    rows, poison = to_rows([event(1), msgspec.structs.replace(event(2), time_us=2**63)])
    assert (rows.num_rows, len(poison)) == (1, 1)


def test_bad_extensions_are_poison() -> None:
    """Bytes that are no UTF-8 are found in every text column."""
    assert len(to_rows([msgspec.structs.replace(event(2), extensions=b"\xc0\xa0")]).poison) == 1


def test_no_events_give_no_rows() -> None:
    """An empty list is a table with the schema and no rows."""
    assert to_rows([]).table.schema == SCHEMA


def test_the_same_rows_give_the_same_bytes_with_the_flush_id_inside() -> None:
    """A file written again after a crash is the same object."""
    rows = to_rows(events(0, 100)).table
    data = to_parquet(rows, "c/1/1")
    assert data == to_parquet(to_rows(events(0, 100)).table, "c/1/1")
    assert pq.read_metadata(io.BytesIO(data)).metadata[b"collector.flush-id"] == b"c/1/1"
