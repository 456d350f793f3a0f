"""Kinds of objects, told from verb, path and query."""

from __future__ import annotations

import pytest

from chaos.gateway.objects import KINDS, key_of, kind_of, redacted

UUID = "4ea50cb0-a1e8-44c7-8632-7d101350b546"
TABLE = "/analytics/run_1/events"
REST = "/v1/analytics/namespaces/run_1"


@pytest.mark.parametrize(
    ("verb", "target", "kind"),
    [
        ("PUT", f"{TABLE}/data/00000-0-{UUID}.parquet", "data-file"),
        ("PUT", f"{TABLE}/data/time_hour=2026-11-24-20/flush-c1-7-88.parquet?partNumber=2&uploadId=u", "data-file"),
        ("POST", f"{TABLE}/data/00000-0-{UUID}.parquet?uploads", "data-file"),
        ("PUT", f"{TABLE}/data/00000-0-{UUID}.orc", "data-file"),
        ("PUT", f"{TABLE}/data/00000-0-{UUID}.avro", "data-file"),
        ("PUT", f"{TABLE}/metadata/{UUID}-m0.avro", "manifest"),
        ("POST", f"{TABLE}/metadata/flush-c1-7-88-0-m0.avro?uploadId=u", "manifest"),
        ("GET", f"{TABLE}/metadata/optimized-m-{UUID}.avro", "manifest"),
        ("PUT", f"{TABLE}/metadata/snap-6978593679566374800-0-{UUID}.avro", "manifest-list"),
        ("HEAD", f"{TABLE}/metadata/snap-12-1-0f3a.avro", "manifest-list"),
        ("PUT", f"{TABLE}/metadata/00001-{UUID}.metadata.json", "metadata"),
        ("PUT", f"{TABLE}/metadata/00001-{UUID}.gz.metadata.json", "metadata"),
        ("GET", f"{TABLE}/metadata/version-hint.text", "metadata"),
        ("GET", f"{TABLE}/metadata/{UUID}.stats", "other-object"),
        ("GET", "/analytics?list-type=2&prefix=run_1", "list"),
        ("GET", "/analytics/?uploads", "list"),
        ("HEAD", "/analytics", "list"),
        ("GET", "/", "list"),
        ("POST", "/analytics?delete", "other-object"),
        ("PUT", "/analytics", "other-object"),
        ("GET", "/analytics?location", "other-object"),
    ],
)
def test_s3_objects_are_known_by_their_keys(verb: str, target: str, kind: str) -> None:
    """The names that pyiceberg, Java writers and the reference collector give their files."""
    path, _, query = target.partition("?")

    assert kind == kind_of("s3", verb, path, query)


@pytest.mark.parametrize(
    ("verb", "path", "kind"),
    [
        ("POST", f"{REST}/tables/events", "commit"),
        ("POST", "/v1/namespaces/a%1Fb/tables/events", "commit"),
        ("POST", "/iceberg/v1/one/two/namespaces/run_1/tables/events", "commit"),
        ("POST", "/v1/analytics/transactions/commit", "commit"),
        ("GET", f"{REST}/tables/events", "load-table"),
        ("HEAD", f"{REST}/tables/events", "load-table"),
        ("DELETE", f"{REST}/tables/events", "drop-table"),
        ("POST", f"{REST}/tables", "create-table"),
        ("GET", f"{REST}/tables", "other-catalog"),
        ("POST", f"{REST}/tables/events/metrics", "other-catalog"),
        ("GET", f"{REST}/tables/events/credentials", "credentials"),
        ("POST", f"{REST}/register", "other-catalog"),
        ("POST", "/v1/analytics/namespaces", "namespace"),
        ("GET", REST, "namespace"),
        ("POST", f"{REST}/properties", "namespace"),
        ("POST", "/v1/oauth/tokens", "token"),
        ("GET", "/v1/config", "config"),
        ("POST", f"{REST}/views/v", "other-catalog"),
    ],
)
def test_catalog_requests_are_known_by_their_paths(verb: str, path: str, kind: str) -> None:
    """With and without a prefix, and below a base path."""
    assert kind == kind_of("iceberg", verb, path, "")
    assert kind in KINDS


def test_table_called_tables_is_a_table() -> None:
    """Unlucky names do not change the kind."""
    assert kind_of("iceberg", "POST", "/v1/namespaces/namespaces/tables/tables", "") == "commit"


def test_key_is_decoded() -> None:
    """The key is what follows the bucket, without URL encoding."""
    assert key_of("/bucket/a%20b/c%3Dd") == "a b/c=d"
    assert key_of("/bucket") == ""


def test_secrets_in_a_query_are_replaced() -> None:
    """A presigned URL leaves its signature, credential and token out of the log; the rest stays as it is."""
    query = "X-Amz-Signature=abc&X-Amz-Credential=AK%2Fx&x-amz-security-token=t&partNumber=1"
    shown = redacted("/b/k", query)

    assert shown == "/b/k?X-Amz-Signature=REDACTED&X-Amz-Credential=REDACTED&x-amz-security-token=REDACTED&partNumber=1"
    assert redacted("/b/k", "list-type=2&prefix=a%2Fb") == "/b/k?list-type=2&prefix=a%2Fb"
