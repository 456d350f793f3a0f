"""Objects as they were before they were damaged, on disk before the damage is done, and put back afterwards.

A directory holds `originals.jsonl` (one line a damage: path, ETag, checksums before and after; one more when it is put back) and
one file of bytes each. A line that a crash cut off is ignored: its damage was never done.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chaos.table.errors import ObjectMissing, TableError
from chaos.table.mutate import Original, put_back
from chaos.table.store import ObjectStore

SCHEMA = "icequake.originals/1.0"


@dataclass(frozen=True)
class PutBack:
    """What became of one kept object.

    Attributes:
        done: It is what it was before the damage.
        detail: How that is known, or why it was left alone.
    """

    path: str
    done: bool
    detail: str


class Originals:
    """Keeps original bytes in one directory, which is created when missing and readable by its owner only."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._directory = directory
        self._journal = directory / "originals.jsonl"

    def keep(self, before: Original, becomes: bytes | None) -> None:
        """Keep an object's bytes and ETag; on disk when this returns. Raises OSError."""
        number = len(self._records())
        name = f"{number:04d}.bin"
        _write_synced(self._directory / name, before.data)
        self._append(
            {
                "schema": SCHEMA,
                "path": before.path,
                "file": name,
                "etag": before.etag,
                "size": len(before.data),
                "sha256": _digest(before.data),
                "becomes": None if becomes is None else _digest(becomes),
            }
        )

    def pending(self) -> list[str]:
        """Paths of objects that were damaged and not put back, oldest damage first."""
        return [str(one["path"]) for one in self._pending()]

    def give_up(self, why: str) -> list[PutBack]:
        """Note that what was damaged is there no more, so that nothing is to be put back."""
        given_up = []
        for record in reversed(self._pending()):
            self._append({"done": record["file"], "why": why})
            given_up.append(PutBack(str(record["path"]), True, why))
        return given_up

    def put_back(self, store: ObjectStore, *, force: bool = False) -> list[PutBack]:
        """Put back what still holds the damaged bytes, newest damage first; harmless when played twice.

        Args:
            force: Also what something else has changed since, such as a repair.

        Raises:
            StoreFailed: the store did not answer, or refused.
            TableError: the kept bytes are not what was kept.
        """
        return [self._one(store, record, force=force) for record in reversed(self._pending())]

    def _one(self, store: ObjectStore, record: dict[str, Any], *, force: bool) -> PutBack:
        path, data = str(record["path"]), self._bytes(record)
        try:
            now = _digest(store.get(path))
        except ObjectMissing:
            now = None
        if now == record["sha256"]:
            self._append({"done": record["file"]})
            return PutBack(path, True, "it was what it had been already")
        if now != record["becomes"] and not force:
            return PutBack(path, False, "something else changed it since; it was left alone")
        put_back(store, Original(path, data, record["etag"]))
        if _digest(store.get(path)) != record["sha256"]:
            return PutBack(path, False, "the store returns other bytes than were put")
        self._append({"done": record["file"]})
        return PutBack(path, True, f"{len(data)} bytes put back and read again")

    def _bytes(self, record: dict[str, Any]) -> bytes:
        kept = self._directory / str(record["file"])
        data = kept.read_bytes()
        if _digest(data) != record["sha256"]:
            raise TableError(f"{kept} is not what was kept there; {record['path']} is left alone.")
        return data

    def _pending(self) -> list[dict[str, Any]]:
        records = self._records()
        done = {record["done"] for record in records if "done" in record}
        return [record for record in records if "path" in record and record["file"] not in done]

    def _records(self) -> list[dict[str, Any]]:
        if not self._journal.exists():
            return []
        records = []
        for line in self._journal.read_bytes().split(b"\n"):
            try:
                record = json.loads(line)
            except ValueError:
                continue  # torn by a crash; see the module's docstring
            if isinstance(record, dict):
                records.append(record)
        return records

    def _append(self, record: dict[str, Any]) -> None:
        _write_synced(self._journal, b"\n" + json.dumps(record).encode() + b"\n", append=True)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _write_synced(path: Path, data: bytes, *, append: bool = False) -> None:
    with path.open("ab" if append else "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
