"""Export, replay and reset over HTTP: bodies that are streamed in and out, a piece at a time."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import msgspec

from collector.errors import BufferFull, CollectorError, InvalidEvent, NotAccepted, NotDiscarded, NotReplayed
from collector.quarantine import quarantine_lines
from collector.vault import CHUNK_BYTES, CHUNK_LINES, Replay, Vault
from collector.web import Headers, Receive, Response, Send, header, json_response, problem, send_response

NDJSON = b"application/x-ndjson"
RESET_BODY_BYTES_MAX = 4096
_CONFIRM = re.compile(r"discard ([0-9]{1,12}) events?")


class _Confirm(msgspec.Struct, forbid_unknown_fields=True):
    confirm: str


class _Named(msgspec.Struct):
    events: int
    sha256: str


class _UnderReceipt(msgspec.Struct, forbid_unknown_fields=True):
    receipt: _Named


class VaultDesk:
    """What the admin listener answers about backups. One replay or reset is under way at a time.

    Args:
        body_timeout_s: A replay that sends nothing for so long ends with 408.
        flush: Flushes everything; a replay that meets a full buffer asks for it once.
    """

    def __init__(self, vault: Vault, *, body_timeout_s: float, flush: Callable[[], Awaitable[Any]]) -> None:
        self._vault = vault
        self._body_timeout_s = body_timeout_s
        self._flush = flush
        self._busy = False

    async def export(self, send: Send) -> None:
        """Stream the export. A failure in the middle ends the connection without the receipt."""
        await _send_lines(send, self._vault.export())

    async def quarantine(self, send: Send) -> None:
        """Stream the quarantine. A failure in the middle ends the connection without the total."""
        await _send_lines(send, quarantine_lines(self._vault.buffer))

    async def reset(self, receive: Receive) -> Response:
        """Discard under ``{"receipt": {"events", "sha256"}}`` or ``{"confirm": "discard N events"}``."""
        body = b""
        async for piece in _pieces(receive, self._body_timeout_s):
            body += piece
            if len(body) > RESET_BODY_BYTES_MAX:
                raise InvalidEvent(f"the body is larger than {RESET_BODY_BYTES_MAX} bytes", status=413)
        receipt, count = _reset_request(body)
        with _Turn(self):
            answer = await asyncio.to_thread(self._vault.reset, receipt=receipt, confirmed_events=count)
        return json_response(200, msgspec.to_builtins(answer))

    async def replay(self, headers: Headers, receive: Receive) -> Response:
        """Store the lines of an export; 503 with what was done when the buffer takes no more."""
        if header(headers, b"content-encoding") not in (None, b"identity"):
            raise InvalidEvent("a replay is not compressed", status=415)
        with _Turn(self):
            replay = self._vault.replay()
            try:
                async for lines in _chunks(_pieces(receive, self._body_timeout_s), self._vault.line_bytes_max):
                    await self._take(replay, lines)
            except (NotAccepted, InvalidEvent, OSError) as error:
                return _partly(replay, error)
        return json_response(200, _document(replay))

    async def _take(self, replay: Replay, lines: list[bytes]) -> None:
        try:
            await asyncio.to_thread(replay.take, lines)
        except BufferFull:
            await self._flush()
            await asyncio.to_thread(replay.take, lines)


async def _send_lines(send: Send, lines: Iterator[bytes]) -> None:
    try:
        try:
            chunk = await asyncio.to_thread(next, lines)  # a failure before the first byte has a status
        except CollectorError as error:
            await send_response(send, refusal(error))
            return
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", NDJSON)]})
        while chunk:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
            chunk = await asyncio.to_thread(next, lines, b"")
        await send({"type": "http.response.body", "body": b""})
    finally:
        await asyncio.to_thread(lines.close)  # type: ignore[attr-defined]


class _Turn:
    """Lets one replay or reset in at a time."""

    def __init__(self, desk: VaultDesk) -> None:
        self._desk = desk

    def __enter__(self) -> None:
        if self._desk._busy:
            raise NotReplayed("another replay or reset is under way")
        self._desk._busy = True

    def __exit__(self, *_: object) -> None:
        self._desk._busy = False


def refusal(error: CollectorError) -> Response:
    """Turn an error of a reset or replay into its answer."""
    if isinstance(error, InvalidEvent):
        return problem(error.status, error.reason, close=True)
    if isinstance(error, (NotDiscarded, NotReplayed)):
        return problem(409, str(error), close=True)
    return problem(503, str(error), headers=((b"retry-after", b"5"),), close=True)


def _document(replay: Replay) -> dict[str, Any]:
    result = replay.result
    return {
        "accepted": result.accepted,
        "duplicate": result.duplicate,
        "quarantined": result.quarantined,
        "complete": result.complete,
    }


def _partly(replay: Replay, error: Exception) -> Response:
    status = error.status if isinstance(error, (InvalidEvent, NotAccepted)) else 503
    detail = f"the replay stopped after {replay.result.lines} lines, run it again: {error}"
    retry = ((b"retry-after", b"5"),) if status == 503 else ()
    return problem(status, detail, headers=retry, close=True, members=_document(replay))


def _reset_request(body: bytes) -> tuple[tuple[int, str] | None, int | None]:
    try:
        named = msgspec.json.decode(body, type=_UnderReceipt).receipt
    except (msgspec.MsgspecError, UnicodeDecodeError):
        pass
    else:
        return (named.events, named.sha256), None
    try:
        match = _CONFIRM.fullmatch(msgspec.json.decode(body, type=_Confirm).confirm)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        match = None
    if match is None:
        raise InvalidEvent(
            'a reset needs {"receipt": {"events": N, "sha256": "..."}} of an export, or {"confirm": "discard N events"}'
        )
    return None, int(match[1])


async def _pieces(receive: Receive, timeout_s: float) -> AsyncIterator[bytes]:
    more = True
    while more:
        try:
            async with asyncio.timeout(timeout_s):
                message = await receive()
        except TimeoutError:
            raise InvalidEvent(f"nothing of the body came for {timeout_s:g} s", status=408) from None
        if message["type"] == "http.disconnect":
            raise InvalidEvent("the connection ended before the body did")
        more = message.get("more_body", False)
        yield message.get("body", b"")


async def _chunks(pieces: AsyncIterator[bytes], line_bytes_max: int) -> AsyncIterator[list[bytes]]:
    """Cut a body into lists of whole lines; empty lines are left out."""
    rest, lines, size = b"", list[bytes](), 0
    async for piece in pieces:
        *whole, rest = (rest + piece).split(b"\n")
        if max(map(len, [*whole, rest])) > line_bytes_max:
            raise InvalidEvent(f"a line is longer than {line_bytes_max} bytes", status=413)
        for line in whole:
            if line.strip():
                lines.append(line)
                size += len(line)
            if len(lines) == CHUNK_LINES or size >= CHUNK_BYTES:
                yield lines
                lines, size = [], 0
    if rest.strip():
        lines.append(rest)
    if lines:
        yield lines
