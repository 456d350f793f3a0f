"""Columns and partitions of a table that the collector creates, and rows put into the columns of one that it finds."""

from __future__ import annotations

import pyarrow as pa
from pyiceberg.manifest import DataFile
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.transforms import HourTransform, IdentityTransform
from pyiceberg.types import BinaryType, NestedField, StringType, TimestamptzType

from collector.errors import StoreUnavailable

TABLE_SCHEMA = Schema(
    NestedField(1, "id", StringType(), required=True),
    NestedField(2, "source", StringType(), required=True),
    NestedField(3, "type", StringType(), required=True),
    NestedField(4, "time", TimestamptzType(), required=True),
    NestedField(5, "time_text", StringType()),
    NestedField(6, "subject", StringType()),
    NestedField(7, "datacontenttype", StringType()),
    NestedField(8, "dataschema", StringType()),
    NestedField(9, "data_kind", StringType()),
    NestedField(10, "data", StringType()),
    NestedField(11, "data_binary", BinaryType()),
    NestedField(12, "extensions", StringType()),
)
"""Columns of a table the collector creates; ``encode.SCHEMA`` describes them."""

TABLE_SPEC = PartitionSpec(
    PartitionField(source_id=4, field_id=1000, transform=HourTransform(), name="time_hour"),
    PartitionField(source_id=3, field_id=1001, transform=IdentityTransform(), name="type"),
)

TABLE_PROPERTIES = {
    "format-version": "2",
    "write.parquet.compression-codec": "zstd",
    "write.metadata.delete-after-commit.enabled": "true",
    "write.metadata.previous-versions-max": "20",
}


def conform(rows: pa.Table, target: pa.Schema) -> pa.Table:
    """Put rows into the table's columns; columns the table adds are null, one it lacks must be empty."""
    missing = [n for n in rows.column_names if n not in target.names and rows[n].null_count < rows.num_rows]
    if missing:
        raise StoreUnavailable(f"the table has no column {', '.join(missing)}; add it or use another table")
    columns = [
        rows[f.name].cast(f.type) if f.name in rows.column_names else pa.nulls(rows.num_rows, f.type) for f in target
    ]
    return pa.Table.from_arrays(columns, schema=target)


def complete_partition(data_file: DataFile, rows: pa.Table, metadata: TableMetadata) -> None:
    """Fill in values that came from no statistics: Parquet keeps none for texts above 4 KiB."""
    for position, field in enumerate(metadata.spec().fields):
        if data_file.partition[position] is None and isinstance(field.transform, IdentityTransform):
            data_file.partition[position] = rows[metadata.schema().find_column_name(field.source_id)][0].as_py()
