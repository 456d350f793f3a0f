"""What credentials may do below a table's prefix, tried with a scratch object that is removed again. S3 and what speaks it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlparse

import boto3  # type: ignore[import-untyped]
from botocore.config import Config  # type: ignore[import-untyped]
from botocore.exceptions import BotoCoreError, ClientError  # type: ignore[import-untyped]

from chaos.table.errors import StoreFailed, sentence

TIMEOUT_S = 10
_DENIED = ("AccessDenied", "Forbidden", "Unauthorized", "403", "401", "InvalidAccessKeyId", "SignatureDoesNotMatch")
_PRECONDITION = ("PreconditionFailed", "412")


@dataclass(frozen=True)
class Permission:
    """One operation that was tried.

    Attributes:
        allowed: None when the store did not answer.
        detail: What it answered instead of doing it.
    """

    operation: str
    allowed: bool | None
    detail: str = ""


@dataclass(frozen=True)
class Upload:
    """A multipart upload that was neither completed nor aborted; `started_s` in seconds since 1970."""

    key: str
    started_s: float


def is_s3(location: str) -> bool:
    """Tell whether a table at *location* keeps its objects in S3."""
    return urlparse(location).scheme in ("s3", "s3a", "s3n")


class Preflight:
    """Tries operations below one prefix.

    Args:
        properties: Of pyiceberg's S3 FileIO; where keys are missing, boto3 looks for credentials as it always does.
        token: Makes the scratch key unique, such as a random word.
    """

    def __init__(self, properties: Mapping[str, str], location: str, token: str) -> None:
        at = urlparse(location)
        self._bucket = at.netloc
        self._prefix = at.path.strip("/")
        self._key = f"{self._prefix}/data/icequake-preflight-{token}.parquet"
        self._s3: Any = boto3.client(
            "s3",
            endpoint_url=properties.get("s3.endpoint"),
            region_name=properties.get("s3.region"),
            aws_access_key_id=properties.get("s3.access-key-id"),
            aws_secret_access_key=properties.get("s3.secret-access-key"),
            aws_session_token=properties.get("s3.session-token"),
            config=Config(
                connect_timeout=TIMEOUT_S,
                read_timeout=TIMEOUT_S,
                retries={"max_attempts": 2},
                proxies={} if "s3.endpoint" in properties else None,
                s3={"addressing_style": "path"} if "s3.endpoint" in properties else None,
            ),
        )

    def permissions(self) -> Iterator[Permission]:
        """Try each operation once; the scratch object is gone afterwards where DELETE is allowed."""
        at = {"Bucket": self._bucket, "Key": self._key}
        yield self._try("PUT", lambda: self._s3.put_object(**at, Body=b"icequake"))
        yield self._try("HEAD", lambda: self._s3.head_object(**at))
        yield self._try("GET", lambda: self._s3.get_object(**at)["Body"].read())
        listing = {"Bucket": self._bucket, "Prefix": f"{self._prefix}/", "MaxKeys": 1}
        yield self._try("LIST", lambda: self._s3.list_objects_v2(**listing))
        yield self._try("multipart upload", self._multipart)
        yield self._conditional()
        yield self._try("DELETE", lambda: self._s3.delete_object(**at))

    def uploads(self) -> list[Upload]:
        """Return unfinished uploads below the prefix. Raises StoreFailed."""
        found = []
        try:
            pages = self._s3.get_paginator("list_multipart_uploads").paginate(
                Bucket=self._bucket, Prefix=f"{self._prefix}/"
            )
            for page in pages:
                for one in page.get("Uploads", []):
                    started: datetime = one["Initiated"]
                    found.append(Upload(one["Key"], started.timestamp()))
        except (ClientError, BotoCoreError) as error:
            raise StoreFailed(f"unfinished uploads cannot be listed: {sentence(error)}.") from error
        return found

    def _multipart(self) -> None:
        at = {"Bucket": self._bucket, "Key": self._key}
        upload = self._s3.create_multipart_upload(**at)["UploadId"]
        part = self._s3.upload_part(**at, UploadId=upload, PartNumber=1, Body=b"icequake")
        parts = {"Parts": [{"ETag": part["ETag"], "PartNumber": 1}]}
        self._s3.complete_multipart_upload(**at, UploadId=upload, MultipartUpload=parts)

    def _conditional(self) -> Permission:
        """A store that honours `If-None-Match: *` refuses to replace the object that is there."""
        operation = "conditional PUT"
        tried = self._try(operation, self._put_if_absent)
        if tried.allowed is False and tried.detail.startswith(_PRECONDITION):
            return Permission(operation, True)
        if tried.allowed:
            return Permission(operation, False, "the condition was ignored and the object replaced")
        return tried

    def _put_if_absent(self) -> None:
        self._s3.put_object(Bucket=self._bucket, Key=self._key, Body=b"icequake", IfNoneMatch="*")

    def _try(self, operation: str, action: Callable[[], object]) -> Permission:
        try:
            action()
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", ""))
            status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
            detail = f"{code}: {error.response.get('Error', {}).get('Message', '')}"[:200]
            refused = code in (*_DENIED, *_PRECONDITION) or status in (401, 403, 412)
            absent = status == 404  # the scratch object could not be written, which says nothing about this operation
            return Permission(operation, False if refused or (status < 500 and not absent) else None, detail)
        except BotoCoreError as error:
            return Permission(operation, None, sentence(error))
        return Permission(operation, True)
