"""Bodies that are slow or cut, and what R2 limits."""

from __future__ import annotations

import asyncio

import pytest

from tests.chaos.gateway.fakes import KEY, call, echo, lab, plain, run

# throttle, cut


def test_throttled_bodies_arrive_whole_and_slowly() -> None:
    """The rate bounds the time from below in both directions; no byte is lost."""

    async def test() -> None:
        async with lab(echo) as gateway:
            await gateway.put("narrow", {"do": "throttle", "bytes_per_s": 400_000}, object="data-file")
            reply = await call(gateway.r2, "PUT", KEY, b"z" * 20_000)

            assert (reply.status, reply.body) == (200, b"z" * 20_000)
            assert (await gateway.log.line(n=1))["ms"] >= 2 * 20_000 / 400_000 * 1000 * 0.9

    run(test())


def test_throttle_ends_with_its_rule() -> None:
    """Deleting the rule lets the rest of a body go at once."""

    async def test() -> None:
        async with lab(echo) as gateway:
            await gateway.put("narrow", {"do": "throttle", "bytes_per_s": 1, "direction": "request"})
            waiting = asyncio.create_task(call(gateway.r2, "PUT", KEY, b"z" * 5000))
            await gateway.upstream.until(lambda: gateway.upstream.connections == 1)
            await gateway.control("DELETE", "/rules/narrow")

            assert (await waiting).body == b"z" * 5000

    run(test())


def test_cut_answer_breaks_off_after_its_bytes() -> None:
    """The client gets the head and exactly so many bytes."""

    async def test() -> None:
        async with lab(lambda _: plain(200, b"q" * 5000)) as gateway:
            await gateway.put("cut", {"do": "cut", "after_bytes": 1234}, object="data-file")
            reply = await call(gateway.r2, "GET", KEY)

            assert (reply.status, reply.whole, len(reply.body)) == (200, False, 1234)
            line = await gateway.log.line(n=1)
            assert (line["outcome"], line["answer_bytes"]) == ("truncated", 1234)

    run(test())


def test_cut_request_never_reaches_the_upstream_whole() -> None:
    """An upload breaks off on its way: the upstream sees a part of it, the client a reset."""

    async def test() -> None:
        async with lab(echo) as gateway:
            await gateway.put("cut", {"do": "cut", "after_bytes": 1234, "direction": "request"}, object="data-file")
            reply = await call(gateway.r2, "PUT", KEY, b"q" * 5000)
            await gateway.upstream.until(lambda: bool(gateway.upstream.seen))

            assert reply.status is None
            assert (gateway.upstream.seen[0].whole, len(gateway.upstream.seen[0].body)) == (False, 1234)
            assert (await gateway.log.line(n=1))["outcome"] == "truncated"
            assert (await gateway.counters("cut"))["applied"] == 1

    run(test())


def test_request_shorter_than_the_cut_passes() -> None:
    """What is not long enough to be cut goes through and is counted as passed."""

    async def test() -> None:
        async with lab(echo) as gateway:
            await gateway.put("cut", {"do": "cut", "after_bytes": 1234, "direction": "request"})
            reply = await call(gateway.r2, "PUT", KEY, b"short")

            assert (reply.status, reply.body) == (200, b"short")
            assert await gateway.counters("cut") == {"matched": 1, "applied": 0, "passed": 1}

    run(test())


# R2's limits


def test_second_write_to_a_key_within_a_second_is_429() -> None:
    """R2 takes one write per second and key; other keys and reads are free."""

    async def test() -> None:
        async with lab(echo) as gateway:
            await gateway.put("r2", {"do": "r2-limits"}, upstream="r2")
            writes = [(await call(gateway.r2, "PUT", KEY)).status, (await call(gateway.r2, "PUT", KEY)).status]
            others = [(await call(gateway.r2, "PUT", KEY + "2")).status, (await call(gateway.r2, "GET", KEY)).status]
            gateway.clock.now_s += 1.0

            assert writes + others == [200, 429, 200, 200]
            assert (await call(gateway.r2, "PUT", KEY)).status == 200
            assert await gateway.counters("r2") == {"matched": 5, "applied": 1, "passed": 4}

    run(test())


@pytest.mark.parametrize(("sizes", "told"), [((8, 8, 3), 200), ((8, 7, 8), 400), ((5,), 200)])
def test_parts_of_an_upload_must_be_equal_but_for_the_last(sizes: tuple[int, ...], told: int) -> None:
    """Completing an upload with unequal parts is R2's InvalidPart."""

    async def test() -> None:
        async with lab(echo) as gateway:
            await gateway.put("r2", {"do": "r2-limits"})
            for number, size in enumerate(sizes, 1):
                target = f"{KEY}?partNumber={number}&uploadId=u"
                assert (await call(gateway.r2, "PUT", target, b"p" * size)).status == 200

            reply = await call(gateway.r2, "POST", KEY + "?uploadId=u", b"<CompleteMultipartUpload/>")
            assert told == reply.status
            assert (b"InvalidPart" in reply.body) == (told == 400)

    run(test())
