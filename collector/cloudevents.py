"""CloudEvents 1.0 over HTTP: requests in, events out, or an ``InvalidEvent`` that names event and reason.

JSON data is kept byte for byte as received. A request is parsed on a fast path that takes only what is certainly
good; whatever it is not sure of goes through the exact path, which alone decides and explains.
"""

from __future__ import annotations

import binascii
from collections.abc import Callable
from typing import Any

import msgspec

from collector import attributes as rules
from collector.config import Limits
from collector.errors import InvalidEvent
from collector.headers import Headers, ce_attributes, content_type_of
from collector.strictjson import JsonFault, StrictJson, array_items

DATA_ABSENT, DATA_JSON, DATA_TEXT, DATA_BINARY = range(4)

HOUR_US = 3_600_000_000

_NO_DATA = msgspec.Raw(b"")
_INT32 = range(-(2**31), 2**31)

_decode_value = msgspec.json.Decoder().decode
_encode_value = msgspec.json.Encoder(order="sorted").encode
_decode_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_items = msgspec.json.Decoder(list[msgspec.Raw]).decode


class Event(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One accepted CloudEvent.

    Attributes:
        id: Unique within ``source``.
        source: URI-reference of the producer.
        type: Event type; with the hour of ``time_us`` it names the partition.
        time: RFC 3339 text as received, or the arrival time when the event carried none.
        time_us: The same instant in microseconds since the Unix epoch.
        subject: Optional attribute.
        datacontenttype: Optional attribute; media type of ``data``.
        dataschema: Optional attribute.
        data: UTF-8 JSON text exactly as received (kind 1), UTF-8 text (kind 2) or raw bytes (kind 3).
        data_kind: One of DATA_ABSENT, DATA_JSON, DATA_TEXT, DATA_BINARY.
        extensions: JSON object text of the extension attributes, or None when there are none.
    """

    id: str
    source: str
    type: str
    time: str
    time_us: int
    subject: str | None
    datacontenttype: str | None
    dataschema: str | None
    data: bytes | None
    data_kind: int
    extensions: bytes | None


def partition_of(event: Event) -> tuple[str, int]:
    """Return ``(type, hour)``: the hour counts from the Unix epoch."""
    return event.type, event.time_us // HOUR_US


class _Envelope(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """What the fast path understands: no extensions, no base64."""

    specversion: str
    id: str
    source: str
    type: str
    time: str | None = None
    subject: str | None = None
    datacontenttype: str | None = None
    dataschema: str | None = None
    data: msgspec.Raw = _NO_DATA


class _Wrapper(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    events: list[_Envelope]


_fast_one = msgspec.json.Decoder(_Envelope).decode
_fast_many = msgspec.json.Decoder(list[_Envelope]).decode
_fast_wrapped = msgspec.json.Decoder(_Wrapper).decode


class Parser:
    """Parses request bodies within limits.

    Args:
        limits: What an event and a batch may be at most.
        now: Seconds since the Unix epoch; the time of an event that carries none.
    """

    def __init__(self, limits: Limits, now: Callable[[], float]) -> None:
        self._limits = limits
        self._now = now
        self._json = StrictJson(limits.json_depth, limits.number_chars)
        self._data = StrictJson(limits.json_depth - 1, limits.number_chars)
        self._whole = StrictJson(limits.json_depth + 2, limits.number_chars)

    def structured(self, body: bytes) -> list[Event]:
        """Parse one event in the JSON format (``application/cloudevents+json``)."""
        return self._fast(body, lambda text: [_fast_one(text)]) or [self._exact(body, None, self._arrival())]

    def batch(self, body: bytes) -> list[Event]:
        """Parse a JSON array of events (``application/cloudevents-batch+json``); an empty one is valid."""
        events = self._fast(body, _fast_many)
        return self._exact_items(body) if events is None else events

    def wrapped(self, body: bytes) -> list[Event]:
        """Parse ``{"events": [...]}`` or a bare array."""
        if body.lstrip(b" \t\r\n")[:1] != b"{":
            return self.batch(body)
        events = self._fast(body, lambda text: _fast_wrapped(text).events)
        if events is not None:
            return events
        members = _members(body, "the body", None)
        if set(members) != {"events"}:
            raise InvalidEvent('the body must be {"events": [...]} without other members')
        events = self._exact_items(bytes(members["events"]))
        self._check(self._whole, body, "the body", None)
        return events

    def binary(self, headers: Headers, body: bytes) -> list[Event]:
        """Parse one event whose attributes are ``ce-`` headers; header names are lower case."""
        values: dict[str, Any] = dict(ce_attributes(headers))
        content_type = content_type_of(headers)
        size = len(body) + sum(len(name) + len(value) for name, value in headers if name.startswith(b"ce-"))
        self._check_size(size, None)
        if content_type is not None:
            _refuse(rules.media_type_fault(content_type), "the Content-Type", None)
            values["datacontenttype"] = content_type
        data, kind = self._binary_data(body, content_type)
        return [self._build(values, data, kind, None, self._arrival())]

    def _arrival(self) -> tuple[str, int]:
        us = int(self._now() * 1_000_000)
        return rules.time_text(us), us

    def _check_count(self, count: int) -> None:
        if count > self._limits.batch_events:
            most = self._limits.batch_events
            raise InvalidEvent(f"the batch has {count} events, at most {most} are allowed", status=413)

    def _check_size(self, size: int, index: int | None) -> None:
        most = self._limits.event_bytes
        if size > most:
            raise InvalidEvent(f"the event has {size} bytes, at most {most} are allowed", status=413, index=index)

    def _check(self, strict: StrictJson, text: bytes, what: str, index: int | None) -> None:
        try:
            strict.check(text)
        except JsonFault as fault:
            raise InvalidEvent(f"{what} is not acceptable: the JSON {fault}", index=index) from None

    # The fast path.

    def _fast(self, body: bytes, decode: Callable[[bytes], list[_Envelope]]) -> list[Event] | None:
        try:
            envelopes = decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return None
        self._check_count(len(envelopes))
        if len(body) > self._limits.event_bytes or not self._json.is_plain(body):
            return None
        arrival = self._arrival()
        events: list[Event] = []
        for envelope in envelopes:
            event = self._from_envelope(envelope, arrival)
            if event is None:
                return None
            events.append(event)
        return events

    def _from_envelope(self, envelope: _Envelope, arrival: tuple[str, int]) -> Event | None:
        data = bytes(envelope.data)
        datacontenttype = envelope.datacontenttype
        if (
            envelope.specversion != rules.SPECVERSION
            or not _is_simple(envelope.id)
            or not _is_simple(envelope.type)
            or rules.uri_reference_fault(envelope.source) is not None
            or (envelope.subject is not None and not _is_simple(envelope.subject))
            or (envelope.dataschema is not None and rules.uri_fault(envelope.dataschema) is not None)
            or not self._data.is_modest(data)
        ):
            return None
        if datacontenttype is not None and not (
            rules.is_json(datacontenttype) and rules.media_type_fault(datacontenttype) is None
        ):
            return None
        time, time_us = arrival
        if envelope.time is not None:
            time = envelope.time
            try:
                time_us = rules.time_us(time)
            except ValueError:
                return None
        return Event(
            envelope.id,
            envelope.source,
            envelope.type,
            time,
            time_us,
            envelope.subject,
            datacontenttype,
            envelope.dataschema,
            data or None,
            DATA_JSON if data else DATA_ABSENT,
            None,
        )

    # The exact path.

    def _exact_items(self, body: bytes) -> list[Event]:
        arrival = self._arrival()
        try:
            items = [bytes(item) for item in _decode_items(body)]
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            for index, item in enumerate(array_items(body)):
                self._exact(item, index, arrival)
            self._check(self._whole, body, "the batch", None)
            raise InvalidEvent("the batch is not a JSON array") from None
        self._check_count(len(items))
        return [self._exact(item, index, arrival) for index, item in enumerate(items)]

    def _exact(self, text: bytes, index: int | None, arrival: tuple[str, int]) -> Event:
        self._check_size(len(text), index)
        self._check(self._json, text, "the event", index)
        members = _members(text, "the event", index)
        data, data_base64 = members.pop("data", None), members.pop("data_base64", None)
        values = {name: _decode_value(raw) for name, raw in members.items()}
        present = {name: value for name, value in values.items() if value is not None}
        base64 = None if data_base64 is None else _decode_value(data_base64)
        if data is not None and base64 is not None:
            raise InvalidEvent("the event has both data and data_base64", index=index)
        if base64 is not None:
            return self._build(present, _from_base64(base64, index), DATA_BINARY, index, arrival)
        payload, kind = _json_data(data, present.get("datacontenttype"))
        return self._build(present, payload, kind, index, arrival)

    def _binary_data(self, body: bytes, content_type: str | None) -> tuple[bytes | None, int]:
        if not body:
            return None, DATA_ABSENT
        charset = rules.charset(content_type or "")
        is_utf8 = charset in ("", "utf-8", "utf8", "us-ascii")
        if content_type and rules.is_json(content_type):
            if not is_utf8:
                raise InvalidEvent(f"JSON data must be UTF-8, not {charset[:32]!r}", status=415)
            if not (self._json.is_modest(body) and self._json.is_plain(body)):
                self._check(self._json, body, "the data", None)
            return body, DATA_JSON
        if content_type and is_utf8 and rules.media_type(content_type).startswith("text/") and _is_utf8(body):
            return body, DATA_TEXT
        return body, DATA_BINARY

    def _build(
        self, values: dict[str, Any], data: bytes | None, kind: int, index: int | None, arrival: tuple[str, int]
    ) -> Event:
        if len(values) > self._limits.attributes:
            raise InvalidEvent(f"the event has more than {self._limits.attributes} attributes", index=index)
        _check_known(values, index)
        time, time_us = arrival
        if "time" in values:
            time = values["time"]
            try:
                time_us = rules.time_us(time)
            except ValueError:
                raise InvalidEvent(
                    "attribute 'time' is not an RFC 3339 timestamp of the years 1 to 9999", index=index
                ) from None
        extensions = {name: value for name, value in values.items() if name not in _KNOWN}
        for name, value in extensions.items():
            _refuse(rules.name_fault(name) or _extension_fault(value), f"attribute {name[:64]!r}", index)
        return Event(
            values["id"],
            values["source"],
            values["type"],
            time,
            time_us,
            values.get("subject"),
            values.get("datacontenttype"),
            values.get("dataschema"),
            data,
            kind,
            _encode_value(extensions) if extensions else None,
        )


_KNOWN: dict[str, Callable[[str], str | None]] = {
    "id": rules.text_fault,
    "source": rules.uri_reference_fault,
    "specversion": lambda text: None if text == rules.SPECVERSION else f"is not {rules.SPECVERSION!r}",
    "type": rules.text_fault,
    "time": rules.text_fault,
    "subject": rules.text_fault,
    "datacontenttype": rules.media_type_fault,
    "dataschema": rules.uri_fault,
}


def _is_simple(text: str) -> bool:
    return bool(text) and len(text) <= rules.SHORT_TEXT_MAX_CHARS and text.isprintable()


def _refuse(fault: str | None, what: str, index: int | None) -> None:
    if fault is not None:
        raise InvalidEvent(f"{what} {fault}", index=index)


def _members(text: bytes, what: str, index: int | None) -> dict[str, msgspec.Raw]:
    try:
        return _decode_members(text)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise InvalidEvent(f"{what} is not a JSON object", index=index) from None


def _check_known(values: dict[str, Any], index: int | None) -> None:
    for name in rules.REQUIRED:
        if name not in values:
            raise InvalidEvent(f"attribute {name!r} is missing", index=index)
    for name, fault_of in _KNOWN.items():
        value = values.get(name)
        if value is None:
            continue
        if not isinstance(value, str):
            raise InvalidEvent(f"attribute {name!r} is not a string", index=index)
        _refuse(fault_of(value), f"attribute {name!r}", index)


def _extension_fault(value: object) -> str | None:
    if isinstance(value, str):
        return rules.string_fault(value)
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return None if value in _INT32 else "is an integer outside 32 bits"
    return "is neither a string, a boolean nor a 32-bit integer"


def _json_data(data: msgspec.Raw | None, datacontenttype: object) -> tuple[bytes | None, int]:
    if data is None:
        return None, DATA_ABSENT
    text = bytes(data)
    if isinstance(datacontenttype, str) and not rules.is_json(datacontenttype) and text[:1] == b'"':
        return str(_decode_value(text)).encode(), DATA_TEXT
    return text, DATA_JSON


def _from_base64(value: object, index: int | None) -> bytes:
    if not isinstance(value, str):
        raise InvalidEvent("data_base64 is not a string", index=index)
    try:
        return binascii.a2b_base64(value.encode("ascii"), strict_mode=True)
    except ValueError:
        raise InvalidEvent("data_base64 is not base64 (RFC 4648, section 4)", index=index) from None


def _is_utf8(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True
