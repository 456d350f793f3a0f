"""The event as the collector keeps it."""

from __future__ import annotations

import msgspec


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


DATA_ABSENT, DATA_JSON, DATA_TEXT, DATA_BINARY = range(4)

HOUR_US = 3_600_000_000


def partition_of(event: Event) -> tuple[str, int]:
    """Return ``(type, hour)``: the hour counts from the Unix epoch."""
    return event.type, event.time_us // HOUR_US
