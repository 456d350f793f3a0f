"""The side that clients connect to: parse requests, hand them one after another to a handler, write answers."""

from __future__ import annotations

import asyncio
import sys
import time
import traceback
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, cast

import httptools

from chaos.gateway.body import Body, Headers
from chaos.gateway.errors import ClientGone, GatewayError, UpstreamLost
from chaos.gateway.messages import BODYLESS, Answer, Request, chunk_of, last_chunk

HEAD_BYTES = 64 * 1024
"""Longest request line and header accepted; S3 and catalogs allow 8 to 16 KiB."""

PIPELINED = 16
"""Requests a client may send ahead of their answers; none of the clients of a lakehouse sends any."""

Handler = Callable[[Request, "ServerConnection"], Awaitable[None]]


class ServerConnection(asyncio.Protocol):
    """One connection of a client.

    Args:
        handle: Called with each request; it answers through this object.
        connections: Where the connection keeps itself while it is open.

    Attributes:
        closing: Set by a handler to end the connection after the answer.
        on_gone: Called once if the client goes away while a request is handled.
        answer_bytes: Body bytes written for the current request.
    """

    def __init__(self, handle: Handler, connections: set[ServerConnection]) -> None:
        self._handle = handle
        self._connections = connections
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[Request] = deque()
        self._wake: asyncio.Future[None] | None = None
        self._drain: asyncio.Future[None] | None = None
        self._parser = httptools.HttpRequestParser(self)
        self._target = b""
        self._headers: Headers = []
        self._head_bytes = 0
        self._request: Request | None = None
        self._current: Request | None = None
        self.closing = False
        self.is_gone = False
        self.gone: asyncio.Future[None] = self._loop.create_future()
        self.on_gone: Callable[[], None] | None = None
        self.answer_bytes = 0

    # what the transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start to serve."""
        self.transport = cast(asyncio.Transport, transport)
        self._connections.add(self)
        self._task = self._loop.create_task(self._serve())

    def connection_lost(self, _: Exception | None) -> None:
        """Tell whoever waits that nobody is left to answer."""
        self.is_gone = True
        self._connections.discard(self)
        if not self.gone.done():
            self.gone.set_result(None)
        for request in (self._current, self._request, *self._waiting):
            if request is not None:
                request.body.fail(ClientGone())
        for future in (self._wake, self._drain):
            if future is not None and not future.done():
                future.set_result(None)
        if self.on_gone is not None:
            self.on_gone()

    def pause_writing(self) -> None:
        """Make `drain` wait."""
        self._drain = self._loop.create_future()

    def resume_writing(self) -> None:
        """Let `drain` go on."""
        if self._drain is not None and not self._drain.done():
            self._drain.set_result(None)
        self._drain = None

    def data_received(self, data: bytes) -> None:
        """Parse; whatever is not HTTP/1 ends the connection with 400."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:  # ignored, as RFC 9110 allows: the request is served as HTTP/1.1
            self._parser = httptools.HttpRequestParser(self)
            if rest := data[upgrade.args[0] :]:
                self.data_received(rest)
        except httptools.HttpParserError:
            self._refuse(400)

    # what the parser calls

    def on_message_begin(self) -> None:
        """A new request starts."""
        self._target, self._headers, self._request, self._head_bytes = b"", [], None, 0

    def on_url(self, part: bytes) -> None:
        """Part of the request target."""
        self._target += part

    def on_header(self, name: bytes, value: bytes) -> None:
        """One field, of the head or of the trailers."""
        if self._request is not None:
            self._request.body.trailers.append((name, value))
            return
        self._head_bytes += len(name) + len(value)
        if self._head_bytes + len(self._target) > HEAD_BYTES:
            self._refuse(431)
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        """The head is whole: queue the request; its body follows."""
        parser = self._parser
        body = Body(cast(Any, self.transport))
        request = Request(parser.get_method().decode("ascii"), self._target, self._headers, body, time.monotonic_ns())
        request.http10 = parser.get_http_version() == "1.0"
        request.keep_alive = parser.should_keep_alive() or parser.should_upgrade()
        self._request = request
        self._waiting.append(request)
        if len(self._waiting) > PIPELINED:
            self._refuse(400)
        elif self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    def on_body(self, chunk: bytes) -> None:
        """Part of the body."""
        if self._request is not None:
            self._request.body.feed(chunk)

    def on_message_complete(self) -> None:
        """The request is whole."""
        if self._request is not None:
            self._request.body.end()

    def _refuse(self, status: int) -> None:
        if not self.is_gone and not self.transport.is_closing():
            self.transport.write(Answer.of(status, b"", []).head(close=True, chunked=False))
            self.transport.close()

    # what handlers call

    def write(self, data: bytes) -> None:
        """Send bytes as they are.

        Raises:
            ClientGone: nobody is left to read them.
        """
        if self.is_gone or self.transport.is_closing():
            raise ClientGone
        self.transport.write(data)

    async def drain(self) -> None:
        """Wait until the client has read most of what was written."""
        if self._drain is not None:
            await self._drain
        if self.is_gone:
            raise ClientGone

    def send_continue(self) -> None:
        """Tell a client that waits for it to send its body."""
        self.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def start_answer(self, request: Request, answer: Answer) -> bool:
        """Send the head of *answer*; return whether its body has to be framed in chunks."""
        if request.verb == "HEAD" or answer.status in BODYLESS:
            answer.bodyless = True
        chunked = answer.length is None and not answer.bodyless and not request.http10
        by_close = answer.length is None and not answer.bodyless and request.http10
        self.closing = self.closing or by_close or not request.keep_alive or not request.body.drained
        self.write(answer.head(close=self.closing, chunked=chunked))
        return chunked

    async def send_answer(self, request: Request, answer: Answer) -> None:
        """Send *answer* whole, its body as it comes."""
        chunked = self.start_answer(request, answer)
        if answer.bodyless:
            return
        while chunk := await answer.body.read():
            self.answer_bytes += len(chunk)
            self.write(chunk_of(chunk) if chunked else chunk)
            await self.drain()
        if chunked:
            self.write(last_chunk(answer.body.trailers))

    def close(self) -> None:
        """End the connection after what was written."""
        self.closing = True
        self.transport.close()

    def abort(self) -> None:
        """Reset the connection."""
        self.closing = True
        self.transport.abort()

    # the loop over requests

    async def _serve(self) -> None:
        while not self.closing and not self.is_gone:
            if not self._waiting:
                self._wake = self._loop.create_future()
                await self._wake
                continue
            self._current = request = self._waiting.popleft()
            self.answer_bytes = 0
            await self._handle_safely(request)
            self.on_gone = None
            self._current = None
        if not self.is_gone:
            self.transport.close()

    async def _handle_safely(self, request: Request) -> None:
        try:
            await self._handle(request, self)
        except ClientGone:
            self.closing = True
        except UpstreamLost:
            self.abort()
        except GatewayError as error:
            print(error, file=sys.stderr, flush=True)
            self.abort()
        except Exception:
            traceback.print_exc()
            self.abort()
