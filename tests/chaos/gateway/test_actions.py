"""What each action of a rule does to a request, and what the log and the counters say of it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.chaos.gateway.fakes import TABLE, Client, FakeCatalog, Seen, call, commit, lab, plain, run

KEY = "/bucket/ns/events/data/one.parquet"
MANIFEST_LIST = "/bucket/ns/events/metadata/snap-1-0-u.avro"
LOST = {"do": "applied", "then": {"answer": "drop"}}


def echo(request: Seen) -> bytes:
    return plain(200, request.body)


def status(code: int, **fields: Any) -> dict[str, Any]:
    return {"answer": "status", "status": code, **fields}


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


# stale


def test_stale_catalog_answers_with_the_state_before_the_commit_for_n_reads() -> None:
    """After a commit the next n reads of the table show it without that commit; then the truth is back."""

    async def test() -> None:
        catalog = FakeCatalog()
        async with lab(catalog) as gateway:
            await gateway.post_commit(commit("a", 0))
            await gateway.put("stale", {"do": "stale", "reads": 2}, object="load-table")
            assert (await gateway.get_table()).json == {"landed": ["a"]}
            await gateway.post_commit(commit("b", 1))

            seen = [(await gateway.get_table()).json["landed"] for _ in range(3)]
            assert seen == [["a"], ["a"], ["a", "b"]]
            assert (await gateway.log.line(outcome="stale"))["outcome"] == "stale"
            assert await gateway.counters("stale") == {"matched": 4, "applied": 2, "passed": 2}

    run(test())


def test_stale_state_does_not_move_with_later_commits() -> None:
    """The state stays the one before the first commit until it is spent, so every refresh of a retry loop is stale."""

    async def test() -> None:
        async with lab(FakeCatalog()) as gateway:
            await gateway.put("stale", {"do": "stale"}, object="load-table")
            for number, name in enumerate("abc"):
                await gateway.post_commit(commit(name, number))

            assert (await gateway.get_table()).json == {"landed": []}

    run(test())


def test_stale_state_ends_with_its_time() -> None:
    """Seconds bound it as well; they count from the commit."""

    async def test() -> None:
        async with lab(FakeCatalog()) as gateway:
            await gateway.put("stale", {"do": "stale", "seconds": 30}, object="load-table")
            await gateway.post_commit(commit("a", 0))
            gateway.clock.now_s += 29
            assert (await gateway.get_table()).json == {"landed": []}
            gateway.clock.now_s += 2

            assert (await gateway.get_table()).json == {"landed": ["a"]}

    run(test())


def test_spent_stale_rule_can_arm_again() -> None:
    """With `repeat` the next commit begins a new stale period."""

    async def test() -> None:
        async with lab(FakeCatalog()) as gateway:
            await gateway.put("stale", {"do": "stale", "reads": 1, "repeat": True}, object="load-table")
            await gateway.post_commit(commit("a", 0))
            first = [(await gateway.get_table()).json["landed"] for _ in range(2)]
            await gateway.post_commit(commit("b", 1))
            second = [(await gateway.get_table()).json["landed"] for _ in range(2)]

            assert [first, second] == [[[], ["a"]], [["a"], ["a", "b"]]]

    run(test())


def test_stale_rule_can_freeze_what_it_first_sees() -> None:
    """With since rule, the first answer after the rule was put is the one that is repeated."""

    async def test() -> None:
        async with lab(FakeCatalog()) as gateway:
            await gateway.put("frozen", {"do": "stale", "since": "rule"}, object="load-table")
            await gateway.post_commit(commit("a", 0))
            await gateway.get_table()
            await gateway.post_commit(commit("b", 1))

            assert (await gateway.get_table()).json == {"landed": ["a"]}

    run(test())


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
