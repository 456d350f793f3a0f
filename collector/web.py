"""What both listeners need of HTTP: bodies within limits, answers, and refusals as problem+json (RFC 9457)."""

from __future__ import annotations

import asyncio
import json
import zlib
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from collector.config import Limits
from collector.errors import InvalidEvent

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = Sequence[tuple[bytes, bytes]]

JSON = b"application/json"
PROBLEM = b"application/problem+json"
MAX_ENCODINGS = 3
LINGER_S = 2.0
LINGER_BYTES = 64 << 20
"""For so long and so far a request is read on, and forgotten, whose connection is to be closed: closing it with bytes unread would reset
it, and a client that still sends might never see its answer (RFC 9112, section 9.6)."""


class ClientGone(Exception):
    """The client closed the connection before its request was complete."""


class Incoming:
    """The rest of a request, and whether it has come to its end; to be awaited like ASGI's ``receive``."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self.complete = False

    async def __call__(self) -> Message:
        """Return the next message."""
        message = await self._receive()
        self.complete = not message.get("more_body", False)  # a disconnect has none
        return message

    async def forget(self) -> None:
        """Read on, within bounds."""
        left = LINGER_BYTES
        with suppress(TimeoutError):
            async with asyncio.timeout(LINGER_S):
                while not self.complete and left > 0:
                    left -= len((await self()).get("body", b""))


@dataclass(frozen=True, slots=True)
class Response:
    """An answer; ``close`` ends the connection after it."""

    status: int
    body: bytes
    content_type: bytes = JSON
    headers: tuple[tuple[bytes, bytes], ...] = ()
    close: bool = False


def json_response(status: int, document: object) -> Response:
    """Return ``document`` as JSON."""
    return Response(status, json.dumps(document).encode())


def problem(
    status: int,
    detail: str,
    *,
    headers: tuple[tuple[bytes, bytes], ...] = (),
    close: bool = False,
    members: Mapping[str, object] | None = None,
) -> Response:
    """Return a refusal; ``members`` are extension members such as the index of an event."""
    document = {"title": HTTPStatus(status).phrase, "status": status, "detail": detail, **(members or {})}
    return Response(status, json.dumps(document).encode(), PROBLEM, headers, close)


def method_not_allowed(allowed: Sequence[str]) -> Response:
    """Return 405 with its Allow header."""
    allow = ", ".join(allowed)
    return problem(405, f"this resource allows {allow}", headers=((b"allow", allow.encode()),))


async def send_response(send: Send, response: Response, incoming: Incoming | None = None) -> None:
    """Send a whole answer; one that closes the connection waits until *incoming* has come to its end, within bounds."""
    headers = [
        (b"content-type", response.content_type),
        (b"content-length", b"%d" % len(response.body)),
        *response.headers,
    ]
    if response.close:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    lingers = response.close and incoming is not None and not incoming.complete
    await send({"type": "http.response.body", "body": response.body, "more_body": lingers})
    if lingers and incoming is not None:
        await incoming.forget()
        await send({"type": "http.response.body", "body": b""})


def header(headers: Headers, name: bytes) -> bytes | None:
    """Return the first header of that lower-case name."""
    return next((value for key, value in headers if key == name), None)


def check_head(headers: Headers, limits: Limits) -> None:
    """Refuse a request head that is too large (431)."""
    if len(headers) > limits.headers:
        raise InvalidEvent(f"the request has more than {limits.headers} header fields", status=431)
    if sum(len(name) + len(value) for name, value in headers) > limits.header_bytes:
        raise InvalidEvent(f"the header fields exceed {limits.header_bytes} bytes", status=431)


async def read_body(receive: Receive, headers: Headers, limits: Limits) -> bytes:
    """Read and decompress a request body.

    Raises:
        InvalidEvent: It is too large (413), too slow (408), or encoded in a way that is unknown (415) or broken (400).
        ClientGone: The connection ended first.
    """
    length = header(headers, b"content-length")
    if length is not None and length.isdigit() and (len(length) > 19 or int(length) > limits.body_bytes):
        raise _too_large("on the wire", limits.body_bytes)
    body = await _receive_in_time(receive, limits)
    return (
        body if header(headers, b"content-encoding") is None else decompress(body, headers, limits.decompressed_bytes)
    )


async def _receive_in_time(receive: Receive, limits: Limits) -> bytes:
    try:
        async with asyncio.timeout(limits.body_timeout_s):
            return await _receive_all(receive, limits.body_bytes)
    except TimeoutError:
        raise InvalidEvent(f"the body was not complete after {limits.body_timeout_s:g} s", status=408) from None


async def _receive_all(receive: Receive, most: int) -> bytes:
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        chunk: bytes = message.get("body", b"")
        size += len(chunk)
        if size > most:
            raise _too_large("on the wire", most)
        if not message.get("more_body", False):
            return b"".join([*chunks, chunk]) if chunks else chunk
        chunks.append(chunk)


def _too_large(where: str, most: int) -> InvalidEvent:
    return InvalidEvent(f"the body is larger than {most} bytes {where}", status=413)


def decompress(body: bytes, headers: Headers, most: int) -> bytes:
    """Undo every Content-Encoding, last applied first; no stage may yield more than ``most`` bytes."""
    lines = [value.decode("latin-1") for name, value in headers if name == b"content-encoding"]
    encodings = [name for name in (part.strip().lower() for part in ",".join(lines).split(",")) if name]
    if len(encodings) > MAX_ENCODINGS:
        raise InvalidEvent(f"the body has more than {MAX_ENCODINGS} content encodings", status=415)
    for name in reversed(encodings):
        if name == "identity":
            continue
        if name not in ("gzip", "x-gzip"):
            raise InvalidEvent(f"Content-Encoding {name[:32]!r} is not supported; gzip and identity are", status=415)
        body = _gunzip(body, most)
    return body


def _gunzip(body: bytes, most: int) -> bytes:
    """Decompress one or more gzip members without ever holding more than ``most`` + 1 bytes of output."""
    out: list[bytes] = []
    size = 0
    while body:
        member = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
        try:
            chunk = member.decompress(body, most - size + 1)
        except zlib.error:
            raise InvalidEvent("the body is not valid gzip") from None
        size += len(chunk)
        if size > most:
            raise _too_large("after decompression", most)
        if not member.eof:
            raise InvalidEvent("the gzip body is cut off")
        out.append(chunk)
        body = member.unused_data
    if not out:
        raise InvalidEvent("the gzip body is cut off")
    return b"".join(out)
