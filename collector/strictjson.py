"""JSON that every reader understands alike: what passes here has one meaning everywhere.

Refused beyond malformed text: duplicate member names at any depth, lone surrogates, U+0000, NaN and Infinity,
numbers outside a double or with very long literals, and nesting deeper than a limit. The text itself is never
rewritten.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from typing import Any

import msgspec

_OPENERS_AND_CLOSERS = re.compile(rb"[\[{]|[\]}]")
# An unfinished string runs to the end, so that no start is tried twice.
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
_ESCAPE = re.compile(rb"\\(?:u([0-9a-fA-F]{4})|.)", re.DOTALL)

_ARRAY_OPENING = re.compile(r"[ \t\r\n]*\[[ \t\r\n]*")
_COMMA = re.compile(r"[ \t\r\n]*,[ \t\r\n]*")
_scan = json.JSONDecoder(parse_int=str, parse_float=str).raw_decode

_decode_any = msgspec.json.Decoder().decode
_encode_any = msgspec.json.Encoder().encode


class JsonFault(ValueError):
    """The text is not acceptable JSON; the message completes "the JSON ..."."""


class StrictJson:
    """Checks UTF-8 JSON texts.

    Args:
        depth: Deepest allowed nesting of objects and arrays.
        number_chars: Longest allowed number literal; at most 308, so that an integer fits a double.
    """

    def __init__(self, depth: int, number_chars: int) -> None:
        self._depth = depth
        self._number_chars = number_chars
        self._long_number = re.compile(rb"(?<![0-9.eE+\-])[0-9.eE+\-]{%d}" % (number_chars + 1))

    def is_plain(self, text: bytes) -> bool:
        """Tell cheaply that ``text`` is acceptable in all that ``is_modest`` does not judge; False: ask ``check``.

        Without backslashes a value decodes and encodes to the same characters, so a member that was dropped as
        a duplicate shows as a missing colon.
        """
        if b"\\" in text:
            return False
        try:
            return text.count(b":") == _encode_any(_decode_any(text)).count(b":")
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return False

    def is_modest(self, text: bytes) -> bool:
        """Tell cheaply that depth and number literals are within limits; False: ask ``check``."""
        if len(text) > 2 * self._depth and not self._has_few_openers(text):
            return False
        return len(text) <= self._number_chars or not self._long_number.search(text)

    def _has_few_openers(self, text: bytes) -> bool:
        return text.count(b"{") + text.count(b"[") <= self._depth

    def check(self, text: bytes) -> None:
        """Raise ``JsonFault`` unless ``text`` is acceptable."""
        try:
            decoded = text.decode()
        except UnicodeDecodeError as error:
            raise JsonFault(f"is not UTF-8 (byte {error.start})") from None
        self._check_depth(text)
        _check_escapes(text)
        try:
            json.loads(
                decoded,
                object_pairs_hook=_unique,
                parse_int=self._parse_int,
                parse_float=self._parse_float,
                parse_constant=_refuse_constant,
            )
        except json.JSONDecodeError as error:
            raise JsonFault(f"is malformed: {error.msg} (character {error.pos})") from None

    def _check_depth(self, text: bytes) -> None:
        if self._has_few_openers(text):
            return
        depth = 0
        for match in _OPENERS_AND_CLOSERS.finditer(_STRING.sub(b"", text)):
            depth += 1 if match[0] in b"[{" else -1
            if depth > self._depth:
                raise JsonFault(f"is nested deeper than {self._depth} levels")

    def _parse_int(self, literal: str) -> int:
        self._check_literal(literal)
        return 0

    def _parse_float(self, literal: str) -> float:
        self._check_literal(literal)
        if math.isinf(float(literal)):
            raise JsonFault("contains a number that does not fit a double")
        return 0.0

    def _check_literal(self, literal: str) -> None:
        if len(literal) > self._number_chars:
            raise JsonFault(f"contains a number longer than {self._number_chars} characters")


def array_items(text: bytes) -> Iterator[bytes]:
    """Yield the items of an array as far as they can be told apart, to find the one that is at fault.

    Lenient on purpose: an item may hold anything that ``StrictJson.check`` refuses, short of broken syntax.
    """
    decoded = text.decode("utf-8", "surrogateescape")
    opening = _ARRAY_OPENING.match(decoded)
    position = opening.end() if opening else len(decoded)
    while position < len(decoded):
        try:
            _, end = _scan(decoded, position)
        except (ValueError, RecursionError):
            return
        yield decoded[position:end].encode("utf-8", "surrogateescape")
        comma = _COMMA.match(decoded, end)
        position = comma.end() if comma else len(decoded)


def _unique(pairs: list[tuple[str, Any]]) -> None:
    names = {name for name, _ in pairs}
    if len(names) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise JsonFault(f"repeats the member {name[:64]!r}")
            seen.add(name)


def _refuse_constant(literal: str) -> None:
    raise JsonFault(f"contains {literal}, which is not JSON")


def _check_escapes(text: bytes) -> None:
    if b"\\u" not in text:
        return
    high_ends_at = -1
    for match in _ESCAPE.finditer(text):
        code = int(match[1], 16) if match[1] else -1
        follows_high = match.start() == high_ends_at
        is_low = 0xDC00 <= code <= 0xDFFF
        if code == 0:
            raise JsonFault("contains the character U+0000")
        if is_low != follows_high or (high_ends_at >= 0 and not follows_high):
            raise JsonFault("contains a lone surrogate")
        high_ends_at = match.end() if 0xD800 <= code <= 0xDBFF else -1
    if high_ends_at >= 0:
        raise JsonFault("contains a lone surrogate")
