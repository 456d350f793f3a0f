"""Requests that are applied though their client never learns of it, in time or at all."""

from __future__ import annotations

import asyncio

import pytest

from tests.chaos.gateway.fakes import KEY, LOST, TABLE, Client, FakeCatalog, Seen, commit, echo, lab, plain, run, status

# applied, then


def test_lost_answer_leaves_the_commit_applied() -> None:
    """The upstream applies the request; the client sees the connection end."""

    async def test() -> None:
        catalog = FakeCatalog()
        async with lab(catalog) as gateway:
            await gateway.put("lost", LOST, object="commit", nth=2)

            assert (await gateway.post_commit(commit("a", 0))).status == 200
            assert (await gateway.post_commit(commit("b", 1))).status is None
            assert (await gateway.post_commit(commit("c", 2))).status == 200
            assert catalog.landed == ["a", "b", "c"]
            line = await gateway.log.line(n=2)
            assert tuple(line[name] for name in ("rule", "outcome", "status", "upstream_status")) == (
                "lost",
                "answer-dropped",
                None,
                200,
            )
            assert await gateway.counters("lost") == {"matched": 3, "applied": 1, "passed": 2}

    run(test())


@pytest.mark.parametrize("code", [409, 500, 502, 503, 504, 520, 429, 401, 403])
def test_applied_request_can_be_answered_with_any_status(code: int) -> None:
    """The upstream applies the request; the client is told something else."""

    async def test() -> None:
        catalog = FakeCatalog()
        async with lab(catalog) as gateway:
            await gateway.put("lie", {"do": "applied", "then": status(code)}, object="commit")

            assert code == (await gateway.post_commit(commit("a", 0))).status
            assert catalog.landed == ["a"]
            line = await gateway.log.line(n=1)
            assert ("answer-replaced", code, 200) == (line["outcome"], line["status"], line["upstream_status"])

    run(test())


@pytest.mark.parametrize("keep", [0, 5, 10_000])
def test_answer_can_be_truncated(keep: int) -> None:
    """The head tells the whole length; the body is shorter than that, always."""

    async def test() -> None:
        catalog = FakeCatalog()
        async with lab(catalog) as gateway:
            then = {"answer": "truncated", "keep_bytes": keep}
            await gateway.put("cut", {"do": "applied", "then": then}, object="commit")
            reply = await gateway.post_commit(commit("a", 0))

            told = int(reply.headers["content-length"])
            assert (200, False, min(keep, told - 1)) == (reply.status, reply.whole, len(reply.body))
            assert catalog.landed == ["a"]
            assert (await gateway.log.line(n=1))["outcome"] == "truncated"

    run(test())


def test_answer_without_body_is_truncated_in_its_head() -> None:
    """An answer that has only a head breaks off in the head."""

    async def test() -> None:
        async with lab(lambda _: plain(200)) as gateway:
            await gateway.put("cut", {"do": "applied", "then": {"answer": "truncated"}})
            client = await Client.connect(gateway.r2)
            client.send("PUT", KEY, b"x")
            received = await client.reader.read()

            assert received.startswith(b"HTTP/1.1 200")
            assert b"\r\n\r\n" not in received
            client.close()

    run(test())


def test_chunked_answer_is_truncated_before_its_end() -> None:
    """An answer in chunks breaks off between them."""

    def chunked(_: Seen) -> bytes:
        return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nabcdef\r\n0\r\n\r\n"

    async def test() -> None:
        async with lab(chunked) as gateway:
            await gateway.put("cut", {"do": "applied", "then": {"answer": "truncated", "keep_bytes": 3}})
            reply = await gateway.get_table()

            assert (reply.body, reply.whole) == (b"abc", False)

    run(test())


def test_garbage_after_apply_is_a_success_that_says_nothing() -> None:
    """The upstream applies the request; the client gets 200 with noise, the same noise for the same seed."""

    async def test(noises: list[bytes]) -> None:
        catalog = FakeCatalog()
        async with lab(catalog) as gateway:
            then = {"answer": "garbage", "size_bytes": 40}
            await gateway.put("noise", {"do": "applied", "then": then}, object="commit")
            reply = await gateway.post_commit(commit("a", 0))

            assert (reply.status, len(reply.body), catalog.landed) == (200, 40, ["a"])
            noises.append(reply.body)

    noises: list[bytes] = []
    run(test(noises))
    run(test(noises))
    assert noises[0] == noises[1]


def test_answer_later_than_the_client_waits_leaves_the_request_applied() -> None:
    """The client gives up during the hold; the upstream was asked and has answered long before."""

    async def test() -> None:
        catalog = FakeCatalog()
        async with lab(catalog) as gateway:
            late = {"do": "applied", "hold_s": 3600, "then": {"answer": "real"}}
            await gateway.put("late", late, object="commit")
            client = await Client.connect(gateway.catalog)
            client.send("POST", TABLE, commit("a", 0))
            await gateway.upstream.until(lambda: catalog.landed == ["a"])
            client.close()

            line = await gateway.log.line(n=1)
            assert (line["outcome"], line["status"], line["upstream_status"]) == ("held", None, 200)

    run(test())


def test_late_answer_arrives_when_the_client_does_wait() -> None:
    """A client with patience gets the real answer after the hold."""

    async def test() -> None:
        async with lab(FakeCatalog()) as gateway:
            late = {"do": "applied", "hold_s": 0.01, "then": {"answer": "real"}}
            await gateway.put("late", late, object="commit")

            assert (await gateway.post_commit(commit("a", 0))).json == {"landed": ["a"]}
            assert (await gateway.log.line(n=1))["outcome"] == "held"

    run(test())


def test_request_is_applied_though_the_client_leaves_before_the_upstream_answers() -> None:
    """Applied means applied: a client that goes away does not take the request along."""
    go_on = asyncio.Event()

    async def slow(request: Seen) -> bytes:
        await go_on.wait()
        return echo(request)

    async def test() -> None:
        async with lab(slow) as gateway:
            await gateway.put("lost", LOST, object="commit")
            client = await Client.connect(gateway.catalog)
            client.send("POST", TABLE, b"{}")
            await gateway.upstream.until(lambda: bool(gateway.upstream.seen))
            client.writer.transport.abort()
            go_on.set()

            assert (await gateway.log.line(n=1))["upstream_status"] == 200
            assert (await gateway.counters("lost"))["applied"] == 1

    run(test())


@pytest.mark.parametrize(("keep", "told"), [("first", 200), ("second", 409)])
def test_request_sent_twice_is_answered_with_one_of_the_two(keep: str, told: int) -> None:
    """The upstream gets the same bytes twice; the second meets its own first, as behind a proxy that retries."""

    async def test() -> None:
        catalog = FakeCatalog()
        async with lab(catalog) as gateway:
            twice = {"do": "applied", "times": 2, "keep": keep, "then": {"answer": "real"}}
            await gateway.put("twice", twice, object="commit")
            reply = await gateway.post_commit(commit("a", 0))

            assert (told, ["a"]) == (reply.status, catalog.landed)
            assert len(gateway.upstream.seen) == 2
            assert gateway.upstream.seen[0].body == gateway.upstream.seen[1].body
            assert (await gateway.log.line(n=1))["outcome"] == "twice"

    run(test())


def test_request_that_was_not_applied_gets_its_real_answer() -> None:
    """Where the upstream says no, "applied, then" would be a lie: the answer goes through, and `first` is not used up."""

    async def test() -> None:
        catalog = FakeCatalog()
        async with lab(catalog) as gateway:
            await gateway.put("lost", LOST, object="commit", first=1)

            assert (await gateway.post_commit(commit("stale", 5))).status == 409
            assert await gateway.counters("lost") == {"matched": 1, "applied": 0, "passed": 1}
            assert (await gateway.post_commit(commit("a", 0))).status is None
            assert await gateway.counters("lost") == {"matched": 2, "applied": 1, "passed": 1}

    run(test())


# zombie


def test_zombie_commit_lands_before_the_next_one_is_forwarded() -> None:
    """The client is told 504, tries again, and only then does its first commit land: the second meets it."""

    async def test() -> None:
        catalog = FakeCatalog()
        async with lab(catalog) as gateway:
            await gateway.put("zombie", {"do": "zombie", "answer": status(504)}, object="commit", first=1)

            assert (await gateway.post_commit(commit("a", 0))).status == 504
            assert (await gateway.get_table()).json == {"landed": []}
            assert (await gateway.post_commit(commit("b", 0))).status == 409
            assert catalog.landed == ["a"]
            told = await gateway.log.line(n=1, outcome="zombie")
            released = await gateway.log.line(n=1, released=True)
            assert (told["status"], told["upstream_status"]) == (504, None)
            assert (released["upstream_status"], released["outcome"]) == (200, "zombie")

    run(test())


def test_zombie_commit_can_land_after_the_next_one() -> None:
    """With next-answered the second commit wins and the zombie arrives too late."""

    async def test() -> None:
        catalog = FakeCatalog()
        async with lab(catalog) as gateway:
            zombie = {"do": "zombie", "answer": {"answer": "drop"}, "until": "next-answered"}
            await gateway.put("zombie", zombie, object="commit", first=1)
            assert (await gateway.post_commit(commit("a", 0))).status is None

            assert (await gateway.post_commit(commit("b", 0))).status == 200
            assert (await gateway.log.line(released=True))["upstream_status"] == 409
            assert catalog.landed == ["b"]

    run(test())


def test_zombie_commit_can_land_between_check_and_retry() -> None:
    """With the next GET answered as the trigger, a client that checks before it retries does not see the commit yet."""

    async def test() -> None:
        catalog = FakeCatalog()
        async with lab(catalog) as gateway:
            zombie = {"do": "zombie", "answer": status(503), "until": "next-answered", "next_verb": "GET"}
            await gateway.put("zombie", zombie, object="commit", first=1)
            await gateway.post_commit(commit("a", 0))

            assert (await gateway.get_table()).json == {"landed": []}
            assert (await gateway.log.line(released=True))["upstream_status"] == 200
            assert (await gateway.post_commit(commit("b", 0))).status == 409

    run(test())


def test_zombie_can_wait_for_time() -> None:
    """Without a next request, seconds release it."""

    async def test() -> None:
        catalog = FakeCatalog()
        async with lab(catalog) as gateway:
            zombie = {"do": "zombie", "answer": status(504), "until": "time", "seconds": 0.01}
            await gateway.put("zombie", zombie, object="commit")
            await gateway.post_commit(commit("a", 0))
            await gateway.log.line(released=True)

            assert catalog.landed == ["a"]

    run(test())


@pytest.mark.parametrize(("on_delete", "landed"), [("release", ["a"]), ("drop", [])])
def test_zombie_is_released_or_dropped_with_its_rule(on_delete: str, landed: list[str]) -> None:
    """A heal leaves no request behind: it is applied now, or never."""

    async def test() -> None:
        catalog = FakeCatalog()
        async with lab(catalog) as gateway:
            zombie = {"do": "zombie", "answer": status(504)}
            await gateway.put("zombie", zombie, object="commit", on_delete=on_delete)
            await gateway.post_commit(commit("a", 0))
            await gateway.control("DELETE", "/rules")
            await gateway.log.line(released=True)

            assert landed == catalog.landed
            assert (await gateway.control("GET", "/healthz")).json["open_requests"] == 0

    run(test())
