"""Answers that the gateway makes up, in the words of R2, of a REST catalog, or of a load balancer in front of either."""

from __future__ import annotations

import random
from xml.sax.saxutils import escape

import msgspec

from chaos.gateway.body import Headers
from chaos.gateway.messages import Answer, phrase
from chaos.gateway.rules import Garbage, Status

S3_CODES = {
    400: "InvalidRequest", 401: "Unauthorized", 403: "AccessDenied", 404: "NoSuchKey", 409: "OperationAborted",
    412: "PreconditionFailed", 429: "TooManyRequests", 500: "InternalError", 503: "ServiceUnavailable",
}  # fmt: skip
"""R2's codes by status (developers.cloudflare.com/r2/api/error-codes); R2 has no SlowDown."""

ICEBERG_TYPES = {
    400: "BadRequestException", 401: "NotAuthorizedException", 403: "ForbiddenException", 404: "NoSuchTableException",
    409: "CommitFailedException", 419: "AuthenticationTimeoutException", 429: "TooManyRequestsException",
    500: "CommitStateUnknownException", 503: "ServiceUnavailableException",
}  # fmt: skip
"""Error types by status, from the OpenAPI document of the Iceberg REST catalog."""


def made_up(told: Status, *, protocol: str, path: str) -> Answer:
    """Return the answer that *told* describes; *protocol* ("s3" or "iceberg") decides the shape of a default body."""
    if told.body is not None:
        content, media = told.body.encode(), "text/plain"
    elif told.status in (502, 504) or told.status >= 520:
        content, media = _html(told), "text/html"
    elif protocol == "s3":
        content, media = _s3_error(told, path), "application/xml"
    else:
        content, media = _iceberg_error(told), "application/json"
    headers: Headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in told.headers.items()]
    if not any(name.lower() == b"content-type" for name, _ in headers):
        headers.append((b"Content-Type", media.encode()))
    if told.retry_after_s is not None:
        headers.append((b"Retry-After", b"%d" % told.retry_after_s))
    return Answer.of(told.status, content, headers)


def garbage(told: Garbage, noise: random.Random) -> Answer:
    """Return a success whose body is not what it should be."""
    content = noise.randbytes(told.size_bytes) if told.body is None else told.body.encode()
    return Answer.of(told.status, content, [(b"Content-Type", b"application/json")])


def _html(told: Status) -> bytes:
    title = f"{told.status} {phrase(told.status).decode()}"
    return f"<html><head><title>{title}</title></head><body><h1>{title}</h1></body></html>".encode()


def _s3_error(told: Status, path: str) -> bytes:
    code = told.code or S3_CODES.get(told.status, "InternalError")
    message = told.message or "Injected by the gateway."
    return (
        '<?xml version="1.0" encoding="UTF-8"?>'
        f"<Error><Code>{escape(code)}</Code><Message>{escape(message)}</Message>"
        f"<Resource>{escape(path)}</Resource></Error>"
    ).encode()


def _iceberg_error(told: Status) -> bytes:
    kind = told.code or ICEBERG_TYPES.get(told.status, "InternalServerError")
    error = {"message": told.message or "Injected by the gateway.", "type": kind, "code": told.status}
    return msgspec.json.encode({"error": error})
