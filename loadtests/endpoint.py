"""Where events are posted: one URL, further headers, and how a request to it looks on the wire."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import Self
from urllib.parse import urlsplit

from loadtests.errors import BadTraffic
from loadtests.events import Message


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """Where events are posted.

    Attributes:
        headers: Added to every request; their values never appear in `repr`, since they may be secret.
    """

    scheme: str
    host: str
    port: int
    path: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def parse(cls, url: str, headers: Mapping[str, str] | None = None) -> Self:
        """Read an http or https URL; without a path, events go to /events.

        Raises:
            BadTraffic: it is not such a URL, or a header would break the request.
        """
        try:
            parts = urlsplit(url)
            port = parts.port or {"http": 80, "https": 443}.get(parts.scheme, 0)
        except ValueError:
            port = 0
        if not port or not parts.hostname or parts.username is not None:
            raise BadTraffic(f"--host {url!r}: give a URL such as http://127.0.0.1:8787/events.")
        for name, value in (headers or {}).items():
            if not name or any(c in name + value for c in "\r\n\0"):
                raise BadTraffic(f"header {name!r} is empty or holds a line break.")
        path = parts.path if parts.path not in ("", "/") else "/events"
        query = f"?{parts.query}" if parts.query else ""
        return cls(scheme=parts.scheme, host=parts.hostname, port=port, path=path + query, headers=dict(headers or {}))

    @property
    def authority(self) -> str:
        """The value of the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    def with_header(self, name: str, value: str) -> Self:
        """Return the same endpoint with one more header on every request."""
        return replace(self, headers={**self.headers, name: value})

    def request(self, message: Message) -> bytes:
        """Return the whole request as it goes over the wire."""
        return b"%s%s%d\r\n\r\n%s" % (self._head, _lines(message.headers), len(message.body), message.body)

    @cached_property
    def _head(self) -> bytes:
        """What every request begins with."""
        lines = [f"POST {self.path} HTTP/1.1", f"Host: {self.authority}"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        return "".join(f"{line}\r\n" for line in lines).encode("latin-1")


@lru_cache(maxsize=16)  # in binary mode headers differ in every request, else never
def _lines(headers: tuple[tuple[str, str], ...]) -> bytes:
    return "".join(f"{name}: {value}\r\n" for name, value in (*headers, ("Content-Length", ""))).encode("latin-1")[:-2]


def parse_headers(text: str) -> Mapping[str, str]:
    """Read request headers from a JSON object of strings; empty text is none. Raises BadTraffic."""
    if not text:
        return {}
    try:
        headers = json.loads(text)
    except ValueError:
        headers = None
    if not isinstance(headers, dict) or not all(isinstance(value, str) for value in headers.values()):
        raise BadTraffic('the ingest headers are not a JSON object of strings, such as {"X-Key": "value"}.')
    return headers
