"""Events to Arrow rows, and the one that cannot become a row set aside."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from collector.cloudevents import DATA_BINARY, DATA_JSON, DATA_TEXT, Event
from collector.store import Poison

SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("type", pa.string(), nullable=False),
        pa.field("time", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("time_text", pa.string()),
        pa.field("subject", pa.string()),
        pa.field("datacontenttype", pa.string()),
        pa.field("dataschema", pa.string()),
        pa.field("data_kind", pa.string()),
        pa.field("data", pa.string()),
        pa.field("data_binary", pa.binary()),
        pa.field("extensions", pa.string()),
    ]
)
"""The table's columns. ``data`` is the JSON or text exactly as received, ``data_binary`` what came as bytes;
``data_kind`` says which: ``json``, ``text``, ``binary``, or null for an event without data."""

_KIND_NAMES = {DATA_JSON: "json", DATA_TEXT: "text", DATA_BINARY: "binary"}

FLUSH_ID_KEY = "collector.flush-id"
"""Key of the flush id in Parquet metadata and in snapshot summaries."""


class Rows(NamedTuple):
    """Rows of one data file, and what could not become one."""

    table: pa.Table
    poison: list[Poison]


def to_rows(events: Sequence[Event]) -> Rows:
    """Build the rows of ``events``; one that does not fit the schema is returned as poison, never raised."""
    try:
        return Rows(_build(events), [])
    except (pa.ArrowException, ValueError, TypeError, OverflowError):
        good, poison = _sift(events)
        return Rows(_build(good), poison)


def to_parquet(table: pa.Table, flush_id: str) -> bytes:
    """Encode rows as Parquet; the same rows and flush id give the same bytes."""
    metadata = {**(table.schema.metadata or {}), FLUSH_ID_KEY.encode(): flush_id.encode()}
    sink = pa.BufferOutputStream()
    pq.write_table(table.replace_schema_metadata(metadata), sink, compression="zstd", compression_level=1)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def _sift(events: Sequence[Event]) -> tuple[list[Event], list[Poison]]:
    good: list[Event] = []
    poison: list[Poison] = []
    for event in events:
        try:
            _build([event])
        except (pa.ArrowException, ValueError, TypeError, OverflowError) as exc:
            hour = event.time_us // 3_600_000_000
            poison.append(Poison(event.type, hour, f"cannot be encoded: {exc}", msgspec.msgpack.encode(event)))
        else:
            good.append(event)
    return good, poison


def _build(events: Sequence[Event]) -> pa.Table:
    text = pa.string()
    columns = [
        pa.array([e.id for e in events], text),
        pa.array([e.source for e in events], text),
        pa.array([e.type for e in events], text),
        pa.array([e.time_us for e in events], pa.int64()).cast(pa.timestamp("us", tz="UTC")),
        pa.array([e.time for e in events], text),
        pa.array([e.subject for e in events], text),
        pa.array([e.datacontenttype for e in events], text),
        pa.array([e.dataschema for e in events], text),
        pa.array([_KIND_NAMES.get(e.data_kind) for e in events], text),
        _utf8([e.data if e.data_kind in (DATA_JSON, DATA_TEXT) else None for e in events]),
        pa.array([e.data if e.data_kind == DATA_BINARY else None for e in events], pa.binary()),
        _utf8([e.extensions for e in events]),
    ]
    return pa.Table.from_arrays(columns, schema=SCHEMA)


def _utf8(values: list[bytes | None]) -> pa.Array:
    array = pa.array(values, pa.binary())
    return array.cast(pa.string())  # checks UTF-8
