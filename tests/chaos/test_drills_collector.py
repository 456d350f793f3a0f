"""The drills on the reference collector's own code, in one process: it holds what they promise, and each planted bug is seen."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from chaos.drills import find_drill
from chaos.drills.desk import AdminClient, Desk, DrillFailed, Key, perform
from collector.admin import AdminApp
from collector.buffer import Buffer
from collector.config import from_environ
from collector.errors import StoreUnavailable
from collector.flusher import Flusher
from collector.landed import Landed
from tests.collector.conftest import ADMIN_TOKEN, ENVIRON, call, make_service
from tests.collector.keep_support import DirectoryTable, ManualClock, events, keys, make_buffer, make_flusher
from tests.planted import operating

RIGHT = [("authorization", f"Bearer {ADMIN_TOKEN}")]
DRILLS = ("flush-and-verify", "export-clear-replay", "reset-accounted", "drain-and-restart", "scale-buffer")


class AtOnce:
    """A flusher whose flushes are done when they are asked for."""

    def __init__(self, flusher: Flusher) -> None:
        self._flusher = flusher

    def request_flush(self) -> Future[Any]:
        future = self._flusher.request_flush()
        while not future.done():
            self._flusher.step()
        return future


class Bench:
    """A collector without sockets, its clients, its table and a desk; time moves only while somebody waits."""

    def __init__(self, root: Path) -> None:
        self.root, self.clock = root, ManualClock()
        self.table = DirectoryTable(root / "table")
        self.acks: dict[Key, float] = {}
        self.now_s, self.sent, self.size = 1.0, 0, 2000
        self.log: list[dict[str, Any]] = []
        self.start({})
        self.post(300)

    # -- the collector

    def start(self, env: Mapping[str, str]) -> None:
        self.size = int(env.get("ICEBERG_BUFFER_SIZE", self.size))
        self.buffer: Buffer = make_buffer(self.root / "buffer", self.clock, capacity_events=self.size)
        self.flusher = make_flusher(self.buffer, self.table, self.clock)
        self.table._known.clear()

    def stop(self) -> int | None:
        while self.buffer.outstanding or self.buffer.waiting():
            if not AtOnce(self.flusher).request_flush().result():
                break
        left = self.buffer.snapshot().events
        self.buffer.close()
        return 3 if left else 0

    def kill(self) -> None:
        self.buffer.close()

    def post(self, count: int) -> None:
        batch = events(self.sent, count)
        self.sent += count
        self.buffer.submit(batch).result(timeout=10)
        self.acks |= dict.fromkeys(keys(batch), self.now_s - 0.01)

    def ask(self, method: str, path: str, body: bytes = b"") -> bytes:
        async def asked() -> Any:
            flusher: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            flusher.set_result(AtOnce(self.flusher))
            service.flusher = flusher
            return await call(AdminApp(service, self.buffer, self.landed), method, f"/admin/{path}", RIGHT, body=body)

        config = from_environ({**ENVIRON, "ICEBERG_BUFFER_SIZE": str(self.size)})
        service = make_service(cast(Any, self.buffer), config=config)
        cast(Any, service.flusher).close()
        answer = asyncio.run(asked())
        if answer.status >= 400:
            raise DrillFailed(f"{path} was answered with {answer.status}: {answer.body[:200]!r}")
        content: bytes = answer.body
        return content

    def landed(self) -> Landed:
        return Landed(lambda _hour: list(self.table.rows()))

    # -- what a desk has

    def get(self, path: str) -> bytes:
        return self.ask("GET", path)

    def read(self, path: str) -> dict[str, Any]:
        return cast(dict[str, Any], json.loads(self.ask("GET", path)))

    def post_(self, path: str, body: bytes = b"") -> dict[str, Any]:
        return cast(dict[str, Any], json.loads(self.ask("POST", path, body)))

    def rows_of(self, paths: list[str]) -> dict[str, int]:
        live = set(self.table._load().get("files", []))
        return {
            path: len(json.loads((self.root / "table/objects" / path).read_bytes())) for path in paths if path in live
        }

    def holds(self, asked: set[Key]) -> set[Key]:
        return asked & self.table.rows().keys()

    def acked_before(self, moment_s: float) -> set[Key]:
        return {key for key, at_s in self.acks.items() if at_s < moment_s}

    def again_since(self, moment_s: float) -> set[Key]:
        return set()

    @contextmanager
    def fault(self, name: str, params: Mapping[str, Any]) -> Iterator[None]:
        assert name == "r2-403-data"
        self.table.store_down = True
        yield
        self.table.store_down = False
        self.clock.advance(60)

    def idle(self) -> None:
        self.post(20)

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds
        self.clock.advance(seconds)

    def do(self, name: str) -> list[str]:
        """Do a drill; return what does not hold, and how it ended."""
        admin = cast(AdminClient, _Admin(self))
        desk = Desk(
            name, admin, cast(Any, self), self.stop, self.kill, self.start, lambda: None, lambda: len(self.acks), self,
            self.fault, self.idle, lambda event, **fields: self.log.append(fields), lambda: self.now_s, self.sleep,
        )  # fmt: skip
        try:
            perform(name, find_drill(name).perform, desk)
        finally:
            self.buffer.close()
        broken = [one["check"] for one in self.log if one["state"] == "checked" and not one["ok"]]
        return [*broken, self.log[-1]["state"]]


class _Admin:
    def __init__(self, bench: Bench) -> None:
        self.get, self.read, self.post = bench.get, bench.read, bench.post_


@pytest.mark.parametrize("name", DRILLS)
def test_the_reference_collector_keeps_what_a_drill_promises(tmp_path: Path, name: str) -> None:
    """By its own buffer, vault, flusher and admin listener."""
    bench = Bench(tmp_path)

    assert bench.do(name) == ["done"], bench.log
    assert set(bench.table.rows().values()) <= {1}


@pytest.mark.parametrize(
    ("name", "bug", "seen"),
    [
        ("flush-and-verify", "flush_lies", "files"),
        ("export-clear-replay", "exports_too_little", "whole"),
        ("export-clear-replay", "replays_again", "idempotent"),
        ("reset-accounted", "reset_lies", "accounted"),
    ],
)
def test_a_planted_bug_breaks_the_promise_that_is_about_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, bug: str, seen: str
) -> None:
    """An export that misses events, a replay that bypasses dedupe, a flush that does nothing, a reset that lies."""
    for owner, attribute, planted in getattr(operating, bug)():
        monkeypatch.setattr(owner, attribute, planted)

    assert seen in Bench(tmp_path).do(name)


def test_a_replay_while_the_table_cannot_be_read_fails_the_drill(tmp_path: Path) -> None:
    """It is refused, not believed."""
    bench = Bench(tmp_path)

    def down(_hour: int) -> list[tuple[str, str]]:
        raise StoreUnavailable("no answer")

    bench.landed = lambda: Landed(down)  # type: ignore[method-assign]

    assert bench.do("export-clear-replay")[-1] == "failed"
    assert "nothing tells whether the table holds these events" in bench.log[-1]["reason"]
