"""A small upstream and a small client that share no code with the gateway, and a gateway in this event loop."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar

import msgspec

from chaos.gateway.__main__ import new_event_loop
from chaos.gateway.app import Running, running
from chaos.gateway.config import Config
from chaos.gateway.log import GatewayLog

TOKEN = "a-token-for-tests-only"
TABLE = "/v1/bucket/namespaces/ns/tables/events"


def run(test: Coroutine[Any, Any, None]) -> None:
    """Run one test's coroutine in the event loop that the gateway runs in, given up after half a minute."""
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(asyncio.wait_for(test, 30))


@dataclass(frozen=True)
class Seen:
    """A request as the upstream got it; `whole` is False when it broke off."""

    verb: str
    target: str
    headers: dict[str, str]
    body: bytes
    whole: bool = True


@dataclass(frozen=True)
class Reply:
    """An answer as the client got it.

    `status` is None when the connection ended before a whole head came; `whole` is False when the body broke off.
    """

    status: int | None
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    whole: bool = False

    @property
    def json(self) -> Any:
        return json.loads(self.body)


Script = Callable[[Seen], Awaitable[bytes] | bytes]


def plain(status: int, body: bytes = b"", **headers: str) -> bytes:
    """Return an answer with a Content-Length."""
    fields = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status} Said\r\n{fields}Content-Length: {len(body)}\r\n\r\n".encode() + body


class FakeUpstream:
    """Answers each request with what *script* returns; an empty answer closes the connection."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.seen: list[Seen] = []
        self.connections = 0
        self.open: set[asyncio.StreamWriter] = set()
        self.changed = asyncio.Event()
        self.read_bodies = asyncio.Event()
        self.read_bodies.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until *condition* holds; it is looked at when a request or a connection came or went."""
        while not condition():
            self.changed.clear()
            await self.changed.wait()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open.add(writer)
        self.changed.set()
        try:
            while head := await read_head(reader):
                first, headers = head
                verb, target, _ = first.split(" ", 2)
                await self.read_bodies.wait()
                if headers.get("expect") == "100-continue":
                    writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                body, whole = await read_body(reader, headers, request=True)
                request = Seen(verb, target, headers, body, whole)
                self.seen.append(request)
                self.changed.set()
                answer = self.script(request)
                content = answer if isinstance(answer, bytes) else await answer
                if not whole or not content:
                    break
                writer.write(content)
                await writer.drain()
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self.open.discard(writer)
            self.changed.set()
            writer.close()


async def read_head(reader: asyncio.StreamReader) -> tuple[str, dict[str, str]] | None:
    """Return first line and fields (names in lower case), or None at the end."""
    try:
        raw = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    first, *lines = raw.decode("latin-1").strip().split("\r\n")
    return first, {line.partition(":")[0].lower(): line.partition(":")[2].strip() for line in lines}


async def read_body(reader: asyncio.StreamReader, headers: Mapping[str, str], *, request: bool) -> tuple[bytes, bool]:
    """Return the body and whether it came whole."""
    if headers.get("transfer-encoding") == "chunked":
        return await _read_chunks(reader)
    if "content-length" not in headers:
        return (b"", True) if request else (await reader.read(), True)
    try:
        return await reader.readexactly(int(headers["content-length"])), True
    except asyncio.IncompleteReadError as error:
        return error.partial, False
    except ConnectionError:
        return b"", False


async def _read_chunks(reader: asyncio.StreamReader) -> tuple[bytes, bool]:
    body = b""
    while True:
        try:
            size = int((await reader.readuntil(b"\r\n")).partition(b";")[0], 16)
            chunk = await reader.readexactly(size + 2) if size else b""
        except (asyncio.IncompleteReadError, ConnectionError):
            return body, False
        if size == 0:
            while (await reader.readline()).strip():
                pass
            return body, True
        body += chunk[:-2]


class Client:
    """One client connection that can be used for several requests; the lab ends what a test leaves open."""

    opened: ClassVar[set[asyncio.StreamWriter]] = set()

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def connect(cls, address: str) -> Client:
        host, _, port = address.rpartition(":")
        client = cls(*await asyncio.open_connection(host, int(port)))
        cls.opened.add(client.writer)
        return client

    def send(self, verb: str, target: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> None:
        """Write a request; a Content-Length is added unless *headers* frame the body."""
        fields = {"Host": "faulted:1", "Content-Length": str(len(body))} | dict(headers or {})
        if "Transfer-Encoding" in fields:
            del fields["Content-Length"]
        lines = [f"{verb} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
        self.writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)

    async def receive(self, *, verb: str = "GET") -> Reply:
        """Read one answer; 100 is skipped."""
        head = await read_head(self.reader)
        while head is not None and head[0].split()[1] == "100":
            head = await read_head(self.reader)
        if head is None:
            return Reply(None)
        status, headers = int(head[0].split()[1]), head[1]
        if verb == "HEAD" or status in (204, 304):
            return Reply(status, headers, whole=True)
        return Reply(status, headers, *await read_body(self.reader, headers, request=False))

    async def at_end(self) -> bool:
        """Return whether the gateway has ended the connection."""
        try:
            return await self.reader.read(1) == b""
        except ConnectionError:
            return True

    def close(self) -> None:
        self.writer.close()


async def call(
    address: str, verb: str, target: str, body: bytes = b"", headers: Mapping[str, str] | None = None
) -> Reply:
    """Make one request on a connection of its own."""
    client = await Client.connect(address)
    try:
        client.send(verb, target, body, headers)
        return await client.receive(verb=verb)
    finally:
        client.close()


class MemoryLog(GatewayLog):
    """Keeps lines in memory too, and lets a test wait for one."""

    def __init__(self) -> None:
        super().__init__("run1")
        self.lines: list[dict[str, Any]] = []
        self._changed = asyncio.Event()

    def write(self, record: dict[str, Any]) -> None:
        super().write(record)
        self.lines.append(record)
        self._changed.set()

    async def line(self, number: int = 0, **wanted: Any) -> dict[str, Any]:
        """Wait for the *number*th line whose fields are as *wanted*."""
        while True:
            found = [line for line in self.lines if all(line.get(name) == value for name, value in wanted.items())]
            if len(found) > number:
                return found[number]
            self._changed.clear()
            await self._changed.wait()


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@dataclass
class Lab:
    """A gateway with one fake upstream behind both of its listeners."""

    upstream: FakeUpstream
    running: Running
    log: MemoryLog
    clock: Clock

    @property
    def r2(self) -> str:
        return self.running.listeners["r2"]

    @property
    def catalog(self) -> str:
        return self.running.listeners["catalog"]

    async def control(self, verb: str, path: str, document: Any = None, **headers: str) -> Reply:
        body = b"" if document is None else json.dumps(document).encode()
        return await call(self.running.control, verb, path, body, {"Authorization": f"Bearer {TOKEN}"} | headers)

    async def put(self, rule_id: str, action: dict[str, Any], **rule: Any) -> None:
        """Put a rule; keyword arguments but `on_delete` and `seed` go into its match."""
        rest = {name: rule.pop(name) for name in ("on_delete", "seed") if name in rule}
        reply = await self.control("PUT", f"/rules/{rule_id}", {"match": rule, "action": action, **rest})
        assert reply.status in (200, 201), reply.body

    async def counters(self, rule_id: str) -> dict[str, int]:
        counters: dict[str, int] = (await self.control("GET", "/counters")).json["rules"][rule_id]
        return counters

    async def post_commit(self, body: bytes = b"{}") -> Reply:
        return await call(self.catalog, "POST", TABLE, body)

    async def get_table(self) -> Reply:
        return await call(self.catalog, "GET", TABLE)


@asynccontextmanager
async def lab(script: Script, **configuration: Any) -> AsyncIterator[Lab]:
    """Start upstream and gateway; *configuration* overrides fields of the gateway's configuration."""
    upstream = FakeUpstream(script)
    server = await asyncio.start_server(lambda r, w: upstream.serve(r, w), "127.0.0.1", 0, limit=2**20)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    environment = configuration.pop("environment", {})
    document = {
        "listeners": [{"name": name, "listen": "127.0.0.1:0", "upstream": url} for name in ("r2", "catalog")],
        "control": "127.0.0.1:0",
        "token": TOKEN,
        "seed": 7,
    }
    config = msgspec.convert(document | configuration, Config)
    log, clock = MemoryLog(), Clock()
    try:
        async with running(config, log=log, clock=clock, environment=environment) as gateway:
            yield Lab(upstream, gateway, log, clock)
    finally:
        server.close()
        await _end(upstream.open | Client.opened)
        Client.opened.clear()


async def _end(writers: set[asyncio.StreamWriter]) -> None:
    """Leave no socket open, so that a failing test fails by itself and not by a warning about its sockets."""
    for writer in writers:
        writer.transport.abort()
    await asyncio.gather(*(writer.wait_closed() for writer in writers), return_exceptions=True)


class FakeCatalog:
    """One table whose commits say which state they build on; a commit on any other state is answered 409."""

    def __init__(self) -> None:
        self.landed: list[str] = []

    def __call__(self, request: Seen) -> bytes:
        if request.verb == "POST":
            return self._commit(json.loads(request.body))
        return self._state()

    def _commit(self, commit: dict[str, Any]) -> bytes:
        if commit["on"] != len(self.landed):
            return plain(409, b'{"error": "stale"}', Content_Type="application/json")
        self.landed.append(commit["name"])
        return self._state()

    def _state(self) -> bytes:
        return plain(200, json.dumps({"landed": self.landed}).encode(), Content_Type="application/json", ETag='"1"')


def commit(name: str, on: int) -> bytes:
    """Return the body of a commit called *name* that builds on *on* earlier ones."""
    return json.dumps({"name": name, "on": on}).encode()


KEY = "/bucket/ns/events/data/one.parquet"
MANIFEST_LIST = "/bucket/ns/events/metadata/snap-1-0-u.avro"
LOST = {"do": "applied", "then": {"answer": "drop"}}


def echo(request: Seen) -> bytes:
    """Answer with what was sent."""
    return plain(200, request.body)


def status(code: int, **fields: Any) -> dict[str, Any]:
    """The action that answers so."""
    return {"answer": "status", "status": code, **fields}
