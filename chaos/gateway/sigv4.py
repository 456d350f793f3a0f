"""AWS Signature Version 4: sign a request again for the real upstream, after it was signed for the gateway's address.

The payload is not hashed here: an `x-amz-content-sha256` that is a digest, UNSIGNED-PAYLOAD or STREAMING-UNSIGNED-PAYLOAD-TRAILER
stays what it is. A body whose chunks are signed (STREAMING-AWS4-HMAC-SHA256-PAYLOAD) loses its framing on the way and is sent as
UNSIGNED-PAYLOAD, because its chunk signatures chain from the one that is replaced.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, unquote

from chaos.gateway.aws_chunked import AwsChunkedDecoder
from chaos.gateway.body import Headers
from chaos.gateway.messages import find, without

ALGORITHM = "AWS4-HMAC-SHA256"
SIGNED_ANYWAY = frozenset((b"content-md5", b"content-type", b"range", b"host"))
VENDED_KEYS = 1000
"""Vended key pairs remembered; the oldest go first."""

_CREDENTIAL = re.compile(r"Credential=([^/,\s]+)/")


@dataclass(frozen=True)
class Credentials:
    """A key pair; the secret is not in its repr."""

    access_key: str
    secret_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)


class Resigner:
    """Replaces a request's signature.

    Args:
        credentials: The upstream's; None: only vended ones are known.
        region: As the upstream wants it ("auto" for R2).
        service: Nearly always "s3".
        clock: Unix seconds.
    """

    def __init__(
        self,
        credentials: Credentials | None,
        *,
        region: str,
        service: str = "s3",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._own = credentials
        self._region = region
        self._service = service
        self._clock = clock
        self._vended: OrderedDict[str, Credentials] = OrderedDict()

    def learn(self, properties: dict[str, Any]) -> None:
        """Remember the vended credentials of a table's configuration; requests made with that key are signed with it again."""
        key, secret = properties.get("s3.access-key-id"), properties.get("s3.secret-access-key")
        if isinstance(key, str) and isinstance(secret, str):
            self._vended[key] = Credentials(key, secret, properties.get("s3.session-token"))
            self._vended.move_to_end(key)
            if len(self._vended) > VENDED_KEYS:
                self._vended.popitem(last=False)

    def resign(
        self, verb: str, target: bytes, headers: Headers, authority: str
    ) -> tuple[bytes, Headers, Callable[[bytes], bytes] | None]:
        """Return target, header fields and body decoder of the same request, signed for *authority*.

        A request that carries no signature, or one whose key is unknown while no credentials are configured, stays unsigned.
        """
        path, _, query = target.decode("latin-1").partition("?")
        credentials = self._vended.get(_access_key(headers, query) or "", self._own)
        query = _unsigned_query(query)
        headers = without(headers, b"authorization", b"x-amz-date", b"x-amz-security-token", b"host", b"date")
        headers, decode = _unframed(headers)
        target = (path + (f"?{query}" if query else "")).encode("latin-1")
        headers = [(b"Host", authority.encode("ascii")), *headers]
        if credentials is None:
            return target, headers, decode
        headers = [*headers, (b"X-Amz-Date", time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(self._clock())).encode())]
        if credentials.session_token is not None:
            headers.append((b"X-Amz-Security-Token", credentials.session_token.encode()))
        if find(headers, b"x-amz-content-sha256") is None:
            headers.append((b"X-Amz-Content-Sha256", b"UNSIGNED-PAYLOAD"))
        signature = authorization(verb, path, query, headers, credentials, self._region, self._service)
        return target, [*headers, (b"Authorization", signature.encode("ascii"))], decode


def authorization(
    verb: str, path: str, query: str, headers: Headers, credentials: Credentials, region: str, service: str
) -> str:
    """Return the Authorization field of a request that has its X-Amz-Date and X-Amz-Content-Sha256 already.

    *path* is URI-encoded as sent; S3 signs it without encoding it again.
    """
    signed = sorted(
        (name.lower().decode("latin-1"), " ".join(value.decode("latin-1").split()))
        for name, value in headers
        if name.lower().startswith(b"x-amz-") or name.lower() in SIGNED_ANYWAY
    )
    names = ";".join(name for name, _ in signed)
    date = _value(signed, "x-amz-date")
    canonical = "\n".join(
        (
            verb,
            quote(unquote(path, "latin-1"), safe="/-_.~", encoding="latin-1") or "/",
            _canonical_query(query),
            "".join(f"{name}:{value}\n" for name, value in signed),
            names,
            _value(signed, "x-amz-content-sha256"),
        )
    )
    scope = f"{date[:8]}/{region}/{service}/aws4_request"
    to_sign = "\n".join((ALGORITHM, date, scope, hashlib.sha256(canonical.encode("latin-1")).hexdigest()))
    key = f"AWS4{credentials.secret_key}".encode()
    for part in (date[:8], region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.digest(key, to_sign.encode(), "sha256").hex()
    return f"{ALGORITHM} Credential={credentials.access_key}/{scope}, SignedHeaders={names}, Signature={signature}"


def _value(signed: list[tuple[str, str]], name: str) -> str:
    return next(value for field_name, value in signed if field_name == name)


def _canonical_query(query: str) -> str:
    pairs = [part.partition("=")[::2] for part in query.split("&") if part]
    encoded = sorted((_encoded(name), _encoded(value)) for name, value in pairs)
    return "&".join(f"{name}={value}" for name, value in encoded)


def _encoded(text: str) -> str:
    return quote(unquote(text, "latin-1"), safe="-_.~", encoding="latin-1")


def _access_key(headers: Headers, query: str) -> str | None:
    given = (find(headers, b"authorization") or b"").decode("latin-1")
    found = _CREDENTIAL.search(given) or re.search(r"X-Amz-Credential=([^/%&]+)", query)
    return found.group(1) if found else None


def _unsigned_query(query: str) -> str:
    """Return the query without the fields of a presigned URL; the request is signed in its header instead."""
    if "X-Amz-Signature=" not in query:
        return query
    return "&".join(part for part in query.split("&") if not part.startswith("X-Amz-"))


def _unframed(headers: Headers) -> tuple[Headers, Callable[[bytes], bytes] | None]:
    payload = find(headers, b"x-amz-content-sha256") or b""
    length = find(headers, b"x-amz-decoded-content-length")
    if not payload.startswith(b"STREAMING-AWS4-") or length is None:
        return headers, None
    encodings = [part.strip() for part in (find(headers, b"content-encoding") or b"").split(b",")]
    rest = b",".join(part for part in encodings if part and part.lower() != b"aws-chunked")
    kept = without(
        headers, b"x-amz-content-sha256", b"content-length", b"x-amz-decoded-content-length", b"content-encoding",
        b"x-amz-trailer",
    )  # fmt: skip
    kept += [(b"X-Amz-Content-Sha256", b"UNSIGNED-PAYLOAD"), (b"Content-Length", length)]
    if rest:
        kept.append((b"Content-Encoding", rest))
    return kept, AwsChunkedDecoder().feed
