"""Answers of a catalog that tell a client where to find its files: the address is replaced, so that nothing leads round the fault."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from chaos.gateway.errors import TooLargeToHold, UpstreamLost
from chaos.gateway.messages import Answer, find, without

TELLING_KINDS = frozenset(("config", "load-table", "create-table", "commit", "credentials", "other-catalog"))
"""Kinds whose answers may carry client configuration (other-catalog: register a table, plan a scan)."""

ANSWER_BYTES = 64 * 1024 * 1024
"""Largest answer rewritten. A table with ten thousand snapshots has metadata of about 7 MB."""

Properties = dict[str, Any]


class Rewriter:
    """Replaces `s3.endpoint` in the client configuration of catalog answers.

    Args:
        endpoint: The S3 address of the faulted path.
        on_credentials: Called with each configuration that carries vended S3 credentials.
    """

    def __init__(self, endpoint: str | None, on_credentials: Callable[[Properties], None] | None = None) -> None:
        self._endpoint = endpoint
        self._on_credentials = on_credentials

    def concerns(self, kind: str, answer: Answer) -> bool:
        """Return whether an answer may carry client configuration."""
        return kind in TELLING_KINDS and answer.applied and not answer.bodyless

    async def rewrite(self, answer: Answer) -> Answer:
        """Return *answer* with the addresses replaced; one without addresses keeps every byte.

        Raises:
            UpstreamLost: the answer broke off or is too large to look at (letting it through could lead round the fault).
        """
        try:
            raw = await answer.body.read_all(ANSWER_BYTES)
        except TooLargeToHold:
            raise UpstreamLost(f"A catalog answer is larger than {ANSWER_BYTES} bytes.") from None
        content = _plain(raw, find(answer.headers, b"content-encoding"))
        replaced = self._replaced(content) if content is not None and b'"s3.' in content else None
        if replaced is None:
            return Answer.of(answer.status, raw, answer.headers)
        return Answer.of(answer.status, replaced, without(answer.headers, b"content-encoding", b"etag"))

    def _replaced(self, content: bytes) -> bytes | None:
        try:
            document = msgspec.json.decode(content)
        except msgspec.DecodeError:
            return None
        changed = False
        for properties in _configurations(document):
            if self._on_credentials is not None and "s3.access-key-id" in properties:
                self._on_credentials(properties)
            if self._endpoint is not None and properties.get("s3.endpoint", self._endpoint) != self._endpoint:
                properties["s3.endpoint"] = self._endpoint
                changed = True
        return msgspec.json.encode(document) if changed else None


def _configurations(document: Any) -> Iterator[Properties]:
    if not isinstance(document, dict):
        return
    nested = [document.get("config"), document.get("defaults"), document.get("overrides")]
    credentials = document.get("storage-credentials")
    if isinstance(credentials, list):
        nested += [credential.get("config") for credential in credentials if isinstance(credential, dict)]
    yield from (properties for properties in nested if isinstance(properties, dict))


def _plain(raw: bytes, encoding: bytes | None) -> bytes | None:
    if encoding is None or encoding.lower() == b"identity":
        return raw
    if encoding.lower() not in (b"gzip", b"deflate"):
        return None
    inflater = zlib.decompressobj(wbits=47)
    try:
        content = inflater.decompress(raw, ANSWER_BYTES)
    except zlib.error:
        return None
    return None if inflater.unconsumed_tail else content
