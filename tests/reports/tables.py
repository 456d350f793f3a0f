"""Real Iceberg tables on local disk, with events of a run in them, for tests of everything that reads tables."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.manifest import (
    DataFile,
    DataFileContent,
    FileFormat,
    ManifestContent,
    ManifestEntry,
    ManifestWriterV2,
    write_manifest_list,
)
from pyiceberg.table import Table
from pyiceberg.typedef import Record

from loadtests.records.content import TYPE_NAMES, Content
from loadtests.records.identity import Identity, source_of
from loadtests.records.ledger import LedgerWriter, Outcome
from loadtests.records.rundir import RoundTrip, RunDir, RunInfo, RunWindow, SettleEnd
from loadtests.records.target import Columns, Ingest, Target
from loadtests.records.target import Table as TargetTable

RUN_ID = "abcd1234"
SEED = 7
SCHEMA = pa.schema([("id", pa.string()), ("source", pa.string()), ("type", pa.string()), ("data", pa.string())])


def events(sequences: Sequence[int], *, producer: int = 0) -> pa.Table:
    """Return these events as a collector would store them."""
    numbers = np.array(sequences, dtype=np.uint64)
    content = Content(SEED)
    return pa.table(
        {
            "id": Identity(SEED, RUN_ID).ids_of(producer, numbers).astype(str),
            "source": [source_of(RUN_ID, producer)] * len(numbers),
            "type": [TYPE_NAMES[i] for i in content.types(producer, numbers)],
            "data": content.expected(producer, numbers).astype(str),
        },
        schema=SCHEMA,
    )


class LocalTable:
    """A table in a SqlCatalog on a local file warehouse, and a run that claims to have filled it."""

    def __init__(self, tmp_path: Path) -> None:
        self.properties = {
            "name": "local",
            "type": "sql",
            "uri": f"sqlite:///{tmp_path}/catalog.db",
            "warehouse": f"file://{tmp_path}/warehouse",
        }
        self.catalog = SqlCatalog(**self.properties)
        self.catalog.create_namespace("lake")
        self.table: Table = self.catalog.create_table("lake.events", SCHEMA)
        self.runs = tmp_path / "runs"

    def load(self) -> Table:
        """Return the table as it is now."""
        self.table = self.catalog.load_table("lake.events")
        return self.table

    def run(self, *, sent: int, columns: Columns | None = None) -> RunDir:
        """Make a run that sent events 0 .. sent-1 of producer 0, all acked."""
        target = Target(
            name="local",
            ingest=Ingest(url="http://127.0.0.1:1/events"),
            table=TargetTable(
                catalog=self.properties, identifier="lake.events", columns=columns or Columns(type="type")
            ),
        )
        window = RunWindow(
            baseline_start_ns=1,
            inject_start_ns=2,
            traffic_end_ns=3,
            healed_ns=3,
            settle_end_ns=4,
            settle="empty",
            buffered_at_end=0,
            refusing_probe=SettleEnd(attempted=10, refused=0),
            roundtrip=RoundTrip(ok=True, producer=0, first=0),
        )
        info = RunInfo(
            run_id=RUN_ID, scenario="control", target="local", seed=SEED, started_unix_ns=1, started_mono_ns=1
        )
        info.window = msgspec.structs.replace(window)
        run = RunDir.create(self.runs, info, scenario_text="", target=target)
        if sent:
            writer = LedgerWriter(run.ledger / "hand.ledger", run_id=RUN_ID, process="hand")
            common: dict[str, Any] = {"producer": 0, "first": 0, "count": sent, "intended_ns": 2, "sent_ns": 2}
            request = writer.attempt(**common)
            writer.done(request, **common, done_ns=3, status=202, outcome=Outcome.ACKED)
            writer.close()
        return run


class _DeleteManifestWriter(ManifestWriterV2):
    def content(self) -> ManifestContent:
        return ManifestContent.DELETES


def hide_rows(table: Table, positions: Sequence[int]) -> None:
    """Hide rows of the table's only data file behind a position delete file, which pyiceberg itself does not write.

    The manifest list of the current snapshot is replaced in place by one that lists a delete manifest too.
    """
    snapshot = table.current_snapshot()
    assert snapshot is not None
    location = table.location()
    [data_file] = [task.file for task in table.scan().plan_files()]
    path = f"{location}/data/deletes.parquet"
    fields = [
        pa.field("file_path", pa.string(), nullable=False, metadata={"PARQUET:field_id": "2147483546"}),
        pa.field("pos", pa.int64(), nullable=False, metadata={"PARQUET:field_id": "2147483545"}),
    ]
    rows = pa.table([[data_file.file_path] * len(positions), list(positions)], schema=pa.schema(fields))
    pq.write_table(rows, path.removeprefix("file://"))
    delete_file = DataFile.from_args(
        content=DataFileContent.POSITION_DELETES,
        file_path=path,
        file_format=FileFormat.PARQUET,
        partition=Record(),
        record_count=len(positions),
        file_size_in_bytes=Path(path.removeprefix("file://")).stat().st_size,
    )
    manifest = table.io.new_output(f"{location}/metadata/deletes-m0.avro")
    with _DeleteManifestWriter(table.spec(), table.schema(), manifest, snapshot.snapshot_id, "deflate") as writer:
        writer.add(ManifestEntry.from_args(status=1, snapshot_id=snapshot.snapshot_id, data_file=delete_file))
    listed = [*snapshot.manifests(table.io), writer.to_manifest_file()]
    Path(snapshot.manifest_list.removeprefix("file://")).unlink()
    output = table.io.new_output(snapshot.manifest_list)
    number = snapshot.sequence_number
    with write_manifest_list(2, output, snapshot.snapshot_id, None, number, "deflate") as lists:
        lists.add_manifests(listed)
