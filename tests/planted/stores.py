"""Planted bugs towards the object store; each is the naive collector with one difference."""

from __future__ import annotations

import http.client
import os
import socket
from collections.abc import Callable
from contextlib import closing
from typing import Any
from urllib.parse import SplitResult, urlsplit

import boto3  # type: ignore[import-untyped]
from pyarrow.fs import AwsStandardS3RetryStrategy

from tests.planted.flushing import gives_up
from tests.planted.naive import append, flushes_by, refreshed, taken

PATIENCE_S = 1.0


class OneAttempt(AwsStandardS3RetryStrategy):  # type: ignore[misc]  # pyarrow has no types
    """An object client that does not try again by itself."""

    def __init__(self) -> None:
        super().__init__(max_attempts=1)


def asks_once(naive: Any) -> None:
    """Ask the object store once, without the client's own retries, and drop the batch when that fails."""
    load = naive.load_catalog
    strategy = f"{__name__}.{OneAttempt.__name__}"
    naive.load_catalog = lambda name, **given: load(name, **given, **{"s3.retry-strategy-impl": strategy})
    gives_up(naive)


def writes_one_key(naive: Any) -> None:
    """Write a marker under one key after each flush, and take its refusal for the flush's."""

    def confirm(table: Any) -> None:
        with table.io.new_output(f"{table.location()}/_LAST_FLUSH").create(overwrite=True) as stream:
            stream.write(str(table.metadata.current_snapshot_id).encode())

    _confirms(naive, confirm)


def reads_back_once(naive: Any) -> None:
    """Read the manifest list back after each flush, and take the first piece that comes for all of it."""

    def confirm(table: Any) -> None:
        connection = http.client.HTTPConnection(_store().netloc, timeout=10)
        with closing(connection):
            connection.request("GET", _manifest_list_url(table))
            answer = connection.getresponse()
            length = int(answer.headers["Content-Length"])
            if len(answer.read1(length)) != length:
                raise OSError("the manifest list was not stored whole")

    _confirms(naive, confirm)


def waits_for_the_end(naive: Any) -> None:
    """Read the manifest list back after each flush to the end of the connection, with a second's patience for that."""

    def confirm(table: Any) -> None:
        store = _store()
        request = f"GET {_manifest_list_url(table)} HTTP/1.1\r\nHost: {store.netloc}\r\nConnection: close\r\n\r\n"
        with socket.create_connection((store.hostname or "", store.port or 80), timeout=PATIENCE_S) as connection:
            connection.sendall(request.encode())
            while connection.recv(65_536):
                pass

    _confirms(naive, confirm)


def _store() -> SplitResult:
    return urlsplit(os.environ["S3_ENDPOINT"])


def _manifest_list_url(table: Any) -> str:
    """Return path and signed query of the current manifest list."""
    place = urlsplit(table.metadata.current_snapshot().manifest_list)
    client = boto3.client("s3", endpoint_url=os.environ["S3_ENDPOINT"], region_name=os.environ["S3_REGION"])
    where = {"Bucket": place.netloc, "Key": place.path.lstrip("/")}
    url = urlsplit(client.generate_presigned_url("get_object", Params=where))
    return f"{url.path}?{url.query}"


def _confirms(naive: Any, confirm: Callable[[Any], None]) -> None:
    """Let a flush that cannot be confirmed count as one that failed, so that it is made again."""

    def attempt(table: Any, rows: list[dict[str, str]]) -> bool:
        while True:
            try:
                append(naive, table, rows)
                confirm(table)
            except Exception as error:
                print(f"flush failed, trying again: {error!r}", flush=True)
                refreshed(table)
            else:
                return True

    flushes_by(naive, attempt, take=taken)
