"""Follow the table while traffic runs, and append what became visible to visible.jsonl.

    python -m reports.auditor RUN [--interval-s 1.0]

A line a look:
    {"t_ns", "snapshot_id", "snapshots", "snapshots_seen", "rows", "visible", "duplicated", "acked", "pending", "lost",
     "freshness_s", "files": [{"path", "after_ns"}]}
`t_ns` is the end of the look. `files` are data files seen for the first time; `after_ns` is when the last look without them
began, or 0 where there was none. `pending` counts acked events that are not visible, `lost` those of them that were, in an
earlier look; `freshness_s` is the age of the oldest one that has never been. A look that failed is a line {"t_ns", "error"}; a table that does not exist yet is a look that saw nothing. Only new
manifests and data files are read; content, and rows that delete files hide, are left to the final read. SIGTERM ends it after
a last look.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import click
import numpy as np
from pyiceberg.table import Table

from loadtests.records.errors import RecordError
from loadtests.records.jsonl import JsonlWriter
from loadtests.records.rundir import RunDir
from reports.errors import ReportError
from reports.fold import Subject, read_parquet
from reports.keyset import Counted
from reports.ledger_tail import AckedSoFar, LedgerTail, Marks
from reports.observe import subject_of, whereabouts
from reports.tablewalk import live_files, open_table

Clock = Callable[[], int]

DENSE_LIMIT = 1 << 31
"""Sequences from here on are left to the final read; no run sends so many, and a byte each would not fit."""


class LiveTable:
    """Which events a scan of the current snapshot would return, kept up to date file by file."""

    def __init__(self) -> None:
        self.copies: dict[int, Marks] = {}
        self.rows = 0
        self._files: dict[str, tuple[dict[int, Counted], int]] = {}

    def update(self, listed: Mapping[str, int], read: Callable[[str], dict[int, Counted]]) -> None:
        """Take over the files that the current snapshot lists (path to number of references); new ones are read."""
        for path in [p for p in self._files if listed.get(p) != self._files[p][1]]:
            found, references = self._files.pop(path)
            self._add(found, -references)
        for path in [path for path in listed if path not in self._files]:
            found = read(path)
            self._files[path] = (found, listed[path])
            self._add(found, listed[path])

    def _add(self, found: Mapping[int, Counted], references: int) -> None:
        for producer, counted in found.items():
            self.rows += counted.rows * references
            if counted.keys.last >= DENSE_LIMIT:
                continue
            marks = self.copies.setdefault(producer, Marks()).upto(counted.keys.last + 1)
            keys = counted.keys.sequences().astype(np.intp)
            marks[keys] += np.int64(references).astype(np.uint8)
            marks[counted.again.astype(np.intp)] += (counted.copies.astype(np.int64) * references).astype(np.uint8)

    def visible(self) -> int:
        """Return how many different events there are."""
        return sum(int(np.count_nonzero(marks.upto(len(marks)))) for marks in self.copies.values())

    def duplicated(self) -> int:
        """Return how many events are there more than once."""
        return sum(int(np.count_nonzero(marks.upto(len(marks)) > 1)) for marks in self.copies.values())


class Auditor:
    """Look at the table again and again.

    Args:
        load: Load the table as it is now; None while there is none.
        acked: Adds to an `AckedSoFar` what was acked since.
        clock: This machine's monotonic clock, in nanoseconds.
    """

    def __init__(
        self, load: Callable[[], Table | None], subject: Subject, acked: Callable[[AckedSoFar], None], *, clock: Clock
    ) -> None:
        self._load = load
        self._subject = subject
        self._read_acks = acked
        self._clock = clock
        self._acked = AckedSoFar()
        self._live = LiveTable()
        self._once: dict[int, Marks] = {}
        self._seen: set[str] = set()
        self._manifests: dict[str, list[str]] = {}
        self._snapshot_ids: set[int] = set()
        self._looked_ns = 0

    def look(self) -> dict[str, Any]:
        """Look once, and return the line to write. Never raises: an error is a line too."""
        start_ns = self._clock()
        try:
            self._read_acks(self._acked)
            table = self._load()
            line = self._line(table)
        except Exception as error:  # whatever catalog, storage or a half-written ledger raised: the next look may work
            return {"t_ns": self._clock(), "error": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}
        # Sightings are dated when they were made, absences when the look began: both err to the target's side.
        self._looked_ns = start_ns
        return line

    def _line(self, table: Table | None) -> dict[str, Any]:
        snapshot = table.current_snapshot() if table is not None else None
        listed: Counter[str] = live_files(table, self._manifests) if table is not None else Counter()
        self._live.update(listed, lambda path: self._fold(table, path))
        # Not what `update` read just now: a look that failed half-way may have read some before.
        first_seen = [path for path in listed if path not in self._seen]
        self._seen.update(first_seen)
        if table is not None:
            self._snapshot_ids.update(s.snapshot_id for s in table.metadata.snapshots)
        pending, lost = self._absent()
        now_ns = self._clock()
        return {
            "t_ns": now_ns,
            "snapshot_id": snapshot.snapshot_id if snapshot is not None else None,
            "snapshots": len(table.metadata.snapshots) if table is not None else 0,
            "snapshots_seen": len(self._snapshot_ids),
            "rows": self._live.rows,
            "visible": self._live.visible(),
            "duplicated": self._live.duplicated(),
            "acked": self._acked.events,
            "pending": pending,
            "lost": lost,
            "freshness_s": self._freshness_s(now_ns),
            "files": [{"path": path, "after_ns": self._looked_ns} for path in first_seen],
        }

    def _fold(self, table: Table | None, path: str) -> dict[int, Counted]:
        assert table is not None
        with table.io.new_input(path).open() as stream:
            return read_parquet(stream, self._subject).found

    def _absent(self) -> tuple[int, int]:
        """Count acked events that are not visible, and those of them that once were."""
        pending = lost = 0
        for producer, marks in self._acked.marks.items():
            acked = marks.upto(len(marks))
            there = self._live.copies.setdefault(producer, Marks()).upto(len(acked)) > 0
            once = self._once.setdefault(producer, Marks()).upto(len(acked))
            once |= there
            absent = (acked > 0) & ~there
            pending += int(np.count_nonzero(absent))
            lost += int(np.count_nonzero(absent & (once > 0)))
        return pending, lost

    def _freshness_s(self, now_ns: int) -> float:
        waiting = self._acked.waiting
        while waiting:
            ack = waiting[0]
            there = self._live.copies.setdefault(ack.producer, Marks()).upto(ack.first + ack.count)
            if not there[ack.first :].all():
                return round(max(now_ns - ack.done_ns, 0) / 1e9, 3)
            waiting.popleft()
        return 0.0


def auditor_of(run: RunDir, *, clock: Clock = time.monotonic_ns) -> Auditor:
    """Return an auditor for the table of *run*. Content is left to the final read."""
    place, subject, tail = whereabouts(run), subject_of(run), LedgerTail(run.ledger)
    identity_only = Subject(subject.run_id, subject.identity, None, subject.columns)
    return Auditor(lambda: open_table(place.properties, place.identifier), identity_only, tail.read, clock=clock)


def follow(auditor: Auditor, writer: JsonlWriter, stop: threading.Event, *, interval_s: float) -> None:
    """Look every *interval_s* until *stop* is set, and once more then."""
    while not stop.is_set():
        writer.append(auditor.look())
        stop.wait(interval_s)
    writer.append(auditor.look())


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--interval-s", type=click.FloatRange(min=0.05), default=1.0, show_default=True, help="Pause between looks."
)
def main(run: Path, interval_s: float) -> None:
    """Follow the table of RUN (a run directory) until SIGTERM."""
    stop = threading.Event()

    def end(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    try:
        directory = RunDir.open(run)
        with JsonlWriter(directory.visible, "visible", directory.info.run_id) as writer:
            follow(auditor_of(directory), writer, stop, interval_s=interval_s)
    except (RecordError, ReportError, OSError) as error:
        click.echo(f"auditor: {error}", err=True)
        sys.exit(255)


if __name__ == "__main__":
    main()
