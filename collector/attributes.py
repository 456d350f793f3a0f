"""Rules for CloudEvents context attributes (specification 1.0, sections "Type System" and "Context Attributes").

Each ``*_fault`` function returns None for a good value, else the end of the sentence "attribute x ...".
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache

SPECVERSION = "1.0"
REQUIRED = ("id", "source", "specversion", "type")
OPTIONAL = ("datacontenttype", "dataschema", "subject", "time")
EXTENSION_NAME_MAX_CHARS = 64
SHORT_TEXT_MAX_CHARS = 4096
TIME_MAX_CHARS = 64

# Control characters, surrogates and noncharacters are not allowed in a String attribute.
_FORBIDDEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef"
    + "".join(f"{chr(plane + 0xFFFE)}{chr(plane + 0xFFFF)}" for plane in range(0, 0x110000, 0x10000))
    + "]"
)
_URI_CHARACTERS = re.compile(r"(?:[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=]|%[0-9A-Fa-f]{2})+")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*:")
_SECONDS = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}")
_FRACTION_AND_ZONE = re.compile(r"(?:\.([0-9]+))?(?:[Zz]|([+-])([0-9]{2}):([0-9]{2}))")
_TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"  # noqa: S105
_MEDIA_TYPE = re.compile(
    rf'({_TOKEN})/({_TOKEN})((?:[ \t]*;[ \t]*{_TOKEN}=(?:{_TOKEN}|"(?:[^"\\]|\\.)*"))*)[ \t]*;?[ \t]*'
)
_CHARSET = re.compile(r';[ \t]*charset=(?:"([^"]*)"|([^;\s]*))', re.IGNORECASE)
_NAME = re.compile(r"[a-z0-9]+")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TIME_MIN_US = (datetime(1, 1, 1, tzinfo=UTC) - _EPOCH) // timedelta(microseconds=1)
_TIME_MAX_US = (datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC) - _EPOCH) // timedelta(microseconds=1)


def name_fault(name: str) -> str | None:
    """Judge an attribute name: lower-case letters and digits, not ``data``."""
    if not _NAME.fullmatch(name):
        return "has a name with characters other than a-z and 0-9"
    if name == "data":
        return "must not be an attribute"
    if len(name) > EXTENSION_NAME_MAX_CHARS:
        return f"has a name longer than {EXTENSION_NAME_MAX_CHARS} characters"
    return None


def string_fault(text: str) -> str | None:
    """Judge a String: no control characters, surrogates or noncharacters."""
    if not text.isprintable() and _FORBIDDEN.search(text):
        return "contains a character that CloudEvents forbids (control, surrogate or noncharacter)"
    if len(text) > SHORT_TEXT_MAX_CHARS:
        return f"is longer than {SHORT_TEXT_MAX_CHARS} characters"
    return None


def text_fault(text: str) -> str | None:
    """Judge a String that must not be empty."""
    return string_fault(text) if text else "is empty"


@lru_cache(maxsize=4096)
def uri_reference_fault(text: str) -> str | None:
    """Judge a non-empty URI-reference (RFC 3986)."""
    fault = text_fault(text)
    if fault:
        return fault
    first_segment = re.split(r"[/?#]", text, maxsplit=1)[0]
    if not _URI_CHARACTERS.fullmatch(text) or (":" in first_segment and not _SCHEME.match(text)):
        return "is not a URI-reference"
    return None


@lru_cache(maxsize=4096)
def uri_fault(text: str) -> str | None:
    """Judge an absolute URI."""
    fault = uri_reference_fault(text)
    if fault:
        return fault
    return None if _SCHEME.match(text) else "is not an absolute URI"


@lru_cache(maxsize=4096)
def media_type_fault(text: str) -> str | None:
    """Judge a media type (RFC 2046)."""
    return text_fault(text) or (None if _MEDIA_TYPE.fullmatch(text) else "is not a media type")


def media_type(text: str) -> str:
    """Return ``type/subtype`` in lower case, without parameters."""
    return text.partition(";")[0].strip().lower()


@lru_cache(maxsize=4096)
def is_json(datacontenttype: str) -> bool:
    """Tell whether a media type declares JSON: ``*/json`` or ``*/*+json``."""
    _, _, subtype = media_type(datacontenttype).partition("/")
    return subtype == "json" or subtype.endswith("+json")


def charset(content_type: str) -> str:
    """Return the charset parameter in lower case, or "" when there is none."""
    match = _CHARSET.search(content_type)
    return (match[1] or match[2] or "").lower() if match else ""


@lru_cache(maxsize=4096)
def _second_of(text: str) -> int:
    if not _SECONDS.fullmatch(text):
        raise ValueError(text)
    leap = text.endswith(":60")
    moment = datetime.fromisoformat((text[:-2] + "59" if leap else text).upper()).replace(tzinfo=UTC)
    return round((moment - _EPOCH).total_seconds()) + leap


def time_us(text: str) -> int:
    """Return an RFC 3339 timestamp in microseconds since the Unix epoch, finer digits cut off.

    A leap second counts as the first moment of the next minute. Raises ``ValueError`` for anything else, and for an
    instant whose year in UTC is not 1 to 9999: readers of the table cannot represent it.
    """
    if len(text) > TIME_MAX_CHARS:
        raise ValueError("too long")
    second = _second_of(text[:19])
    digits = text[20:-1]
    if text.endswith("Z") and text[19] == "." and digits.isascii() and digits.isdigit():
        us = second * 1_000_000 + int(digits[:6].ljust(6, "0"))
    else:
        us = second * 1_000_000 + _fraction_and_offset_us(text)
    if not _TIME_MIN_US <= us <= _TIME_MAX_US:
        raise ValueError("out of range")
    return us


def _fraction_and_offset_us(text: str) -> int:
    match = _FRACTION_AND_ZONE.fullmatch(text, 19)
    if not match:
        raise ValueError(text)
    fraction, sign, hours, minutes = match.groups()
    us = int(fraction[:6].ljust(6, "0")) if fraction else 0
    if not sign:
        return us
    if int(hours) > 23 or int(minutes) > 59:
        raise ValueError(text)
    offset_us = (int(hours) * 60 + int(minutes)) * 60_000_000
    return us - offset_us if sign == "+" else us + offset_us


def time_text(us: int) -> str:
    """Return microseconds since the Unix epoch as RFC 3339 in UTC."""
    second, rest = divmod(us, 1_000_000)
    moment = datetime.fromtimestamp(second, UTC).replace(microsecond=rest)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")
