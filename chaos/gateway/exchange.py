"""One request on its way through the gateway: forwarding it, answering it, and the line it leaves in the log."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from chaos.gateway.body import Body
from chaos.gateway.errors import ClientGone, TooLargeToHold, UpstreamLost
from chaos.gateway.messages import Answer, Request, chunk_of, last_chunk
from chaos.gateway.objects import kind_of, redacted
from chaos.gateway.pace import Pacer
from chaos.gateway.route import Outgoing, Route
from chaos.gateway.rulebook import ActiveRule
from chaos.gateway.server import ServerConnection
from chaos.gateway.upstream import UpstreamConnection

if TYPE_CHECKING:
    from chaos.gateway.proxy import Gateway

SAFE_TO_RESEND = ("GET", "HEAD")
"""Methods sent again, once, when a warm connection turns out to be dead; anything else might be applied twice."""


class Exchange:
    """One request, the rules that touch it, and what became of it.

    Attributes:
        kind: Kind of object.
        path: Path and query for logs and rules, secrets replaced.
        rules: Rules that chose this request.
        outcome: One of `log.OUTCOMES`.
        status: What the client was told; None: nothing.
        upstream_status: What the upstream said; None: never asked, or no answer.
    """

    def __init__(self, gateway: Gateway, route: Route, request: Request, client: ServerConnection, number: int) -> None:
        self.gateway = gateway
        self.route = route
        self.request = request
        self.client = client
        self.number = number
        self.kind = kind_of(route.protocol, request.verb, request.path, request.query)
        self.path = redacted(request.path, request.query)
        self.rules: list[ActiveRule] = gateway.book.choose(route.name, request.verb, self.kind, self.path)
        self.outcome = "passed"
        self.status: int | None = None
        self.upstream_status: int | None = None
        self.announced = False
        self.request_pacer: Pacer | None = None
        self.answer_pacer: Pacer | None = None
        self.cut_request_after: int | None = None
        self.request_was_cut = False
        self._connections: list[UpstreamConnection] = []
        self._pump: asyncio.Task[None] | None = None

    # forwarding

    async def relay(self) -> None:
        """Forward the request and answer with what the upstream says; a client that goes away ends both."""
        self.client.on_gone = self.abort_upstream
        await self.tell(await self.forward())

    async def forward(self, content: bytes | None = None) -> Answer:
        """Send the request upstream and return the head of the answer; its body streams.

        Args:
            content: The body, when it was read already; otherwise it is streamed from the client.

        Raises:
            UpstreamLost: no answer came.
            ClientGone: the client went away before the request was whole.
        """
        body = self.request.body if content is None else Body.of(content)
        outgoing = self.route.outgoing(self.request, continued=content is not None)
        try:
            answer = await self._send(outgoing, body, fresh=False)
        except UpstreamLost:
            if self.client.is_gone and (self.client.on_gone is not None or not self.request.body.ended):
                raise ClientGone from None
            warm = bool(self._connections) and self._connections[-1].reused
            if not warm or self.request.verb not in SAFE_TO_RESEND:
                raise
            answer = await self._send(outgoing, body, fresh=True)
        self.upstream_status = answer.status
        return await self.route.rewritten(self.kind, answer)

    async def hold_body(self) -> bytes:
        """Read the whole request body, so that it can be sent later or twice.

        Raises:
            TooLargeToHold: it cannot be kept; it can still be streamed.
        """
        if self.request.length is not None and self.request.length > self.gateway.held_bytes:
            raise TooLargeToHold
        if self.request.expects_continue and not self.request.body.ended:
            self.client.send_continue()
        return await self.request.body.read_all(self.gateway.held_bytes)

    async def _send(self, outgoing: Outgoing, body: Body, *, fresh: bool) -> Answer:
        connection = await self.route.upstream.acquire(fresh=fresh)
        self._connections.append(connection)
        future = connection.start(self.request.verb, self._pass_continue)
        if body.ended and self.request_pacer is None and self.cut_request_after is None:
            connection.write(outgoing.head + outgoing.whole(body.take(), body.trailers))
            connection.sent_whole = True
        else:
            connection.write(outgoing.head)
            self._pump = asyncio.get_running_loop().create_task(self._stream_request(outgoing, body, connection))
        return await future

    async def _stream_request(self, outgoing: Outgoing, body: Body, connection: UpstreamConnection) -> None:
        try:
            left = self.cut_request_after
            while chunk := await body.read():
                async for piece in _pieces(chunk, self.request_pacer):
                    if left is not None and len(piece) > left:
                        connection.write(outgoing.part(piece[:left]))
                        await connection.drain()
                        self.request_was_cut = True
                        connection.close()
                        return
                    left = None if left is None else left - len(piece)
                    connection.write(outgoing.part(piece))
                    await connection.drain()
            connection.write(outgoing.end(body.trailers))
            connection.sent_whole = True
        except ClientGone:
            connection.abort()

    def _pass_continue(self) -> None:
        if self.request.expects_continue and not self.client.is_gone:
            self.client.send_continue()

    def abort_upstream(self) -> None:
        """Reset the connections that carry this request."""
        for connection in self._connections:
            connection.abort()

    # answering

    async def tell(self, answer: Answer, *, keep_bytes: int | None = None) -> None:
        """Answer the client; after *keep_bytes* of the body the connection ends."""
        client, request = self.client, self.request
        chunked = client.start_answer(request, answer)
        self.status = answer.status
        if answer.bodyless:
            return
        left = keep_bytes
        while chunk := await answer.body.read():
            async for piece in _pieces(chunk, self.answer_pacer):
                kept = piece if left is None else piece[:left]
                client.answer_bytes += len(kept)
                client.write(chunk_of(kept) if chunked and kept else kept)
                await client.drain()
                if left is not None:
                    left -= len(kept)
                    if len(kept) < len(piece) or left == 0:
                        client.close()
                        return
        if chunked:
            client.write(last_chunk(answer.body.trailers))

    async def reply(self, answer: Answer) -> None:
        """Answer with something made up; the request's body is read to its end first, so that the client reads the answer."""
        if not (self.request.expects_continue and not self.request.body.received):
            await self.request.body.discard()
        await self.tell(answer)

    async def wait(self, seconds: float | None, rule: ActiveRule, *, follow_client: bool = True) -> bool:
        """Wait; return whether the rule is still there.

        Args:
            seconds: How long; None: until the rule is deleted.
            rule: Whose deletion ends the wait.
            follow_client: A client that goes away ends it too.

        Raises:
            ClientGone: the client went away.
        """
        futures: set[asyncio.Future[None]] = {rule.deleted}
        if follow_client:
            futures.add(self.client.gone)
        if seconds is None or seconds > 0:
            await asyncio.wait(futures, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if follow_client and self.client.is_gone:
            raise ClientGone
        return not rule.deleted.done()

    # the end

    def finish(self) -> None:
        """Give connections back and write the line."""
        if self._pump is not None and not self._pump.done():
            self._pump.cancel()
        for connection in self._connections:
            self.route.upstream.release(connection)
        self.gateway.log.write(self._line())

    def begin_line(self) -> dict[str, Any]:
        """Return the line that says this request is being held."""
        return {"t_ns": self.request.started_ns, "n": self.number, "begin": True, **self.identity()}

    def identity(self) -> dict[str, Any]:
        """Return the fields that say which request this is and which rule has it."""
        return {
            "upstream": self.route.name,
            "verb": self.request.verb,
            "path": self.path,
            "object": self.kind,
            "rule": self.rule_id,
        }

    @property
    def rule_id(self) -> str | None:
        """Return the rule that decides the outcome, or else the first that touches the request."""
        deciding = [rule.id for rule in self.rules if not rule.combines] or [rule.id for rule in self.rules]
        return deciding[0] if deciding else None

    def _line(self) -> dict[str, Any]:
        request = self.request
        line = {
            "t_ns": request.started_ns,
            "n": self.number,
            "upstream": self.route.name,
            "verb": request.verb,
            "path": self.path,
            "object": self.kind,
            "status": self.status,
            "upstream_status": self.upstream_status,
            "ms": round((time.monotonic_ns() - request.started_ns) / 1e6, 3),
            "request_bytes": request.body.received,
            "answer_bytes": self.client.answer_bytes,
            "rule": self.rule_id,
            "outcome": self.outcome,
        }
        if len(self.rules) > 1:
            line["rules"] = [rule.id for rule in self.rules]
        return line


async def _pieces(chunk: bytes, pacer: Pacer | None) -> Any:
    if pacer is None:
        yield chunk
        return
    async for piece in pacer.pieces(chunk):
        yield piece
