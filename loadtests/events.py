"""Requests full of events: templated bytes, rendered many events at a time.

Every field of an event has a fixed width (types are padded with blanks between JSON tokens), so that a block of events is
one numpy record array: ids, types and data are filled in for thousands at once, and a request is a slice of it with the
time stamped in.
"""

from __future__ import annotations

import json
import string
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, get_args
from urllib.parse import quote

import numpy as np
import numpy.typing as npt

from loadtests.errors import BadTraffic
from loadtests.records.content import Content
from loadtests.records.identity import Identity, source_of
from loadtests.records.target import Mode
from loadtests.traffic import Mix

MODES: tuple[str, ...] = get_args(Mode)

PRODUCERS_MAX = 1 << 16
"""Producer numbers are below this: a ledger record keeps them in two bytes."""

BLOCK = 4096
"""Events rendered at once."""

_HEADER_SAFE = "".join(set(string.punctuation) - set('"%'))
"""What the HTTP binding does not percent-encode in a header's value (3.1.3.2), letters and digits apart."""

_TIME_WIDTH = len("2026-01-01T00:00:00.000Z")


@dataclass(frozen=True, slots=True)
class Message:
    """One request's headers and body; the transport adds Host and Content-Length."""

    headers: tuple[tuple[str, str], ...]
    body: bytes


def timestamp(unix_ns: int) -> str:
    """Return an RFC 3339 time in UTC with milliseconds."""
    seconds, rest = divmod(unix_ns, 1_000_000_000)
    return f"{_second(seconds)}.{rest // 1_000_000:03}Z"


@lru_cache(maxsize=64)  # thousands of requests a second ask for the same few
def _second(unix_s: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(unix_s))


HOUR_NS = 3600 * 1_000_000_000


class EventFactory:
    """Render the events of one producer.

    Args:
        seed: The run's seed.
        run_id: The run.
        producer: Whose events.
        mix: Types and time shifts.
        mode: CloudEvents HTTP mode; `batch` sends `{"events": [...]}` to a path that ends in /events/batch and the
            CloudEvents batch format (application/cloudevents-batch+json) to any other; `json-events` always the former.
        path: The path events are posted to.
        batch: Events a request.

    Raises:
        BadTraffic: an unknown mode, or more than one event a request where the mode carries one.
    """

    def __init__(
        self, *, seed: int, run_id: str, producer: int, mix: Mix, mode: str = "batch", path: str = "/events", batch: int
    ) -> None:
        if mode not in MODES:
            raise BadTraffic(f"--mode {mode!r} is unknown; there are {', '.join(MODES)}.")
        if mode in ("structured", "binary") and batch != 1:
            raise BadTraffic(f"--mode {mode} carries one event a request; use --batch 1 instead of {batch}.")
        self.producer = producer
        self.batch = batch
        self._identity = Identity(seed, run_id)
        self._content = Content(seed, mix.types, phases=mix.phases)
        self._types = _padded([json.dumps(name).encode() for name in self._content.names])
        self._source = source_of(run_id, producer)
        self._shifts_ns = [shift_s * 1_000_000_000 for shift_s in mix.shifts]
        self._shift_of_bucket = _buckets(mix.shifts)
        self._hour_turns_at_s = mix.hour_turns_at_s
        self._back_ns: int | None = None if mix.hour_turns_at_s is not None else 0
        self._row = _row_type(self._source, self._types.dtype.itemsize, self._content.width(producer))
        self._mode = "json-events" if mode == "batch" and path.rstrip("/").endswith("/events/batch") else mode
        self._first = 0
        self._text = bytearray()
        self._rows: npt.NDArray[Any] = np.empty(0, dtype=self._row.dtype)
        self._shift_index: npt.NDArray[np.intp] = np.empty(0, dtype=np.intp)

    def render(self, first: int, count: int, *, unix_ns: int) -> Message:
        """Return the request that carries events first .. first+count-1, whose `time` is *unix_ns* and the mix's shift.

        Fastest when called with ascending sequences.
        """
        offset, rows = self._stamped(first, count, unix_ns)
        if self._mode == "binary":
            return self._binary(rows[0])
        width = self._row.dtype.itemsize
        return self._wrapped(bytes(memoryview(self._text)[offset * width : (offset + count) * width - 1]))

    def texts(self, first: int, count: int, *, unix_ns: int) -> list[bytes]:
        """Return the JSON text of each of these events; see `render`."""
        offset, _ = self._stamped(first, count, unix_ns)
        width = self._row.dtype.itemsize
        return [bytes(self._text[at * width : (at + 1) * width - 1]) for at in range(offset, offset + count)]

    def wrap(self, texts: Sequence[bytes]) -> Message:
        """Return the request that carries events with these JSON texts, in a mode that writes them as JSON."""
        return self._wrapped(b",".join(texts))

    @property
    def mode(self) -> str:
        """The CloudEvents mode; `json-events` where the path asks for it."""
        return self._mode

    def turn(self, first: int, phase: int) -> None:
        """From event *first* on, types follow *phase* of the mix."""
        self._content.turn(self.producer, first, phase)
        self._rows = self._rows[:0]

    def _stamped(self, first: int, count: int, unix_ns: int) -> tuple[int, npt.NDArray[Any]]:
        """Where events first .. first+count-1 stand in the block, and their rows, with the time filled in."""
        offset = first - self._first
        if offset < 0 or offset + count > len(self._rows):
            self._fill(first, max(count, BLOCK))
            offset = 0
        rows = self._rows[offset : offset + count]
        if self._back_ns is None:
            self._back_ns = unix_ns % HOUR_NS + round((self._hour_turns_at_s or 0) * 1e9)
        stamps = [timestamp(unix_ns - self._back_ns + shift_ns).encode() for shift_ns in self._shifts_ns]
        if len(stamps) == 1:
            rows["time"] = stamps[0]
        else:
            rows["time"] = np.array(stamps)[self._shift_index[offset : offset + count]]
        return offset, rows

    def _wrapped(self, events: bytes) -> Message:
        if self._mode == "structured":
            return Message((("Content-Type", "application/cloudevents+json"),), events)
        if self._mode == "json-events":
            return Message((("Content-Type", "application/json"),), b'{"events":[' + events + b"]}")
        return Message((("Content-Type", "application/cloudevents-batch+json"),), b"[" + events + b"]")

    def _fill(self, first: int, count: int) -> None:
        sequences = np.arange(first, first + count, dtype=np.uint64)
        # numpy copies fields, not the bytes between them: keep the text as bytes and reach into it by a view.
        self._text = bytearray(self._row.text * count)
        rows = np.frombuffer(self._text, dtype=self._row.dtype)
        rows["id"] = self._identity.ids(self.producer, first, count)
        rows["type"] = self._types[self._content.types(self.producer, sequences)]
        rows["data"] = self._content.data(self.producer, first, count)
        # Another multiplier than Content.types uses: late events come from every type alike.
        mixed = (sequences + np.uint64(self.producer)) * np.uint64(0xD1B54A32D192ED03)
        buckets = (mixed >> np.uint64(40)) % np.uint64(len(self._shift_of_bucket))
        self._shift_index = self._shift_of_bucket[buckets.astype(np.intp)]
        self._first, self._rows = first, rows

    def _binary(self, row: np.void) -> Message:
        headers = (
            ("Content-Type", "application/json"),
            ("ce-specversion", "1.0"),
            ("ce-id", row["id"].decode()),
            ("ce-source", self._source),
            ("ce-type", quote(json.loads(row["type"]), safe=_HEADER_SAFE)),
            ("ce-time", row["time"].decode()),
        )
        return Message(headers, bytes(row["data"]))


def _padded(tokens: Sequence[bytes]) -> npt.NDArray[np.bytes_]:
    """All *tokens* with blanks behind them, which JSON allows, so that they have one width."""
    width = max(map(len, tokens))
    return np.array([token.ljust(width) for token in tokens])


def _buckets(weights: Mapping[int, float], size: int = 1000) -> npt.NDArray[np.intp]:
    edges = np.cumsum(list(weights.values()))
    return np.searchsorted(edges / edges[-1], (np.arange(size) + 0.5) / size).astype(np.intp)


@dataclass(frozen=True)
class _Row:
    """The text of one event with its holes, and the record type that reaches into them."""

    text: bytes
    dtype: np.dtype[np.void]


def _row_type(source: str, type_width: int, data_width: int) -> _Row:
    text = bytearray()
    fields: dict[str, list[Any]] = {"names": [], "formats": [], "offsets": []}
    for literal, name, width in (
        ('{"specversion":"1.0","id":"', "id", 16),
        (f'","source":"{source}","type":', "type", type_width),
        (',"time":"', "time", _TIME_WIDTH),
        ('","datacontenttype":"application/json","data":', "data", data_width),
    ):
        text += literal.encode()
        fields["names"].append(name)
        fields["formats"].append(f"S{width}")
        fields["offsets"].append(len(text))
        text += b" " * width
    text += b"},"
    return _Row(bytes(text), np.dtype({**fields, "itemsize": len(text)}))  # type: ignore[call-overload]
