"""What a request is about: the kind of object it reads or writes, told from verb, path and query alone.

S3 kinds follow the names that Iceberg writers give their files: `snap-*.avro` is a manifest list, any other `*.avro` under
`metadata/` a manifest, `*.metadata.json` table metadata, `*.parquet` and `*.orc` data (delete files too). The parts of a
multipart upload belong to the kind of their key. Catalog kinds follow the paths of the Iceberg REST specification, with or
without a prefix.
"""

from __future__ import annotations

import re
from functools import lru_cache
from urllib.parse import parse_qsl, quote, unquote

S3_KINDS = ("data-file", "manifest", "manifest-list", "metadata", "list", "other-object")
CATALOG_KINDS = (
    "commit", "load-table", "create-table", "drop-table", "namespace", "token", "config", "credentials", "other-catalog",
)  # fmt: skip
KINDS = frozenset(S3_KINDS + CATALOG_KINDS)

_TABLE = re.compile(r"(?:^|/)v1/(?:.+?/)?namespaces/[^/]+/tables/[^/]+$")
_TABLES = re.compile(r"(?:^|/)v1/(?:.+?/)?namespaces/[^/]+/tables$")
_CREDENTIALS = re.compile(r"(?:^|/)v1/(?:.+?/)?namespaces/[^/]+/tables/[^/]+/credentials$")
_TRANSACTION = re.compile(r"(?:^|/)v1/(?:.+/)?transactions/commit$")
_NAMESPACE = re.compile(r"(?:^|/)v1/(?:.+?/)?namespaces(?:/[^/]+(?:/properties)?)?$")
_TABLE_VERBS = {"GET": "load-table", "HEAD": "load-table", "POST": "commit", "DELETE": "drop-table"}
_SECRET_QUERY = frozenset(("x-amz-signature", "x-amz-credential", "x-amz-security-token", "signature", "token"))


def kind_of(protocol: str, verb: str, path: str, query: str) -> str:
    """Return the kind of object; *protocol* is "s3" or "iceberg"."""
    return _s3_kind(verb, path, query) if protocol == "s3" else _catalog_kind(verb, path)


def key_of(path: str) -> str:
    """Return the decoded object key of a path-style S3 path, "" for the bucket itself."""
    return unquote(path.lstrip("/").partition("/")[2])


@lru_cache(maxsize=4096)
def _s3_kind(verb: str, path: str, query: str) -> str:
    key = key_of(path)
    if not key:
        listing = verb in ("GET", "HEAD") and "location" not in query
        return "list" if listing else "other-object"
    name = key.rpartition("/")[2]
    if name.endswith((".metadata.json", ".metadata.json.gz")) or name == "version-hint.text":
        return "metadata"
    if name.endswith(".avro"):
        return _avro_kind(key, name)
    return "data-file" if name.endswith((".parquet", ".orc")) else "other-object"


def _avro_kind(key: str, name: str) -> str:
    if name.startswith("snap-"):
        return "manifest-list"
    return "data-file" if "/data/" in key and "/metadata/" not in key else "manifest"


@lru_cache(maxsize=4096)
def _catalog_kind(verb: str, path: str) -> str:
    path = path.rstrip("/")
    if _TABLE.search(path):
        return _TABLE_VERBS.get(verb, "other-catalog")
    if _TRANSACTION.search(path):
        return "commit"
    if _TABLES.search(path):
        return "create-table" if verb == "POST" else "other-catalog"
    if _CREDENTIALS.search(path):
        return "credentials"
    if path.endswith("/oauth/tokens"):
        return "token"
    if path.endswith("v1/config"):
        return "config"
    return "namespace" if _NAMESPACE.search(path) else "other-catalog"


def redacted(path: str, query: str) -> str:
    """Return path and query with the values of signatures, credentials and tokens replaced."""
    if not query:
        return path
    if not any(word in query.lower() for word in ("signature", "credential", "token")):
        return f"{path}?{query}"
    fields = (
        (name, "REDACTED" if name.lower() in _SECRET_QUERY else value)
        for name, value in parse_qsl(query, keep_blank_values=True)
    )
    return path + "?" + "&".join(f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}" for name, value in fields)
