"""Commit time of a table with many flushes behind it, beside that of a young one.

Makes a table in a temporary directory (a SQLite catalog and local files), commits flushes through the collector's
own path, with expiry and manifest merge as configured, then a second table with ten, and times the next commits of
both in turn, so that a busy machine slows both alike. The catalog runs in the same process: its own work on the
metadata, which a catalog server would do elsewhere, is part of the figures::

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

from collector.cloudevents import DATA_JSON, Event
from collector.commit import IcebergTable
from collector.config import MaintenanceConfig
from collector.encode import to_rows
from collector.store import Progress

EARLY = 10
ROUNDS = 15
_T0_US = 1_767_225_600_000_000


@dataclass(frozen=True, slots=True)
class CommitBench:
    """Median commit times in milliseconds, and what the older table holds at the end."""

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
            f"commit after {EARLY} flushes: {self.early_ms:.1f} ms, after {self.flushes}: {self.late_ms:.1f} ms, "
            f"ratio {self.ratio:.2f}; the table holds {self.snapshots} snapshots and {self.manifests} manifests"
        )


class _Writer:
    """One table and the number of its next flush."""

    def __init__(self, catalog: SqlCatalog, name: str, rows: int, maintenance: MaintenanceConfig) -> None:
        self._maintenance = maintenance
        self._rows = rows
        self._seq = 0
        self._table = IcebergTable(lambda: catalog, name, maintenance=maintenance)
        self._table.refresh()

    def flush(self) -> float:
        """Commit one flush; return the milliseconds of manifests, commit and expiry, without the data file."""
        self._seq += 1
        progress = Progress(f"bench/1/{self._seq}", "bench", 1, self._seq, 0.0, 0)
        events = [_event(self._seq * self._rows + number) for number in range(self._rows)]
        file = self._table.write(progress, 0, to_rows(events).table)
        started = time.perf_counter()
        self._table.commit(progress, self._table.prepare(progress, (file,), 0))
        self._table.expire(self._maintenance, time.time())
        return (time.perf_counter() - started) * 1000


def run(flushes: int = 1000, rows: int = 100, *, maintenance: MaintenanceConfig | None = None) -> CommitBench:
    """Commit ``flushes`` flushes of ``rows`` events to one table and ten to another, then time both in turn."""
    maintenance = maintenance or MaintenanceConfig(snapshot_min_age_s=0)
    with tempfile.TemporaryDirectory(prefix="bench-commit-") as root:
        (Path(root) / "warehouse").mkdir()
        catalog = SqlCatalog("bench", uri=f"sqlite:///{root}/catalog.db", warehouse=f"file://{root}/warehouse")
        old, young = (_Writer(catalog, f"bench.{name}", rows, maintenance) for name in ("old", "young"))
        for writer, count in ((old, flushes), (young, EARLY)):
            for _ in range(count):
                writer.flush()
        pairs = [(young.flush(), old.flush()) for _ in range(ROUNDS)]
        loaded = catalog.load_table("bench.old")
        head = loaded.current_snapshot()
        assert head is not None
        manifests, snapshots = len(head.manifests(loaded.io)), len(loaded.metadata.snapshots)
        catalog.close()
    early, late = (statistics.median(column) for column in zip(*pairs, strict=True))
    return CommitBench(flushes, early, late, snapshots, manifests)


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
    parser.add_argument("--snapshots-max", type=int, default=MaintenanceConfig().snapshots_max)
    parser.add_argument("--manifests-max", type=int, default=MaintenanceConfig().manifests_max)
    given = parser.parse_args(argv)
    on = MaintenanceConfig(given.snapshots_max, 0, given.manifests_max)
    off = MaintenanceConfig(snapshots_max=1 << 30, manifests_max=1 << 30)
    print(run(given.flushes, given.rows, maintenance=off if given.no_maintenance else on))
    return 0


if __name__ == "__main__":
    sys.exit(main())
