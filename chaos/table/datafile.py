"""Whether a data file holds what its manifest says: read row by row, never by its statistics alone.

The column bounds a manifest records may be wide (strings are truncated, writers may round), but a value outside them
cannot be of the file that was committed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyiceberg.conversions import from_bytes
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.types import (
    DateType,
    DoubleType,
    FloatType,
    IntegerType,
    LongType,
    NestedField,
    StringType,
    TimestampType,
    TimestamptzType,
)

from chaos.table.errors import ObjectMissing, StoreFailed, sentence
from chaos.table.store import ObjectStore

WHOLE_BYTES = 16 << 20
"""Files up to this size are fetched by one request; larger ones are read by ranges."""

_BATCH_ROWS = 65_536
_FIELD_ID = b"PARQUET:field_id"
_COMPARABLE = (IntegerType, LongType, FloatType, DoubleType, DateType, StringType, TimestampType, TimestamptzType)


@dataclass
class Facts:
    """What was found in one file.

    Attributes:
        rows: Rows that could be decoded.
        complaints: Names of findings, with what was seen.
        unanswered: The store did not return it.
        deletes: Of a position delete file, the deleted positions by data file path: how many, and the highest.
    """

    rows: int = 0
    complaints: list[tuple[str, str]] = field(default_factory=list)
    unanswered: str | None = None
    deletes: dict[str, tuple[int, int]] = field(default_factory=dict)


def examine(file: DataFile, schema: Schema, spec: PartitionSpec, store: ObjectStore, *, footer_only: bool) -> Facts:
    """Read one data or delete file and compare it with its manifest entry.

    Args:
        footer_only: Trust the row count in the Parquet footer, and look at no row.
    """
    facts = Facts()
    if file.file_format != FileFormat.PARQUET:
        facts.unanswered = f"files of format {file.file_format} cannot be read here"
        return facts
    try:
        with _opened(file, store) as parquet:
            if footer_only:
                facts.rows = parquet.metadata.num_rows
            elif file.content == DataFileContent.DATA:
                _compare(parquet, file, schema, spec, facts)
            else:
                _read_deletes(parquet, file, facts)
    except ObjectMissing:
        facts.complaints.append(("data-file-missing", "the object does not exist"))
    except StoreFailed as error:
        facts.unanswered = str(error)
    except Exception as error:  # damaged Parquet raises anything
        return Facts(complaints=[("data-file-undecodable", sentence(error))])
    else:
        if facts.rows != file.record_count:
            detail = f"it holds {facts.rows} rows, its manifest says {file.record_count}"
            facts.complaints.append(("data-file-rows", detail))
    return facts


def _opened(file: DataFile, store: ObjectStore) -> pq.ParquetFile:
    if file.file_size_in_bytes <= WHOLE_BYTES:
        return pq.ParquetFile(pa.BufferReader(store.get(file.file_path)), page_checksum_verification=True)
    return pq.ParquetFile(store.open(file.file_path), page_checksum_verification=True)


def _compare(parquet: pq.ParquetFile, file: DataFile, schema: Schema, spec: PartitionSpec, facts: Facts) -> None:
    columns = _columns(parquet.schema_arrow, schema)
    spreads = {
        one.field_id: _Spread(one) for one in schema.fields if _is_comparable(one, file) and one.field_id in columns
    }
    for one in schema.fields:
        if _is_comparable(one, file) and one.field_id not in columns:
            facts.complaints.append(
                ("data-file-foreign", f"it has no column {one.name}, its manifest has bounds of it")
            )
    values: dict[int, set[Any]] = {index: set() for index in range(len(spec.fields))}
    for batch in parquet.iter_batches(batch_size=_BATCH_ROWS):
        facts.rows += batch.num_rows
        for field_id, spread in spreads.items():
            spread.add(batch.column(columns[field_id]))
        for index, part in enumerate(spec.fields):
            values[index] |= _partition_values(part, schema, columns, batch)
    for spread in spreads.values():
        if problem := spread.problem(file):
            facts.complaints.append(("data-file-foreign", problem))
            break
    facts.complaints.extend(_misplaced(file, spec, values))


def _misplaced(file: DataFile, spec: PartitionSpec, values: dict[int, set[Any]]) -> Iterator[tuple[str, str]]:
    for index, part in enumerate(spec.fields):
        recorded = _plain(file.partition[index])
        if strange := values[index] - {recorded}:
            example = min(strange, key=str)
            yield "data-file-partition", f"{part.name} is {recorded!r} in its manifest, {example!r} in its rows"


def _columns(arrow: pa.Schema, schema: Schema) -> dict[int, int]:
    """Position of each top-level column by field id; by name in files without ids (name mapping)."""
    ids = [int((one.metadata or {}).get(_FIELD_ID, -1)) for one in arrow]
    if all(number < 0 for number in ids):
        by_name = {one.name: one.field_id for one in schema.fields}
        ids = [by_name.get(name, -1) for name in arrow.names]
    return {number: position for position, number in enumerate(ids) if number >= 0}


def _partition_values(part: PartitionField, schema: Schema, columns: dict[int, int], batch: pa.RecordBatch) -> set[Any]:
    """What the partition field would be for these rows; nothing where it cannot be computed (a nested source)."""
    source = next((one for one in schema.fields if one.field_id == part.source_id), None)
    if source is None or source.field_id not in columns:
        return set()
    transform = part.transform.pyarrow_transform(source.field_type)
    return {
        _plain(value) for value in _integers(transform(batch.column(columns[source.field_id]))).unique().to_pylist()
    }


def partitions_of(rows: pa.Table, spec: PartitionSpec, schema: Schema) -> list[tuple[Any, ...]]:
    """Return the partition of each row. *rows* has the columns of *schema*, by name; sources of the spec are top-level columns."""
    columns: list[list[Any]] = []
    for part in spec.fields:
        source = next(one for one in schema.fields if one.field_id == part.source_id)
        values = part.transform.pyarrow_transform(source.field_type)(rows[source.name])
        columns.append([_plain(value) for value in _integers(values).to_pylist()])
    return list(zip(*columns, strict=True)) if columns else [()] * rows.num_rows


def _is_comparable(one: NestedField, file: DataFile) -> bool:
    return isinstance(one.field_type, _COMPARABLE) and one.field_id in (file.lower_bounds or {})


class _Spread:
    """Smallest and largest value and number of nulls of one column."""

    def __init__(self, column: NestedField) -> None:
        self._column, self._nulls = column, 0
        self._low: Any = None
        self._high: Any = None

    def add(self, array: pa.Array) -> None:
        self._nulls += array.null_count
        if pa.types.is_floating(array.type):
            array = array.filter(pc.invert(pc.is_nan(array)))
        ends = pc.min_max(_integers(array)).as_py()
        if ends["min"] is not None:
            self._low = ends["min"] if self._low is None else min(self._low, ends["min"])
            self._high = ends["max"] if self._high is None else max(self._high, ends["max"])

    def problem(self, file: DataFile) -> str | None:
        name, number, kind = self._column.name, self._column.field_id, self._column.field_type
        nulls = (file.null_value_counts or {}).get(number)
        if nulls is not None and nulls != self._nulls:
            return f"column {name} has {self._nulls} nulls, its manifest says {nulls}"
        low, high = (_bound(kind, bounds.get(number)) for bounds in (file.lower_bounds, file.upper_bounds or {}))
        if self._low is not None and low is not None and self._low < low:
            return f"column {name} holds {self._low!r}, below the recorded lower bound {low!r}"
        if self._high is not None and high is not None and self._high > high:
            return f"column {name} holds {self._high!r}, above the recorded upper bound {high!r}"
        return None


def _bound(kind: Any, data: bytes | None) -> Any:
    value = None if data is None else _plain(from_bytes(kind, data))
    return None if isinstance(value, float) and math.isnan(value) else value


def _integers(array: pa.Array) -> pa.Array:
    """Times and dates as the integers Iceberg stores: microseconds and days since 1970."""
    if pa.types.is_timestamp(array.type):
        return array.cast(pa.timestamp("us", array.type.tz), safe=False).cast(pa.int64())
    if pa.types.is_date32(array.type):
        return array.cast(pa.int32())
    if pa.types.is_time64(array.type):
        return array.cast(pa.int64())
    return array


def _plain(value: Any) -> Any:
    return bytes(value) if isinstance(value, (bytearray, memoryview)) else value


def _read_deletes(parquet: pq.ParquetFile, file: DataFile, facts: Facts) -> None:
    """Count rows; of position deletes also what they point at."""
    for batch in parquet.iter_batches(batch_size=_BATCH_ROWS):
        facts.rows += batch.num_rows
        if file.content != DataFileContent.POSITION_DELETES:
            continue
        grouped = pa.table(batch).group_by("file_path").aggregate([("pos", "count"), ("pos", "max")])
        for row in grouped.to_pylist():
            count, highest = facts.deletes.get(row["file_path"], (0, -1))
            facts.deletes[row["file_path"]] = (count + row["pos_count"], max(highest, row["pos_max"]))
