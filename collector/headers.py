"""HTTP headers of an event: its Content-Type, and in binary mode its attributes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from urllib.parse import unquote_to_bytes

from collector import attributes as rules
from collector.errors import InvalidEvent

Headers = Sequence[tuple[bytes, bytes]]

_KNOWN = frozenset(rules.REQUIRED + rules.OPTIONAL)
_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_ESCAPED = re.compile(r"\\(.)")
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')


def content_type_of(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """Return the Content-Type header, None without one; two of them are refused."""
    found = [value for name, value in headers if name == b"content-type"]
    if len(found) > 1:
        raise InvalidEvent("the request has more than one Content-Type header")
    if not found or not found[0].strip():
        return None
    try:
        return found[0].decode("ascii").strip()
    except UnicodeDecodeError:
        raise InvalidEvent("the Content-Type is not ASCII") from None


def ce_attributes(headers: Headers) -> dict[str, str]:
    """Return the attributes in ``ce-`` headers, decoded; header names are lower case.

    Raises ``InvalidEvent`` for a bad name or encoding, a repeated header, and when there is none at all.
    """
    values: dict[str, str] = {}
    for raw_name, raw_value in headers:
        if not raw_name.startswith(b"ce-"):
            continue
        name = raw_name[3:].decode("latin-1")
        if name == "datacontenttype":
            raise InvalidEvent("header ce-datacontenttype must not be present: Content-Type says it")
        fault = None if name in _KNOWN else rules.name_fault(name)
        if fault is not None:
            raise InvalidEvent(f"header 'ce-{name[:64]}' {fault}")
        if name in values:
            raise InvalidEvent(f"header 'ce-{name}' is repeated")
        values[name] = _header_value(name, raw_value)
    if not values:
        raise InvalidEvent(
            "the request is no CloudEvent: it has no ce- headers, and its Content-Type is neither "
            "application/cloudevents+json nor application/cloudevents-batch+json"
        )
    return values


def _header_value(name: str, raw: bytes) -> str:
    """Undo quoting, then one round of percent-encoding (HTTP protocol binding, 3.1.3.2)."""
    try:
        text = raw.decode("ascii").strip(" \t")
    except UnicodeDecodeError:
        raise InvalidEvent(f"header 'ce-{name}' has raw non-ASCII bytes; percent-encode them") from None
    if text.startswith('"'):
        if not _QUOTED.fullmatch(text):
            raise InvalidEvent(f"header 'ce-{name}' has an unfinished quoted string")
        text = _ESCAPED.sub(r"\1", text[1:-1])
    if "%" not in text:
        return text
    if _PERCENT.search(text):
        raise InvalidEvent(f"header 'ce-{name}' has a percent sign without two hexadecimal digits")
    try:
        return unquote_to_bytes(text).decode()
    except UnicodeDecodeError:
        raise InvalidEvent(f"header 'ce-{name}' is percent-encoded but not UTF-8") from None
