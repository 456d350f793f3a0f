"""The admin listener: ``POST /admin/flush`` and ``GET /admin/buffer``, behind a bearer token."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from collector.errors import CollectorError
from collector.service import Service
from collector.telemetry import hour_text
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
    from collector.flusher import FlushResult

FAILURES_MAX = 10
FAILURE_WINDOW_S = 60.0

_ROUTES = {"/admin/flush": "POST", "/admin/buffer": "GET"}


class AdminApp:
    """The ASGI application of the admin listener.

    A wrong or missing token gets the same 401 on every path; more than ``FAILURES_MAX`` of them in
    ``FAILURE_WINDOW_S`` get 429. The right token always passes. Request bodies are not read.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._token = hashlib.sha256(service.config.admin_token).digest()
        self._failures: deque[float] = deque(maxlen=FAILURES_MAX)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """Serve one request."""
        await send_response(send, await self._respond(scope["path"], scope["method"], scope["headers"]))

    async def _respond(self, path: str, method: str, headers: Headers) -> Response:
        if not self._is_authorized(headers):
            return self._unauthorized()
        allowed = _ROUTES.get(path)
        if allowed is None:
            return problem(404, "there is no such resource")
        if method != allowed:
            return method_not_allowed([allowed])
        return await self._flush() if path == "/admin/flush" else self._buffer()

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

    def _buffer(self) -> Response:
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
