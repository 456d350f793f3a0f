"""The admin listener, behind a bearer token.

========================  ===========================================================================================
GET  /admin/buffer        how full each partition is, what is undecided, what was discarded
POST /admin/flush         flush everything; answers when it is decided
GET  /admin/export        the buffered events as lines of CloudEvents, and a receipt as the last line
POST /admin/replay        store the lines of an export that are not known yet
POST /admin/reset         discard what was exported, or what is confirmed by its number
GET  /admin/config        every variable as it is in force, secrets redacted, and the defaults
GET  /admin/quarantine    events that cannot become rows, as lines with the reason, and their number as the last line
========================  ===========================================================================================
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

from collector.config import VARIABLES
from collector.errors import CollectorError
from collector.landed import Landed
from collector.lines import LineParser
from collector.service import Service
from collector.telemetry import hour_text
from collector.vault import Vault
from collector.vault_http import VaultDesk, refusal
from collector.web import (
    Headers,
    Receive,
    Response,
    Scope,
    Send,
    json_response,
    method_not_allowed,
    problem,
    send_response,
)

if TYPE_CHECKING:
    from collector.buffer import Buffer
    from collector.flusher import FlushResult

FAILURES_MAX = 10
FAILURE_WINDOW_S = 60.0


class AdminApp:
    """The ASGI application of the admin listener.

    A wrong or missing token gets the same 401 on every path; more than ``FAILURES_MAX`` of them in
    ``FAILURE_WINDOW_S`` get 429. The right token always passes. No body is read before the token was.

    Args:
        buffer: What backups are made of; the same that ``service`` has.
        landed: Makes what a replay asks of the table; by default nothing is there.
    """

    def __init__(
        self,
        service: Service,
        buffer: Buffer,
        landed: Callable[[], Landed] = lambda: Landed(lambda _hour: ()),
    ) -> None:
        self._service = service
        limits = service.config.limits
        parser = LineParser(limits, service.clock.time)
        self._vault = Vault(buffer, parser, clock=service.clock, crash=service.crash, landed=landed)
        self._desk = VaultDesk(self._vault, body_timeout_s=limits.body_timeout_s, flush=self._flush)
        self._routes: dict[str, tuple[str, Callable[[Headers, Receive], Awaitable[Response]]]] = {
            "/admin/flush": ("POST", lambda _headers, _receive: self._flush()),
            "/admin/buffer": ("GET", lambda _headers, _receive: self._buffer()),
            "/admin/config": ("GET", lambda _headers, _receive: self._config()),
            "/admin/replay": ("POST", self._desk.replay),
            "/admin/reset": ("POST", lambda _headers, receive: self._desk.reset(receive)),
        }
        self._streams = {"/admin/export": self._desk.export, "/admin/quarantine": self._desk.quarantine}
        self._token = hashlib.sha256(service.config.admin_token).digest()
        self._failures: deque[float] = deque(maxlen=FAILURES_MAX)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        path, method, headers = scope["path"], scope["method"], scope["headers"]
        if path in self._streams and method == "GET" and self._is_authorized(headers):
            await self._streams[path](send)
        else:
            await send_response(send, await self._respond(path, method, headers, receive))

    async def _respond(self, path: str, method: str, headers: Headers, receive: Receive) -> Response:
        if not self._is_authorized(headers):
            return self._unauthorized()
        if path in self._streams:
            return method_not_allowed(["GET"])
        if path not in self._routes:
            return problem(404, "there is no such resource")
        allowed, answer = self._routes[path]
        if method != allowed:
            return method_not_allowed([allowed])
        try:
            return await answer(headers, receive)
        except CollectorError as error:
            return refusal(error)

    def _is_authorized(self, headers: Headers) -> bool:
        values = [value for name, value in headers if name == b"authorization"]
        scheme, _, token = (values[0] if len(values) == 1 else b"").partition(b" ")
        given = hashlib.sha256(token.strip()).digest()
        return hmac.compare_digest(given, self._token) and scheme.lower() == b"bearer"

    def _unauthorized(self) -> Response:
        now = self._service.clock.monotonic()
        if len(self._failures) == FAILURES_MAX and now - self._failures[0] < FAILURE_WINDOW_S:
            wait = int(FAILURE_WINDOW_S - (now - self._failures[0])) + 1
            return problem(429, "too many failed attempts", headers=((b"retry-after", b"%d" % wait),), close=True)
        self._failures.append(now)
        challenge = (b"www-authenticate", b"Bearer")
        return problem(401, "a valid bearer token is required", headers=(challenge,), close=True)

    async def _flush(self) -> Response:
        timeout_s = self._service.config.admin_flush_timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                flusher = await asyncio.shield(self._service.flusher)
                results = await asyncio.wrap_future(flusher.request_flush())
        except TimeoutError:
            return _later(f"the flush was not decided within {timeout_s:g} s; it goes on")
        except CollectorError as error:
            return _later(f"the flush was not decided: {error}")
        events = self._service.buffer.snapshot().events
        return json_response(200, {"flushes": [_flush_document(r) for r in results], "buffered_events": events})

    async def _config(self) -> Response:
        defaults = {variable.name: variable.default for variable in VARIABLES if variable.default is not None}
        return json_response(200, {"variables": dict(self._service.config.variables), "defaults": defaults})

    async def _buffer(self) -> Response:
        state = self._service.buffer.snapshot()
        document: dict[str, Any] = {
            "capacity_events": state.capacity_events,
            "events": state.events,
            "bytes": state.bytes,
            "fill_ratio": state.fill_ratio,
            "partitions": [
                {
                    "type": partition.type,
                    "hour": hour_text(partition.hour),
                    "events": partition.events,
                    "bytes": partition.bytes,
                    "fill_ratio": partition.fill_ratio,
                    "oldest_age_s": partition.oldest_age_s,
                }
                for partition in state.partitions
            ],
            "undecided": list(state.undecided),
            "discarded_events": state.discarded,
        }
        return json_response(200, document)


def _later(detail: str) -> Response:
    return problem(503, detail, headers=((b"retry-after", b"5"),))


def _flush_document(result: FlushResult) -> dict[str, Any]:
    files: Sequence[str] = result.files
    return {
        "flush_id": result.flush_id,
        "snapshot_id": result.snapshot_id,
        "files": list(files),
        "events": result.events,
        "outcome": result.outcome,
        "error": result.error,
    }
