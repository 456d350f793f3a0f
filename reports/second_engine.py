"""A second opinion on what the table holds: DuckDB counts the rows of the run, and the distinct events among them.

It reads the Iceberg metadata itself where its extension can (an exact metadata.json; never a guessed version), else the
data files that the walk found.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import duckdb

from loadtests.records.identity import source_of
from loadtests.records.target import Columns
from reports.observed import SecondEngine

_ROWS_A_PASS = 20_000_000
_EXTENSIONS = ("avro", "httpfs", "iceberg")


def count_events(
    *,
    run_id: str,
    columns: Columns,
    properties: Mapping[str, str],
    metadata_location: str,
    files: Sequence[str],
    deletes: bool,
    rows: int,
) -> SecondEngine:
    """Count rows and distinct (source, id) of run *run_id* with DuckDB.

    Args:
        properties: pyiceberg's catalog properties, for the object store's address and keys.
        files: The data files of the current snapshot, once per reference; used where the metadata cannot be read.
        deletes: The snapshot has delete files, so the data files alone do not say what is visible.
        rows: About how many rows to expect; large tables are counted in several passes to bound memory.
    """
    problems = []
    relations = [("iceberg_scan", _scan_metadata(metadata_location))]
    if files and not deletes:
        relations.append(("read_parquet", f"read_parquet({_literal([_plain(f) for f in files])}, union_by_name=true)"))
    for how, relation in relations:
        try:
            with duckdb.connect() as connection:
                _prepare(connection, properties, remote=not metadata_location.startswith(("file:", "/")))
                total, distinct = _count(connection, relation, run_id, columns, max(1, -(-rows // _ROWS_A_PASS)))
            return SecondEngine(engine=f"duckdb {duckdb.__version__}", how=how, rows=total, distinct=distinct)
        except Exception as error:  # an engine that cannot read is an answer too, and never ours to raise
            problems.append(f"{how}: {' '.join(str(error).split())[:200]}")
    return SecondEngine(engine=f"duckdb {duckdb.__version__}", how="none", problem="; ".join(problems))


def _scan_metadata(location: str) -> str:
    return f"iceberg_scan({_literal(_plain(location))})"


def _plain(location: str) -> str:
    return urlsplit(location).path if location.startswith("file:") else location


def _literal(value: Any) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(_literal(item) for item in value) + "]"
    return "'" + str(value).replace("'", "''") + "'"


def _name(column: str) -> str:
    return '"' + column.replace('"', '""') + '"'


def _prepare(connection: duckdb.DuckDBPyConnection, properties: Mapping[str, str], *, remote: bool) -> None:
    connection.execute("set autoinstall_known_extensions=false; set autoload_known_extensions=false; set threads=2")
    connection.execute("set memory_limit='1GB'")
    from duckdb_extensions import import_extension

    for extension in _EXTENSIONS if remote else ("avro", "iceberg"):
        import_extension(extension, con=connection)
        connection.load_extension(extension)
    if remote:
        connection.execute(_secret(properties))


def _secret(properties: Mapping[str, str]) -> str:
    endpoint = urlsplit(properties.get("s3.endpoint", "https://s3.amazonaws.com"))
    options = {
        "key_id": _literal(properties.get("s3.access-key-id", "")),
        "secret": _literal(properties.get("s3.secret-access-key", "")),
        "region": _literal(properties.get("s3.region", "us-east-1")),
        "endpoint": _literal(endpoint.netloc + endpoint.path.rstrip("/")),
        "url_style": "'path'",
        "use_ssl": "true" if endpoint.scheme == "https" else "false",
    }
    return f"create secret (type s3, {', '.join(f'{name} {value}' for name, value in options.items())})"


def _count(
    connection: duckdb.DuckDBPyConnection, relation: str, run_id: str, columns: Columns, passes: int
) -> tuple[int, int]:
    source, identifier = _name(columns.source), _name(columns.id)
    # `source` is compared by prefix, so that producers nobody recorded are counted as ours too.
    prefix = _literal(source_of(run_id, 0).rpartition(":")[0] + ":")
    total = distinct = 0
    for number in range(passes):
        slice_ = f"and hash({identifier}) % {passes} = {number}" if passes > 1 else ""
        row = connection.execute(
            f"select count(*), count(distinct ({source}, {identifier})) from {relation} "  # noqa: S608  # quoted above
            f"where starts_with({source}, {prefix}) {slice_}"
        ).fetchone()
        assert row is not None
        total, distinct = total + int(row[0]), distinct + int(row[1])
    return total, distinct
