"""The buffer's SQLite file: its schema, its records and every statement.

The file is in WAL mode with ``synchronous=FULL``: a transaction that was committed survives a power cut.
Requests are stored as one row per request and partition, with the events as one MessagePack blob and its CRC-32.
"""

from __future__ import annotations

import secrets
import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec

from collector.dedupe import Change, Run, run_from_bytes
from collector.errors import BufferUnavailable, ConfigError

SCHEMA_VERSION = 1
APPLICATION_ID = 0x1CE0C011

_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE requests (id INTEGER PRIMARY KEY, type TEXT NOT NULL, hour INTEGER NOT NULL, events INTEGER NOT NULL,
                       bytes INTEGER NOT NULL, arrived REAL NOT NULL, crc INTEGER NOT NULL, body BLOB NOT NULL);
CREATE TABLE flushes (seq INTEGER PRIMARY KEY, progress BLOB NOT NULL, parts BLOB NOT NULL);
CREATE TABLE dedupe (id INTEGER PRIMARY KEY, oldest REAL NOT NULL, newest REAL NOT NULL, hashes BLOB NOT NULL);
CREATE TABLE quarantine (id INTEGER PRIMARY KEY, flush_id TEXT NOT NULL, type TEXT NOT NULL, hour INTEGER NOT NULL,
                         reason TEXT NOT NULL, quarantined REAL NOT NULL, event BLOB NOT NULL);
"""

SMALL_FILE_BYTES = 64 << 20
"""Files up to this size are checked page by page on open (under a second); larger ones only at their root."""


class NewRequest(NamedTuple):
    """One request's events of one partition, encoded."""

    type: str
    hour: int
    events: int
    body: bytes


class StoredRequest(NamedTuple):
    """What is known of a stored request without reading its body."""

    id: int
    type: str
    hour: int
    events: int
    bytes: int
    arrived: float


class Part(msgspec.Struct, frozen=True):
    """One partition's share of a flush: stored requests, and the positions among their events that are dropped."""

    type: str
    hour: int
    requests: list[int]
    events: int
    bytes: int
    dropped: list[int]


class FileRef(msgspec.Struct, frozen=True):
    """A data file in the object store."""

    path: str
    size: int
    rows: int


class Intent(msgspec.Struct, frozen=True):
    """A commit request about to be sent.

    Attributes:
        body: The exact request; sending it twice is safe, since it requires ``parent`` to be the head of main.
        parent: Snapshot the request builds on, None for an empty table.
        table_uuid: The table it was built for.
        attempt: Counts the different requests made for one flush, from 0.
        objects: Path and bytes of the manifests and the manifest list that the request refers to and that were written for it.
    """

    body: bytes
    parent: int | None
    table_uuid: str
    attempt: int
    objects: tuple[tuple[str, bytes], ...] = ()


class Progress(msgspec.Struct, frozen=True):
    """How far a flush has come; replaced as a whole at each step.

    ``sealed`` -> ``written`` (all data files stored) -> ``intent`` (a commit request exists) -> ``committed``.
    """

    flush_id: str
    collector_id: str
    epoch: int
    seq: int
    sealed_at: float
    deduplicated: int
    state: Literal["sealed", "written", "intent", "committed"] = "sealed"
    files: tuple[FileRef, ...] = ()
    intent: Intent | None = None
    attempts: int = 0
    snapshot_id: int | None = None


class Poison(msgspec.Struct, frozen=True):
    """An event (or a damaged request) that cannot become a row."""

    type: str
    hour: int
    reason: str
    event: bytes


def open_database(path: Path, *, check: bool = True) -> sqlite3.Connection:
    """Open or create the buffer file; ``check`` looks for damage.

    Raises:
        ConfigError: The file belongs to something else or to a newer version.
        BufferUnavailable: It cannot be opened or is damaged.
    """
    try:
        conn = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5)
        path.chmod(0o600)
        version = conn.execute("PRAGMA user_version").fetchone()[0]
        tables = conn.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
        application = conn.execute("PRAGMA application_id").fetchone()[0]
        if tables and application != APPLICATION_ID:
            raise ConfigError(f"{path} is not a collector buffer; choose another DATA_DIR.")
        if version > SCHEMA_VERSION:
            raise ConfigError(
                f"{path} has schema version {version}, this collector knows {SCHEMA_VERSION}; upgrade it."
            )
        conn.execute("PRAGMA journal_mode=WAL")
        conn.execute("PRAGMA synchronous=FULL")
        conn.execute("PRAGMA wal_autocheckpoint=4000")
        if not tables:
            _create(conn)
        elif check and path.stat().st_size <= SMALL_FILE_BYTES:
            verdict = conn.execute("PRAGMA quick_check(1)").fetchone()[0]
            if verdict != "ok":
                raise BufferUnavailable(f"the buffer file {path} is damaged: {verdict}")
    except (sqlite3.Error, OSError) as exc:
        raise BufferUnavailable(f"the buffer file {path} cannot be opened: {exc}") from exc
    return conn


def _create(conn: sqlite3.Connection) -> None:
    conn.executescript(
        f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA application_id={APPLICATION_ID}; PRAGMA user_version={SCHEMA_VERSION}; COMMIT;"
    )


class Store:
    """Statements on one connection; the caller owns transactions and threads."""

    def __init__(self, conn: sqlite3.Connection) -> None:
        self.conn = conn

    def meta(self, key: str) -> Any:
        """Read one value, None when it is absent."""
        row = self.conn.execute("SELECT value FROM meta WHERE key=?", (key,)).fetchone()
        return row[0] if row else None

    def set_meta(self, key: str, value: str | int | bytes) -> None:
        """Write one value."""
        self.conn.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    def begin_epoch(self, name: str = "") -> tuple[str, int, bytes]:
        """Count one more start, minting an id that begins with ``name`` at the first; return the collector's id, the epoch and the key of the dedupe hashes."""
        if self.meta("collector_id") is None:
            self.set_meta("collector_id", f"{name}-{secrets.token_hex(6)}" if name else secrets.token_hex(6))
            self.set_meta("hash_key", secrets.token_bytes(32))
        epoch = (self.meta("epoch") or 0) + 1
        self.set_meta("epoch", epoch)
        return self.meta("collector_id"), epoch, self.meta("hash_key")

    def renew_identity(self) -> str:
        """Replace the collector's id and return the new one."""
        name = self.meta("collector_id").rpartition("-")[0]
        self.set_meta("collector_id", f"{name}-{secrets.token_hex(6)}" if name else secrets.token_hex(6))
        collector_id: str = self.meta("collector_id")
        return collector_id

    def insert_requests(self, first_id: int, requests: Iterable[NewRequest], arrived: float) -> None:
        """Insert requests under consecutive ids."""
        self.conn.executemany(
            "INSERT INTO requests VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (id_, r.type, r.hour, r.events, len(r.body), arrived, zlib.crc32(r.body), r.body)
                for id_, r in enumerate(requests, first_id)
            ],
        )

    def requests(self) -> Iterator[StoredRequest]:
        """All stored requests, oldest first, without bodies."""
        rows = self.conn.execute("SELECT id, type, hour, events, bytes, arrived FROM requests ORDER BY id")
        return (StoredRequest(*row) for row in rows)

    def bodies(self, ids: Sequence[int]) -> Iterator[tuple[int, bytes, bool]]:
        """Number of events and body in the order of ``ids``, each with whether its CRC fits."""
        for id_ in ids:
            events, crc, body = self.conn.execute(
                "SELECT events, crc, body FROM requests WHERE id=?", (id_,)
            ).fetchone()
            yield events, body, zlib.crc32(body) == crc

    def every_body(self) -> Iterator[tuple[int, bytes, bool]]:
        """Id and body of all stored requests, oldest first, each with whether its CRC fits; one is in memory at a time."""
        for id_, crc, body in self.conn.execute("SELECT id, crc, body FROM requests ORDER BY id"):
            yield id_, body, zlib.crc32(body) == crc

    def sizes(self, ids: Sequence[int]) -> Iterator[tuple[int, int]]:
        """Id and number of events, in the order of ``ids``."""
        for id_ in ids:
            yield id_, self.conn.execute("SELECT events FROM requests WHERE id=?", (id_,)).fetchone()[0]

    def last_request(self) -> int:
        """Id of the newest stored request, 0 when there is none."""
        highest: int = self.conn.execute("SELECT coalesce(max(id), 0) FROM requests").fetchone()[0]
        return highest

    def delete_requests(self, ids: Sequence[int]) -> None:
        """Delete requests."""
        self.conn.executemany("DELETE FROM requests WHERE id=?", [(id_,) for id_ in ids])

    def insert_flush(self, progress: Progress, parts: Sequence[Part]) -> None:
        """Store a sealed flush."""
        encode = msgspec.msgpack.encode
        self.conn.execute("INSERT INTO flushes VALUES (?, ?, ?)", (progress.seq, encode(progress), encode(parts)))

    def update_flush(self, progress: Progress) -> None:
        """Store a flush's new progress."""
        self.conn.execute("UPDATE flushes SET progress=? WHERE seq=?", (msgspec.msgpack.encode(progress), progress.seq))

    def delete_flush(self, seq: int) -> None:
        """Forget a flush."""
        self.conn.execute("DELETE FROM flushes WHERE seq=?", (seq,))

    def flushes(self) -> list[tuple[Progress, list[Part]]]:
        """Flushes that are not cleared, oldest first."""
        rows = self.conn.execute("SELECT progress, parts FROM flushes ORDER BY seq").fetchall()
        decode = msgspec.msgpack.decode
        return [(decode(progress, type=Progress), decode(parts, type=list[Part])) for progress, parts in rows]

    def change_dedupe(self, change: Change) -> None:
        """Store a change of the dedupe window."""
        self.conn.executemany("DELETE FROM dedupe WHERE id=?", [(id_,) for id_ in change.remove])
        if (run := change.add) is not None:
            self.conn.execute(
                "INSERT INTO dedupe VALUES (?, ?, ?, ?)", (run.id, run.oldest, run.newest, run.to_bytes())
            )

    def dedupe_runs(self) -> list[Run]:
        """The stored dedupe window."""
        return [run_from_bytes(*row) for row in self.conn.execute("SELECT id, oldest, newest, hashes FROM dedupe")]

    def insert_poison(self, flush_id: str, poison: Iterable[Poison], now: float) -> None:
        """Store quarantined events."""
        self.conn.executemany(
            "INSERT INTO quarantine (flush_id, type, hour, reason, quarantined, event) VALUES (?, ?, ?, ?, ?, ?)",
            [(flush_id, p.type, p.hour, p.reason, now, p.event) for p in poison],
        )

    def insert_new_poison(self, source: str, poison: Iterable[Poison], now: float) -> int:
        """Store those that are not in quarantine yet; return how many."""
        known = "SELECT 1 FROM quarantine WHERE flush_id=? AND event=? AND reason=?"
        new = [p for p in poison if self.conn.execute(known, (source, p.event, p.reason)).fetchone() is None]
        self.insert_poison(source, new, now)
        return len(new)

    def poison(self) -> Iterator[Poison]:
        """Quarantined events, oldest first; one is in memory at a time."""
        for row in self.conn.execute("SELECT type, hour, reason, event FROM quarantine ORDER BY id"):
            yield Poison(*row)

    def poison_count(self) -> int:
        """Number of quarantined events."""
        count: int = self.conn.execute("SELECT count(*) FROM quarantine").fetchone()[0]
        return count
