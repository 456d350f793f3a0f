"""Clients that behave badly: many of them, slow, half-closed or silent, beside the ordinary ones."""

from __future__ import annotations

import socket
import time
from contextlib import suppress
from typing import Annotated, Literal
from urllib.parse import urlsplit

from msgspec import Meta, Struct

from chaos.faults.env import Effect, Env

BYTE_EVERY_S = 0.5
HEAD = b"POST /events HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n["


class BadClients(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Open *connections* to the target at once and keep them as long as it allows.

    Attributes:
        do: `slow-loris` sends a byte every half second, `half-closed` begins a request and closes its side, `idle` says nothing.
        connections: How many.
    """

    do: Literal["slow-loris", "half-closed", "idle"]
    connections: Annotated[int, Meta(ge=1, le=5000)] = 50

    def problem(self, *, starts_target: bool) -> str | None:  # noqa: ARG002  # the mechanism's signature
        """Whoever can send events can do this."""
        return None

    def inject(self, env: Env, name: str) -> ClientsInjection:  # noqa: ARG002  # the mechanism's signature
        """Connect. Sockets end with this process, so there is nothing to journal."""
        return ClientsInjection(self, env)


class ClientsInjection:
    """Bad clients at work."""

    def __init__(self, spec: BadClients, env: Env) -> None:
        self._spec, self._env = spec, env
        self._since_ns = self._until_ns = time.monotonic_ns()
        self._open: list[socket.socket] = []
        self._opened = self._cut = 0
        self._next_byte_at = 0.0
        address = urlsplit(env.stack.addresses.ingest_faulted)
        for _ in range(spec.connections):
            with suppress(OSError):
                self._open.append(self._connect(address.hostname or "", address.port or 80))
        self._opened = len(self._open)

    def finished(self) -> bool:
        """Asked often, this is where bytes are sent and cut connections are noticed; it lasts as long as the step."""
        if time.monotonic() >= self._next_byte_at:
            self._next_byte_at = time.monotonic() + BYTE_EVERY_S
            for client in list(self._open):
                if self._is_cut(client) or not self._send(client):
                    self._open.remove(client)
                    client.close()
                    self._cut += 1
        return False

    def heal(self) -> None:
        """Close every connection."""
        for client in self._open:
            client.close()
        self._open.clear()
        self._until_ns = time.monotonic_ns()

    def effect(self) -> Effect:
        """Count the requests of ordinary clients meanwhile, and those among them that were not acknowledged."""
        seen, since, until = self._env.seen, self._since_ns, self._until_ns
        measured = {"connections": self._opened, "cut": self._cut, "not_acknowledged": seen.disturbed(since, until)}
        if self._opened < self._spec.connections / 2:
            return Effect(0, 0, f"only {self._opened} of {self._spec.connections} connections were accepted", measured)
        met = seen.on_path("ingest", since, until)
        return Effect(met, 0, None if met else "no ordinary client sent anything meanwhile", measured)

    def _connect(self, host: str, port: int) -> socket.socket:
        client = socket.create_connection((host, port), timeout=1)
        if self._spec.do == "half-closed":
            client.sendall(HEAD)
            client.shutdown(socket.SHUT_WR)
        client.setblocking(False)
        return client

    def _send(self, client: socket.socket) -> bool:
        if self._spec.do != "slow-loris":
            return True
        try:
            client.send(b"P")  # a request line that never ends
        except BlockingIOError:
            return True
        except OSError:
            return False
        return True

    def _is_cut(self, client: socket.socket) -> bool:
        try:
            return client.recv(4096) == b""
        except BlockingIOError:
            return False
        except OSError:
            return True
