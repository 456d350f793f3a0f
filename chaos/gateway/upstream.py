"""The side that the gateway connects to: a pool of keep-alive connections to one upstream."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable
from typing import Any, cast
from urllib.parse import urlsplit

import httptools

from chaos.gateway.body import Body, Headers
from chaos.gateway.errors import UpstreamLost
from chaos.gateway.messages import BODYLESS, HOP_BY_HOP, Answer, find

CONNECT_TIMEOUT_S = 10.0
"""Waiting longer for a TCP (and TLS) handshake counts as an upstream that cannot be reached."""

IDLE_S = 2.0
"""A connection idle for longer is not used again: servers close idle ones, and a request may be lost in that race."""


class UpstreamConnection(asyncio.Protocol):
    """One connection to an upstream, used for one exchange at a time.

    Attributes:
        reused: It has served an exchange before, so the server may have closed it meanwhile.
        sent_whole: Set by the user when the request was written to its end; only then may it serve another.
        idle_since_s: Monotonic time of the end of its last exchange.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._parser: Any = None
        self._answer: Answer | None = None
        self._future: asyncio.Future[Answer] | None = None
        self._drain: asyncio.Future[None] | None = None
        self._on_continue: Callable[[], None] | None = None
        self._headers: Headers = []
        self._reason = b""
        self._verb = ""
        self._finished = True
        self._keep_alive = self._chunked = False
        self.closed = False
        self.reused = False
        self.sent_whole = False
        self.idle_since_s = 0.0

    def start(self, verb: str, on_continue: Callable[[], None] | None = None) -> asyncio.Future[Answer]:
        """Begin an exchange; the future gives the head of the answer, whose body then streams.

        Args:
            verb: Method of the request; an answer to HEAD has no body.
            on_continue: Called for each 100 that precedes the answer.
        """
        self._parser = httptools.HttpResponseParser(self)
        self._answer = None
        self._verb = verb
        self._on_continue = on_continue
        self._finished = self._keep_alive = self.sent_whole = False
        self._future = self._loop.create_future()
        if self.closed:
            self._fail()
        return self._future

    @property
    def reusable(self) -> bool:
        """The exchange is over on both sides and the server keeps the connection."""
        return self._finished and self._keep_alive and self.sent_whole and not self.closed

    def write(self, data: bytes) -> None:
        """Send bytes; after the connection is lost they go nowhere, and the answer's future tells."""
        if not self.closed:
            self.transport.write(data)

    async def drain(self) -> None:
        """Wait until the server has read most of what was written."""
        if self._drain is not None:
            await self._drain

    def abort(self) -> None:
        """Reset the connection."""
        if not self.closed:
            self.transport.abort()

    def close(self) -> None:
        """End the connection after what was written."""
        if not self.closed:
            self.transport.close()

    # what the transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = cast(asyncio.Transport, transport)

    def connection_lost(self, _: Exception | None) -> None:
        """Fail the exchange, unless the end of the connection is how its answer ends."""
        self.closed = True
        self.resume_writing()
        answer = self._answer
        if answer is not None and not self._finished and answer.length is None and not self._chunked:
            self.on_message_complete()
        self._fail()

    def pause_writing(self) -> None:
        """Make `drain` wait."""
        self._drain = self._loop.create_future()

    def resume_writing(self) -> None:
        """Let `drain` go on."""
        if self._drain is not None and not self._drain.done():
            self._drain.set_result(None)
        self._drain = None

    def data_received(self, data: bytes) -> None:
        """Parse; bytes that nobody asked for end the connection."""
        if self._finished:
            self.abort()
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            if not self._finished:  # after an answer to HEAD the parser still waits for a body
                self.abort()

    # what the parser calls

    def on_message_begin(self) -> None:
        """A new answer starts."""
        self._headers = []
        self._reason = b""

    def on_status(self, reason: bytes) -> None:
        """Part of the reason phrase."""
        self._reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        """One field, of the head or of the trailers."""
        if self._answer is not None:
            self._answer.body.trailers.append((name, value))
        else:
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        """The head is whole: hand the answer over; its body follows."""
        status = self._parser.get_status_code()
        if status < 200:
            if status == 100 and self._on_continue is not None:
                self._on_continue()
            return
        length, self._chunked, headers = _framing(self._headers)
        bodyless = self._verb == "HEAD" or status in BODYLESS
        self._answer = answer = Answer(
            status, headers, Body(cast(Any, self.transport)), reason=self._reason, length=length, bodyless=bodyless
        )
        self._keep_alive = self._parser.should_keep_alive() or (bodyless and not _closes(self._headers))
        if bodyless:
            self._finish()
        if self._future is not None and not self._future.done():
            self._future.set_result(answer)

    def on_body(self, chunk: bytes) -> None:
        """Part of the body."""
        if self._answer is not None and not self._finished:
            self._answer.body.feed(chunk)

    def on_message_complete(self) -> None:
        """The answer is whole."""
        if self._answer is not None and not self._finished:
            self._finish()

    def _finish(self) -> None:
        self._finished = True
        if self._answer is not None:
            self._answer.body.end()

    def _fail(self) -> None:
        error = UpstreamLost("The upstream closed the connection before its answer was complete.")
        if self._future is not None and not self._future.done():
            self._future.set_exception(error)
            self._future.exception()  # a request given up on must not log "exception was never retrieved"
        elif self._answer is not None:
            self._answer.body.fail(error)


def _closes(headers: Headers) -> bool:
    return (find(headers, b"connection") or b"").lower() == b"close"


def _framing(headers: Headers) -> tuple[int | None, bool, Headers]:
    length, chunked, kept = None, False, []
    for name, value in headers:
        field = name.lower()
        if field == b"content-length":
            length = int(value)
        elif field == b"transfer-encoding":
            chunked = True
        elif field not in HOP_BY_HOP:
            kept.append((name, value))
    return (None if chunked else length), chunked, kept


class Upstream:
    """Where a listener forwards to.

    Args:
        url: `http://host:port` or `https://host[:port][/base/path]`.

    Attributes:
        authority: Host (and port, where it is not the scheme's own) for a Host field.
        base_path: What every request path is prefixed with; usually empty.
        local: The upstream is on this machine, so the client's own Host field is kept.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.url = url
        self.host = parts.hostname or ""
        self.port = parts.port or (443 if parts.scheme == "https" else 80)
        self.authority = parts.netloc.rpartition("@")[2]
        self.base_path = parts.path.rstrip("/")
        self.local = self.host in ("127.0.0.1", "localhost", "::1")
        self._ssl = ssl.create_default_context() if parts.scheme == "https" else None
        self._idle: list[UpstreamConnection] = []

    async def acquire(self, *, fresh: bool = False) -> UpstreamConnection:
        """Return a connection, a warm one unless *fresh*.

        Raises:
            UpstreamLost: the upstream cannot be reached.
        """
        now_s = time.monotonic()
        while self._idle and not fresh:
            connection = self._idle.pop()
            if not connection.closed and now_s - connection.idle_since_s < IDLE_S:
                connection.reused = True
                return connection
            connection.abort()
        return await self._connect()

    def release(self, connection: UpstreamConnection) -> None:
        """Take a connection back; one whose exchange is not over is reset."""
        if connection.reusable:
            connection.idle_since_s = time.monotonic()
            self._idle.append(connection)
        else:
            connection.abort()

    def close(self) -> None:
        """Reset every idle connection."""
        while self._idle:
            self._idle.pop().abort()

    async def _connect(self) -> UpstreamConnection:
        loop = asyncio.get_running_loop()
        opening = loop.create_connection(UpstreamConnection, self.host, self.port, ssl=self._ssl)
        try:
            _, connection = await asyncio.wait_for(opening, CONNECT_TIMEOUT_S)
        except (OSError, TimeoutError) as error:
            raise UpstreamLost(f"The upstream {self.url} cannot be reached: {error or 'no answer'}.") from None
        return connection
