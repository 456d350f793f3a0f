"""The connection to an Iceberg REST catalog, with the bounds that pyiceberg does not set."""

from __future__ import annotations

import io
import time
from typing import Any

import requests
from pyiceberg.catalog.rest import RestCatalog

from collector.config import CatalogConfig, S3Config

MAX_ANSWER_BYTES = 256 << 20
"""A catalog answer larger than this is refused; metadata grows by under 1 KB a snapshot."""

MAX_ERROR_BYTES = 64 << 10
"""Answers that are not 2xx are cut off here."""


class BoundedAdapter(requests.adapters.HTTPAdapter):
    """Gives every call a timeout, a deadline and a size limit; pyiceberg sets none of them."""

    def __init__(self, connect_s: float, read_s: float) -> None:
        self._connect_s = connect_s
        self._read_s = read_s
        super().__init__()

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        """Send, and read the whole answer within the bounds."""
        kwargs["timeout"] = (self._connect_s, self._read_s)
        deadline = time.monotonic() + self._connect_s + 2 * self._read_s
        response = super().send(request, *args, **{**kwargs, "stream": True})
        limit = MAX_ANSWER_BYTES if response.ok else MAX_ERROR_BYTES
        body = io.BytesIO()
        for chunk in response.raw.stream(64 << 10, decode_content=True):
            body.write(chunk[: limit - body.tell()])
            if body.tell() >= limit:
                if response.ok:
                    raise requests.exceptions.ContentDecodingError(f"answer larger than {limit} bytes", request=request)
                break
            if time.monotonic() > deadline:
                raise requests.exceptions.ReadTimeout("the answer trickled past its deadline", request=request)
        response.raw.close()
        body.seek(0)
        response.raw = body
        return response


class BoundedRestCatalog(RestCatalog):
    """``RestCatalog`` with timeouts, read from the properties ``connect-timeout-s`` and ``read-timeout-s``.

    ``_create_session`` is private and the only place: the constructor already calls the catalog.
    """

    def _create_session(self) -> requests.Session:
        session = super()._create_session()
        adapter = BoundedAdapter(
            float(self.properties.get("connect-timeout-s", "5")), float(self.properties.get("read-timeout-s", "30"))
        )
        session.mount("http://", adapter)
        session.mount("https://", adapter)
        return session


def s3_properties(s3: S3Config) -> dict[str, str]:
    """The object store in FileIO properties; what is not configured is left to the catalog."""
    properties = {
        "s3.endpoint": s3.endpoint,
        "s3.region": s3.region,
        "s3.access-key-id": s3.access_key_id,
        "s3.secret-access-key": s3.secret_access_key,
        "s3.connect-timeout": str(s3.connect_timeout_s),
        "s3.request-timeout": str(s3.request_timeout_s),
    }
    return {key: value for key, value in properties.items() if value}


def connect(catalog: CatalogConfig, s3: S3Config) -> BoundedRestCatalog:
    """Connect; calls the catalog, so it fails while that is down."""
    properties = {
        "uri": catalog.uri,
        "warehouse": catalog.warehouse,
        "credential": catalog.credential,
        "token": catalog.token,
        "oauth2-server-uri": catalog.oauth2_uri or f"{catalog.uri.rstrip('/')}/v1/oauth/tokens",
        "connect-timeout-s": str(catalog.connect_timeout_s),
        "read-timeout-s": str(catalog.read_timeout_s),
    }
    return BoundedRestCatalog("collector", **{k: v for k, v in properties.items() if v}, **s3_properties(s3))
