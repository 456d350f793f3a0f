"""The quarantine as lines: every event that cannot become a row, then how many there are."""

from __future__ import annotations

import base64
from collections.abc import Iterator

import msgspec

from collector.buffer import Buffer
from collector.cloudevents import Event
from collector.store import Poison

CHUNK_BYTES = 1 << 16


def quarantine_lines(buffer: Buffer) -> Iterator[bytes]:
    """Yield lines of JSON, several at a time: an event each, oldest first, then ``{"total": N}``.

    A line has ``type``, ``hour`` (since the Unix epoch), ``reason``, ``event_base64`` (what was stored), and ``source`` and ``id``
    where the bytes are an event. The list is of one moment; without its last line it was cut off. About ``CHUNK_BYTES`` and one
    event are in memory, however many there are. Closing the iterator closes the view. Raises ``BufferUnavailable``.
    """
    total, chunk = 0, bytearray()
    with buffer.view() as store:
        for poison in store.poison():
            chunk += _line(poison)
            total += 1
            if len(chunk) >= CHUNK_BYTES:
                yield bytes(chunk)
                chunk.clear()
    yield bytes(chunk) + msgspec.json.encode({"total": total}) + b"\n"


def _line(poison: Poison) -> bytes:
    document = {
        **_identity(poison.event),
        "type": poison.type,
        "hour": poison.hour,
        "reason": poison.reason,
        "event_base64": base64.b64encode(poison.event).decode(),
    }
    return msgspec.json.encode(document) + b"\n"


def _identity(stored: bytes) -> dict[str, str]:
    """``source`` and ``id`` of a quarantined event; nothing where the bytes are no event."""
    try:
        event = msgspec.msgpack.decode(stored, type=Event)
    except (msgspec.DecodeError, msgspec.ValidationError):
        return {}
    return {"source": event.source, "id": event.id}
