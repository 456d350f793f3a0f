"""The language-neutral table against the real application, and properties of the parser that no table can list."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from collector.cloudevents import DATA_BINARY, DATA_JSON, DATA_TEXT, Event, Parser, partition_of
from collector.config import Limits
from collector.errors import InvalidEvent
from collector.strictjson import JsonFault, StrictJson
from tests.collector.conftest import NOW_S, MakeDoor

TABLE = yaml.safe_load((Path(__file__).parents[1] / "cloudevents.yaml").read_text())["cases"]
STATUS = {"accepted": 202, "malformed": 400, "too_large": 413, "unsupported": 415}
KINDS = {"data": DATA_JSON, "data_text": DATA_TEXT, "data_base64": DATA_BINARY}


def body_of(case: dict[str, Any]) -> bytes:
    """Build the body a case describes."""
    if "body_base64" in case:
        return base64.b64decode(case["body_base64"])
    text: str = case["body"]
    for mark, count in case.get("repeat", {}).items():
        text = text.replace(mark, mark[1] * count)
    for mark, (what, count) in case.get("repeat_text", {}).items():
        text = text.replace(mark, what * count)
    for mark, (opening, closing, count) in case.get("wrap", {}).items():
        text = text.replace(mark, opening * count + closing * count)
    return text.encode()


def found(event: Event, name: str) -> Any:
    """Return what an event holds under a name of the table."""
    if name == "extensions":
        return json.loads(event.extensions or b"{}")
    if name in KINDS:
        if event.data is None:
            return None
        assert event.data_kind == KINDS[name]
        return base64.b64encode(event.data).decode() if name == "data_base64" else event.data.decode()
    return getattr(event, name)


def test_the_table_is_large_and_its_names_are_unique() -> None:
    """A table with a typo in a key would test less than it seems to."""
    known = {"name", "path", "headers", "body", "body_base64", "repeat", "repeat_text", "wrap", "expect", "index"}
    assert len({case["name"] for case in TABLE}) == len(TABLE) >= 80
    assert all(set(case) <= known | {"reason", "events"} for case in TABLE)
    assert {case["expect"] for case in TABLE} == set(STATUS)


@pytest.mark.parametrize("case", TABLE, ids=lambda case: case["name"])
def test_table(case: dict[str, Any], make_door: MakeDoor) -> None:
    """Each request of the table gets its status, and what is accepted is kept as it was sent."""
    door = make_door()

    answer = door.post(body_of(case), case["headers"], path=case.get("path", "/events"))

    assert answer.status == STATUS[case["expect"]], answer.body
    if case["expect"] == "accepted":
        expected = case.get("events")
        assert answer.json() == {"accepted": len(door.buffer.events)}
        if expected is not None:
            assert len(expected) == len(door.buffer.events)
            for event, attributes in zip(door.buffer.events, expected, strict=True):
                assert {name: found(event, name) for name in attributes} == attributes
    else:
        assert door.buffer.events == []
        assert answer.headers["content-type"] == "application/problem+json"
        assert "retry-after" not in answer.headers
        assert answer.json().get("index") == case.get("index")
        assert case.get("reason", "") in answer.json()["detail"]


def parser(**limits: int) -> Parser:
    return Parser(Limits(**limits), lambda: NOW_S)


def test_an_event_without_time_gets_its_arrival_time() -> None:
    """The partition of an event that says nothing is the hour it arrived in."""
    [event] = parser().structured(b'{"specversion":"1.0","id":"1","source":"s","type":"t"}')

    assert event.time_us == int(NOW_S * 1e6)
    assert event.time == "2026-09-21T14:13:20.000000Z"
    assert partition_of(event) == ("t", int(NOW_S) // 3600)


@pytest.mark.parametrize("extra", [-1, 0, 1])
def test_events_around_64_kib_are_accepted_in_three_modes(extra: int) -> None:
    """64 KiB and one byte more or less make no difference while the limit is larger."""
    frame = b'{"specversion":"1.0","id":"1","source":"s","type":"t","data":"%s"}'
    size = 65536 + extra
    structured = frame % (b"a" * (size - len(frame) + 2))
    assert len(structured) == size
    headers = [(b"ce-id", b"1"), (b"ce-source", b"s"), (b"ce-type", b"t"), (b"ce-specversion", b"1.0")]
    attributes = sum(len(name) + len(value) for name, value in headers)

    for limit, fits in ((size, True), (size - 1, False)):
        limited = parser(event_bytes=limit)
        modes: list[Callable[[Parser], list[Event]]] = [
            lambda p: p.structured(structured),
            lambda p: p.batch(b"[" + structured + b"]"),
            lambda p: p.binary(headers, b"a" * (size - attributes)),
        ]
        for parse in modes:
            if fits:
                assert len(parse(limited)) == 1
            else:
                with pytest.raises(InvalidEvent, match="bytes, at most") as caught:
                    parse(limited)
                assert caught.value.status == 413


def test_too_many_attributes_are_refused() -> None:
    """An event cannot smuggle a payload in as attributes."""
    event = {"specversion": "1.0", "id": "1", "source": "s", "type": "t"} | {f"x{n}": "y" for n in range(61)}

    with pytest.raises(InvalidEvent, match="more than 64 attributes"):
        parser().structured(json.dumps(event).encode())


def test_the_fast_path_and_the_exact_path_agree() -> None:
    """White space outside of data never changes the event, whichever path it takes."""
    event = {
        "specversion": "1.0",
        "id": "1",
        "source": "s",
        "type": "t",
        "time": "2026-01-02T03:04:05.5Z",
        "subject": "x",
        "datacontenttype": "application/json",
        "dataschema": "urn:x",
        "data": [1],
    }
    fast = parser().batch(json.dumps([event]).encode())

    exact = parser(event_bytes=10_000, json_depth=2).batch(json.dumps([event]).encode().replace(b'"x"', b'"\\u0078"'))

    assert fast == exact


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text('ab:"\\ é', max_size=4), inner, max_size=4),
    max_leaves=20,
)


@given(JSON_VALUES, st.booleans(), st.sampled_from([None, 1]))
def test_every_json_value_is_kept_byte_for_byte(value: Any, ascii_only: bool, indent: int | None) -> None:
    """What a JSON encoder can write is accepted and stored exactly as it was written."""
    data = json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode()

    [event] = parser().structured(b'{"specversion":"1.0","id":"1","source":"s","type":"t","data":%s}' % data)

    assert (event.data, event.data_kind) == (data, DATA_JSON)


@given(st.binary(max_size=60) | st.text('{}[]",:\\u0dD8 1ea', max_size=40).map(str.encode))
def test_no_body_is_more_than_refused(body: bytes) -> None:
    """Whatever arrives is an event or an InvalidEvent, never another error."""
    for parse in (parser().structured, parser().batch, parser().wrapped):
        try:
            parse(body)
        except InvalidEvent as error:
            assert error.status in (400, 413)


PAIRS = st.recursive(
    st.sampled_from(["1", '":"', '"a:"', '"\\""', "null"]),
    lambda inner: st.lists(st.tuples(st.sampled_from(["a", "b", "\\u0061", ":"]), inner), max_size=4).map(
        lambda pairs: "{" + ",".join(f'"{name}": {value}' for name, value in pairs) + "}"
    ),
    max_leaves=8,
)


@given(PAIRS)
def test_the_cheap_check_never_passes_what_the_exact_one_refuses(text: str) -> None:
    """``is_plain`` may doubt, but it must not be wrong."""
    strict = StrictJson(64, 308)
    if not strict.is_plain(text.encode()):
        return

    strict.check(text.encode())


@given(st.integers(0, 80), st.integers(0, 400))
def test_the_cheap_limits_never_pass_what_the_exact_ones_refuse(depth: int, digits: int) -> None:
    """``is_modest`` may doubt, but it must not be wrong; ``check`` is exact to the last level and digit."""
    text = b"[" * depth + b"1" * (digits + 1) + b"]" * depth
    strict = StrictJson(64, 308)
    acceptable = depth <= 64 and digits + 1 <= 308

    assert acceptable or not strict.is_modest(text)
    if acceptable:
        strict.check(text)
    else:
        with pytest.raises(JsonFault, match=r"nested deeper|longer than"):
            strict.check(text)


@pytest.mark.parametrize("text", [b"[" * 70 + b'"' + b'\\"' * 300_000, b"[" + (b"1" * 308 + b",") * 3000 + b"1]"])
def test_hostile_text_takes_linear_time(text: bytes) -> None:
    """Unfinished strings and rows of long numbers are judged in one pass; a quadratic one would not end in time."""
    strict = StrictJson(64, 308)

    strict.is_modest(text)
    if text.startswith(b"[["):
        with pytest.raises(JsonFault):
            strict.check(text)
    else:
        strict.check(text)
