"""Bounds on a request head that is still arriving; uvicorn has none of its own."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from collector.config import Limits

_SLACK_BYTES = 8192
"""Room for the request line and separators, which the limit on header fields does not count."""


def bounded_protocol(limits: Limits) -> type[HttpToolsProtocol]:
    """Return a protocol class that ends a connection whose request head is too large (431) or too slow (408)."""

    class BoundedProtocol(HttpToolsProtocol):
        _head_bytes = 0
        _in_head = True
        _completed = False
        _head_timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._start_timer()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_timer()
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            self._completed = False
            super().data_received(data)
            if self._in_head and not self._completed:  # else these bytes were a body, or how many were not is unknown
                self._head_bytes += len(data)
                if self._head_bytes > limits.header_bytes + _SLACK_BYTES:
                    self._end(b"431 Request Header Fields Too Large")

        def on_message_begin(self) -> None:
            super().on_message_begin()
            self._start_timer()

        def on_headers_complete(self) -> None:
            self._in_head = False
            self._head_bytes = 0
            self._stop_timer()
            super().on_headers_complete()

        def on_message_complete(self) -> None:
            self._in_head = self._completed = True
            super().on_message_complete()

        def _start_timer(self) -> None:
            self._stop_timer()
            self._head_timer = self.loop.call_later(limits.header_timeout_s, self._end, b"408 Request Timeout")

        def _stop_timer(self) -> None:
            if self._head_timer is not None:
                self._head_timer.cancel()
                self._head_timer = None

        def _end(self, status: bytes) -> None:
            self._stop_timer()
            if not self.transport.is_closing():
                self.transport.write(b"HTTP/1.1 " + status + b"\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
                self.transport.close()

    return BoundedProtocol


def private_names() -> list[Any]:
    """Return what this module needs of uvicorn's protocol, so that a test notices when it goes away."""
    names = ("connection_made", "connection_lost", "data_received")
    parser = ("on_message_begin", "on_headers_complete", "on_message_complete")
    return [getattr(HttpToolsProtocol, name) for name in names + parser]
