"""The ingest listener: events in, 202 once they are synced.

``POST /events`` takes CloudEvents in structured, binary and batched mode, by Content-Type alone.
``POST /events/batch`` takes ``{"events": [...]}`` or a bare JSON array. A request is stored as a whole or not at all.
``GET /healthz``, ``/readyz`` and ``/metrics`` are for machines that watch.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable

from collector import attributes as rules
from collector.cloudevents import Event, Parser, partition_of
from collector.errors import BufferFull, BufferUnavailable, BufferUncertain, InvalidEvent, NotAccepted
from collector.headers import content_type_of
from collector.service import Service
from collector.telemetry import CONTENT_TYPE
from collector.web import (
    ClientGone,
    Headers,
    Incoming,
    Receive,
    Response,
    Scope,
    Send,
    check_head,
    json_response,
    method_not_allowed,
    problem,
    read_body,
    send_response,
)

log = logging.getLogger("collector.ingest")

Parse = Callable[[Headers, bytes], list[Event]]

_CLOSING = frozenset({408, 413, 431})
"""After these the rest of the request is forgotten at best, so the connection cannot be used again."""

_KINDS = {413: "too_large", 431: "too_large", 408: "too_slow"}
_UTF8 = ("", "utf-8", "utf8")


class IngestApp:
    """The ASGI application of the ingest listener."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._parser = Parser(service.config.limits, service.clock.time)
        self._posts: dict[str, Parse] = {"/events": self._parse_event, "/events/batch": self._parse_wrapped}
        self._gets: dict[str, Callable[[], Response]] = {
            "/healthz": self._healthz,
            "/readyz": self._readyz,
            "/metrics": self._metrics,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        path, method, incoming = scope["path"], scope["method"], Incoming(receive)
        parse = self._posts.get(path)
        if parse is None:
            await send_response(send, self._get(path, method), incoming)
        elif method != "POST":
            await send_response(send, method_not_allowed(["POST"]))
        else:
            await self._post(parse, scope["headers"], incoming, send)

    # Events.

    async def _post(self, parse: Parse, headers: Headers, incoming: Incoming, send: Send) -> None:
        try:
            self._service.enter()
        except NotAccepted as refusal:
            await send_response(send, self._not_accepted(refusal), incoming)
            return
        try:
            response = await self._answer(self._accept(parse, headers, incoming))
            await send_response(send, response, incoming)
            if response.status == 202:
                self._service.crash("ingest.after_ack")
        except ClientGone:
            pass
        finally:
            self._service.leave()

    async def _answer(self, accepted: Awaitable[int]) -> Response:
        try:
            count = await accepted
        except InvalidEvent as error:
            return self._invalid(error)
        except NotAccepted as refusal:
            return self._not_accepted(refusal)
        except BufferUncertain as error:
            return problem(500, str(error), members={"reason": "undecided"})
        self._service.metrics.accepted(count)
        return Response(202, b'{"accepted":%d}' % count)

    async def _accept(self, parse: Parse, headers: Headers, receive: Receive) -> int:
        limits = self._service.config.limits
        check_head(headers, limits)
        events = parse(headers, await read_body(receive, headers, limits))
        self._check_fits(events)
        try:
            await asyncio.wrap_future(self._service.buffer.submit(events))
        except OSError as error:
            raise BufferUnavailable(f"the buffer could not store the events: {error.strerror}") from error
        return len(events)

    def _check_fits(self, events: list[Event]) -> None:
        """Refuse for good what can never fit: more events for one partition than it may hold."""
        capacity = self._service.config.flush.size_events
        if len(events) <= capacity:
            return
        (type_, _), most = Counter(map(partition_of, events)).most_common(1)[0]
        if most > capacity:
            reason = f"the batch has {most} events of type {type_!r} and one hour; the buffer holds {capacity}"
            raise InvalidEvent(reason, status=413)

    def _parse_event(self, headers: Headers, body: bytes) -> list[Event]:
        content_type = content_type_of(headers)
        name = rules.media_type(content_type or "")
        if content_type is None or not name.startswith("application/cloudevents"):
            return self._parser.binary(headers, body)
        _check_charset(content_type)
        if name == "application/cloudevents-batch+json":
            return self._parser.batch(body)
        if name in ("application/cloudevents+json", "application/cloudevents"):
            return self._parser.structured(body)
        raise InvalidEvent(f"the event format {name[:80]!r} is not supported; JSON is", status=415)

    def _parse_wrapped(self, headers: Headers, body: bytes) -> list[Event]:
        content_type = content_type_of(headers)
        if content_type is not None:
            if not rules.is_json(content_type):
                raise InvalidEvent("a batch must be application/json", status=415)
            _check_charset(content_type)
        return self._parser.wrapped(body)

    def _invalid(self, error: InvalidEvent) -> Response:
        self._service.metrics.refused(_KINDS.get(error.status, "invalid"))
        members: dict[str, object] = {"reason": error.reason}
        if error.index is not None:
            members["index"] = error.index
        detail = error.reason if error.index is None else f"event {error.index}: {error.reason}"
        return problem(error.status, detail, close=error.status in _CLOSING, members=members)

    def _not_accepted(self, refusal: NotAccepted) -> Response:
        self._service.metrics.refused(refusal.kind)
        members: dict[str, object] = {"reason": refusal.kind}
        if isinstance(refusal, BufferFull):
            type_, hour = refusal.partition
            members["partition"] = {"type": type_, "hour": hour}
        retry = (b"retry-after", b"%d" % refusal.retry_after_s)
        return problem(
            refusal.status, refusal.reason, headers=(retry,), close=refusal.kind == "draining", members=members
        )

    # What machines watch.

    def _get(self, path: str, method: str) -> Response:
        answer = self._gets.get(path)
        if answer is None:
            return problem(404, "there is no such resource", close=method not in ("GET", "HEAD"))
        if method not in ("GET", "HEAD"):
            return method_not_allowed(["GET", "HEAD"])
        return answer()

    def _healthz(self) -> Response:
        failure = self._service.buffer.snapshot().failure
        if failure:
            return problem(503, f"the buffer has failed, restart the process: {failure}")
        return json_response(200, {"status": "ok"})

    def _readyz(self) -> Response:
        reason = self._service.why_not_ready()
        if reason is not None:
            return problem(503, reason, headers=((b"retry-after", b"1"),), members={"table": self._service.table})
        return json_response(200, {"status": "ready", "table": self._service.table})

    def _metrics(self) -> Response:
        return Response(200, self._service.metrics.text(), CONTENT_TYPE)


def _check_charset(content_type: str) -> None:
    charset = rules.charset(content_type)
    if charset not in _UTF8:
        raise InvalidEvent(f"the charset must be UTF-8, not {charset[:32]!r}", status=415)
