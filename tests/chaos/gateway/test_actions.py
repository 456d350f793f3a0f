"""What pass, delay, hold and refuse do to a request, and what the log and the counters say of it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.chaos.gateway.fakes import (
    KEY,
    LOST,
    MANIFEST_LIST,
    Client,
    FakeCatalog,
    call,
    commit,
    echo,
    lab,
    run,
    status,
)

# pass, delay, hold


def test_pass_changes_nothing_and_is_counted() -> None:
    """The no-op names itself in the log and in the counters, and the request goes through."""

    async def test() -> None:
        async with lab(echo) as gateway:
            await gateway.put("control", {"do": "pass"}, object="commit")

            assert (await gateway.post_commit()).status == 200
            line = await gateway.log.line(n=1)
            assert (line["rule"], line["outcome"]) == ("control", "passed")
            assert await gateway.counters("control") == {"matched": 1, "applied": 1, "passed": 0}

    run(test())


def test_delay_keeps_the_request_back_until_time_or_the_end_of_the_rule() -> None:
    """A delayed request has not reached the upstream; deleting the rule ends the delay."""

    async def test() -> None:
        async with lab(echo) as gateway:
            await gateway.put("slow", {"do": "delay", "seconds": 3600}, verb="PUT")
            waiting = asyncio.create_task(call(gateway.r2, "PUT", KEY, b"x"))
            await call(gateway.r2, "GET", KEY)
            assert [seen.verb for seen in gateway.upstream.seen] == ["GET"]
            await gateway.control("DELETE", "/rules/slow")

            assert (await waiting).status == 200

    run(test())


def test_short_delay_ends_by_itself() -> None:
    """After the delay the request goes on, and the log has its milliseconds."""

    async def test() -> None:
        async with lab(echo) as gateway:
            await gateway.put("slow", {"do": "delay", "seconds": 0.05, "jitter_s": 0.01})

            assert (await call(gateway.r2, "PUT", KEY)).status == 200
            assert (await gateway.log.line(n=1))["ms"] >= 39

    run(test())


@pytest.mark.parametrize(("on_delete", "expected", "reached"), [("release", 200, 1), ("drop", None, 0)])
def test_held_request_is_released_or_dropped_with_its_rule(on_delete: str, expected: int | None, reached: int) -> None:
    """What a hold still has when the rule is deleted is forwarded, or dropped, as the rule declares."""

    async def test() -> None:
        async with lab(echo) as gateway:
            await gateway.put("black-hole", {"do": "hold"}, object="commit", on_delete=on_delete)
            waiting = asyncio.create_task(gateway.post_commit())
            await _until_open(gateway, 1)
            await gateway.control("DELETE", "/rules/black-hole")

            assert expected == (await waiting).status
            assert reached == len(gateway.upstream.seen)
            assert (await gateway.log.line(n=1))["outcome"] == "held"

    run(test())


def test_hold_can_end_with_an_answer() -> None:
    """A request held for its time is answered as the rule says, without reaching the upstream."""

    async def test() -> None:
        async with lab(echo) as gateway:
            await gateway.put("late", {"do": "hold", "seconds": 0.01, "then": status(504)})

            assert (await gateway.post_commit()).status == 504
            assert gateway.upstream.seen == []

    run(test())


async def _until_open(gateway: Any, count: int) -> None:
    while (await gateway.control("GET", "/healthz")).json["open_requests"] < count:
        pass


# refuse


def test_refused_request_is_answered_as_r2_does_and_never_forwarded() -> None:
    """A refusal on the S3 side has R2's XML, its code and Retry-After."""

    async def test() -> None:
        async with lab(echo) as gateway:
            await gateway.put("storm", {"do": "refuse", "answer": status(429, retry_after_s=3)}, object="data-file")
            reply = await call(gateway.r2, "PUT", KEY, b"x" * 1_000_000)

            assert (
                reply.status,
                reply.headers["retry-after"],
                reply.headers["content-type"],
            ) == (429, "3", "application/xml")
            assert b"<Code>TooManyRequests</Code>" in reply.body
            assert gateway.upstream.seen == []
            assert (await gateway.log.line(n=1))["outcome"] == "refused"

    run(test())


def test_refused_commit_is_answered_as_a_catalog_does() -> None:
    """A refusal on the catalog side has the error document of the REST specification."""

    async def test() -> None:
        async with lab(echo) as gateway:
            await gateway.put("no", {"do": "refuse", "answer": status(403)}, object="commit", verb="post")
            reply = await gateway.post_commit()

            assert (
                reply.status,
                reply.json["error"],
            ) == (403, {"message": "Injected by the gateway.", "type": "ForbiddenException", "code": 403})
            assert (await gateway.get_table()).status == 200

    run(test())


@pytest.mark.parametrize("code", [502, 504, 520, 524])
def test_statuses_of_load_balancers_come_as_html(code: int) -> None:
    """502, 504 and Cloudflare's own codes are not written by a catalog, so they carry a page."""

    async def test() -> None:
        async with lab(echo) as gateway:
            await gateway.put("edge", {"do": "refuse", "answer": status(code)})
            reply = await gateway.post_commit()

            assert (code, "text/html") == (reply.status, reply.headers["content-type"])

    run(test())


def test_body_and_headers_of_an_answer_can_be_given() -> None:
    """A rule's own body and fields are sent as they are."""

    async def test() -> None:
        async with lab(echo) as gateway:
            told = status(503, body="later", headers={"X-Why": "test", "Content-Type": "text/x"})
            await gateway.put("own", {"do": "refuse", "answer": told})
            reply = await gateway.post_commit()

            assert (
                reply.status,
                reply.body,
                reply.headers["x-why"],
                reply.headers["content-type"],
            ) == (503, b"later", "test", "text/x")

    run(test())


@pytest.mark.parametrize("how", ["close", "reset"])
def test_request_can_be_dropped_before_it_is_forwarded(how: str) -> None:
    """A refusal may be no answer at all."""

    async def test() -> None:
        async with lab(echo) as gateway:
            await gateway.put("gone", {"do": "refuse", "answer": {"answer": "drop", "how": how}})

            assert (await gateway.post_commit()).status is None
            assert gateway.upstream.seen == []

    run(test())


def test_success_can_be_made_up() -> None:
    """A catalog that says 200 without persisting: fabricated, and seen as refused in the log."""

    async def test() -> None:
        async with lab(echo) as gateway:
            await gateway.put("liar", {"do": "refuse", "answer": {"answer": "garbage", "body": "{}"}})
            reply = await gateway.post_commit()

            assert (reply.status, reply.body, gateway.upstream.seen) == (200, b"{}", [])
            assert (await gateway.log.line(n=1))["outcome"] == "refused"

    run(test())


def test_refusal_reaches_a_client_that_waits_for_100() -> None:
    """A client that has not sent its body yet gets the final answer instead of 100."""

    async def test() -> None:
        async with lab(echo) as gateway:
            await gateway.put("no", {"do": "refuse", "answer": status(403)})
            client = await Client.connect(gateway.r2)
            client.send("PUT", KEY, headers={"Content-Length": "4", "Expect": "100-continue"})

            assert (await client.receive()).status == 403
            client.close()

    run(test())


@pytest.mark.parametrize("code", [204, 304])
def test_made_up_status_without_body_leaves_the_connection_usable(code: int) -> None:
    """204 and 304 have no body, not even one of ours."""

    async def test() -> None:
        async with lab(echo) as gateway:
            await gateway.put("no", {"do": "refuse", "answer": status(code)}, first=1)
            client = await Client.connect(gateway.r2)
            client.send("DELETE", KEY)
            assert code == (await client.receive()).status
            client.send("PUT", KEY, b"next")

            assert (await client.receive()).body == b"next"
            client.close()

    run(test())


# combinations and bounds


def test_rules_that_combine_act_together_with_one_that_does_not() -> None:
    """A delay and a lost answer on one request: both are counted, both are named."""

    async def test() -> None:
        async with lab(FakeCatalog()) as gateway:
            await gateway.put("slow", {"do": "delay", "seconds": 0.001})
            await gateway.put("lost", LOST, object="commit")

            assert (await gateway.post_commit(commit("a", 0))).status is None
            line = await gateway.log.line(n=1)
            assert (line["rule"], line["rules"]) == ("lost", ["slow", "lost"])
            assert ((await gateway.counters("slow"))["applied"], (await gateway.counters("lost"))["applied"]) == (1, 1)

    run(test())


def test_of_two_rules_for_one_request_the_first_put_acts() -> None:
    """The later one counts the request as passed."""

    async def test() -> None:
        async with lab(FakeCatalog()) as gateway:
            await gateway.put("first", {"do": "refuse", "answer": status(503)})
            await gateway.put("second", {"do": "refuse", "answer": status(500)})

            assert (await gateway.post_commit(commit("a", 0))).status == 503
            assert await gateway.counters("second") == {"matched": 1, "applied": 0, "passed": 1}

    run(test())


@pytest.mark.parametrize(
    "action",
    [
        {"do": "applied", "times": 2, "then": {"answer": "real"}},
        {"do": "zombie", "answer": {"answer": "drop"}},
    ],
    ids=["twice", "zombie"],
)
@pytest.mark.parametrize("framing", ["length", "chunks"])
def test_body_too_large_to_hold_passes_untouched(action: dict[str, Any], framing: str) -> None:
    """Memory stays bounded: what cannot be kept whole is streamed, and the rule says that it passed."""
    content = b"b" * 300_000
    chunked = b"493e0\r\n" + content + b"\r\n0\r\n\r\n"

    async def test() -> None:
        async with lab(echo) as gateway:
            gateway.running.gateway.held_bytes = 100_000
            await gateway.put("big", action)
            if framing == "length":
                reply = await call(gateway.r2, "PUT", KEY, content)
            else:
                reply = await call(gateway.r2, "PUT", KEY, chunked, {"Transfer-Encoding": "chunked"})

            assert (200, content) == (reply.status, reply.body)
            assert await gateway.counters("big") == {"matched": 1, "applied": 0, "passed": 1}

    run(test())


def test_permissions_can_be_lost_by_verb_and_kind() -> None:
    """Reads of manifest lists are forbidden while everything else works: the health check that writes sees nothing."""

    async def test() -> None:
        async with lab(echo) as gateway:
            await gateway.put(
                "acl", {"do": "refuse", "answer": status(403)}, verb=["GET", "HEAD"], object="manifest-list"
            )
            client = await Client.connect(gateway.r2)
            told = {}
            for verb, target in (("HEAD", MANIFEST_LIST), ("GET", MANIFEST_LIST), ("PUT", MANIFEST_LIST), ("GET", KEY)):
                client.send(verb, target)
                told[verb, target] = (await client.receive(verb=verb)).status

            assert list(told.values()) == [403, 403, 200, 200]
            client.close()

    run(test())
