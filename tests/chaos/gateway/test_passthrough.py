"""Without rules the gateway is a plain forwarder: nothing is changed, nothing is kept, nobody is kept waiting."""

from __future__ import annotations

import asyncio

import pytest

from chaos.gateway.body import HIGH_WATER_BYTES
from tests.chaos.gateway.fakes import TABLE, Client, Seen, call, lab, plain, run

MEGABYTE = bytes(range(256)) * 4096
KEY = "/bucket/ns/events/data/one.parquet"


def echo(request: Seen) -> bytes:
    return plain(200, request.body, X_Verb=request.verb)


@pytest.mark.parametrize("body", [b"", b"small", MEGABYTE * 3], ids=["empty", "small", "3 MiB"])
def test_bodies_arrive_unchanged_in_both_directions(body: bytes) -> None:
    """What the client sends reaches the upstream byte for byte, and so does the answer the client."""

    async def test() -> None:
        async with lab(echo) as gateway:
            reply = await call(gateway.r2, "PUT", KEY, body)

            assert (200, True, body) == (reply.status, reply.whole, reply.body)
            assert body == gateway.upstream.seen[0].body

    run(test())


def test_head_is_forwarded_as_sent_but_for_the_connection() -> None:
    """Host, signature and query stay as the client wrote them; fields about the client's connection do not."""

    async def test() -> None:
        async with lab(echo) as gateway:
            sent = {
                "Host": "127.0.0.1:18333",
                "Authorization": "AWS4 x",
                "X-Amz-Date": "now",
                "Connection": "keep-alive",
            }
            await call(gateway.r2, "GET", KEY + "?x-id=GetObject&a=%2F", headers=sent)

            seen = gateway.upstream.seen[0]
            assert seen.target == KEY + "?x-id=GetObject&a=%2F"
            assert tuple(seen.headers[name] for name in ("host", "authorization", "x-amz-date")) == (
                "127.0.0.1:18333",
                "AWS4 x",
                "now",
            )
            assert "connection" not in seen.headers

    run(test())


def test_chunked_bodies_stay_chunked() -> None:
    """A body without a length keeps its framing in both directions."""

    def chunked(request: Seen) -> bytes:
        assert request.headers["transfer-encoding"] == "chunked"
        return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"

    async def test() -> None:
        async with lab(chunked) as gateway:
            reply = await call(
                gateway.r2, "PUT", KEY, b"4\r\nwxyz\r\n0\r\nx-sum: 1\r\n\r\n", {"Transfer-Encoding": "chunked"}
            )

            assert (gateway.upstream.seen[0].body, gateway.upstream.seen[0].whole) == (b"wxyz", True)
            assert (reply.body, reply.whole, reply.headers["transfer-encoding"]) == (b"abcde", True, "chunked")

    run(test())


def test_answer_that_ends_with_the_connection_arrives_whole() -> None:
    """An upstream that frames its answer by closing is understood."""

    async def test() -> None:
        async with lab(echo) as gateway:

            async def old_server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(b"HTTP/1.1 200 OK\r\n\r\n" + b"until the end")
                writer.close()

            gateway.upstream.serve = old_server  # type: ignore[method-assign]
            reply = await call(gateway.r2, "GET", KEY)

            assert (reply.status, reply.whole, reply.body) == (200, True, b"until the end")

    run(test())


@pytest.mark.parametrize(("verb", "status"), [("HEAD", 200), ("DELETE", 204), ("GET", 304)])
def test_answers_without_body_leave_the_connection_usable(verb: str, status: int) -> None:
    """HEAD, 204 and 304 have no body, whatever length they tell; the next request on the connection works."""

    def bodyless(request: Seen) -> bytes:
        length = "" if request.verb == "DELETE" else "Content-Length: 5000\r\n"
        return f"HTTP/1.1 {status} Said\r\n{length}\r\n".encode() if request.verb == verb else echo(request)

    async def test() -> None:
        async with lab(bodyless) as gateway:
            client = await Client.connect(gateway.r2)
            for _ in range(2):
                client.send(verb, KEY)
                assert status == (await client.receive(verb=verb)).status
            client.send("PUT", KEY, b"after")

            assert (await client.receive()).body == b"after"
            assert gateway.upstream.connections == 1
            client.close()

    run(test())


def test_connections_are_kept_on_both_sides() -> None:
    """Many requests of one client use one connection to the gateway and one to the upstream."""

    async def test() -> None:
        async with lab(echo) as gateway:
            client = await Client.connect(gateway.r2)
            for number in range(20):
                client.send("PUT", KEY, b"%d" % number)
                assert b"%d" % number == (await client.receive()).body

            assert gateway.upstream.connections == 1
            client.close()

    run(test())


def test_requests_sent_ahead_are_answered_in_order() -> None:
    """Pipelined requests get their answers in the order of the requests."""

    async def test() -> None:
        async with lab(echo) as gateway:
            client = await Client.connect(gateway.r2)
            for number in range(5):
                client.send("PUT", KEY, b"%d" % number)

            assert [(await client.receive()).body for _ in range(5)] == [b"0", b"1", b"2", b"3", b"4"]
            client.close()

    run(test())


def test_client_that_waits_for_100_gets_it_from_the_upstream() -> None:
    """Expect: 100-continue is forwarded, and the body follows once the upstream wants it."""

    async def test() -> None:
        async with lab(echo) as gateway:
            client = await Client.connect(gateway.r2)
            client.send("PUT", KEY, headers={"Content-Length": "4", "Expect": "100-continue"})
            assert (await client.reader.readuntil(b"\r\n\r\n"))[:12] == b"HTTP/1.1 100"
            client.writer.write(b"body")

            assert (await client.receive()).body == b"body"
            client.close()

    run(test())


def test_old_client_gets_an_answer_it_can_read() -> None:
    """An HTTP/1.0 client gets a chunked answer unframed, ended by the connection."""

    def chunked(_: Seen) -> bytes:
        return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"

    async def test() -> None:
        async with lab(chunked) as gateway:
            client = await Client.connect(gateway.r2)
            client.writer.write(f"GET {KEY} HTTP/1.0\r\n\r\n".encode())

            assert (await client.reader.read()).endswith(b"\r\n\r\nabc")
            client.close()

    run(test())


def test_dead_upstream_ends_the_connection_without_an_answer() -> None:
    """A refused upstream looks like a broken connection: the gateway never makes up a 502 of its own."""

    async def test() -> None:
        dead = [{"name": "catalog", "listen": "127.0.0.1:0", "upstream": "http://127.0.0.1:1"}]
        async with lab(echo, listeners=dead) as gateway:
            reply = await call(gateway.catalog, "POST", TABLE, b"{}")

            assert reply.status is None
            assert (await gateway.log.line(n=1))["outcome"] == "upstream-error"

    run(test())


def test_upstream_that_breaks_off_breaks_off_the_client() -> None:
    """A body shorter than its length reaches the client shorter than its length."""

    def broken(_: Seen) -> bytes:
        return b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\nConnection: close\r\n\r\nonly this"

    async def test() -> None:
        async with lab(broken) as gateway:
            client = await Client.connect(gateway.r2)
            client.send("GET", KEY)
            head = await client.reader.readuntil(b"\r\n\r\n")
            await gateway.upstream.until(lambda: bool(gateway.upstream.seen))
            for writer in list(gateway.upstream.open):
                writer.close()

            assert b"Content-Length: 100" in head
            line = await gateway.log.line(n=1)
            assert (line["outcome"], line["upstream_status"]) == ("upstream-error", 200)
            client.close()

    run(test())


@pytest.mark.parametrize(("verb", "times"), [("GET", 2), ("POST", 1)])
def test_only_reads_are_sent_again_over_a_dead_connection(verb: str, times: int) -> None:
    """When a kept connection dies under a request, a read is repeated and a write is not, since it may have been applied."""
    answers = iter([True, False, True])

    def flaky(request: Seen) -> bytes:
        return echo(request) if next(answers) else b""

    async def test() -> None:
        async with lab(flaky) as gateway:
            assert (await call(gateway.catalog, "GET", TABLE)).status == 200
            reply = await call(gateway.catalog, verb, TABLE)

            assert (200 if times == 2 else None) == reply.status
            assert 1 + times == len(gateway.upstream.seen)

    run(test())


def test_client_that_goes_away_takes_its_upstream_request_along() -> None:
    """The upstream sees the end of a connection whose client is gone, as it would without the gateway."""

    async def never(_: Seen) -> bytes:
        await asyncio.Event().wait()
        return b""

    async def test() -> None:
        async with lab(never) as gateway:
            client = await Client.connect(gateway.r2)
            client.send("GET", KEY)
            await gateway.upstream.until(lambda: bool(gateway.upstream.seen))
            client.close()

            line = await gateway.log.line(n=1)
            assert (line["outcome"], line["status"]) == ("client-gone", None)

    run(test())


def test_upload_that_breaks_off_never_looks_whole() -> None:
    """A client that dies in its upload leaves the upstream with a broken body, never with a shorter one."""

    async def test() -> None:
        async with lab(echo) as gateway:
            client = await Client.connect(gateway.r2)
            client.send("PUT", KEY, headers={"Content-Length": "1000000"}, body=b"x" * 1000)
            await gateway.upstream.until(lambda: gateway.upstream.connections == 1)
            client.writer.transport.abort()
            await gateway.upstream.until(lambda: bool(gateway.upstream.seen))

            assert not gateway.upstream.seen[0].whole
            assert (await gateway.log.line(n=1))["outcome"] == "client-gone"

    run(test())


def test_client_that_dies_with_a_backlog_does_not_break_the_gateway() -> None:
    """What a dead client had sent ahead of a slow upstream is given up, and others are served."""

    async def test() -> None:
        async with lab(echo) as gateway:
            gateway.upstream.read_bodies.clear()
            client = await Client.connect(gateway.r2)
            client.send("PUT", KEY, headers={"Content-Length": "100000000"})
            await _send_until_stuck(client, 50_000_000)
            client.writer.transport.abort()
            gateway.upstream.read_bodies.set()
            await gateway.upstream.until(lambda: bool(gateway.upstream.seen))

            assert not gateway.upstream.seen[0].whole
            assert (await gateway.log.line(n=1))["outcome"] == "client-gone"
            assert (await call(gateway.r2, "PUT", KEY, b"x")).status == 200

    run(test())


def test_upstream_that_closes_is_not_used_again() -> None:
    """An answer with Connection: close ends the use of its connection, even while the server keeps it open."""

    async def test() -> None:
        async with lab(lambda _: plain(200, b"x", Connection="close")) as gateway:
            for _ in range(2):
                reply = await call(gateway.r2, "GET", KEY)
                assert (reply.status, reply.headers.get("connection")) == (200, None)

            assert gateway.upstream.connections == 2

    run(test())


def test_early_answer_reaches_a_client_that_is_still_sending() -> None:
    """An upstream may refuse before it has read the body; the answer arrives and the connection ends."""

    async def test() -> None:
        async with lab(echo) as gateway:

            async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(plain(403, b"no"))
                await reader.read()
                writer.close()

            gateway.upstream.serve = refuse  # type: ignore[method-assign]
            client = await Client.connect(gateway.r2)
            client.send("PUT", KEY, headers={"Content-Length": "1000"}, body=b"x" * 10)
            reply = await client.receive()

            assert (reply.status, reply.body, reply.headers["connection"]) == (403, b"no", "close")
            assert await client.at_end()
            client.close()

    run(test())


def test_memory_is_bounded_when_the_upstream_does_not_read() -> None:
    """A client that uploads to a stuck upstream is stopped after a bounded number of bytes."""

    async def test() -> None:
        async with lab(echo) as gateway:
            gateway.upstream.read_bodies.clear()
            total = 64 * 1024 * 1024
            client = await Client.connect(gateway.r2)
            client.send("PUT", KEY, headers={"Content-Length": str(total)})
            client.writer.transport.set_write_buffer_limits(0)
            sent = await _send_until_stuck(client, total)
            exchange = next(iter(gateway.running.gateway._open))

            assert sent < total
            assert exchange.request.body._size <= 2 * HIGH_WATER_BYTES
            client.writer.transport.abort()

    run(test())


async def _send_until_stuck(client: Client, total: int) -> int:
    sent = 0
    while sent < total:
        client.writer.write(MEGABYTE)
        sent += len(MEGABYTE)
        try:
            await asyncio.wait_for(client.writer.drain(), 0.2)
        except TimeoutError:
            break
    return sent


@pytest.mark.parametrize(
    ("raw", "status"),
    [(b"nonsense\r\n\r\n", 400), (b"GET / HTTP/1.1\r\nX: " + b"y" * 70_000 + b"\r\n\r\n", 431)],
    ids=["not HTTP", "endless head"],
)
def test_what_is_not_a_request_is_refused(raw: bytes, status: int) -> None:
    """Garbage and endless heads get an error and the end of the connection; nothing reaches the upstream."""

    async def test() -> None:
        async with lab(echo) as gateway:
            client = await Client.connect(gateway.r2)
            client.writer.write(raw)

            assert status == (await client.receive()).status
            assert gateway.upstream.seen == []
            client.close()

    run(test())


def test_offer_to_upgrade_is_ignored() -> None:
    """A client that offers HTTP/2 over plain text, as Java's does, is served as HTTP/1.1."""

    async def test() -> None:
        async with lab(echo) as gateway:
            offer = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": "AAA"}
            client = await Client.connect(gateway.catalog)
            for _ in range(2):
                client.send("GET", TABLE, headers=offer)
                assert (await client.receive()).status == 200
            assert "upgrade" not in gateway.upstream.seen[0].headers
            client.close()

    run(test())
