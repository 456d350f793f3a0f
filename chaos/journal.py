"""The undo journal: what has to be undone, on disk before it is done.

``journal.jsonl`` is append-only. After a header line it holds ``{"id", "t_ns", "undo": {...}}`` when a fault is about to be
injected and ``{"id", "t_ns", "done": true, "detail"}`` when it is undone. A line cut off by a crash is ignored: its fault was
never injected, because the injection waits for the whole line to be on disk.

One process appends at a time, and holds the file's lock: the warden while it lives, :func:`heal` afterwards. Standard
library only.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chaos import undo

SCHEMA = "icequake.journal/1.0"
HEAL_DEADLINE_S = 10.0


class JournalError(ValueError):
    """The file is not a journal this version can read; the message is one sentence with file and line."""


class JournalInUse(JournalError):
    """A living process writes this journal and will undo what is in it."""


@dataclass(frozen=True)
class Healed:
    """One entry that :func:`heal` played."""

    id: str
    entry: dict[str, Any]
    ok: bool
    detail: str


class Journal:
    """Appends to one journal file, which is created with its header when missing.

    Raises :class:`JournalInUse` while another process has it open, OSError when it cannot be written.
    """

    def __init__(self, path: Path, run: str = "") -> None:
        self.path = path
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the kernel gives it back when this process dies
            self._begin(run)
        except BlockingIOError as error:
            os.close(self._fd)
            raise JournalInUse(f"{path} belongs to a run that is still going on") from error
        except OSError:
            os.close(self._fd)
            raise

    def _begin(self, run: str) -> None:
        if os.fstat(self._fd).st_size == 0:
            stamp = {"unix_ns": time.time_ns(), "mono_ns": time.monotonic_ns()}
            self._append({"schema": SCHEMA, "run": run, **stamp}, durable=True)
            _sync_directory(self.path.parent)
        elif os.pread(self._fd, 1, os.fstat(self._fd).st_size - 1) != b"\n":
            os.write(self._fd, b"\n")  # close a line that a crash cut off, or the next would be lost with it

    def add(self, entry_id: str, entry: undo.Entry, *, durable: bool = True) -> None:
        """Write the entry; with ``durable`` it survives a power cut when this returns."""
        self._append({"id": entry_id, "t_ns": time.monotonic_ns(), "undo": dict(entry)}, durable=durable)

    def done(self, entry_id: str, detail: str = "") -> None:
        """Write that the entry needs no undoing any more."""
        self._append({"id": entry_id, "t_ns": time.monotonic_ns(), "done": True, "detail": detail}, durable=False)

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)

    def _append(self, record: dict[str, Any], *, durable: bool) -> None:
        line = json.dumps(record, separators=(",", ":")).encode() + b"\n"
        before = os.fstat(self._fd).st_size
        try:
            _write_whole(self._fd, line)
            if durable:
                os.fsync(self._fd)
        except OSError:
            os.ftruncate(self._fd, before)  # half a line would swallow the next one
            raise


def _sync_directory(path: Path) -> None:
    """Make a new file's name as durable as its bytes."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _write_whole(fd: int, line: bytes) -> None:
    if os.write(fd, line) != len(line):
        raise OSError(errno.ENOSPC, "no room left for the undo journal")


def open_entries(path: Path) -> dict[str, dict[str, Any]]:
    """Read what is not undone yet, oldest first; raises :class:`JournalError`."""
    entries: dict[str, dict[str, Any]] = {}
    for record in _records(path):
        if record.get("done"):
            entries.pop(record["id"], None)
        elif "undo" in record:
            entries[record["id"]] = record["undo"]
    return entries


def in_use(path: Path) -> bool:
    """Tell whether a living process writes this journal; False when there is none."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def heal(path: Path, deadline_s: float = HEAL_DEADLINE_S) -> list[Healed]:
    """Undo what a journal still holds, newest first, and write down what was undone.

    For a run whose harness and warden are both gone (a power cut). Playing again is harmless; a journal that a living
    warden writes is left to it (nothing is returned then). ``deadline_s`` is per entry. Raises :class:`JournalError`.
    """
    if not open_entries(path):
        return []
    try:
        journal = Journal(path)
    except JournalInUse:
        return []
    try:
        entries = open_entries(path)
        return [_heal_one(journal, key, entries[key], deadline_s) for key in reversed(entries)]
    finally:
        journal.close()


def _heal_one(journal: Journal, entry_id: str, entry: dict[str, Any], deadline_s: float) -> Healed:
    outcome = undo.play(entry, deadline_s)
    if outcome.ok:
        journal.done(entry_id, outcome.detail)
    return Healed(entry_id, entry, outcome.ok, outcome.detail)


def _records(path: Path) -> Iterator[dict[str, Any]]:
    lines = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines, start=1):
        if not line:
            continue
        try:
            record = json.loads(line)
        except ValueError:
            continue  # torn by a crash; see the module's docstring
        if not isinstance(record, dict):
            raise JournalError(f"{path}, line {number}: a journal line must be a JSON object")
        if "schema" in record:
            _check_schema(path, str(record["schema"]))
        else:
            yield record


def _check_schema(path: Path, schema: str) -> None:
    name, _, version = schema.partition("/")
    if name != SCHEMA.partition("/")[0]:
        raise JournalError(f"{path} is not a journal: its schema is {schema}")
    if version.partition(".")[0] != "1":
        raise JournalError(f"{path} was written by a newer icequake ({schema}); this one reads version 1")
