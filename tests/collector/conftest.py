"""What the door's tests share: a configuration, a buffer that only remembers, and an ASGI client without sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from collector.app import IngestApp
from collector.buffer import BufferState
from collector.cloudevents import Event
from collector.config import Config, Limits, from_environ
from collector.crashpoints import CrashPoints
from collector.errors import CollectorError, NotAccepted
from collector.flusher import FlushResult
from collector.service import Service
from collector.telemetry import Metrics

ADMIN_TOKEN = "t" * 32
NOW_S = 1_790_000_000.0

ENVIRON = {
    "ADMIN_TOKEN": ADMIN_TOKEN,
    "DATA_DIR": "data",
    "CATALOG_URI": "http://127.0.0.1:8181",
    "TABLE_IDENTIFIER": "ns.events",
}


@dataclass
class FakeClock:
    """A clock that moves when it is told to."""

    now_s: float = NOW_S

    def time(self) -> float:
        return self.now_s

    def monotonic(self) -> float:
        return self.now_s


EMPTY = BufferState(
    capacity_events=2000,
    events=0,
    bytes=0,
    fill_ratio=0.0,
    oldest_age_s=0.0,
    partitions=(),
    undecided=(),
    deduplicated=0,
    quarantined=0,
    syncs=0,
    failure=None,
)


@dataclass
class FakeBuffer:
    """Remembers what it is given; ``refusal`` is what it answers instead; ``hold`` keeps its answers back."""

    events: list[Event] = field(default_factory=list)
    refusal: NotAccepted | None = None
    late_refusal: CollectorError | None = None
    hold: bool = False
    held: list[Future[None]] = field(default_factory=list)
    state: BufferState = EMPTY

    def submit(self, events: Sequence[Event]) -> Future[None]:
        if self.refusal:
            raise self.refusal
        future: Future[None] = Future()
        if self.late_refusal:
            future.set_exception(self.late_refusal)
            return future
        self.events += events
        if self.hold:
            self.held.append(future)
        else:
            future.set_result(None)
        return future

    def snapshot(self) -> BufferState:
        return self.state


@dataclass
class FakeFlusher:
    """Answers every request with ``future``."""

    future: Future[list[FlushResult]] = field(default_factory=Future)

    def request_flush(self) -> Future[list[FlushResult]]:
        return self.future


@dataclass(frozen=True)
class Answer:
    """What a client sees."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        import json

        return json.loads(self.body)


async def call(
    app: Callable[..., Any],
    method: str,
    path: str,
    headers: Sequence[tuple[str, str]] = (),
    body: bytes = b"",
    *,
    chunks: Sequence[bytes] | None = None,
    stall: bool = False,
    disconnect: bool = False,
) -> Answer | None:
    """Send one request to an ASGI app; None when it answers nothing.

    ``stall`` never sends the end of the body, ``disconnect`` closes the connection instead.
    """
    pieces = list(chunks if chunks is not None else [body])
    messages = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
    if disconnect:
        messages.append({"type": "http.disconnect"})
    elif not stall:
        messages[-1]["more_body"] = False

    async def receive() -> dict[str, Any]:
        if not messages:
            await asyncio.Event().wait()
        return messages.pop(0)

    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    raw = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]
    await app({"type": "http", "method": method, "path": path, "headers": raw, "query_string": b""}, receive, send)
    if not sent:
        return None
    start = sent[0]
    return Answer(
        start["status"],
        {name.decode(): value.decode("latin-1") for name, value in start["headers"]},
        b"".join(message["body"] for message in sent[1:]),
    )


def make_service(
    buffer: FakeBuffer | None = None, *, config: Config | None = None, crash: CrashPoints | None = None, **limits: Any
) -> Service:
    """Return a service around a fake buffer; ``limits`` replace fields of ``Limits``."""
    config = config or from_environ(ENVIRON)
    config = replace(config, limits=replace(config.limits, **limits))
    buffer = buffer or FakeBuffer()
    crash = crash or CrashPoints()
    return Service(config, buffer, Metrics(buffer.snapshot, crash), FakeClock(), crash, _never())


async def _never() -> Any:
    raise AssertionError("nobody asked for a flusher")


@dataclass
class Door:
    """An ingest application and what is behind it."""

    service: Service
    buffer: FakeBuffer
    app: IngestApp

    def request(self, method: str, path: str, headers: Sequence[tuple[str, str]] = (), **kwargs: Any) -> Answer:
        answer = asyncio.run(call(self.app, method, path, headers, **kwargs))
        assert answer is not None
        return answer

    def post(self, body: bytes, headers: Sequence[tuple[str, str]] = (), path: str = "/events", **kw: Any) -> Answer:
        return self.request("POST", path, headers, body=body, **kw)

    def metric(self, name: str, **labels: str) -> float | None:
        return self.service.metrics.registry.get_sample_value(name, labels)


MakeDoor = Callable[..., Door]


@pytest.fixture(autouse=True)
def no_lingering(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that never goes on is not waited for, where the collector is in this process."""
    monkeypatch.setattr("collector.web.LINGER_S", 0.01)


@pytest.fixture
def make_door() -> Iterator[MakeDoor]:
    """Make doors; see ``make_service`` for the arguments."""
    services: list[Service] = []

    def make(**kwargs: Any) -> Door:
        buffer = kwargs.pop("buffer", None) or FakeBuffer()
        service = make_service(buffer, **kwargs)
        services.append(service)
        return Door(service, buffer, IngestApp(service))

    yield make
    for service in services:
        service.flusher.close()  # type: ignore[attr-defined]


@pytest.fixture
def door(make_door: MakeDoor) -> Door:
    """A door with the default limits."""
    return make_door()


@pytest.fixture
def limits() -> Limits:
    """The default limits."""
    return Limits()


@pytest.fixture
def yaml_table() -> Path:
    """The language-neutral table of requests."""
    return Path(__file__).parents[1] / "cloudevents.yaml"
