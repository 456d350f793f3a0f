"""Measure how fast a table is verified, on a table that this program makes itself.

    python -m reports.bench_verify [--events 10m|100m] [--directory DIR] [--keep]

Sixteen producers, zstd Parquet files of about a million rows, rows in random order, ids that look random. Known anomalies are
planted (lost events, copies, strangers, altered rows) and must be found exactly, so that no speed is measured that misses
something. The figures are events per second of CPU time of this process, reading and comparing with the ledger included; the
rate of one core. DuckDB counts rows and distinct events of the same files in the same run.
"""

from __future__ import annotations

import os
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from loadtests.records.content import Content
from loadtests.records.identity import Identity, source_of
from loadtests.records.ledger import RECORD, LedgerWriter, Outcome, Record, read_ledgers
from loadtests.records.target import Columns
from reports.errors import BadRequest, ReportError
from reports.fold import Subject, read_parquet
from reports.keyset import Counted
from reports.obligations import History, fold
from reports.reconcile import FileKeys, Reconciliation, reconcile
from reports.stages import Stage

RUN_ID = "bench000"
SEED = 7
PRODUCERS = 16
BATCH_EVENTS = 100
FILE_EVENTS = 1_000_000
PLANTED = {"missing": 100, "duplicated": 50, "altered": 20, "unexpected": 10}
"""How many events of each kind the made table has."""

_SCALES = {"k": 1_000, "m": 1_000_000}


@dataclass(frozen=True)
class Figures:
    """What was measured. Rates are in millions of events per CPU second of one process."""

    events: int
    identity_m_per_s: float
    content_m_per_s: float
    duckdb_m_per_s: float
    identity_peak_mb: float
    content_peak_mb: float
    found: dict[str, int]


def parse_events(text: str) -> int:
    """Turn `10m` or `500k` into a number. Raises BadRequest."""
    number, scale = text[:-1], _SCALES.get(text[-1:].lower())
    if scale is None or not number.isdigit() or int(number) * scale < PRODUCERS * 10_000:
        raise BadRequest(f"--events {text!r}: give a number with k or m, at least 160k, such as 10m.")
    return int(number) * scale


def make(directory: Path, events: int) -> None:
    """Write ledger and data files of *events* events, all acked, with `PLANTED` anomalies."""
    each = events // PRODUCERS
    _write_ledger(directory, each)
    slices = max(1, events // FILE_EVENTS)
    bounds = np.linspace(0, each, slices + 1, dtype=np.int64)
    for number in range(slices):
        rows = _rows(int(bounds[number]), int(bounds[number + 1]), plant=number == 0, beyond=each)
        pq.write_table(rows, directory / f"data-{number:05}.parquet", compression="zstd", use_dictionary=["source"])


def _write_ledger(directory: Path, each: int) -> None:
    """The header by the ledger's own writer, the records in bulk: a million small writes are not what is measured."""
    path = directory / "bench.ledger"
    LedgerWriter(path, run_id=RUN_ID, process="bench").close()
    firsts = np.arange(0, each, BATCH_EVENTS, dtype=np.uint64)
    with path.open("ab") as stream:
        for producer in range(PRODUCERS):
            records = np.zeros(2 * len(firsts), dtype=RECORD)
            records["producer"], records["attempt"] = producer, 1
            records["first"] = np.repeat(firsts, 2)
            records["count"] = np.minimum(each - records["first"], BATCH_EVENTS)
            records["request"] = np.repeat(np.arange(len(firsts), dtype=np.uint64), 2) + np.uint64(
                producer * len(firsts) + 1
            )
            records["record"][0::2], records["record"][1::2] = Record.ATTEMPT, Record.DONE
            records["outcome"][1::2], records["status"][1::2] = Outcome.ACKED, 202
            stream.write(records.tobytes())


def _rows(first: int, end: int, *, plant: bool, beyond: int) -> pa.Table:
    parts = list(_of_producers(first, end, plant=plant, beyond=beyond))
    rows = pa.concat_tables(parts).combine_chunks()
    return rows.take(np.random.default_rng(first).permutation(len(rows)))


def _of_producers(first: int, end: int, *, plant: bool, beyond: int) -> Iterator[pa.Table]:
    identity, content = Identity(SEED, RUN_ID), Content(SEED)
    for producer in range(PRODUCERS):
        sequences = np.arange(first, end, dtype=np.uint64)
        if plant and producer == 0:
            strangers = np.arange(beyond, beyond + PLANTED["unexpected"], dtype=np.uint64) + np.uint64(1000)
            copies = sequences[1000 : 1000 + PLANTED["duplicated"]]
            sequences = np.concatenate([sequences[PLANTED["missing"] :], copies, strangers])
        data = content.expected(producer, sequences)
        if plant and producer == 1:
            data[: PLANTED["altered"]] = b'{"forged":1}'
        yield pa.table(
            {
                "id": _text(identity.ids_of(producer, sequences)),
                "source": pa.DictionaryArray.from_arrays(
                    np.zeros(len(sequences), dtype=np.int32), [source_of(RUN_ID, producer)]
                ).cast(pa.string()),
                "data": _text(data),
            }
        )


def _text(values: np.ndarray[Any, np.dtype[np.bytes_]]) -> pa.Array:
    return pa.array(values, pa.binary()).cast(pa.large_string())


def verify(directory: Path, *, content: bool) -> tuple[Reconciliation, float]:
    """Read ledger and data files and compare them, as a judged run does; return the result and the CPU seconds it took."""
    begin_s = time.process_time()
    subject = Subject(RUN_ID, Identity(SEED, RUN_ID), Content(SEED) if content else None, Columns())
    history: History = fold(read_ledgers(directory))
    files = []
    for number, path in enumerate(sorted(directory.glob("data-*.parquet"))):
        with pa.OSFile(str(path)) as stream:
            seen = read_parquet(stream, subject)
        altered: dict[int, Counted] = seen.altered
        files.append(FileKeys(number, Stage.SCAN, 1, seen.found, altered))
    result = reconcile(history, files)
    return result, time.process_time() - begin_s


def second_opinion(directory: Path) -> tuple[int, int, float]:
    """Return rows and distinct events as DuckDB counts them, and the CPU seconds it took (all its threads)."""
    begin_s = time.process_time()
    with duckdb.connect() as connection:
        connection.execute("set memory_limit='2GB'; set threads=2; set enable_progress_bar=false")
        connection.execute(f"set temp_directory='{directory}/spill'")
        row = connection.execute(
            "select count(*), count(distinct (source, id)) from read_parquet(?)", [str(directory / "data-*.parquet")]
        ).fetchone()
    assert row is not None
    return int(row[0]), int(row[1]), time.process_time() - begin_s


def measure(directory: Path, events: int) -> Figures:
    """Make the table, verify it both ways, and ask DuckDB.

    Raises:
        ReportError: a planted anomaly was not found, or the engines disagree.
    """
    _in_child(make, directory, events)
    identity, identity_s, identity_mb = _in_child(_verified, directory, False)
    content, content_s, content_mb = _in_child(_verified, directory, True)
    rows, distinct, duckdb_s = _in_child(second_opinion, directory)
    expected = PLANTED | {"altered": 0}
    if identity["sets"] != expected or content["sets"] != PLANTED:
        raise ReportError(
            f"planted {PLANTED}, but found {identity['sets']} by identity and {content['sets']} by content."
        )
    if (rows, distinct) != (identity["rows"], identity["distinct"]):
        raise ReportError(f"DuckDB counts {rows} rows and {distinct} events, but here are {identity}.")
    return Figures(
        events=rows,
        identity_m_per_s=rows / identity_s / 1e6,
        content_m_per_s=rows / content_s / 1e6,
        duckdb_m_per_s=rows / duckdb_s / 1e6,
        identity_peak_mb=identity_mb,
        content_peak_mb=content_mb,
        found=content["sets"],
    )


def _verified(directory: Path, content: bool) -> tuple[dict[str, Any], float, float]:
    result, seconds = verify(directory, content=content)
    sets = {name: result.sets[name].events for name in PLANTED}
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"sets": sets, "rows": result.rows_ours, "distinct": result.distinct}, seconds, peak_mb


def _in_child(function: Any, *arguments: Any) -> Any:
    """Run in a fresh process, so that its peak memory is its own."""
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


@click.command()
@click.option("--events", default="10m", show_default=True, help="How many events: 10m, 100m, 500k ...")
@click.option(
    "--directory", type=click.Path(path_type=Path), help="Where to make the table (default: a temporary one)."
)
@click.option("--keep", is_flag=True, help="Leave the table there.")
def main(events: str, directory: Path | None, keep: bool) -> None:
    """Make a table, verify it, and print M events/s per core for identity and for content beside DuckDB's."""
    try:
        number = parse_events(events)
        place = Path(tempfile.mkdtemp(prefix="icequake-bench-", dir=directory))
    except BadRequest as error:
        click.echo(f"bench verify: {error}", err=True)
        sys.exit(error.exit_code)
    except OSError as error:
        click.echo(f"bench verify: {directory}: {error.strerror}; name a directory that exists.", err=True)
        sys.exit(254)
    try:
        _print(measure(place, number))
    except (ReportError, OSError) as error:
        click.echo(f"bench verify: {error}", err=True)
        sys.exit(255)
    finally:
        if not keep:
            shutil.rmtree(place, ignore_errors=True)
    if keep:
        click.echo(f"the table is in {place}")


def _print(figures: Figures) -> None:
    click.echo(f"{figures.events:,} rows, {PRODUCERS} producers, shuffled; {os.cpu_count()} cores, one used")
    for name, rate, peak, aim in (
        ("identity", figures.identity_m_per_s, figures.identity_peak_mb, 10),
        ("content", figures.content_m_per_s, figures.content_peak_mb, 2),
    ):
        click.echo(f"{name:<10}{rate:6.1f} M events/s per core (aim {aim}), peak {peak:,.0f} MB")
    click.echo(f"{'duckdb':<10}{figures.duckdb_m_per_s:6.1f} M events/s per core: count, count(distinct source, id)")
    click.echo("planted and found: " + ", ".join(f"{n} {name}" for name, n in figures.found.items()))


if __name__ == "__main__":
    main()
