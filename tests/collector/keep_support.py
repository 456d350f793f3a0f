"""A clock that tests own, events, and a table kept in a directory whose catalog does as it is told."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from collector.buffer import Buffer
from collector.cloudevents import Event
from collector.config import FlushPolicy, MaintenanceConfig
from collector.crashpoints import NONE, CrashPoints
from collector.errors import CommitUnknown, StoreUnavailable
from collector.flusher import Flusher
from collector.maintenance import SnapshotInfo, expirable
from collector.store import FileRef, Intent, Progress
from collector.table import TableView, snapshot_id_of

T0_US = 1_767_225_600_000_000
"""2026-01-01T00:00:00Z."""


class ManualClock:
    """Moves only when told to."""

    def __init__(self, start: float = 1_767_225_600.0) -> None:
        self.now = start

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


class Killed(BaseException):
    """Stands for SIGKILL in tests of one process."""


def event(number: int, *, type_: str = "t", hour: int = 0, source: str = "urn:s", data: bytes | None = None) -> Event:
    return Event(
        f"id-{number}",
        source,
        type_,
        "2026-01-01T00:00:00Z",
        T0_US + hour * 3_600_000_000 + number,
        None,
        "application/json",
        None,
        data if data is not None else json.dumps({"n": number}).encode(),
        1,
        None,
    )


def events(first: int, count: int, **fields: Any) -> list[Event]:
    return [event(number, **fields) for number in range(first, first + count)]


class DirectoryTable:
    """Table and catalog as files below ``root``, shared by processes; each change is one atomic rename.

    ``script`` holds one outcome per commit request, then ``ok`` for ever:
    ``ok`` · ``refused`` (not applied) · ``applied`` (applied, not confirmed) · ``lost`` (never arrives) ·
    ``held`` (applied when the next request arrives: a zombie) · ``twice`` (replayed by a proxy, refused answer).
    """

    def __init__(self, root: Path, crash: CrashPoints = NONE, script: Sequence[str] = ()) -> None:
        self.root = root
        self.script = list(script)
        self.crash = crash
        self.catalog_down = False
        self.store_down = False
        self.stale_views = 0
        self.posts = 0
        self._held: dict[str, Any] | None = None
        self._known: set[str] = set()
        self._state: dict[str, Any] = {}
        self._older: list[dict[str, Any]] = []
        (root / "objects").mkdir(parents=True, exist_ok=True)
        if not (root / "table.json").exists():
            self._save({"uuid": "u1", "head": None, "snapshots": {}, "watermarks": {}})

    # ---- the Table protocol

    def refresh(self) -> TableView:
        if self.catalog_down:
            raise StoreUnavailable("the catalog is down")
        state = self._load()
        if self.stale_views and self._older:
            self.stale_views -= 1
            state = self._older[-1]
        self._state = state
        return TableView(state["uuid"], state["head"], frozenset(_lineage(state)), dict(state["watermarks"]))

    def write(self, flush: Progress, number: int, rows: pa.Table) -> FileRef:
        if self.store_down:
            raise StoreUnavailable("the store is down")
        path = f"{flush.flush_id.replace('/', '-')}-{number}.json"
        body = json.dumps(rows.select(["source", "id", "data"]).to_pylist()).encode()
        existing = self.root / "objects" / path
        if existing.exists():
            assert existing.read_bytes() == body, "a frozen flush was written with other content"
        temporary = existing.with_suffix(".tmp")
        temporary.write_bytes(body)
        os.replace(temporary, existing)
        self._known.add(path)
        return FileRef(path, len(body), rows.num_rows)

    def has(self, files: tuple[FileRef, ...]) -> bool:
        return all(file.path in self._known for file in files)

    def prepare(self, flush: Progress, files: tuple[FileRef, ...], attempt: int) -> Intent:
        if self.store_down:
            raise StoreUnavailable("the store is down")
        self.crash("manifest.after_write")
        self.crash("manifest_list.after_write")
        body = {
            "flush_id": flush.flush_id,
            "snapshot": snapshot_id_of(flush.flush_id),
            "parent": self._state["head"],
            "uuid": self._state["uuid"],
            "files": [file.path for file in files],
            "watermark": [flush.collector_id, flush.seq],
        }
        return Intent(json.dumps(body).encode(), body["parent"], body["uuid"], attempt)

    def missing(self, flush: Progress) -> frozenset[str]:
        if self.store_down:
            raise StoreUnavailable("the store is down")
        return frozenset(file.path for file in flush.files if not (self.root / "objects" / file.path).exists())

    def put_back(self, flush: Progress, missing: frozenset[str], rows: Callable[[int], pa.Table]) -> None:
        for path in missing:
            self.write(flush, number := int(path.rpartition("-")[2].removesuffix(".json")), rows(number))

    def commit(self, flush: Progress, intent: Intent) -> None:
        self.crash("commit.before_send")
        self.posts += 1
        if self.catalog_down:
            raise CommitUnknown("the catalog is down")
        outcome = self.script.pop(0) if self.script else "ok"
        request = json.loads(intent.body)
        if self._held is not None:
            held, self._held = self._held, None
            self._apply(held)
        if outcome == "held":
            self._held = request
            raise CommitUnknown("504")
        if outcome in ("refused", "lost"):
            raise CommitUnknown(outcome)
        applied = self._apply(request)
        if outcome == "twice":
            self._apply(request)
        self.crash("commit.after_send")
        if not applied or outcome in ("applied", "twice"):
            raise CommitUnknown("409" if outcome != "applied" else "connection reset")
        self._state = self._load()

    def expire(self, config: MaintenanceConfig, now: float) -> int:
        if self.catalog_down:
            raise StoreUnavailable("the catalog is down")
        state = self._load()
        infos = [SnapshotInfo(i, state["snapshots"][str(i)]["at"], True) for i in _lineage(state)]
        ids = expirable(infos, [state["head"]], config, now)
        if ids:
            self.crash("expire.before_send")
            self._expire(state, set(ids))
        return len(ids)

    # ---- the catalog's side

    def _apply(self, request: dict[str, Any]) -> bool:
        state = self._load()
        known = str(request["snapshot"]) in state["snapshots"]
        if request["uuid"] != state["uuid"] or request["parent"] != state["head"] or known:
            return False
        self._older.append(json.loads(json.dumps(state)))
        state["snapshots"][str(request["snapshot"])] = {
            "parent": state["head"],
            "files": request["files"],
            "flush_id": request["flush_id"],
            "at": 0.0,
        }
        state["head"] = request["snapshot"]
        collector, seq = request["watermark"]
        state["watermarks"][collector] = max(seq, state["watermarks"].get(collector, 0))
        state.setdefault("files", []).extend(request["files"])
        self._save(state)
        return True

    def _expire(self, state: dict[str, Any], ids: set[int]) -> None:
        for snapshot in state["snapshots"].values():
            if snapshot["parent"] in ids:
                snapshot["parent"] = None
        state["snapshots"] = {key: value for key, value in state["snapshots"].items() if int(key) not in ids}
        self._save(state)

    def expire_everything(self) -> None:
        """What a foreign maintenance job does: only the head stays."""
        state = self._load()
        self._expire(state, {int(key) for key in state["snapshots"]} - {state["head"]})

    def foreign_commit(self, name: str) -> None:
        """Another writer moves main."""
        state = self._load()
        request = {
            "flush_id": name,
            "snapshot": snapshot_id_of(name),
            "parent": state["head"],
            "uuid": state["uuid"],
            "files": [],
            "watermark": ["foreign", 1],
        }
        assert self._apply(request)

    def rows(self) -> Counter[tuple[str, str]]:
        """How often each (source, id) is in the table."""
        found: Counter[tuple[str, str]] = Counter()
        for path in self._load().get("files", []):
            for row in json.loads((self.root / "objects" / path).read_bytes()):
                found[row["source"], row["id"]] += 1
        return found

    def _load(self) -> dict[str, Any]:
        state: dict[str, Any] = json.loads((self.root / "table.json").read_bytes())
        return state

    def _save(self, state: dict[str, Any]) -> None:
        temporary = self.root / "table.tmp"
        temporary.write_text(json.dumps(state))
        os.replace(temporary, self.root / "table.json")


def _lineage(state: dict[str, Any]) -> list[int]:
    found: list[int] = []
    head = state["head"]
    while head is not None and str(head) in state["snapshots"]:
        found.append(head)
        head = state["snapshots"][str(head)]["parent"]
    return found


def make_buffer(path: Path, clock: ManualClock, crash: CrashPoints = NONE, **options: Any) -> Buffer:
    return Buffer(path, clock=clock, crash=crash, **{"capacity_events": 1000, **options})


def make_flusher(buffer: Buffer, table: Any, clock: ManualClock, crash: CrashPoints = NONE, **options: Any) -> Flusher:
    policy = FlushPolicy(size_events=1000, flush_at=0.5, timeout_ms=30_000)
    return Flusher(buffer, table, **{"policy": policy, "clock": clock, "crash": crash, **options})


def flush_until_empty(
    buffer: Buffer, flusher: Flusher, clock: ManualClock, *, steps: int = 40, each: Callable[[], None] = lambda: None
) -> None:
    """Step until nothing is buffered; fails when that takes more than ``steps`` attempts."""
    for _ in range(steps):
        if not buffer.outstanding and not buffer.waiting():
            return
        flusher.request_flush()
        flusher.step()
        clock.advance(20)
        each()
    raise AssertionError(f"still buffered after {steps} steps: {buffer.snapshot()}")


def keys(stored: Iterable[Event]) -> set[tuple[str, str]]:
    return {(e.source, e.id) for e in stored}
