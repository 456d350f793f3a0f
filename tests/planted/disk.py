"""Planted bugs in what the collector trusts of its disk; each is the reference collector with one difference (`tests.planted.reference`)."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.planted.reference import Patch, module

WAL_HEADER_BYTES, FRAME_BYTES = 32, 24 + 4096


def no_sync() -> list[Patch]:
    """Write the buffer, and leave it to the machine when it reaches the disk."""
    open_database = module("buffer").open_database

    def unsynced(path: Path, *, check: bool = True) -> sqlite3.Connection:
        conn: sqlite3.Connection = open_database(path, check=check)
        conn.execute("PRAGMA synchronous=OFF")
        return conn

    return [(module("buffer"), "open_database", unsynced)]


def stays_down() -> list[Patch]:
    """Start once; refuse to start on a buffer that is there already."""
    open_database = module("buffer").open_database

    def opened(path: Path, *, check: bool = True) -> Any:
        if check and path.exists():
            raise module("errors").BufferUnavailable(f"{path} is there already")
        return open_database(path, check=check)

    return [(module("buffer"), "open_database", opened)]


def ends_at_a_tear() -> list[Patch]:
    """Refuse to start on a log that ends in half a record, for ever."""

    def refuse(wal: Path) -> None:
        raise module("errors").BufferUnavailable(f"{wal} ends in half a record")

    return _meets_a_tear(refuse)


def discards_torn_logs() -> list[Patch]:
    """Throw a log away that ends in half a record, with all the records before it."""
    return _meets_a_tear(Path.unlink)


def _meets_a_tear(meet: Callable[[Path], Any]) -> list[Patch]:
    open_database = module("buffer").open_database

    def opened(path: Path, *, check: bool = True) -> Any:
        wal = path.with_name(f"{path.name}-wal")
        size = wal.stat().st_size if wal.exists() else 0
        if check and size and (size - WAL_HEADER_BYTES) % FRAME_BYTES:
            meet(wal)
        return open_database(path, check=check)

    return [(module("buffer"), "open_database", opened)]
