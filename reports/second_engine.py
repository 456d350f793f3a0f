"""A second opinion on what the table holds: DuckDB counts the rows of the run, and the distinct events among them.

It reads the Iceberg metadata itself where its extension can (an exact metadata.json; never a guessed version), else the data
files that the walk found. It runs in a process of its own: a damaged manifest aborts DuckDB 1.5.5 (its Avro reader), and a
reader that dies must not take the reading of the table with it.

    python -m reports.second_engine < request.json        (the request holds keys, so it is no argument)
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import duckdb
import msgspec
from msgspec import Struct

from loadtests.records.identity import source_of
from loadtests.records.target import Columns
from reports.observed import SecondEngine

ENGINE = f"duckdb {duckdb.__version__}"

_ROWS_A_PASS = 20_000_000
_EXTENSIONS = ("avro", "httpfs", "iceberg")
_DEADLINE_S = 60.0
_ROWS_A_SECOND = 200_000


class Request(Struct, frozen=True, kw_only=True):
    """What to count.

    Attributes:
        properties: pyiceberg's catalog properties, for the object store's address and keys.
        files: The data files of the current snapshot, once per reference; used where the metadata cannot be read.
        deletes: The snapshot has delete files, so the data files alone do not say what is visible.
        rows: About how many rows to expect; large tables are counted in several passes to bound memory.
    """

    run_id: str
    columns: Columns
    properties: Mapping[str, str]
    metadata_location: str
    files: Sequence[str]
    deletes: bool
    rows: int


def ask(request: Request) -> SecondEngine:
    """Count rows and distinct (source, id) of a run in another process; an engine that fails is an answer, not an error."""
    deadline_s = _DEADLINE_S + request.rows / _ROWS_A_SECOND
    try:
        process = subprocess.run(
            [sys.executable, "-m", "reports.second_engine"],
            input=msgspec.json.encode(request),
            capture_output=True,
            timeout=deadline_s,
            check=False,
        )
        return msgspec.json.decode(process.stdout, type=SecondEngine)
    except subprocess.TimeoutExpired:
        problem = f"no answer within {deadline_s:.0f} s"
    except msgspec.DecodeError:
        problem = f"the engine died with exit status {process.returncode}"
    return SecondEngine(engine=ENGINE, how="none", problem=problem)


def count_events(request: Request) -> SecondEngine:
    """Count in this process."""
    problems = []
    relations = [("iceberg_scan", _scan_metadata(request.metadata_location))]
    if request.files and not request.deletes:
        listed = _literal([_plain(f) for f in request.files])
        relations.append(("read_parquet", f"read_parquet({listed}, union_by_name=true)"))
    for how, relation in relations:
        try:
            with tempfile.TemporaryDirectory(prefix="icequake-") as spill, duckdb.connect() as connection:
                connection.execute(f"set temp_directory={_literal(spill)}")
                _prepare(connection, request)
                total, distinct = _count(connection, relation, request)
            return SecondEngine(engine=ENGINE, how=how, rows=total, distinct=distinct)
        except Exception as error:  # whatever it cannot read, it says so in its own words
            problems.append(f"{how}: {' '.join(str(error).split())[:200]}")
    return SecondEngine(engine=ENGINE, how="none", problem="; ".join(problems))


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


def _prepare(connection: duckdb.DuckDBPyConnection, request: Request) -> None:
    connection.execute("set autoinstall_known_extensions=false; set autoload_known_extensions=false; set threads=2")
    connection.execute("set memory_limit='1GB'")
    from duckdb_extensions import import_extension

    remote = not request.metadata_location.startswith(("file:", "/"))
    for extension in _EXTENSIONS if remote else ("avro", "iceberg"):
        import_extension(extension, con=connection)
        connection.load_extension(extension)
    if remote:
        connection.execute(_secret(request.properties))


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


def _count(connection: duckdb.DuckDBPyConnection, relation: str, request: Request) -> tuple[int, int]:
    source, identifier = _name(request.columns.source), _name(request.columns.id)
    # `source` is compared by prefix, so that producers nobody recorded are counted as ours too.
    prefix = _literal(source_of(request.run_id, 0).rpartition(":")[0] + ":")
    passes = max(1, -(-request.rows // _ROWS_A_PASS))
    total = distinct = 0
    for number in range(passes):
        part = f"and hash({identifier}) % {passes} = {number}" if passes > 1 else ""
        row = connection.execute(
            f"select count(*), count(distinct ({source}, {identifier})) from {relation} "  # noqa: S608  # quoted above
            f"where starts_with({source}, {prefix}) {part}"
        ).fetchone()
        assert row is not None
        total, distinct = total + int(row[0]), distinct + int(row[1])
    return total, distinct


def main() -> None:
    """Answer one request from standard input on standard output."""
    request = msgspec.json.decode(sys.stdin.buffer.read(), type=Request)
    sys.stdout.buffer.write(msgspec.json.encode(count_events(request)))


if __name__ == "__main__":
    main()
