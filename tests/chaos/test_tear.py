"""A torn file: everything that was written whole is there for whoever reads it back, and nothing of the half record is."""

from __future__ import annotations

import random
import sqlite3
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chaos.faults.tear import tear


def logged(directory: Path, rows: int, *, checkpoints: int = 0) -> Path:
    """A database with its write-ahead log, as a killed process leaves them: the log was reused after each checkpoint."""
    path = directory / "killed.sqlite3"
    live = sqlite3.connect(directory / "live.sqlite3", isolation_level=None)
    try:
        live.execute("PRAGMA journal_mode=WAL")
        live.execute("CREATE TABLE t (n INTEGER, body BLOB)")
        for n in range(rows):
            live.execute("INSERT INTO t VALUES (?, ?)", (n, bytes(3000)))
            if n < checkpoints:
                live.execute("PRAGMA wal_checkpoint(RESTART)").fetchall()
        path.write_bytes((directory / "live.sqlite3").read_bytes())
        path.with_name(f"{path.name}-wal").write_bytes((directory / "live.sqlite3-wal").read_bytes())
    finally:
        live.close()
    return path


def rows_of(path: Path) -> list[int]:
    database = sqlite3.connect(path)
    try:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return [n for (n,) in database.execute("SELECT n FROM t ORDER BY n")]
    finally:
        database.close()


@pytest.mark.parametrize("checkpoints", [0, 3])
@pytest.mark.parametrize("seed", range(5))
def test_a_torn_log_of_sqlite_has_every_transaction(tmp_path: Path, seed: int, checkpoints: int) -> None:
    """SQLite itself reads it back, also a log with frames of an earlier generation behind its end."""
    path = logged(tmp_path, 8, checkpoints=checkpoints)
    wal = path.with_name(f"{path.name}-wal")
    before = wal.read_bytes()

    torn = tear(before, random.Random(seed))
    wal.write_bytes(torn.data)

    assert before[: torn.end] == torn.data[: torn.end]
    assert 0 < torn.partial_bytes < 24 + 4096
    assert len(torn.data) == torn.end + torn.partial_bytes
    assert rows_of(path) == list(range(8))


def test_a_byte_less_of_what_was_whole_is_a_loss(tmp_path: Path) -> None:
    """The end is where the last transaction ends, not a frame behind it: so the test above can fail."""
    path = logged(tmp_path, 8)
    wal = path.with_name(f"{path.name}-wal")
    wal.write_bytes(wal.read_bytes()[: tear(wal.read_bytes(), random.Random(1)).end - 1])

    assert rows_of(path) == list(range(7))


def test_frames_that_no_transaction_committed_are_cut_off(tmp_path: Path) -> None:
    """Nobody was told of them."""
    path = logged(tmp_path, 2)
    before = path.with_name(f"{path.name}-wal").read_bytes()
    frame = bytearray(before[-(24 + 4096) :])
    frame[4:8] = bytes(4)

    assert tear(before + bytes(frame), random.Random(1)).end == len(before)


@given(st.binary(min_size=2, max_size=20_000), st.integers())
@settings(deadline=None)
def test_any_other_file_keeps_all_its_bytes(data: bytes, seed: int) -> None:
    """And gets something behind them, the same for the same seed."""
    torn = tear(data, random.Random(seed))

    assert torn.end == len(data)
    assert torn.data[: torn.end] == data
    assert len(torn.data) > len(data)
    assert torn == tear(data, random.Random(seed))


@pytest.mark.parametrize("data", [b"", b"x", bytes.fromhex("377f0682") + bytes(28)])
def test_a_file_without_a_record_cannot_be_torn(data: bytes) -> None:
    """There is nothing that a write could have added to."""
    with pytest.raises(ValueError, match="no whole record"):
        tear(data, random.Random(1))
