"""Signing again for the real upstream, checked against botocore's signer."""

from __future__ import annotations

import hashlib
from typing import Any
from urllib.parse import quote

import botocore.auth  # type: ignore[import-untyped]
import botocore.awsrequest  # type: ignore[import-untyped]
import botocore.credentials  # type: ignore[import-untyped]
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chaos.gateway.aws_chunked import AwsChunkedDecoder
from chaos.gateway.body import Headers
from chaos.gateway.messages import find
from chaos.gateway.sigv4 import Credentials, Resigner
from tests.chaos.gateway.fakes import Seen, call, lab, plain, run

HOST = "account.r2.cloudflarestorage.com"
OWN = Credentials("AKOWN", "own-secret", "own-session")
NOW_S = 1_795_560_000.0
KEYS = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=20)


def resign(
    verb: str, target: str, headers: Headers, *, own: Credentials | None = OWN, vended: dict[str, str] | None = None
) -> Any:
    resigner = Resigner(own, region="auto", clock=lambda: NOW_S)
    if vended:
        resigner.learn(vended)
    return resigner.resign(verb, target.encode(), headers, HOST)


def expected_signature(verb: str, target: str, headers: Headers) -> str:
    """Return what botocore signs for the request as it goes out; it is shown the fields that are to be signed."""
    authorization = find(headers, b"authorization")
    assert authorization is not None
    names = authorization.partition(b"SignedHeaders=")[2].partition(b",")[0].split(b";")
    given_fields = {name.decode(): value.decode("latin-1") for name, value in headers if name.lower() in names}
    request = botocore.awsrequest.AWSRequest(method=verb, url=f"https://{HOST}{target}", headers=given_fields)
    credentials = botocore.credentials.Credentials(OWN.access_key, OWN.secret_key, OWN.session_token)
    signer = botocore.auth.S3SigV4Auth(credentials, "s3", "auto")
    request.context["timestamp"] = find(headers, b"x-amz-date").decode()  # type: ignore[union-attr]
    payload = find(headers, b"x-amz-content-sha256").decode()  # type: ignore[union-attr]
    signer.payload = lambda _: payload
    canonical = signer.canonical_request(request)
    return str(signer.signature(signer.string_to_sign(request, canonical), request))


def signature_of(headers: Headers) -> str:
    value = find(headers, b"authorization")
    assert value is not None
    return value.decode().rpartition("Signature=")[2]


@pytest.mark.parametrize(
    ("verb", "target"),
    [
        ("GET", "/bucket/ns/events/metadata/snap-1.avro"),
        ("PUT", "/bucket/data/ts_hour%3D2026-11-24-20/flush.parquet?partNumber=1&uploadId=a%2Bb%3D"),
        ("POST", "/bucket/data/f.parquet?uploads"),
        ("GET", "/bucket?list-type=2&prefix=a%2Fb%20c&delimiter=%2F"),
        ("HEAD", "/bucket/%E2%98%83~_-.x"),
    ],
)
def test_signature_is_botocores(verb: str, target: str) -> None:
    """The same canonical request and the same signature as the reference implementation."""
    headers: Headers = [
        (b"Host", b"127.0.0.1:18333"),
        (b"User-Agent", b"aws-sdk-cpp"),
        (b"Content-Type", b"application/xml"),
        (b"x-amz-content-sha256", hashlib.sha256(b"body").hexdigest().encode()),
        (b"x-amz-date", b"20200101T000000Z"),
        (b"x-amz-security-token", b"the client's"),
        (b"Authorization", b"AWS4-HMAC-SHA256 Credential=client/20200101/us-east-1/s3/aws4_request, Signature=00"),
    ]
    new_target, signed, decode = resign(verb, target, headers)

    assert (target.encode(), None) == (new_target, decode)
    assert HOST.encode() == find(signed, b"host")
    assert find(signed, b"x-amz-security-token") == b"own-session"
    assert expected_signature(verb, target, signed) == signature_of(signed)
    assert b"client" not in b"".join(value for _, value in signed)


@settings(deadline=None)
@given(key=KEYS, query=st.dictionaries(KEYS, KEYS, max_size=3))
def test_signature_is_botocores_for_any_key(key: str, query: dict[str, str]) -> None:
    """Keys and parameters with any characters are encoded as S3 does it: once."""
    fields = "&".join(f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}" for name, value in query.items())
    target = "/b/" + quote(key, safe="/-_.~") + ("?" + fields if fields else "")
    _, signed, _ = resign("GET", target, [])

    assert expected_signature("GET", target, signed) == signature_of(signed)


def test_unsigned_streaming_payload_stays_what_it_is() -> None:
    """pyarrow's chunks with a trailing checksum are not signed, so their framing survives."""
    payload = b"STREAMING-UNSIGNED-PAYLOAD-TRAILER"
    headers = [
        (b"x-amz-content-sha256", payload),
        (b"content-encoding", b"aws-chunked"),
        (b"x-amz-trailer", b"x-amz-sum"),
    ]
    _, signed, decode = resign("PUT", "/b/k", headers)

    assert (payload, b"aws-chunked", None) == (
        find(signed, b"x-amz-content-sha256"),
        find(signed, b"content-encoding"),
        decode,
    )
    assert expected_signature("PUT", "/b/k", signed) == signature_of(signed)


def test_presigned_url_is_signed_in_the_header_instead() -> None:
    """The query loses the fields of the old signature and keeps the others."""
    target, signed, _ = resign("GET", "/b/k?X-Amz-Credential=x%2Fy&X-Amz-Signature=00&partNumber=2&X-Amz-Date=d", [])

    assert target == b"/b/k?partNumber=2"
    assert expected_signature("GET", "/b/k?partNumber=2", signed) == signature_of(signed)


def test_vended_credentials_are_used_for_requests_made_with_them() -> None:
    """What the catalog vended signs again; other keys fall back to the configured pair."""
    vended = {"s3.access-key-id": "AKVENDED", "s3.secret-access-key": "v", "s3.session-token": "vended-session"}
    for key, expected in (("AKVENDED", b"vended-session"), ("AKOTHER", b"own-session")):
        authorization = f"AWS4-HMAC-SHA256 Credential={key}/20261124/auto/s3/aws4_request, Signature=0".encode()
        _, signed, _ = resign("GET", "/b/k", [(b"authorization", authorization)], vended=vended)

        assert expected == find(signed, b"x-amz-security-token")


def test_without_credentials_nothing_is_signed() -> None:
    """A request whose key is unknown goes out unsigned, to be refused by the upstream, not signed with somebody's key."""
    _, signed, _ = resign("GET", "/b/k", [(b"authorization", b"AWS4 Credential=AK/x")], own=None)

    assert find(signed, b"authorization") is None


def test_secrets_are_not_in_a_repr() -> None:
    """A traceback may print credentials; it shows the key's name only."""
    assert "secret" not in repr(OWN).replace("secret_key", "")
    assert "own-session" not in repr(OWN)


def framed(chunks: list[bytes]) -> bytes:
    signature = b";chunk-signature=" + b"0" * 64
    parts = [b"%x%s\r\n%s\r\n" % (len(chunk), signature, chunk) for chunk in chunks if chunk]
    return b"".join(parts) + b"0" + signature + b"\r\nx-amz-checksum-crc32:AAAA\r\n\r\n"


@settings(deadline=None)
@given(chunks=st.lists(st.binary(max_size=50)), cuts=st.lists(st.integers(1, 40)))
def test_signed_framing_comes_off_however_it_arrives(chunks: list[bytes], cuts: list[int]) -> None:
    """Any split of the stream gives the data, whole and in order."""
    stream, decoder, found = framed(chunks), AwsChunkedDecoder(), b""
    for size in [*cuts, len(stream)]:
        found += decoder.feed(stream[:size])
        stream = stream[size:]

    assert b"".join(chunks) == found


def test_endless_chunk_header_is_an_error() -> None:
    """A stream that is not framed does not fill the memory."""
    with pytest.raises(ValueError, match="too long"):
        AwsChunkedDecoder().feed(b"f" * 2000)


def test_gateway_signs_for_its_upstream_and_unframes_signed_chunks() -> None:
    """Through the gateway: new host, new signature, the plain body with its decoded length."""
    resign_config = {"access_key_env": "K", "secret_key_env": "S", "region": "auto"}
    content = [b"a" * 70_000, b"b" * 10]

    async def test() -> None:
        async with lab(lambda _: plain(200), resign=resign_config, environment={"K": "AKOWN", "S": "s"}) as gateway:
            await call(gateway.r2, "PUT", "/b/k.parquet", framed(content), {
                "Authorization": "AWS4-HMAC-SHA256 Credential=client/x/y/s3/aws4_request, Signature=0",
                "x-amz-content-sha256": "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER",
                "x-amz-decoded-content-length": "70010",
                "x-amz-trailer": "x-amz-checksum-crc32",
                "Content-Encoding": "aws-chunked",
            })  # fmt: skip
            seen: Seen = gateway.upstream.seen[0]

            assert (b"".join(content), "70010") == (seen.body, seen.headers["content-length"])
            assert seen.headers["x-amz-content-sha256"] == "UNSIGNED-PAYLOAD"
            assert seen.headers["host"] != "faulted:1"
            assert "Credential=AKOWN/" in seen.headers["authorization"]
            assert {"content-encoding", "x-amz-trailer", "x-amz-decoded-content-length"}.isdisjoint(seen.headers)

    run(test())
