"""Small real servers on loopback for the generator to talk to."""

from __future__ import annotations

import json
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

ACCEPTED = b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"

# close() returns when the peer's side has acknowledged the end of the stream (or after 5 s), so what was closed is seen closed.
_LINGER = struct.pack("ii", 1, 5)

Script = Callable[["Served", socket.socket], bool]
"""Answers one request on a connection; says whether to keep the connection."""


@dataclass(frozen=True)
class Served:
    """One request as the server read it."""

    number: int
    head: bytes
    body: bytes
    at_ns: int

    @property
    def ids(self) -> list[str]:
        document = json.loads(self.body)
        events = document if isinstance(document, list) else document["events"]
        return [event["id"] for event in events]


@dataclass
class Server:
    """A thread a connection; every request is kept and then handed to the script."""

    script: Script
    requests: list[Served] = field(default_factory=list)
    connections: int = 0
    port: int = 0
    tls: ssl.SSLContext | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)
    closed: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    """Released once for each connection whose end has reached the client."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/events"

    def accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection: socket.socket) -> None:
        if self.tls is not None:
            try:
                connection = self.tls.wrap_socket(connection, server_side=True)
            except OSError:  # the client did not like our certificate
                connection.close()
                return
        self.converse(connection)
        self.closed.release()

    def converse(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER)
        with connection, connection.makefile("rb") as stream:
            try:
                while (served := self.read(stream)) is not None:
                    if not self.script(served, connection):
                        connection.shutdown(socket.SHUT_RDWR)
                        return
            except OSError:
                return

    def read(self, stream) -> Served | None:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            line = stream.readline()
            if not line:
                return None
            head += line
        length = next(
            int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")
        )
        body = stream.read(length)
        with self.lock:
            served = Served(len(self.requests) + 1, head, body, time.monotonic_ns())
            self.requests.append(served)
        return served


@contextmanager
def serving(script: Script, *, certificate: Path | None = None) -> Iterator[Server]:
    """Serve *script* on a free loopback port; with a certificate (and its key, one PEM file) over TLS."""
    server = Server(script)
    if certificate is not None:
        server.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.tls.load_cert_chain(certificate)
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listener:
        server.port = listener.getsockname()[1]
        acceptor = threading.Thread(target=server.accept, args=(listener,), daemon=True)
        acceptor.start()
        yield server
        listener.shutdown(socket.SHUT_RDWR)
    acceptor.join(timeout=5)


def always(answer: bytes, *, keep: bool = True) -> Script:
    """A script that gives every request the same answer."""

    def script(_: Served, connection: socket.socket) -> bool:
        connection.sendall(answer)
        return keep

    return script


def free_port() -> int:
    """A port on which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
