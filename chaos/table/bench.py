"""How long the doctor takes and what it holds in memory: `icequake bench doctor [--files N] [--json]`.

The table is made of real small Parquet files on the local disk, one manifest per thousand; beyond the first thousand a file is
another name of an earlier one. The doctor then runs in a process of its own, whose peak memory is measured, and which reads
every file. A local disk answers faster than an object store: over a network, time is
dominated by one request per data file, divided by `--workers`.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.io.pyarrow import parquet_file_to_data_file
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table

from chaos.table.committer import Committer
from chaos.table.doctor import Doctor, Options, load
from chaos.table.store import FileIOStore

_NAME = "bench.events"
_ROWS = 10
_FILES_PER_MANIFEST = 1000
_DISTINCT = 1000
_FILE_PATH = 1
"""Its position in a data file's fields (Iceberg specification, Data File Fields, in the order of the schema)."""
_SCHEMA = pa.schema([("id", pa.string()), ("number", pa.int64())])


def make_table(root: Path, files: int) -> dict[str, str]:
    """Write a table of *files* data files in one snapshot; return the catalog's properties."""
    properties = {"type": "sql", "uri": f"sqlite:///{root}/catalog.db", "warehouse": f"file://{root}/warehouse"}
    catalog = SqlCatalog("icequake", **properties)
    catalog.create_namespace("bench")
    table = catalog.create_table(_NAME, _SCHEMA)
    described = list(_data_files(table, files))
    committer = Committer(table, now_ms=int(time.time() * 1000))
    parts = [described[at : at + _FILES_PER_MANIFEST] for at in range(0, files, _FILES_PER_MANIFEST)]
    committer.commit([committer.added(part, 0) for part in parts], None, described, {})
    return properties


def _data_files(table: Table, files: int) -> Iterator[DataFile]:
    """Ten rows a file, with field ids, as a writer of Iceberg would store them."""
    directory = Path(table.location().removeprefix("file://")) / "data"
    directory.mkdir(parents=True)
    distinct: list[DataFile] = []
    for number in range(files):
        path = directory / f"{number:07d}.parquet"
        if number >= _DISTINCT:
            yield _another_name(distinct[number % _DISTINCT], path)
            continue
        numbers = list(range(number * _ROWS, number * _ROWS + _ROWS))
        rows = pa.table([[f"event-{one:010d}" for one in numbers], numbers], schema=_SCHEMA)
        pq.write_table(_with_ids(rows, table), path)
        distinct.append(parquet_file_to_data_file(table.io, table.metadata, f"file://{path}"))
        yield distinct[-1]


def _another_name(file: DataFile, path: Path) -> DataFile:
    path.hardlink_to(file.file_path.removeprefix("file://"))
    again = DataFile(*(file[index] for index in range(len(file))))
    again[_FILE_PATH] = f"file://{path}"
    return again


def _with_ids(rows: pa.Table, table: Table) -> pa.Table:
    fields = [
        one.with_metadata({"PARQUET:field_id": str(table.schema().find_field(one.name).field_id)})
        for one in rows.schema
    ]
    return rows.cast(pa.schema(fields))


def measure(properties: dict[str, str], *, quick: bool, workers: int) -> dict[str, Any]:
    """Run the doctor once; time, peak memory of this process, and what it read."""
    began = time.monotonic()
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    table = load(properties, _NAME)
    options = Options(quick=quick, workers=workers)
    report = Doctor(table, FileIOStore(table.io), now_s=time.time(), options=options).examine()
    took_s = time.monotonic() - began
    peak_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    files = report.figures["data_files"]
    return {
        "files": files,
        "healthy": report.healthy,
        "quick": quick,
        "workers": workers,
        "took_s": round(took_s, 2),
        "files_per_s": round(files / took_s, 1),
        "peak_mb": round(peak_kb / 1024, 1),
        "grown_mb": round((peak_kb - before_kb) / 1024, 1),
    }


def _in_a_process(properties: dict[str, str], *, quick: bool, workers: int) -> dict[str, Any]:
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(measure, (properties,), {"quick": quick, "workers": workers})


def main(arguments: list[str]) -> int:
    """Measure and print; 1 when a table that was just made is not found healthy."""
    parser = argparse.ArgumentParser(prog="icequake bench doctor", description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=10_000, help="data files of the table (default 10000)")
    parser.add_argument("--workers", type=int, default=8, help="requests at a time (default 8)")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    given = parser.parse_args(arguments)
    if given.files < 1 or given.workers < 1:
        parser.error("--files and --workers must be at least 1")
    with tempfile.TemporaryDirectory(prefix="icequake-bench-") as scratch:
        properties = make_table(Path(scratch), given.files)
        results = [_in_a_process(properties, quick=quick, workers=given.workers) for quick in (False, True)]
    for one in results:
        print(json.dumps(one) if given.json else _line(one))
    return 0 if all(one["healthy"] for one in results) else 1


def _line(one: dict[str, Any]) -> str:
    how = "footers only" if one["quick"] else "every row"
    return (
        f"{one['files']:,} data files, {how}: {one['took_s']} s, {one['files_per_s']:,} files/s with {one['workers']} workers, "
        f"peak memory {one['peak_mb']} MB (grew by {one['grown_mb']} MB), {'healthy' if one['healthy'] else 'NOT healthy'}"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
