"""Planted bugs of the reference collector: each is what it overrides, as (owner, name, what is there instead).

The names are the collector's own, private ones among them; `tests/test_mutants.py` fails when one is gone.
"""

from __future__ import annotations

import importlib
import sqlite3
import time
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

Patch = tuple[Any, str, Any]
LATER_S = 0.05
SOME = 5
"""More manifests than there are when damage is done in a micro-scenario, fewer than come while it lasts."""


def module(name: str) -> Any:
    return importlib.import_module(f"collector.{name}")


def sound() -> list[Patch]:
    """No bug at all: the control."""
    return []


# -- the buffer on disk


def acks_first() -> list[Patch]:
    """Answer 202 when a request is queued, and write it a moment later."""
    writer = module("writer").Writer
    submit, store_group = writer.submit, writer._store_group

    def answered(self: Any, requests: Any, future: Any) -> None:
        submit(self, requests, Future())
        future.set_result(None)

    def later(self: Any, group: Any) -> None:
        time.sleep(LATER_S)
        store_group(self, group)

    return [(writer, "submit", answered), (writer, "_store_group", later)]


def acks_unwritten() -> list[Patch]:
    """Take a write or a sync that failed for nothing worse than a line in the log, and acknowledge it."""
    writer = module("writer")
    fail = writer.Writer._fail

    def shrug(self: Any, group: Any, exc: BaseException, *, undecided: bool = False) -> None:
        if not isinstance(exc, (sqlite3.Error, OSError)):
            fail(self, group, exc, undecided=undecided)
            return
        for submission in group:
            submission.future.set_result(None)

    return [(writer.Writer, "_fail", shrug), (writer, "_is_io_error", lambda _exc: False)]


def never_dedupes() -> list[Patch]:
    """Keep every event, however often it was sent."""
    buffer = module("buffer").Buffer
    begin = buffer.__init__

    def blind(self: Any, *given: Any, **named: Any) -> None:
        begin(self, *given, **{**named, "dedupe_window_s": 0})

    return [(buffer, "__init__", blind)]


def forgets_what_it_saw() -> list[Patch]:
    """Begin with an empty dedupe window after each start."""

    def nothing(self: Any) -> list[Any]:
        self.conn.execute("DELETE FROM dedupe")
        return []

    return [(module("store").Store, "dedupe_runs", nothing)]


def forgets_flushes() -> list[Patch]:
    """Begin without the flush that was under way, and seal its events anew."""
    return [(module("store").Store, "flushes", lambda _self: [])]


# -- flushes


def clears_before_commit() -> list[Patch]:
    """Clear the buffer when the data files are stored, before the commit."""
    flusher = module("flusher").Flusher

    def advance(self: Any, flush: Any) -> Any:
        if self._view is None or self._failures:
            self._refresh()
        flush = self._write(flush)
        self._buffer.clear(flush)
        if flush.progress.files:
            self._table.commit(flush.progress, self._table.prepare(flush.progress, flush.progress.files, 0))
        return flush

    return [(flusher, "_advance", advance)]


def trusts_its_intent() -> list[Patch]:
    """Take a commit request that it finds after a start for a commit that landed."""
    flusher = module("flusher")
    land = flusher.Flusher._land

    def landed(self: Any, flush: Any) -> Any:
        if self._view is None and flush.progress.state == "intent":
            return self._buffer.record_committed(flush, flusher.snapshot_id_of(flush.id))
        return land(self, flush)

    return [(flusher.Flusher, "_land", landed)]


def commits_again() -> list[Patch]:
    """Commit anew, under a new snapshot id, whatever was not cleared: after a start, and after each failure."""
    flusher, commit = module("flusher"), module("commit")
    prepare, real, tries = commit.IcebergTable.prepare, commit.snapshot_id_of, [0]

    def prepared(self: Any, flush: Any, files: Any, attempt: int) -> Any:
        tries[0] = time.time_ns()
        return prepare(self, flush, files, attempt)

    def advance(self: Any, flush: Any) -> Any:
        if self._view is None or self._failures:
            self._refresh()
        flush = self._write(flush)
        if flush.progress.files:
            intent = self._table.prepare(flush.progress, flush.progress.files, flush.progress.attempts)
            flush = self._send(self._buffer.record_intent(flush, intent))
        else:
            flush = self._buffer.record_committed(flush, None)
        self._buffer.clear(flush)
        return flush

    return [
        (commit.IcebergTable, "prepare", prepared),
        (commit, "snapshot_id_of", lambda flush_id: real(f"{flush_id} {tries[0]}")),
        (flusher.Flusher, "_advance", advance),
    ]


# -- the table


def trusts_its_uploads() -> list[Patch]:
    """Take for stored whatever was stored once, however long ago."""
    return [(module("commit").IcebergTable, "missing", lambda _self, _flush: frozenset())]


def ignores_totals() -> list[Patch]:
    """Build on the parent's manifest list without comparing it with the parent's totals."""
    lineage = module("lineage")
    return [(lineage, "sound_manifests", lambda parent, file_io: parent.manifests(file_io) if parent else [])]


def builds_on_nothing() -> list[Patch]:
    """Begin a new list of manifests when the parent's cannot be read."""
    lineage = module("lineage")
    sound_manifests = lineage.sound_manifests

    def whatever(parent: Any, file_io: Any) -> Any:
        try:
            return sound_manifests(parent, file_io)
        except Exception:
            return []

    return [(lineage, "sound_manifests", whatever)]


def merges_what_it_can() -> list[Patch]:
    """Merge manifests once there are some, leave out those that cannot be read, and do not look at totals."""
    commit = module("commit")

    def merge(_self: Any, table: Any, snapshot_id: int, manifests: Any, output: Any) -> Any:
        if len(manifests) < SOME:
            return manifests
        entries: list[Any] = []
        for manifest in manifests:
            with suppress(Exception):
                entries += manifest.fetch_manifest_entry(table.io)
        metadata = table.metadata
        with commit.write_manifest(2, metadata.spec(), metadata.schema(), output, snapshot_id, "deflate") as writer:
            for entry in entries:
                writer.existing(entry)
        return [writer.to_manifest_file()]

    return [*ignores_totals(), (commit.IcebergTable, "_merge", merge)]
