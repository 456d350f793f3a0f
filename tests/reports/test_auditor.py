"""The auditor: what became visible and when, on a real local table and a clock of our own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from pyiceberg.manifest import ManifestEntry, ManifestFile
from pyiceberg.table import Table

from loadtests.records.jsonl import JsonlTail, read_jsonl
from loadtests.records.ledger import LedgerWriter, Outcome
from reports.auditor import Auditor, auditor_of
from reports.keyset import Counted
from reports.sightings import FirstSeen, watch_of
from tests.reports.tables import RUN_ID, LocalTable, events


class Clock:
    """Nanoseconds that pass only when told to."""

    def __init__(self) -> None:
        self.now_ns = 1_000

    def __call__(self) -> int:
        return self.now_ns


@pytest.fixture
def lake(tmp_path: Path) -> LocalTable:
    return LocalTable(tmp_path)


def auditor_on(lake: LocalTable, clock: Clock, *, sent: int = 100) -> Auditor:
    return auditor_of(lake.run(sent=sent), clock=clock)


def test_a_look_says_what_is_visible_and_what_is_pending(lake: LocalTable) -> None:
    """100 acked, 60 visible, 10 of them twice."""
    clock = Clock()
    auditor = auditor_on(lake, clock)
    lake.table.append(events([*range(60), *range(10)]))
    clock.now_ns = 2_000_000_003

    line = auditor.look()

    assert {k: line[k] for k in ("acked", "visible", "duplicated", "pending", "rows", "freshness_s")} == {
        "acked": 100,
        "visible": 60,
        "duplicated": 10,
        "pending": 40,
        "rows": 70,
        "freshness_s": 2.0,
    }


def test_a_file_is_sighted_once_between_two_looks(lake: LocalTable) -> None:
    """`after_ns` is when the last look without it began; later looks do not name it again."""
    clock = Clock()
    auditor = auditor_on(lake, clock)
    lines = [auditor.look()]
    clock.now_ns = 2_000
    lake.table.append(events(range(60)))
    lines.append(auditor.look())
    clock.now_ns = 3_000
    lines.append(auditor.look())

    assert [len(line["files"]) for line in lines] == [0, 1, 0]
    [seen] = watch_of(lines).files.values()
    assert seen == FirstSeen(after_ns=1_000, seen_ns=2_000)


def test_what_was_there_before_the_first_look_was_never_looked_for(lake: LocalTable) -> None:
    """An auditor that was started late must not make events late."""
    clock = Clock()
    auditor = auditor_on(lake, clock)
    lake.table.append(events(range(60)))

    assert auditor.look()["files"][0]["after_ns"] == 0


def test_what_was_visible_and_is_not_any_more_is_lost_so_far(lake: LocalTable) -> None:
    """Rolled back, 60 events are lost beside 40 that have never been there; registered again, none is."""
    auditor = auditor_on(lake, Clock())
    table = lake.table
    table.append(events(range(1)))
    before = table.current_snapshot()
    table.append(events(range(1, 60)))
    after = table.current_snapshot()
    assert before is not None and after is not None
    assert [auditor.look()[k] for k in ("pending", "lost")] == [40, 0]

    for snapshot, numbers in ((before, [99, 59]), (after, [40, 0])):
        with lake.load().manage_snapshots() as change:
            change.set_current_snapshot(snapshot.snapshot_id)
        assert [auditor.look()[k] for k in ("pending", "lost")] == numbers


def test_only_new_files_are_read(lake: LocalTable, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that was read is not read again."""
    auditor = auditor_on(lake, Clock())
    read: list[str] = []
    fold = Auditor._fold

    def noting(self: Auditor, table: Table | None, path: str) -> dict[int, Counted]:
        read.append(path)
        return fold(self, table, path)

    monkeypatch.setattr(Auditor, "_fold", noting)
    for first in (0, 50):
        lake.table.append(events(range(first, first + 50)))
        auditor.look()
        auditor.look()

    assert len(read) == len(set(read)) == 2


def test_only_new_manifests_are_read(lake: LocalTable, monkeypatch: pytest.MonkeyPatch) -> None:
    """A look at a table with many flushes costs what the new ones cost."""
    auditor = auditor_on(lake, Clock())
    read: list[str] = []
    fetch = ManifestFile.fetch_manifest_entry

    def noting(self: ManifestFile, *arguments: Any, **named: Any) -> list[ManifestEntry]:
        read.append(self.manifest_path)
        return fetch(self, *arguments, **named)

    for first in (0, 30, 60):
        lake.table.append(events(range(first, first + 30)))
        with monkeypatch.context() as patch:
            patch.setattr(ManifestFile, "fetch_manifest_entry", noting)
            auditor.look()

    assert len(read) == len(set(read)) == 3


def test_a_rewritten_file_moves_no_count(lake: LocalTable) -> None:
    """Deleting one row rewrites the file: one event less, none doubled."""
    auditor = auditor_on(lake, Clock())
    lake.table.append(events(range(100)))
    before = auditor.look()
    lake.load().delete(f"id = '{events([7])['id'][0].as_py()}'")
    after = auditor.look()

    assert (before["visible"], after["visible"], after["duplicated"], after["pending"]) == (100, 99, 0, 1)


def test_a_table_that_does_not_exist_yet_is_no_error(lake: LocalTable) -> None:
    """Nothing is visible, everything acked is pending."""
    auditor = auditor_on(lake, Clock())
    lake.catalog.drop_table("lake.events")

    line = auditor.look()

    assert "error" not in line
    assert (line["visible"], line["pending"], line["snapshot_id"]) == (0, 100, None)


def test_an_error_is_a_line_and_the_next_look_works(lake: LocalTable) -> None:
    """A manifest that cannot be read now does not end the auditor, nor lose the sighting."""
    clock = Clock()
    auditor = auditor_on(lake, clock)
    auditor.look()
    lake.table.append(events(range(100)))
    snapshot = lake.load().current_snapshot()
    assert snapshot is not None
    manifest_list = Path(snapshot.manifest_list.removeprefix("file://"))
    original = manifest_list.read_bytes()
    manifest_list.write_bytes(b"garbage")
    clock.now_ns = 2_000
    broken = auditor.look()
    manifest_list.write_bytes(original)
    clock.now_ns = 3_000
    mended = auditor.look()

    assert "snap-" in broken["error"]
    assert mended["visible"] == 100
    assert mended["files"][0]["after_ns"] == 1_000
    assert watch_of([broken, mended]).errors == 1


def test_acks_are_followed_while_the_ledger_grows(lake: LocalTable) -> None:
    """Also those of a generator that starts later, and never twice."""
    run = lake.run(sent=0)
    auditor = auditor_of(run, clock=Clock())
    first = auditor.look()
    writer = LedgerWriter(run.ledger / "late.ledger", run_id=RUN_ID, process="late")
    counts = []
    for attempt in (1, 2):
        common: dict[str, Any] = {"producer": 3, "first": 10, "count": 5, "intended_ns": 1, "sent_ns": 1}
        request = writer.attempt(**common, attempt=attempt)
        counts.append(auditor.look()["acked"])
        writer.done(request, **common, done_ns=2, status=202, outcome=Outcome.ACKED, attempt=attempt)
        counts.append(auditor.look()["acked"])
    writer.close()

    assert first["acked"] == 0
    assert counts == [0, 5, 5, 5]


@pytest.mark.integration
def test_the_process_follows_a_table_and_ends_on_sigterm(lake: LocalTable) -> None:
    """visible.jsonl grows while it runs; SIGTERM makes it look once more and exit 0."""
    run = lake.run(sent=10)
    command = [sys.executable, "-m", "reports.auditor", str(run.root), "--interval-s", "30"]
    process = subprocess.Popen(command, env=os.environ)
    try:
        tail, deadline = JsonlTail(run.visible), time.monotonic() + 60
        while not tail.read() and process.poll() is None and time.monotonic() < deadline:
            os.sched_yield()
        lake.table.append(events(range(10)))
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 0
    finally:
        process.kill()
        process.wait()

    lines = list(read_jsonl(run.visible, "visible"))
    assert (lines[0]["visible"], lines[-1]["visible"], lines[-1]["pending"]) == (0, 10, 0)
