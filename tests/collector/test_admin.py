"""The admin listener: who may, and what flush and buffer answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any, cast

import pytest

from collector.admin import FAILURE_WINDOW_S, FAILURES_MAX, AdminApp
from collector.errors import CollectorError
from collector.fill import PartitionState
from collector.flusher import FlushResult
from collector.service import Service
from tests.collector.conftest import ADMIN_TOKEN, EMPTY, Answer, FakeBuffer, FakeClock, FakeFlusher, call, make_service

RIGHT = [("authorization", f"Bearer {ADMIN_TOKEN}")]


@dataclass
class Desk:
    """An admin application and what is behind it."""

    service: Service
    flusher: FakeFlusher
    app: AdminApp

    def request(self, method: str, path: str, headers: Sequence[tuple[str, str]] = RIGHT) -> Answer:
        answer = asyncio.run(self._call(method, path, headers))
        assert answer is not None
        return answer

    async def _call(self, method: str, path: str, headers: Sequence[tuple[str, str]]) -> Answer | None:
        self.service.flusher = self._started()
        try:
            return await call(self.app, method, path, headers)
        finally:
            cast(Any, self.service.flusher).close()

    async def _started(self) -> FakeFlusher:
        return self.flusher


def make_desk(state: Any = EMPTY, *, flush_timeout_s: float = 5.0) -> Desk:
    """Return a desk whose buffer is in ``state``."""
    service = make_service(FakeBuffer(state=state))
    cast(Any, service.flusher).close()
    service.config = replace(service.config, admin_flush_timeout_s=flush_timeout_s)
    return Desk(service, FakeFlusher(), AdminApp(service, cast(Any, None)))


@pytest.fixture
def desk() -> Desk:
    """A desk with an empty buffer."""
    return make_desk()


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("authorization", "")],
        [("authorization", "Bearer")],
        [("authorization", "Bearer wrong")],
        [("authorization", f"Bearer {ADMIN_TOKEN}x")],
        [("authorization", f"Bearer {ADMIN_TOKEN[:-1]}")],
        [("authorization", f"Basic {ADMIN_TOKEN}")],
        [("authorization", ADMIN_TOKEN)],
        [("authorization", "Bearer tökén")],
        [("authorization", f"Bearer {ADMIN_TOKEN}"), ("authorization", "Bearer x")],
        [("x-token", ADMIN_TOKEN)],
    ],
)
@pytest.mark.parametrize("path", ["/admin/flush", "/admin/buffer", "/admin/export", "/admin/config", "/nothing"])
def test_without_the_token_every_path_answers_the_same_401(
    desk: Desk, headers: list[tuple[str, str]], path: str
) -> None:
    """Nobody learns which paths exist or what was wrong, and the token is not repeated."""
    answer = desk.request("GET", path, headers)

    assert answer.status == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.body == make_desk().request("POST", "/x", []).body
    assert ADMIN_TOKEN.encode() not in answer.body


def test_the_scheme_is_case_insensitive(desk: Desk) -> None:
    """RFC 9110 says so."""
    assert desk.request("GET", "/admin/buffer", [("authorization", f"bEARER {ADMIN_TOKEN}")]).status == 200


def test_failed_attempts_are_limited_but_never_lock_out_the_right_token(desk: Desk) -> None:
    """Guessing gets slower; an operator in an emergency still gets in; the window passes."""
    statuses = [desk.request("GET", "/admin/buffer", []).status for _ in range(FAILURES_MAX + 1)]

    assert statuses == [401] * FAILURES_MAX + [429]
    assert int(desk.request("GET", "/admin/buffer", []).headers["retry-after"]) >= 1
    assert desk.request("GET", "/admin/buffer").status == 200
    cast(FakeClock, desk.service.clock).now_s += FAILURE_WINDOW_S
    assert desk.request("GET", "/admin/buffer", []).status == 401


def test_unknown_paths_and_wrong_methods(desk: Desk) -> None:
    """With the token, mistakes are explained."""
    assert desk.request("GET", "/admin").status == 404
    for method, path, allow in (("GET", "/admin/flush", "POST"), ("POST", "/admin/buffer", "GET")):
        answer = desk.request(method, path)
        assert (answer.status, answer.headers["allow"]) == (405, allow)


def test_buffer_describes_each_partition() -> None:
    """An operator sees what is full and what is undecided."""
    partition = PartitionState("t", 0, 5, 60, 0.25, 7.5)
    desk = make_desk(replace(EMPTY, events=5, bytes=60, fill_ratio=0.25, partitions=(partition,), undecided=("a/1/1",)))

    assert desk.request("GET", "/admin/buffer").json() == {
        "capacity_events": 2000,
        "events": 5,
        "bytes": 60,
        "fill_ratio": 0.25,
        "partitions": [
            {
                "type": "t",
                "hour": "1970-01-01T00",
                "events": 5,
                "bytes": 60,
                "fill_ratio": 0.25,
                "oldest_age_s": 7.5,
            }
        ],
        "undecided": ["a/1/1"],
        "discarded_events": 0,
    }


def test_flush_answers_what_was_decided(desk: Desk) -> None:
    """Ids, files and snapshot of each flush, a failed one included, and what is still buffered."""
    desk.flusher.future.set_result(
        [
            FlushResult("a/1/1", "committed", 17, ("s3://b/f.parquet",), 3, 1, 0.5),
            FlushResult("a/1/2", "failed", None, (), 2, 0, 0.1, "no route"),
        ]
    )

    answer = desk.request("POST", "/admin/flush")

    assert answer.status == 200
    assert answer.json()["buffered_events"] == 0
    assert answer.json()["flushes"] == [
        {
            "flush_id": "a/1/1",
            "snapshot_id": 17,
            "files": ["s3://b/f.parquet"],
            "events": 3,
            "outcome": "committed",
            "error": None,
        },
        {"flush_id": "a/1/2", "snapshot_id": None, "files": [], "events": 2, "outcome": "failed", "error": "no route"},
    ]


def test_a_flush_that_is_not_decided_in_time_is_503() -> None:
    """200 would claim what nobody knows yet."""
    desk = make_desk(flush_timeout_s=0.01)

    answer = desk.request("POST", "/admin/flush")

    assert answer.status == 503
    assert "retry-after" in answer.headers
    assert "not decided within" in answer.json()["detail"]


def test_a_flusher_that_gives_up_is_503(desk: Desk) -> None:
    """Shutting down while somebody waits is an answer, too."""
    desk.flusher.future.set_exception(CollectorError("the collector is shutting down"))

    answer = desk.request("POST", "/admin/flush")

    assert answer.status == 503
    assert "shutting down" in answer.json()["detail"]


def test_a_flush_waits_for_the_flusher_to_start() -> None:
    """Right after a start an operator need not try twice."""
    desk = make_desk()
    future: Future[list[FlushResult]] = desk.flusher.future
    future.set_result([])

    async def scenario() -> Answer | None:
        starting: asyncio.Future[FakeFlusher] = asyncio.get_running_loop().create_future()
        desk.service.flusher = cast(Awaitable[Any], starting)
        request = asyncio.create_task(call(desk.app, "POST", "/admin/flush", RIGHT))
        await asyncio.sleep(0)
        starting.set_result(desk.flusher)
        return await request

    answer = asyncio.run(scenario())

    assert answer is not None
    assert answer.json() == {"flushes": [], "buffered_events": 0}
