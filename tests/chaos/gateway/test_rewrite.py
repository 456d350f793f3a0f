"""Catalog answers never lead a client round the faulted path."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest

from tests.chaos.gateway.fakes import TABLE, Seen, call, lab, plain, run

FAULTED = "http://127.0.0.1:18333"
DIRECT = "http://127.0.0.1:8333"
TABLE_ANSWER = {
    "metadata-location": "s3://b/t/metadata/00001.metadata.json",
    "metadata": {
        "properties": {"s3.endpoint": "a table property is data"},
        "last-sequence-number": 2**63 - 1,
        "x": 0.1,
    },
    "config": {"s3.endpoint": DIRECT, "s3.region": "auto"},
    "storage-credentials": [{"prefix": "s3://b/", "config": {"s3.endpoint": DIRECT, "s3.access-key-id": "AK"}}],
}


@pytest.mark.parametrize(
    ("verb", "path"), [("GET", TABLE), ("POST", "/v1/bucket/namespaces/ns/tables"), ("GET", TABLE + "/credentials")]
)
def test_s3_endpoint_is_replaced_wherever_a_catalog_tells_it(verb: str, path: str) -> None:
    """Configuration and vended credentials point at the faulted path, the length fits, and metadata is left alone."""

    async def test() -> None:
        async with lab(lambda _: plain(200, json.dumps(TABLE_ANSWER).encode()), rewrite_s3_endpoint=FAULTED) as gateway:
            reply = await call(gateway.catalog, verb, path, b"{}")

            expected = json.loads(json.dumps(TABLE_ANSWER).replace(DIRECT, FAULTED))
            assert (True, expected) == (reply.whole, reply.json)
            assert len(reply.body) == (await gateway.log.line(n=1))["answer_bytes"]

    run(test())


def test_server_configuration_is_rewritten() -> None:
    """Defaults and overrides of GET /v1/config too."""
    answer = {"defaults": {"s3.endpoint": DIRECT}, "overrides": {"s3.endpoint": DIRECT, "prefix": "b"}}

    async def test() -> None:
        async with lab(lambda _: plain(200, json.dumps(answer).encode()), rewrite_s3_endpoint=FAULTED) as gateway:
            told = (await call(gateway.catalog, "GET", "/v1/config?warehouse=w")).json

            assert told == {"defaults": {"s3.endpoint": FAULTED}, "overrides": {"s3.endpoint": FAULTED, "prefix": "b"}}

    run(test())


def test_compressed_answer_is_rewritten_plain() -> None:
    """A gzip answer is read, rewritten and sent without compression."""

    def compressed(_: Seen) -> bytes:
        return plain(200, gzip.compress(json.dumps(TABLE_ANSWER).encode()), Content_Encoding="gzip")

    async def test() -> None:
        async with lab(compressed, rewrite_s3_endpoint=FAULTED) as gateway:
            reply = await gateway.get_table()

            assert reply.json["config"]["s3.endpoint"] == FAULTED
            assert "content-encoding" not in reply.headers

    run(test())


@pytest.mark.parametrize(
    "content",
    [b'{"config": {"s3.region": "auto"},   "metadata": {}}', b"not json but s3.endpoint", b'["s3.endpoint"]', b""],
)
def test_answer_without_an_address_keeps_every_byte(content: bytes) -> None:
    """What has nothing to replace is not reformatted."""

    async def test() -> None:
        async with lab(lambda _: plain(200, content, ETag='"e"'), rewrite_s3_endpoint=FAULTED) as gateway:
            reply = await gateway.get_table()

            assert (content, '"e"') == (reply.body, reply.headers["etag"])

    run(test())


def test_s3_answers_are_not_looked_at() -> None:
    """An object may contain anything."""
    content = json.dumps(TABLE_ANSWER).encode()

    async def test() -> None:
        async with lab(lambda _: plain(200, content), rewrite_s3_endpoint=FAULTED) as gateway:
            assert content == (await call(gateway.r2, "GET", TABLE)).body

    run(test())


def test_stale_answers_are_rewritten_as_well() -> None:
    """What the gateway reads itself takes the same way as what a client reads."""

    async def test() -> None:
        async with lab(lambda _: plain(200, json.dumps(TABLE_ANSWER).encode()), rewrite_s3_endpoint=FAULTED) as gateway:
            await gateway.put("stale", {"do": "stale"}, object="load-table")
            await gateway.post_commit()
            reply = await gateway.get_table()

            assert reply.json["config"]["s3.endpoint"] == FAULTED
            assert (await gateway.log.line(n=2))["outcome"] == "stale"

    run(test())


def test_vended_credentials_of_a_table_sign_its_requests() -> None:
    """A client that was vended a key by the catalog is signed with that key again, for the upstream's own host."""
    config: dict[str, Any] = {"s3.access-key-id": "AKV", "s3.secret-access-key": "v", "s3.session-token": "tok"}

    async def test() -> None:
        answer = plain(200, json.dumps({"config": config}).encode())
        async with lab(lambda _: answer, resign={"region": "auto"}) as gateway:
            await gateway.get_table()
            signed = "AWS4-HMAC-SHA256 Credential=AKV/20261124/auto/s3/aws4_request, Signature=0"
            await call(gateway.r2, "GET", "/b/k", headers={"Authorization": signed, "x-amz-security-token": "tok"})
            seen = gateway.upstream.seen[1].headers

            assert "Credential=AKV/" in seen["authorization"]
            assert signed != seen["authorization"]
            assert seen["x-amz-security-token"] == "tok"

    run(test())
