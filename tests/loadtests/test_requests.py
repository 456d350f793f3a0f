"""What requests are made of, held against the reference collector's own parser."""

import gzip
import json
from collections import Counter

import pytest

from collector.cloudevents import Parser
from collector.config import Limits
from collector.errors import InvalidEvent
from loadtests.endpoint import Endpoint
from loadtests.errors import BadTraffic
from loadtests.events import EventFactory, Message
from loadtests.poison import poisons_for
from loadtests.records.content import Content
from loadtests.records.identity import Identity, twin_of
from loadtests.records.ledger import Kind
from loadtests.records.target import Contract, RequestLimits
from loadtests.requests import Requests
from loadtests.shapes import Shapes
from loadtests.traffic import Duplicates, Mix

RUN_ID = "ab12cd34"
SMALL = RequestLimits(body_bytes=300_000, event_bytes=100_000, batch_events=40)
PARSER = Parser(Limits(event_bytes=SMALL.event_bytes, batch_events=SMALL.batch_events), lambda: 0.0)
MODES = ["batch", "structured", "binary", "json-events"]


def requests_of(mix: Mix, mode: str = "batch", *, batch: int = 5, compress: bool = False, **contract) -> Requests:
    agreed = Contract(limits=SMALL, **contract)
    size = 1 if mode in ("structured", "binary") else batch

    def factory(producer: int) -> EventFactory:
        return EventFactory(seed=7, run_id=RUN_ID, producer=producer, mix=mix, mode=mode, batch=size)

    shapes = Shapes(mix, batch=size, mode=mode, contract=agreed, seed=7, producer=3, compressed=compress)
    return Requests(factory, producer=3, shapes=shapes, limits=SMALL, compress=compress)


def made(requests: Requests, count: int):
    """Shape, parts and message of so many requests."""
    for _ in range(count):
        shape = requests.next_shape()
        parts = requests.place(shape, intended_ns=0)
        yield shape, parts, requests.render(shape, parts, unix_ns=1_700_000_000_000_000_000)


def parse(message: Message, mode: str):
    if mode == "binary":
        return PARSER.binary([(name.lower().encode(), value.encode()) for name, value in message.headers], message.body)
    return {"batch": PARSER.batch, "structured": PARSER.structured, "json-events": PARSER.wrapped}[mode](message.body)


@pytest.mark.parametrize("mode", MODES)
def test_a_poisoned_request_is_refused_and_every_other_one_taken(mode: str):
    """By a strict receiver, for every way in which an event can be wrong."""
    seen: Counter[str | None] = Counter()
    for shape, parts, message in made(requests_of(Mix(poison=0.5), mode), 300):
        seen[shape.poison] += 1
        if shape.poison is None:
            assert len(parse(message, mode)) == shape.count
            continue
        assert {part.kind for part in parts} == {Kind.POISON}
        with pytest.raises(InvalidEvent) as refusal:
            parse(message, mode)
        assert refusal.value.status in (400, 415)

    assert set(seen) == {None, *poisons_for(mode)}


def test_where_invalid_events_are_skipped_only_they_are_unwanted():
    """The rest of the request is owed, and no poison makes the whole body unreadable."""
    for shape, parts, message in made(requests_of(Mix(poison=1.0), invalid="skip_event"), 200):
        assert sum(part.count for part in parts) == shape.count
        assert [part.first + part.count for part in parts[:-1]] == [part.first for part in parts[1:]]
        (bad,) = [part for part in parts if part.kind == Kind.POISON]
        assert (bad.count, bad.first - parts[0].first) == (1, shape.place)
        assert len(json.loads(message.body)) == shape.count


@pytest.mark.parametrize("mode", MODES)
def test_sized_requests_are_at_their_limit_to_the_byte(mode: str):
    """One below and at a limit are taken, one above is not; what was enlarged still says the same."""
    seen = Counter()
    for shape, (part,), message in made(requests_of(Mix(sizes=1.0), mode), 120):
        seen[shape.limit, shape.beyond] += 1
        over = len(message.body) > SMALL.body_bytes
        if shape.limit == "body_bytes":
            assert len(message.body) == SMALL.body_bytes + shape.beyond
        else:
            assert not over
        try:
            events = parse(message, mode)
        except InvalidEvent as refusal:
            assert refusal.status == 413
            over = True
        assert over == (shape.beyond > 0) == (part.kind == Kind.OVER_LIMIT)
        if not over:
            sent = Content(7).data(3, part.first, part.count)
            assert [json.loads(event.data) for event in events] == [json.loads(text) for text in sent]

    limits = {"event_bytes"} if mode in ("structured", "binary") else {"event_bytes", "body_bytes", "batch_events"}
    assert set(seen) == {(limit, beyond) for limit in limits for beyond in (-1, 0, 1)}


def test_over_limit_requests_are_all_too_large():
    """By one and by far."""
    beyond = set()
    for shape, parts, message in made(requests_of(Mix(over_limit=1.0)), 120):
        beyond.add(shape.beyond)
        assert {part.kind for part in parts} == {Kind.OVER_LIMIT}
        if len(message.body) <= SMALL.body_bytes:
            with pytest.raises(InvalidEvent, match="allowed"):
                parse(message, "batch")

    assert min(beyond) == 1
    assert max(beyond) > 10_000


def test_a_twin_has_the_ids_of_an_ordinary_request_and_a_source_of_its_own():
    """Each ordinary request has at most one; the judge turns its ids back into the same sequences."""
    ids: dict[str, list[str]] = {"3": [], str(twin_of(3)): []}
    for _, _, message in made(requests_of(Mix(collisions=0.5)), 200):
        for event in json.loads(message.body):
            ids[event["source"].rpartition(":")[2]].append(event["id"])

    mine, twins = ids["3"], ids[str(twin_of(3))]
    assert len(set(mine)) == len(mine)
    assert len(set(twins)) == len(twins) > 200
    assert set(twins) < set(mine)
    identity = Identity(7, RUN_ID)
    assert (identity.ids(3, 0, 10) == identity.ids(twin_of(3), 0, 10)).all()


def test_shapes_are_a_pure_function_of_seed_producer_and_number():
    """Asked in any order, the same answer; another producer's differ."""
    mix = Mix(poison=0.2, collisions=0.2, sizes=0.2, over_limit=0.2, duplicates=Duplicates(share=0.5, after_s=[0, 2]))
    shapes = [
        Shapes(mix, batch=5, mode="batch", contract=Contract(limits=SMALL), seed=7, producer=p) for p in (0, 0, 1)
    ]

    forward = [shapes[0].of(number) for number in range(200)]

    assert forward == [shapes[1].of(number) for number in reversed(range(200))][::-1]
    assert forward != [shapes[2].of(number) for number in range(200)]
    assert {shape.again_s for shape in forward if shape.plain} == {None, 0, 2}


@pytest.mark.parametrize("mode", MODES)
def test_gzipped_bodies_say_the_same(mode: str):
    """The body is compressed, the headers say so, and nothing else changes."""
    plain = [message for _, _, message in made(requests_of(Mix(), mode), 3)]
    for before, (_, _, message) in zip(plain, made(requests_of(Mix(), mode, compress=True), 3), strict=True):
        assert gzip.decompress(message.body) == before.body
        assert message.headers == (*before.headers, ("Content-Encoding", "gzip"))


def test_a_target_without_limits_cannot_be_held_to_them():
    """The sentence says what to add."""
    with pytest.raises(BadTraffic, match=r"contract\.limits"):
        Shapes(Mix(over_limit=0.1), batch=5, mode="batch", contract=Contract(), seed=7, producer=3)


def test_ordinary_requests_must_be_within_the_limits():
    """Or every refusal would look like a breach."""
    with pytest.raises(BadTraffic, match="at most 40"):
        Shapes(Mix(), batch=41, mode="batch", contract=Contract(limits=SMALL), seed=7, producer=3)


def test_a_request_looks_the_same_however_often_it_is_written():
    """Head, message headers, length and body, each line ended."""
    endpoint = Endpoint.parse("http://127.0.0.1:80/events", {"X-Key": "a"}).with_header("Connection", "close")
    message = Message((("Content-Type", "a/b"),), b"{}")

    assert (
        endpoint.request(message)
        == endpoint.request(message)
        == (
            b"POST /events HTTP/1.1\r\nHost: 127.0.0.1:80\r\nX-Key: a\r\nConnection: close\r\n"
            b"Content-Type: a/b\r\nContent-Length: 2\r\n\r\n{}"
        )
    )
