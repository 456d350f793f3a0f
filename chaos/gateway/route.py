"""A listener's way to its upstream: how heads and bodies change on the way there, and answers on the way back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from chaos.gateway.body import Body, Headers
from chaos.gateway.errors import TooLargeToHold, UpstreamLost
from chaos.gateway.messages import HOP_BY_HOP, Answer, Request, chunk_of, last_chunk, request_head
from chaos.gateway.objects import kind_of
from chaos.gateway.rewrite import Rewriter
from chaos.gateway.sigv4 import Resigner
from chaos.gateway.upstream import Upstream


@dataclass(frozen=True)
class Outgoing:
    """A request as the upstream gets it.

    Attributes:
        head: Request line and header fields.
        chunked: The body is framed in chunks.
        decode: Applied to the body's bytes in order, when its signed framing has to go; None: unchanged.
    """

    head: bytes
    chunked: bool
    decode: Callable[[bytes], bytes] | None = None

    def part(self, content: bytes) -> bytes:
        """Return a part of the body, framed."""
        if self.decode is not None:
            content = self.decode(content)
        return chunk_of(content) if self.chunked and content else content

    def end(self, trailers: Headers) -> bytes:
        """Return what ends the body."""
        return last_chunk(trailers) if self.chunked else b""

    def whole(self, content: bytes, trailers: Headers) -> bytes:
        """Return a body that is complete."""
        return self.part(content) + self.end(trailers)


class Route:
    """One listener's upstream and what is changed on the way.

    Args:
        name: The listener's name.
        protocol: "s3" or "iceberg".
        upstream: Where requests go.
        resigner: Signs requests for the real upstream; None: signatures stay as they are.
        rewriter: Keeps clients on the faulted path; None: answers stay as they are.
    """

    def __init__(
        self, name: str, protocol: str, upstream: Upstream, *, resigner: Resigner | None = None,
        rewriter: Rewriter | None = None,
    ) -> None:  # fmt: skip
        self.name = name
        self.protocol = protocol
        self.upstream = upstream
        self._resigner = resigner
        self._rewriter = rewriter
        self._host = None if upstream.local else upstream.authority.encode("ascii")

    def outgoing(self, request: Request, *, continued: bool) -> Outgoing:
        """Return the head to send and how to send the body.

        A local upstream gets the client's own Host field, so that a signature made for the listener's address stays valid.

        Args:
            request: The client's request.
            continued: The body is here already, so nobody has to be asked for it.
        """
        headers = [field for field in request.headers if field[0].lower() not in HOP_BY_HOP]
        if continued or request.body.ended:
            headers = [field for field in headers if field[0].lower() != b"expect"]
        if self._host is not None:
            headers = [(b"Host", self._host), *(field for field in headers if field[0].lower() != b"host")]
        target = self.upstream.base_path.encode("ascii") + request.target
        chunked, decode = request.chunked, None
        if self._resigner is not None:
            target, headers, decode = self._resigner.resign(request.verb, target, headers, self.upstream.authority)
            chunked = chunked and decode is None
        if chunked:
            headers = [*headers, (b"Transfer-Encoding", b"chunked")]
        return Outgoing(request_head(request.verb, target, headers), chunked, decode)

    async def fetch(self, request: Request, content: bytes) -> tuple[int, Answer]:
        """Send *request* with the body *content* on a connection of its own; return status and whole answer.

        Raises:
            UpstreamLost: no whole answer came.
        """
        connection = await self.upstream.acquire(fresh=True)
        try:
            outgoing = self.outgoing(request, continued=True)
            future = connection.start(request.verb)
            connection.write(outgoing.head + outgoing.whole(content, []))
            connection.sent_whole = True
            answer = await future
            body = b"" if answer.bodyless else await answer.body.read_all()
        except TooLargeToHold as error:
            raise UpstreamLost(str(error)) from None
        finally:
            self.upstream.release(connection)
        length = answer.length if answer.bodyless else len(body)
        whole = Answer(
            answer.status, answer.headers, Body.of(body), reason=answer.reason, length=length, bodyless=answer.bodyless
        )
        kind = kind_of(self.protocol, request.verb, request.path, request.query)
        return answer.status, await self.rewritten(kind, whole)

    async def rewritten(self, kind: str, answer: Answer) -> Answer:
        """Return *answer*, its addresses replaced where it tells a client where to go."""
        if self._rewriter is None or not self._rewriter.concerns(kind, answer):
            return answer
        return await self._rewriter.rewrite(answer)
