"""One question on a path, asked as the target would ask it: how long the answer took, and whether it came whole."""

from __future__ import annotations

import http.client
import socket
import time
from dataclasses import dataclass
from urllib.parse import urlsplit

from chaos.stack import Addresses

PROBE_PATH = "/icequake-probe"
DEADLINE_S = 15.0
PATHS = ("ingest", "r2", "catalog")
PAD_BYTES_MAX = 8000
"""Padding travels in a header field, which servers bound; more bytes are sent as more requests on the same connection."""


def base_of(addresses: Addresses, path: str) -> str:
    """Return the URL at which one of `PATHS` begins."""
    return {
        "ingest": addresses.ingest_faulted,
        "r2": addresses.s3_faulted,
        "catalog": addresses.catalog_faulted,
    }[path]


@dataclass(frozen=True)
class Reading:
    """What a probe met.

    Attributes:
        ms: From the first byte sent to the end of the last answer, or to the failure.
        whole: Whether every answer came whole.
        closed_ms: From the end of the last answer to the end of the connection; None unless it was waited for.
        sent_bytes, answer_bytes: About how much went each way.
        failure: What went wrong, in a word.
    """

    ms: float
    whole: bool
    sent_bytes: int
    answer_bytes: int
    closed_ms: float | None = None
    failure: str | None = None


class Probe:
    """Ask on one path; the connection can be kept from before a fault until it is on.

    Args:
        base: URL of the path, such as `http://127.0.0.1:4711`.
        send_bytes: At least so many bytes are sent, in several requests when need be.
        deadline_s: How long the probe waits for bytes that do not come.
    """

    def __init__(self, base: str, *, send_bytes: int = 0, deadline_s: float = DEADLINE_S) -> None:
        self._address = urlsplit(base)
        self._pad = "x" * min(send_bytes, PAD_BYTES_MAX)
        self._requests = max(1, -(-send_bytes // PAD_BYTES_MAX))
        self._deadline_s = deadline_s
        self._connection: http.client.HTTPConnection | None = None

    def ask(self) -> Reading:
        """Ask on the connection there is, else on a new one."""
        connection = self._connection or self._connect()
        started = time.monotonic()
        sent = answered = 0
        try:
            for _ in range(self._requests):
                headers = {"X-Icequake-Pad": self._pad} if self._pad else {}
                connection.request("GET", PROBE_PATH, headers=headers)
                sent += 100 + len(self._pad)
                answered += _size(connection.getresponse())
        except (OSError, http.client.HTTPException) as error:
            self.close()
            return Reading(_since(started), False, sent, answered, None, type(error).__name__)
        return Reading(_since(started), True, sent, answered)

    def ask_once(self) -> Reading:
        """Ask on a connection of its own that the server is to close, and wait until it has."""
        started = ended = time.monotonic()
        host, port = self._address.hostname, self._address.port
        received = b""
        request = f"GET {PROBE_PATH} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n".encode()
        try:
            with socket.create_connection((host or "", port or 80), timeout=self._deadline_s) as connection:
                connection.sendall(request)
                while data := connection.recv(65_536):
                    received, ended = received + data, time.monotonic()
        except OSError as error:
            return Reading(_since(started), False, len(request), len(received), None, type(error).__name__)
        ms = round((ended - started) * 1000, 1)
        return Reading(ms, received.startswith(b"HTTP/"), len(request), len(received), _since(ended))

    def close(self) -> None:
        """End the connection."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def _connect(self) -> http.client.HTTPConnection:
        assert self._address.hostname is not None
        self._connection = http.client.HTTPConnection(
            self._address.hostname, self._address.port, timeout=self._deadline_s
        )
        return self._connection


def _size(answer: http.client.HTTPResponse) -> int:
    """Read an answer to its end and return about how many bytes it took."""
    body = answer.read()
    return 20 + sum(len(name) + len(value) + 4 for name, value in answer.getheaders()) + len(body)


def _since(started: float) -> float:
    return round((time.monotonic() - started) * 1000, 1)
