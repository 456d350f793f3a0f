"""Requests and answers as the gateway sees them: heads are kept byte for byte, bodies are streams."""

from __future__ import annotations

from http import HTTPStatus

from chaos.gateway.body import Body, Headers

HOP_BY_HOP = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"proxy-authenticate", b"upgrade", b"transfer-encoding")
)
"""Header fields that belong to one connection and are never forwarded (RFC 9110, 7.6.1)."""

BODYLESS = frozenset((204, 304))
"""Statuses whose answers have no body whatever their header fields say (RFC 9112, 6.3)."""


class Request:
    """One request.

    Attributes:
        verb: Method, upper case.
        target: Path and query as sent.
        path, query: The two halves of `target`, not decoded.
        headers: Fields in order, names as sent.
        body: What follows the head.
        chunked: The body is framed by Transfer-Encoding, not by a length.
        expects_continue: The client waits for 100 before it sends the body.
        keep_alive: The client wants to use the connection again.
        http10: The client cannot read a chunked answer.
        started_ns: Monotonic time at which the head was complete.
    """

    __slots__ = (
        "body", "chunked", "expects_continue", "headers", "http10", "keep_alive", "length", "path", "query",
        "started_ns", "target", "verb",
    )  # fmt: skip

    def __init__(self, verb: str, target: bytes, headers: Headers, body: Body, started_ns: int = 0) -> None:
        self.verb = verb
        self.target = target
        path, _, query = target.partition(b"?")
        self.path = path.decode("latin-1")
        self.query = query.decode("latin-1")
        self.headers = headers
        self.body = body
        self.started_ns = started_ns
        self.keep_alive = True
        self.http10 = False
        self.chunked = self.expects_continue = False
        self.length: int | None = None
        for name, value in headers:
            field = name.lower()
            if field == b"content-length":
                self.length = int(value)
            elif field == b"transfer-encoding":
                self.chunked = b"chunked" in value.lower()
            elif field == b"expect":
                self.expects_continue = True

    def header(self, name: bytes) -> bytes | None:
        """Return the first value of the field *name* (lower case), or None."""
        return find(self.headers, name)


class Answer:
    """One answer; `headers` without the fields that frame or belong to the connection.

    Attributes:
        status: Status code.
        reason: Reason phrase as sent.
        length: Length of the body in bytes; None: not known beforehand.
        bodyless: No body follows (answer to HEAD, 204, 304), though `length` may be told.
    """

    __slots__ = ("body", "bodyless", "headers", "length", "reason", "status")

    def __init__(
        self, status: int, headers: Headers, body: Body, *, reason: bytes = b"", length: int | None = None,
        bodyless: bool = False,
    ) -> None:  # fmt: skip
        self.status = status
        self.reason = reason or phrase(status)
        self.headers = headers
        self.body = body
        self.length = length
        self.bodyless = bodyless

    @classmethod
    def of(cls, status: int, content: bytes, headers: Headers) -> Answer:
        """Return an answer whose whole body is *content*."""
        return cls(status, headers, Body.of(content), length=len(content))

    @property
    def applied(self) -> bool:
        """The upstream says that it did what was asked."""
        return 200 <= self.status < 300

    def head(self, *, close: bool, chunked: bool) -> bytes:
        """Return status line and header fields, framed by length, by chunks, or by the end of the connection."""
        lines = [b"HTTP/1.1 %d %s" % (self.status, self.reason)]
        lines += [b"%s: %s" % field for field in self.headers]
        if self.length is not None and self.status != 204:
            lines.append(b"Content-Length: %d" % self.length)
        elif chunked:
            lines.append(b"Transfer-Encoding: chunked")
        if close:
            lines.append(b"Connection: close")
        return b"\r\n".join(lines) + b"\r\n\r\n"


def phrase(status: int) -> bytes:
    """Return the usual reason phrase of *status*; "Unknown" for codes that only proxies use, such as 520."""
    try:
        return HTTPStatus(status).phrase.encode("ascii")
    except ValueError:
        return b"Unknown"


def find(headers: Headers, name: bytes) -> bytes | None:
    """Return the first value of the field *name* (lower case), or None."""
    for field, value in headers:
        if field.lower() == name:
            return value
    return None


def without(headers: Headers, *names: bytes) -> Headers:
    """Return *headers* without the fields *names* (lower case)."""
    return [field for field in headers if field[0].lower() not in names]


def request_head(verb: str, target: bytes, headers: Headers) -> bytes:
    """Return request line and header fields as bytes."""
    lines = [b"%s %s HTTP/1.1" % (verb.encode("ascii"), target)]
    lines += [b"%s: %s" % field for field in headers]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def chunk_of(content: bytes) -> bytes:
    """Return *content* framed as one chunk."""
    return b"%x\r\n%s\r\n" % (len(content), content)


def last_chunk(trailers: Headers) -> bytes:
    """Return the end of a chunked body."""
    return b"0\r\n" + b"".join(b"%s: %s\r\n" % field for field in trailers) + b"\r\n"
