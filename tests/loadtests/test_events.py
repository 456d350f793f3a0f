import json
from collections import Counter

import numpy as np
import pytest

from loadtests.errors import BadTraffic
from loadtests.events import BLOCK, EventFactory, timestamp
from loadtests.records.content import TYPE_NAMES, Content
from loadtests.records.identity import Identity
from loadtests.traffic import Mix

NOON = 1_795_608_000_123_456_789


def factory(**kwargs) -> EventFactory:
    return EventFactory(**{"seed": 7, "run_id": "ab12cd34", "producer": 3, "mix": Mix(), "batch": 100, **kwargs})


def events_of(body: bytes) -> list[dict]:
    document = json.loads(body)
    return document if isinstance(document, list) else document["events"]


@pytest.mark.parametrize(("first", "count"), [(0, 100), (5, 1), (BLOCK - 50, 100), (10 * BLOCK, 3), (0, BLOCK + 5)])
def test_an_event_is_the_function_of_its_sequence(first, count):
    """Ids, types and data are those of Identity and Content, wherever in a block the events lie."""
    made = factory(batch=count)
    made.render(0, 1, unix_ns=NOON)
    events = events_of(made.render(first, count, unix_ns=NOON).body)
    sequences = np.arange(first, first + count, dtype=np.uint64)

    assert [event["id"].encode() for event in events] == list(Identity(7, "ab12cd34").ids(3, first, count))
    assert [event["data"] for event in events] == [json.loads(text) for text in Content(7).data(3, first, count)]
    assert [event["type"] for event in events] == [TYPE_NAMES[i] for i in Content(7).types(3, sequences)]
    assert {event["source"] for event in events} == {"urn:icequake:ab12cd34:3"}
    assert {event["specversion"] for event in events} == {"1.0"}
    assert {event["time"] for event in events} == {timestamp(NOON)}


def test_rendering_again_gives_the_same_bytes():
    """A request is a pure function of its sequences and its time."""
    made = factory()
    once = made.render(0, 100, unix_ns=NOON)
    made.render(100, 100, unix_ns=NOON + 10**9)

    assert made.render(0, 100, unix_ns=NOON) == once == factory().render(0, 100, unix_ns=NOON)


def test_data_is_sent_byte_for_byte_as_the_judge_expects_it():
    """The bytes of data stand in the request as Content gives them."""
    body = factory().render(40, 1, unix_ns=NOON).body

    assert b'"data":' + Content(7).data(3, 40, 1)[0] + b"}" in body


@pytest.mark.parametrize(
    ("mode", "path", "content_type", "start"),
    [
        ("batch", "/events", "application/cloudevents-batch+json", b"["),
        ("batch", "/events/batch", "application/json", b'{"events":['),
        ("batch", "/v1/events/batch/", "application/json", b'{"events":['),
        ("json-events", "/anything", "application/json", b'{"events":['),
    ],
)
def test_modes_of_many_events(mode, path, content_type, start):
    """The mode and the path decide how a batch is written."""
    message = factory(mode=mode, path=path).render(0, 100, unix_ns=NOON)

    assert dict(message.headers) == {"Content-Type": content_type}
    assert message.body.startswith(start)
    assert len(events_of(message.body)) == 100


def test_structured_mode():
    """A structured event is one JSON object."""
    message = factory(mode="structured", batch=1).render(9, 1, unix_ns=NOON)

    assert dict(message.headers) == {"Content-Type": "application/cloudevents+json"}
    assert json.loads(message.body)["id"].encode() == Identity(7, "ab12cd34").ids(3, 9, 1)[0]


def test_binary_mode():
    """A binary event has its attributes in headers and its data, and nothing else, as body."""
    message = factory(mode="binary", batch=1).render(9, 1, unix_ns=NOON)
    structured = json.loads(factory(mode="structured", batch=1).render(9, 1, unix_ns=NOON).body)

    assert message.body == Content(7).data(3, 9, 1)[0]
    for name in ("specversion", "id", "source", "type", "time"):
        assert dict(message.headers)[f"ce-{name}"] == structured[name]


@pytest.mark.parametrize(("mode", "batch"), [("structured", 2), ("binary", 100), ("nope", 1)])
def test_a_mode_that_cannot_carry_the_batch_is_refused(mode, batch):
    """One event a request means one."""
    with pytest.raises(BadTraffic, match="--mode"):
        factory(mode=mode, batch=batch)


def test_shifted_times_have_their_shares():
    """A mix with late events gives each shift its share, whatever the type."""
    mix = Mix(types={"click": 1, "search": 1}, shifts={0: 80, -3600: 15, 3600: 5})
    events = events_of(factory(mix=mix, batch=20_000).render(0, 20_000, unix_ns=NOON).body)
    counts = Counter(event["time"] for event in events)

    assert counts[timestamp(NOON)] / 20_000 == pytest.approx(0.8, abs=0.02)
    assert counts[timestamp(NOON - 3600 * 10**9)] / 20_000 == pytest.approx(0.15, abs=0.02)
    assert counts[timestamp(NOON + 3600 * 10**9)] / 20_000 == pytest.approx(0.05, abs=0.02)
    late = Counter(event["type"] for event in events if event["time"] != timestamp(NOON))
    assert late["click"] / late.total() == pytest.approx(0.5, abs=0.05)


def test_timestamps_are_utc_with_milliseconds():
    """Times are RFC 3339 and cut, not rounded, to milliseconds."""
    assert timestamp(999_999) == "1970-01-01T00:00:00.000Z"
    assert timestamp(1_795_608_000_999_999_999) == "2026-11-25T12:00:00.999Z"


def times_of(made: EventFactory, first: int, unix_ns: int) -> set[str]:
    return {event["time"] for event in events_of(made.render(first, 50, unix_ns=unix_ns).body)}


@pytest.mark.parametrize("started_ns", [NOON, NOON - 123_456_789, NOON + 3_599 * 10**9])
def test_an_hour_ends_while_traffic_flows(started_ns):
    """Whenever it begins: the clock of the events goes on from there, and the hour turns when the mix says."""
    made = factory(mix=Mix(hour_turns_at_s=10))
    seconds = [0.0, 9.999, 10.0, 60.0]
    told = [times_of(made, 50 * n, started_ns + round(s * 10**9)) for n, s in enumerate(seconds)]

    assert [len(times) for times in told] == [1] * 4
    assert [times.pop()[14:] for times in told] == ["59:50.000Z", "59:59.999Z", "00:00.000Z", "00:50.000Z"]


def test_late_events_still_belong_to_the_hour_that_ended():
    """After the turn, those that are late by more than the turn is old have the old hour."""
    mix = Mix(hour_turns_at_s=10, shifts={0: 90, -60: 10})
    made = factory(mix=mix)
    made.render(0, 1, unix_ns=NOON)
    hours = Counter(event["time"][11:13] for event in events_of(made.render(0, 100, unix_ns=NOON + 15 * 10**9).body))

    assert len(hours) == 2
    assert 0 < min(hours.values()) < 30
