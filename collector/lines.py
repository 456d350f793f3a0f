"""One buffered event as one line of a backup, and back, byte for byte.

A line is a CloudEvent in the JSON format. Data that could not come back exactly from a JSON member (JSON text with line
breaks or outer white space, text with U+0000) travels as ``data_base64`` beside ``data_kind``. That name has an
underscore, so no event can carry an attribute of the same name.
"""

from __future__ import annotations

import binascii
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec

from collector.attributes import SPECVERSION
from collector.cloudevents import DATA_ABSENT, DATA_BINARY, DATA_JSON, DATA_TEXT, Event, Parser
from collector.config import Limits
from collector.errors import InvalidEvent

_KINDS = {"json": DATA_JSON, "text": DATA_TEXT}
_NAMES = {kind: name for name, kind in _KINDS.items()}
_SPACE = b" \t\r\n"

_encode = msgspec.json.Encoder().encode
_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_extensions = msgspec.json.Decoder(dict[str, Any]).decode


def to_line(event: Event) -> bytes:
    """Encode an event as one line, its line feed included."""
    document: dict[str, Any] = {"specversion": SPECVERSION}
    for name in ("id", "source", "type", "time", "subject", "datacontenttype", "dataschema"):
        if (value := getattr(event, name)) is not None:
            document[name] = value
    if event.extensions is not None:
        document |= _extensions(event.extensions)
    document |= _data(event)
    return _encode(document) + b"\n"


def _data(event: Event) -> dict[str, Any]:
    data = event.data
    if data is None or event.data_kind == DATA_ABSENT:
        return {}
    if event.data_kind == DATA_JSON and data == data.strip(_SPACE) and b"\n" not in data and b"\r" not in data:
        return {"data": msgspec.Raw(data)}
    if event.data_kind == DATA_TEXT and b"\0" not in data:
        return {"data": data.decode()}
    base64 = binascii.b2a_base64(data, newline=False).decode()
    kind = {} if event.data_kind == DATA_BINARY else {"data_kind": _NAMES[event.data_kind]}
    return {"data_base64": base64, **kind}


class LineParser:
    """Reads lines of a backup.

    Args:
        limits: What the ingest listener allows; a line may be larger by what its encoding adds.
        now: The time of an event that carries none, Unix seconds.
    """

    def __init__(self, limits: Limits, now: Callable[[], float]) -> None:
        self.line_bytes_max = 6 * limits.event_bytes + 65536
        self._parser = Parser(replace(limits, event_bytes=self.line_bytes_max, json_depth=limits.json_depth + 1), now)

    def parse(self, line: bytes) -> Event:
        """Return the event of a line; raises ``InvalidEvent``."""
        if b'"data_kind"' not in line:
            return self._parser.structured(line)[0]
        try:
            members = _members(line)
            kind = msgspec.json.decode(members.pop("data_kind", msgspec.Raw(b"null")))
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            raise InvalidEvent("the line is not a JSON object") from None
        if kind is None:
            return self._parser.structured(line)[0]
        event = self._parser.structured(_encode(members))[0]
        if kind not in _KINDS or event.data_kind != DATA_BINARY:
            raise InvalidEvent("data_kind must be json or text, and stand beside data_base64")
        return msgspec.structs.replace(event, data_kind=_KINDS[kind])
