"""Real Iceberg tables on local disk, damaged and mended by tests."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.transforms import HourTransform, IdentityTransform
from pyiceberg.types import DoubleType, LongType, NestedField, StringType, TimestamptzType

from chaos.table.store import FileIOStore

SCHEMA = Schema(
    NestedField(1, "id", StringType(), required=True),
    NestedField(2, "time", TimestamptzType(), required=True),
    NestedField(3, "type", StringType()),
    NestedField(4, "number", LongType()),
    NestedField(5, "share", DoubleType()),
)
SPEC = PartitionSpec(
    PartitionField(source_id=2, field_id=1000, transform=HourTransform(), name="time_hour"),
    PartitionField(source_id=3, field_id=1001, transform=IdentityTransform(), name="type"),
)
NAME = "lake.events"


def rows(first: int, count: int, *, hour: int = 0) -> pa.Table:
    """Events *first* .. of one hour; of ten, the last three are of another type."""
    arrow = pa.schema(
        [
            pa.field("id", pa.string(), nullable=False),
            pa.field("time", pa.timestamp("us", "UTC"), nullable=False),
            pa.field("type", pa.string()),
            pa.field("number", pa.int64()),
            pa.field("share", pa.float64()),
        ]
    )
    numbers = list(range(first, first + count))
    columns = {
        "id": [f"event-{number:06d}" for number in numbers],
        "time": [datetime(2026, 11, 24, hour, number % 60, tzinfo=UTC) for number in numbers],
        "type": ["view" if number % 10 > 6 else "click" for number in numbers],
        "number": numbers,
        "share": [number / 7 for number in numbers],
    }
    return pa.table(columns, schema=arrow)


class Lake:
    """A table of ten rows a snapshot, each snapshot in an hour of its own, with two data files."""

    def __init__(self, root: Path, *, snapshots: int = 3, spec: PartitionSpec = SPEC) -> None:
        self.root = root
        self.properties = {
            "name": "lake",
            "type": "sql",
            "uri": f"sqlite:///{root}/catalog.db",
            "warehouse": f"file://{root}/warehouse",
        }
        self.catalog = SqlCatalog(**self.properties)
        self.catalog.create_namespace("lake")
        table = self.catalog.create_table(NAME, SCHEMA, partition_spec=spec)
        for index in range(snapshots):
            table.append(rows(index * 10, 10, hour=index), snapshot_properties={"flush-id": f"f{index}"})
        self.store = FileIOStore(table.io)

    def load(self) -> Table:
        """The table as the catalog describes it now."""
        return self.catalog.load_table(NAME)

    def ids(self) -> list[str]:
        """Ids of all rows, sorted, read with a fresh catalog."""
        table = SqlCatalog(**self.properties).load_table(NAME)
        return sorted(table.scan(selected_fields=("id",)).to_arrow()["id"].to_pylist())
