"""Commit time of a table with many flushes behind it, beside a young one.

Makes a table in a temporary directory (a SQLite catalog and local files), commits flushes of the given size through
the collector's own path, with expiry and manifest merge as configured, and prints the median commit time around
the 10th and around the last flush::

    python -m collector.bench_commit --flushes 1000
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from pyiceberg.catalog.sql import SqlCatalog

from collector.clock import SystemClock
from collector.cloudevents import DATA_JSON, Event
from collector.commit import IcebergTable
from collector.config import MaintenanceConfig
from collector.encode import to_rows
from collector.store import Progress

EARLY = 10
_T0_US = 1_767_225_600_000_000


@dataclass(frozen=True, slots=True)
class CommitBench:
    """Median commit times in milliseconds, expiry included where it fell due, and what the table holds at the end."""

    flushes: int
    early_ms: float
    late_ms: float
    snapshots: int
    manifests: int

    @property
    def ratio(self) -> float:
        """Late over early."""
        return self.late_ms / self.early_ms

    def __str__(self) -> str:
        return (
            f"commit at flush {EARLY}: {self.early_ms:.1f} ms, at flush {self.flushes}: {self.late_ms:.1f} ms, "
            f"ratio {self.ratio:.2f}; the table holds {self.snapshots} snapshots and {self.manifests} manifests"
        )


def run(flushes: int = 1000, rows: int = 100, *, maintenance: MaintenanceConfig | None = None) -> CommitBench:
    """Commit ``flushes`` flushes of ``rows`` events; medians are of the flushes around the 10th and of the last tenth."""
    maintenance = maintenance or MaintenanceConfig(snapshot_min_age_s=0)
    clock = SystemClock()
    with tempfile.TemporaryDirectory(prefix="bench-commit-") as root:
        (Path(root) / "warehouse").mkdir()
        catalog = SqlCatalog("bench", uri=f"sqlite:///{root}/catalog.db", warehouse=f"file://{root}/warehouse")
        table = IcebergTable(lambda: catalog, "bench.events", clock=clock, maintenance=maintenance)
        table.refresh()
        times_ms = [_flush(table, seq, rows, maintenance, clock) for seq in range(1, flushes + 1)]
        head = catalog.load_table("bench.events").current_snapshot()
        assert head is not None
        manifests = len(head.manifests(catalog.load_table("bench.events").io))
        snapshots = len(catalog.load_table("bench.events").metadata.snapshots)
        catalog.close()
    early = statistics.median(times_ms[2 : 2 * EARLY] or times_ms)  # the first two warm up
    late = statistics.median(times_ms[-max(1, flushes // 10) :])
    return CommitBench(flushes, early, late, snapshots, manifests)


def _flush(table: IcebergTable, seq: int, rows: int, maintenance: MaintenanceConfig, clock: SystemClock) -> float:
    """Write one flush; return the milliseconds that manifests, commit and expiry took, the data file excluded."""
    progress = Progress(f"bench/1/{seq}", "bench", 1, seq, 0.0, 0)
    file = table.write(progress, 0, to_rows([_event(seq * rows + n) for n in range(rows)]).table)
    started = time.perf_counter()
    table.commit(progress, table.prepare(progress, (file,), 0))
    table.expire(maintenance, clock.time())
    return (time.perf_counter() - started) * 1000


def _event(number: int) -> Event:
    data = b'{"n":%d}' % number
    return Event(
        str(number), "urn:bench", "bench", "2026-01-01T00:00:00Z", _T0_US, None, None, None, data, DATA_JSON, None
    )


def main(argv: list[str] | None = None) -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flushes", type=int, default=1000)
    parser.add_argument("--rows", type=int, default=100)
    parser.add_argument("--no-maintenance", action="store_true", help="show what happens without expiry and merge")
    given = parser.parse_args(argv)
    off = MaintenanceConfig(snapshots_max=1 << 30, manifests_max=1 << 30)
    print(run(given.flushes, given.rows, maintenance=off if given.no_maintenance else None))
    return 0


if __name__ == "__main__":
    sys.exit(main())
