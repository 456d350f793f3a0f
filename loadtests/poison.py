"""Events that are no CloudEvents: what is wrong with each, and how to make it so.

Every entry breaks a MUST of CloudEvents 1.0 (core, sections 3.1 "Type System" and "REQUIRED Attributes"; JSON format 1.0,
section 3.1; HTTP binding, 3.1), so a receiver that accepts one is wrong whatever its taste.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

Headers = tuple[tuple[str, str], ...]


def _without(name: bytes) -> Callable[[bytes], bytes]:
    pattern = re.compile(b'"' + name + rb'": *"[^"]*" *,')
    return lambda text: pattern.sub(b"", text, count=1)


def _with(addition: bytes) -> Callable[[bytes], bytes]:
    return lambda text: text[:1] + addition + b"," + text[1:]


def _instead(name: bytes, value: bytes) -> Callable[[bytes], bytes]:
    pattern = re.compile(b'"' + name + rb'": *"[^"]*"')
    return lambda text: pattern.sub(b'"' + name + b'":' + value, text, count=1)


_IN_JSON: Mapping[str, Callable[[bytes], bytes]] = {
    "no-specversion": _without(b"specversion"),
    "no-type": _without(b"type"),
    "no-id": _without(b"id"),
    "no-source": _without(b"source"),
    "empty-id": _instead(b"id", b'""'),
    "numeric-id": _instead(b"id", b"7"),
    "bad-time": _instead(b"time", b'"yesterday"'),
    "upper-case-attribute": _with(b'"userId":"7"'),
    "object-attribute": _with(b'"tenant":{"id":7}'),
    "data-twice": _with(b'"data_base64":"AAAA"'),
    "broken-json": lambda text: text[:-1],
}

_IN_HEADERS: Mapping[str, Callable[[Headers], Headers]] = {
    "no-specversion": lambda headers: _drop(headers, "ce-specversion"),
    "no-type": lambda headers: _drop(headers, "ce-type"),
    "no-id": lambda headers: _drop(headers, "ce-id"),
    "no-source": lambda headers: _drop(headers, "ce-source"),
    "empty-id": lambda headers: (*_drop(headers, "ce-id"), ("ce-id", "")),
    "bad-time": lambda headers: (*_drop(headers, "ce-time"), ("ce-time", "yesterday")),
    "attribute-with-underscore": lambda headers: (*headers, ("ce-tenant_id", "7")),
}

_WHOLE_BODY = frozenset({"broken-json"})
"""These make the whole body unreadable, so that no receiver can skip one event of it."""


def poisons_for(mode: str, *, invalid: str = "reject_request") -> list[str]:
    """Return the names of what can be wrong in *mode*, under a contract whose `invalid` says what becomes of it."""
    if mode == "binary":
        return sorted(_IN_HEADERS)
    return sorted(name for name in _IN_JSON if invalid == "reject_request" or name not in _WHOLE_BODY)


def poisoned_text(name: str, text: bytes) -> bytes:
    """Return the JSON *text* of one event with fault *name*."""
    return _IN_JSON[name](text)


def poisoned_headers(name: str, headers: Headers) -> Headers:
    """Return the *headers* of one event in binary mode with fault *name*."""
    return _IN_HEADERS[name](headers)


def _drop(headers: Headers, name: str) -> Headers:
    return tuple(pair for pair in headers if pair[0] != name)
