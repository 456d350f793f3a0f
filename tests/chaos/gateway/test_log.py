"""gateway.jsonl: what a line says, and what happens when it cannot be written."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest

from chaos.gateway import proxy
from chaos.gateway.log import OUTCOMES, GatewayLog
from tests.chaos.gateway.fakes import TABLE, Client, Seen, call, lab, plain, run


def echo(request: Seen) -> bytes:
    return plain(200, request.body * 2)


def test_line_tells_the_whole_story_of_a_request() -> None:
    """Who, what, which kind, what was told, what was really said, how much and how long."""

    async def test() -> None:
        async with lab(echo) as gateway:
            await gateway.post_commit(b"12345")
            line = await gateway.log.line(n=1)

            assert {name: value for name, value in line.items() if name not in ("t_ns", "ms")} == {
                "n": 1,
                "upstream": "catalog",
                "verb": "POST",
                "path": TABLE,
                "object": "commit",
                "status": 200,
                "upstream_status": 200,
                "request_bytes": 5,
                "answer_bytes": 10,
                "rule": None,
                "outcome": "passed",
            }
            assert 0 < line["ms"] < 30_000

    run(test())


def test_line_has_no_secret() -> None:
    """Signatures in the query are replaced, and header fields are not logged at all."""

    async def test() -> None:
        async with lab(echo) as gateway:
            query = "X-Amz-Signature=5ec4e7&X-Amz-Credential=5ec4e7&partNumber=1"
            await call(gateway.r2, "PUT", f"/b/k?{query}", b"x", {"Authorization": "5ec4e7"})

            assert "5ec4e7" not in json.dumps(await gateway.log.line(n=1))

    run(test())


def test_request_that_takes_long_is_announced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits for a held request in the log sees it begin, once; its own line follows."""
    monkeypatch.setattr(proxy, "LONG_NS", 0)
    monkeypatch.setattr(proxy, "SWEEP_S", 0.001)

    async def test() -> None:
        async with lab(echo) as gateway:
            await gateway.put("hold", {"do": "hold"}, object="commit")
            client = await Client.connect(gateway.catalog)
            client.send("POST", TABLE, b"x")
            begin = await gateway.log.line(begin=True, n=1)
            gateway.running.gateway.announce_long_requests()
            await gateway.control("DELETE", "/rules/hold")
            await client.receive()
            client.close()

            assert (begin["object"], begin["rule"], begin["verb"]) == ("commit", "hold", "POST")
            assert begin["t_ns"] == (await gateway.log.line(n=1, outcome="held"))["t_ns"]
            assert sum("begin" in line for line in gateway.log.lines) == 1

    run(test())


def test_quick_requests_are_not_announced() -> None:
    """A request within its second leaves one line."""

    async def test() -> None:
        async with lab(echo) as gateway:
            await gateway.put("hold", {"do": "hold"}, object="commit")
            waiting = asyncio.create_task(gateway.post_commit())
            while not gateway.running.gateway.open_requests:
                await gateway.control("GET", "/healthz")
            gateway.running.gateway.announce_long_requests()
            await gateway.control("DELETE", "/rules")
            await waiting

            assert not any("begin" in line for line in gateway.log.lines)

    run(test())


def test_torn_line_of_a_killed_gateway_does_not_swallow_the_next(tmp_path: Path) -> None:
    """A file that ends in half a line is gone on with on a new one, under its own header."""
    path = tmp_path / "gateway.jsonl"
    path.write_bytes(b'{"schema":"icequake.gateway/1.0"}\n{"t_ns":1,"n"')
    log = GatewayLog("run1")
    log.switch(path)
    log.write({"n": 2})
    log.close()

    assert path.read_bytes().splitlines() == [b'{"schema":"icequake.gateway/1.0"}', b'{"t_ns":1,"n"', b'{"n":2}']


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")
def test_full_disk_costs_lines_not_traffic() -> None:
    """Lines that cannot be written are counted and told by /healthz; requests are still forwarded."""

    async def test() -> None:
        async with lab(echo) as gateway:
            gateway.log._fd = os.open("/dev/full", os.O_WRONLY)

            assert (await gateway.post_commit()).status == 200
            assert (await gateway.control("GET", "/healthz")).json["failed_log_lines"] == 1

    run(test())


def test_outcomes_are_the_documented_ones() -> None:
    """Readers of the log know every outcome."""
    assert {
        "passed", "refused", "answer-dropped", "answer-replaced", "held", "zombie", "truncated", "twice", "stale",
        "client-gone", "upstream-error",
    } == set(OUTCOMES)  # fmt: skip
