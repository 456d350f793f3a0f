"""A server that takes every request and keeps nothing: `python -m loadtests.bench_server [FILE]` prints its port and serves.

It reads as far as Content-Length and answers 202, so that what a load generator's benchmark measures is the generator. With FILE it
notes when it answered which event (of requests with one), and writes that when it is ended with SIGTERM: lines of monotonic
nanoseconds and id.
"""

from __future__ import annotations

import asyncio
import re
import signal
import sys
import time
from pathlib import Path
from typing import cast

import uvloop

_ANSWER = b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"
_END = b"\r\n\r\n"
_LENGTH = b"content-length:"
_ID = re.compile(rb'"id": ?"([^"]*)"')


class Sink(asyncio.Protocol):
    """One connection; requests may be pipelined."""

    def __init__(self, answered: list[tuple[int, bytes]] | None) -> None:
        self._answered = answered
        self._buffer = bytearray()
        self._missing = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember where answers go."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass of it

    def data_received(self, data: bytes) -> None:
        """Answer each request whose body has come to its end."""
        if self._missing > len(data):
            self._missing -= len(data)
            return
        self._buffer += memoryview(data)[self._missing :]
        if self._missing:
            self._missing = 0
            self._transport.write(_ANSWER)
        while not self._missing and (end := self._buffer.find(_END)) >= 0 and self._take(end + len(_END)):
            pass

    def _take(self, head: int) -> bool:
        """Answer the request whose head has *head* bytes, once its body is there; say whether to go on."""
        text = bytes(self._buffer[:head]).lower()
        at = text.find(_LENGTH)
        length = int(text[at + len(_LENGTH) : text.index(b"\r\n", at)]) if at >= 0 else 0
        there = len(self._buffer) - head
        if self._answered is not None:
            if there < length:
                return False
            if (found := _ID.search(self._buffer, head, head + length)) is not None:
                self._answered.append((time.monotonic_ns(), found[1]))
        del self._buffer[: head + length]
        if there >= length:
            self._transport.write(_ANSWER)
        else:
            self._missing = length - there
        return True


async def serve(log: Path | None) -> None:
    """Serve on a free loopback port until SIGTERM; then write *log*."""
    answered: list[tuple[int, bytes]] | None = None if log is None else []
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    server = await loop.create_server(lambda: Sink(answered), "127.0.0.1", 0, backlog=1024)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await ended.wait()
    if log is not None and answered is not None:
        log.write_text("".join(f"{t_ns} {event.decode()}\n" for t_ns, event in answered))


if __name__ == "__main__":
    uvloop.run(serve(Path(sys.argv[1]) if len(sys.argv) > 1 else None))
