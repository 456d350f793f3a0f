"""The ingest listener without sockets: statuses, limits, and what is stored."""

from __future__ import annotations

import asyncio
import errno
import gzip
import json
import os
from dataclasses import replace
from typing import Any

import pytest

from collector.app import IngestApp
from collector.config import from_environ
from collector.crashpoints import CrashPoints
from collector.errors import BufferFull, BufferUnavailable, BufferUncertain
from collector.fill import PartitionState
from tests.collector.conftest import EMPTY, ENVIRON, Door, FakeBuffer, MakeDoor, call, make_service

EVENT = b'{"specversion":"1.0","id":"1","source":"s","type":"t"}'
STRUCTURED = [("content-type", "application/cloudevents+json")]
BATCH = [("content-type", "application/cloudevents-batch+json")]
GZIP = ("content-encoding", "gzip")


@pytest.mark.parametrize("path", ["/", "/event", "/events/", "/events/batch/x", "/admin/flush"])
def test_an_unknown_path_is_404(door: Door, path: str) -> None:
    """Admin paths do not exist here."""
    assert door.request("GET", path).status == 404
    assert door.post(EVENT, STRUCTURED, path=path).status == 404


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", "/events", "POST"),
        ("PUT", "/events/batch", "POST"),
        ("OPTIONS", "/events", "POST"),
        ("POST", "/healthz", "GET, HEAD"),
        ("DELETE", "/metrics", "GET, HEAD"),
    ],
)
def test_a_wrong_method_is_405_and_says_which_is_right(door: Door, method: str, path: str, allow: str) -> None:
    """RFC 9110 asks for the Allow header."""
    answer = door.request(method, path)

    assert (answer.status, answer.headers["allow"]) == (405, allow)


def test_202_comes_after_the_buffer_has_synced(make_door: MakeDoor) -> None:
    """The answer waits for the buffer's future, and for nothing else."""
    door = make_door(buffer=FakeBuffer(hold=True))

    async def scenario() -> tuple[bool, Any]:
        request = asyncio.create_task(call(door.app, "POST", "/events", STRUCTURED, EVENT))
        while not door.buffer.held:
            await asyncio.sleep(0)
        early = request.done()
        door.buffer.held[0].set_result(None)
        return early, await request

    early, answer = asyncio.run(scenario())

    assert not early
    assert answer.status == 202
    assert door.metric("collector_events_accepted_total") == 1


@pytest.mark.parametrize("late", [False, True])
def test_a_full_buffer_is_503_and_names_the_partition(make_door: MakeDoor, late: bool) -> None:
    """The client learns when to come back, and an operator what is full."""
    refusal = BufferFull(("t", 5), retry_after_s=3)
    buffer = FakeBuffer(late_refusal=refusal) if late else FakeBuffer(refusal=refusal)
    door = make_door(buffer=buffer)

    answer = door.post(EVENT, STRUCTURED)

    assert (answer.status, answer.headers["retry-after"]) == (503, "3")
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["partition"] == {"type": "t", "hour": 5}
    assert door.metric("collector_events_refused_total", reason="buffer_full") == 1


def test_a_failed_sync_is_no_refusal(make_door: MakeDoor) -> None:
    """Whether the events are on disk is not known, so the answer is none of the contract's refusals."""
    door = make_door(buffer=FakeBuffer(late_refusal=BufferUncertain("whether they were stored is not known")))

    answer = door.post(EVENT, STRUCTURED)

    assert answer.status == 500
    assert b"not known" in answer.body


def test_a_buffer_that_cannot_store_is_503(make_door: MakeDoor) -> None:
    """A full disk is the client's cue to wait, not its fault."""
    door = make_door(buffer=FakeBuffer(late_refusal=BufferUnavailable("the disk is full")))

    answer = door.post(EVENT, STRUCTURED)

    assert answer.status == 503
    assert int(answer.headers["retry-after"]) >= 1
    assert "the disk is full" in answer.json()["detail"]


def test_an_io_error_from_a_crash_point_is_503(make_door: MakeDoor) -> None:
    """An error of the operating system below the buffer is no 500."""
    buffer = FakeBuffer()
    buffer.refusal = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # type: ignore[assignment]
    door = make_door(buffer=buffer)

    assert door.post(EVENT, STRUCTURED).status == 503


def test_while_draining_nothing_is_accepted_and_readyz_says_so(door: Door) -> None:
    """Readiness and ingest change together; liveness stays."""
    door.service.draining = True

    answer = door.post(EVENT, STRUCTURED)

    assert (answer.status, answer.headers["connection"]) == (503, "close")
    assert "retry-after" in answer.headers
    assert door.request("GET", "/readyz").status == 503
    assert door.request("GET", "/healthz").status == 200
    assert door.buffer.events == []


def test_requests_beyond_the_limit_are_503(make_door: MakeDoor) -> None:
    """The limit counts requests in flight and is given back when they end."""
    door = make_door(buffer=FakeBuffer(hold=True), concurrent_requests=1)

    async def scenario() -> list[int]:
        first = asyncio.create_task(call(door.app, "POST", "/events", STRUCTURED, EVENT))
        while not door.buffer.held:
            await asyncio.sleep(0)
        second = await call(door.app, "POST", "/events", STRUCTURED, EVENT)
        door.buffer.held[0].set_result(None)
        door.buffer.hold = False
        answers = [await first, second, await call(door.app, "POST", "/events", STRUCTURED, EVENT)]
        return [answer.status for answer in answers if answer]

    assert asyncio.run(scenario()) == [202, 503, 202]
    assert door.metric("collector_events_refused_total", reason="overloaded") == 1


def test_a_failed_buffer_is_neither_ready_nor_alive(make_door: MakeDoor) -> None:
    """After a failed sync only a restart helps, so liveness says so."""
    door = make_door(buffer=FakeBuffer(state=replace(EMPTY, failure="fsync failed")))

    for path in ("/readyz", "/healthz"):
        answer = door.request("GET", path)
        assert answer.status == 503
        assert "fsync failed" in answer.json()["detail"]


def test_readyz_reports_the_table_but_does_not_depend_on_it(door: Door) -> None:
    """A collector must come up while the catalog is down."""
    door.service.table = "failed: no route"

    answer = door.request("GET", "/readyz")

    assert (answer.status, answer.json()) == (200, {"status": "ready", "table": "failed: no route"})


# Limits.


def test_a_declared_length_over_the_limit_is_413_before_the_body_is_read(make_door: MakeDoor) -> None:
    """Nothing is buffered for a body that will be refused."""
    door = make_door(body_bytes=100)

    answer = door.post(b"", [*STRUCTURED, ("content-length", "101")], stall=True)

    assert (answer.status, answer.headers["connection"]) == (413, "close")


@pytest.mark.parametrize(("size", "status"), [(100, 202), (101, 413)])
def test_a_chunked_body_is_counted_on_the_wire(make_door: MakeDoor, size: int, status: int) -> None:
    """The limit is exact, with and without a declared length."""
    door = make_door(body_bytes=100)
    body = EVENT + b" " * (size - len(EVENT))

    assert door.post(b"", STRUCTURED, chunks=[body[:50], body[50:]]).status == status


def test_a_slow_body_is_408(make_door: MakeDoor) -> None:
    """A client that stops sending does not hold a request for ever."""
    door = make_door(body_timeout_s=0.01)

    answer = door.post(EVENT[:10], STRUCTURED, stall=True)

    assert (answer.status, answer.headers["connection"]) == (408, "close")
    assert door.metric("collector_events_refused_total", reason="too_slow") == 1
    assert door.service.in_flight == 0


def test_a_client_that_goes_away_leaves_nothing(door: Door) -> None:
    """Half a request is no request."""
    answer = asyncio.run(call(door.app, "POST", "/events", STRUCTURED, EVENT[:10], disconnect=True))

    assert answer is None
    assert door.buffer.events == []
    assert door.service.in_flight == 0


def test_too_many_headers_are_431(make_door: MakeDoor) -> None:
    """By number and by size."""
    assert make_door(headers=5).post(EVENT, [*STRUCTURED, *[("x", "y")] * 5]).status == 431
    assert make_door(header_bytes=100).post(EVENT, [*STRUCTURED, ("x", "y" * 100)]).status == 431


@pytest.mark.parametrize(
    ("body", "encoding", "status"),
    [
        (gzip.compress(EVENT), "gzip", 202),
        (gzip.compress(EVENT), "x-GZIP", 202),
        (EVENT, "identity", 202),
        (gzip.compress(gzip.compress(EVENT)), "gzip, gzip", 202),
        (gzip.compress(EVENT[:20]) + gzip.compress(EVENT[20:]), "gzip", 202),
        (gzip.compress(EVENT)[:-4], "gzip", 400),
        (gzip.compress(EVENT) + b"junk", "gzip", 400),
        (b"", "gzip", 400),
        (EVENT, "gzip", 400),
        (EVENT, "br", 415),
        (EVENT, "gzip, gzip, gzip, gzip", 415),
    ],
    ids=[
        "gzip",
        "x-gzip",
        "identity",
        "twice",
        "two members",
        "cut",
        "junk behind",
        "empty",
        "plain",
        "unknown",
        "too often",
    ],
)
def test_content_encodings(door: Door, body: bytes, encoding: str, status: int) -> None:
    """gzip in any number of members, up to three stages; anything else is named in the refusal."""
    answer = door.post(body, [*STRUCTURED, ("content-encoding", encoding)])

    assert answer.status == status
    assert len(door.buffer.events) == (status == 202)


@pytest.mark.parametrize("stages", [1, 2])
@pytest.mark.parametrize(("size", "status"), [(1000, 202), (1001, 413)])
def test_the_decompressed_size_is_limited_exactly(make_door: MakeDoor, stages: int, size: int, status: int) -> None:
    """At the limit a body passes, one byte more is 413, on every stage."""
    door = make_door(decompressed_bytes=1000)
    body = EVENT + b" " * (size - len(EVENT))
    for _ in range(stages):
        body = gzip.compress(body)

    answer = door.post(body, [*STRUCTURED, ("content-encoding", ", ".join(["gzip"] * stages))])

    assert answer.status == status


def test_a_decompression_bomb_is_413(make_door: MakeDoor) -> None:
    """64 MiB in 64 KiB stops at the limit."""
    door = make_door(decompressed_bytes=1 << 20)

    assert door.post(gzip.compress(bytes(64 << 20)), [*STRUCTURED, GZIP]).status == 413


def test_a_batch_that_can_never_fit_is_413_instead_of_503_for_ever(make_door: MakeDoor) -> None:
    """More events for one partition than it may hold cannot succeed later; spread over partitions they can."""
    config = from_environ({**ENVIRON, "ICEBERG_BUFFER_SIZE": "2"})
    event = json.loads(EVENT)
    one = json.dumps([{**event, "id": str(n)} for n in range(3)]).encode()
    two = json.dumps([{**event, "id": str(n), "type": f"t{n % 2}"} for n in range(3)]).encode()

    assert make_door(config=config).post(one, BATCH).status == 413
    assert make_door(config=config).post(two, BATCH).status == 202


# What machines watch.


def test_metrics_describe_the_buffer(make_door: MakeDoor) -> None:
    """Every name of the contract is there, and the number of series is bounded however many types there are."""
    partitions = tuple(PartitionState(f"t{n}", 495_000, n, 10, n / 100, 1.0) for n in range(80))
    state = replace(EMPTY, events=7, bytes=70, fill_ratio=0.79, oldest_age_s=1.5, partitions=partitions)
    door = make_door(buffer=FakeBuffer(state=state))

    answer = door.request("GET", "/metrics")
    text = answer.body.decode()

    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert "collector_buffer_fill_ratio 0.79" in text
    assert 'collector_partition_fill_ratio{hour="2026-06-21T00",type="t79"} 0.79' in text
    assert text.count("collector_partition_fill_ratio{") == 50
    for name in (
        "buffer_events 7",
        "buffer_bytes 70",
        "buffer_capacity_events 2000",
        "oldest_event_age_seconds 1.5",
        "events_accepted_total 0",
        'events_refused_total{reason="buffer_full"} 0',
        "events_deduplicated_total 0",
        "events_quarantined_total 0",
        'flushes_total{outcome="undecided"} 0',
        "flush_duration_seconds_count 0",
        "build_info{",
    ):
        assert f"collector_{name}" in text


def test_crash_points_are_passed_and_counted(make_door: MakeDoor) -> None:
    """A test can prove that the point it armed was reached."""
    door = make_door(crash=CrashPoints.parse("ingest.after_ack=sleep:0"))

    door.post(EVENT, STRUCTURED)

    assert door.metric("collector_crashpoint_hits_total", point="ingest.after_ack") == 1


def test_the_body_of_a_202_is_sent_before_its_crash_point() -> None:
    """``ingest.after_ack`` stands for a process that dies right after the client knows."""
    killed: list[str] = []
    crash = replace(CrashPoints.parse("ingest.after_ack=kill"), kill=killed.append)
    service = make_service(crash=crash)

    answer = asyncio.run(call(IngestApp(service), "POST", "/events", STRUCTURED, EVENT))
    service.flusher.close()  # type: ignore[attr-defined]

    assert answer is not None
    assert answer.body == b'{"accepted":1}'
    assert killed == ["ingest.after_ack"]
