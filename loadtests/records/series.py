"""Measurements over time: (t_ns, name, labels, value) in Parquet parts under `series/`.

A Parquet file cannot be appended to, so a writer closes a part every so often; what a killed process had not closed is at
most one part. Each part carries its format in the file's metadata.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from loadtests.records.errors import CorruptRecord
from loadtests.records.schema import check_schema, schema_name

KIND = "series"
COLUMNS = pa.schema(
    [
        ("t_ns", pa.int64()),
        ("name", pa.dictionary(pa.int32(), pa.string())),
        ("labels", pa.string()),
        ("value", pa.float64()),
    ]
)


class SeriesWriter:
    """Collect samples and write them as numbered parts.

    Args:
        directory: Usually `RunDir.series`.
        writer: Names the files: `<writer>-0001.parquet`. One live writer a name.
        run_id: The run.
        part_rows: A part is closed when it has so many rows; `flush` closes it earlier.
    """

    def __init__(self, directory: Path, writer: str, run_id: str, *, part_rows: int = 2_000) -> None:
        self._directory = directory
        self._writer = writer
        self._part_rows = part_rows
        self._part = 0
        self._rows: list[tuple[int, str, str, float]] = []
        self._schema = COLUMNS.with_metadata({"schema": schema_name(KIND), "run": run_id})

    def add(self, t_ns: int, name: str, value: float, labels: Mapping[str, str] | None = None) -> None:
        """Add one sample; *labels* are kept as `key=value` pairs, sorted, joined by commas."""
        text = ",".join(f"{key}={labels[key]}" for key in sorted(labels)) if labels else ""
        self._rows.append((t_ns, name, text, float(value)))
        if len(self._rows) >= self._part_rows:
            self.flush()

    def flush(self) -> None:
        """Write what is collected as one part, atomically."""
        if not self._rows:
            return
        self._part += 1
        columns = [list(column) for column in zip(*self._rows, strict=True)]
        arrays = [pa.array(c, f.type) for c, f in zip(columns, self._schema, strict=True)]
        target = self._directory / f"{self._writer}-{self._part:04}.parquet"
        draft = target.with_suffix(".part")
        pq.write_table(pa.Table.from_arrays(arrays, schema=self._schema), draft, compression="zstd")
        os.replace(draft, target)
        self._rows = []

    def close(self) -> None:
        """Write the last part."""
        self.flush()


def read_series(directory: Path, names: Collection[str] | None = None) -> pa.Table:
    """Return all samples (or those of *names*) of a run, sorted by time.

    Raises:
        CorruptRecord, NewerVersion: a part is not one of ours.
    """
    parts = [_read_part(path, names) for path in sorted(directory.glob("*.parquet"))]
    if not parts:
        return COLUMNS.empty_table()
    return pa.concat_tables(parts).unify_dictionaries().sort_by([("t_ns", "ascending")])


def _read_part(path: Path, names: Collection[str] | None) -> pa.Table:
    try:
        table = pq.read_table(path, schema=None)
    except (pa.ArrowException, OSError) as error:
        raise CorruptRecord(f"{path} is not a readable Parquet file ({error}).") from error
    metadata = table.schema.metadata or {}
    check_schema(metadata.get(b"schema", b"").decode(errors="replace"), KIND, path)
    try:
        table = table.select(COLUMNS.names).cast(COLUMNS)
    except (pa.ArrowException, KeyError) as error:
        raise CorruptRecord(f"{path} does not have the columns {', '.join(COLUMNS.names)} ({error}).") from error
    if names is None:
        return table
    return table.filter(pc.is_in(table["name"].cast(pa.string()), value_set=pa.array(sorted(names), pa.string())))
