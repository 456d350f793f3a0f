"""A message body on its way: chunks in, chunks out, with backpressure towards the socket they come from."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Protocol

from chaos.gateway.errors import GatewayError, TooLargeToHold

HIGH_WATER_BYTES = 256 * 1024
"""A body that has this much waiting stops its socket; it resumes below a quarter of it."""

HELD_BYTES = 32 * 1024 * 1024
"""Largest body kept whole in memory (to be sent twice, or later). R2 and pyarrow upload in parts of 10 MiB."""

Headers = list[tuple[bytes, bytes]]


class Flow(Protocol):
    """The reading side of a socket."""

    def pause_reading(self) -> None:
        """Stop delivering data."""

    def resume_reading(self) -> None:
        """Deliver data again."""


class Body:
    """Bytes of one message body, filled by a parser and read by one coroutine.

    Attributes:
        received: Bytes that have arrived so far.
        ended: The last byte has arrived.
        trailers: Header fields that followed a chunked body.
    """

    __slots__ = ("_chunks", "_error", "_flow", "_paused", "_size", "_waiter", "ended", "received", "trailers")

    def __init__(self, flow: Flow | None = None) -> None:
        self._chunks: deque[bytes] = deque()
        self._size = 0
        self._flow = flow
        self._paused = False
        self._waiter: asyncio.Future[None] | None = None
        self._error: GatewayError | None = None
        self.ended = False
        self.received = 0
        self.trailers: Headers = []

    @classmethod
    def of(cls, content: bytes) -> Body:
        """Return a body that is already complete."""
        body = cls()
        body.feed(content)
        body.end()
        return body

    @property
    def drained(self) -> bool:
        """Everything has arrived and everything was read."""
        return self.ended and not self._chunks

    def feed(self, chunk: bytes) -> None:
        """Add bytes; stops the socket when too many are waiting."""
        if not chunk:
            return
        self._chunks.append(chunk)
        self._size += len(chunk)
        self.received += len(chunk)
        if self._size > HIGH_WATER_BYTES and self._flow is not None and not self._paused:
            self._paused = True
            self._flow.pause_reading()
        self._wake()

    def end(self) -> None:
        """No more bytes will come."""
        self.ended = True
        self._wake()

    def fail(self, error: GatewayError) -> None:
        """Make readers raise *error* once what has arrived is read; does nothing to a body that has ended."""
        if not self.ended and self._error is None:
            self._error = error
            self._wake()

    def take(self) -> bytes:
        """Return what is waiting now, possibly nothing."""
        if not self._chunks:
            return b""
        content = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks.clear()
        self._size = 0
        if self._paused and self._flow is not None:
            self._paused = False
            self._flow.resume_reading()
        return content

    async def read(self) -> bytes:
        """Return the next bytes, or b"" at the end.

        Raises:
            GatewayError: the sender broke off (the error given to `fail`).
        """
        while not self._chunks:
            if self.ended:
                return b""
            if self._error is not None:
                raise self._error
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        return self.take()

    async def read_all(self, limit: int = HELD_BYTES) -> bytes:
        """Return the whole body.

        Raises:
            TooLargeToHold: there is more than *limit*; what was read is put back, so the body can still be streamed.
            GatewayError: the sender broke off.
        """
        parts: list[bytes] = []
        size = 0
        while chunk := await self.read():
            parts.append(chunk)
            size += len(chunk)
            if size > limit:
                self._unread(b"".join(parts))
                raise TooLargeToHold
        return b"".join(parts)

    async def discard(self) -> None:
        """Read to the end and keep nothing."""
        while await self.read():
            pass

    def _unread(self, prefix: bytes) -> None:
        self._chunks.appendleft(prefix)
        self._size += len(prefix)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
