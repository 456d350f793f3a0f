"""One HTTP/1.1 connection that sends each request exactly once.

The usual clients send a request a second time by themselves when a kept-alive connection turns out to be closed. Here an
attempt is what the ledger says it is, and "the request never left" must be told from "it may have arrived", so bytes are
written to a gevent socket directly; answers are parsed by httptools (llhttp).
"""

from __future__ import annotations

import select
from functools import cache
from typing import Any

import gevent
import httptools
from gevent import monkey, socket, ssl

from loadtests.answers import Answer, parse_retry_after
from loadtests.endpoint import Endpoint
from loadtests.events import Message
from loadtests.records.ledger import Status

# The unpatched poll: asking whether bytes are waiting must not switch to another greenlet.
_poll = monkey.get_original("select", "poll")
_READABLE = select.POLLIN | select.POLLHUP | select.POLLERR


@cache
def _tls_context() -> Any:
    # Reading the system's certificates takes tens of milliseconds: once a process, not once a connection.
    return ssl.create_default_context()


class Connection:
    """Post messages to one endpoint, one at a time, over a connection that is kept open while both sides like it.

    https verifies the server against the system's certificates, or those of SSL_CERT_FILE.

    Args:
        endpoint: Where to.
        timeout_s: From the start of an exchange (connecting included) to the end of the answer.
        keep_alive: Whether a connection serves more than one request.
    """

    def __init__(self, endpoint: Endpoint, *, timeout_s: float, keep_alive: bool = True) -> None:
        self._endpoint = endpoint if keep_alive else endpoint.with_header("Connection", "close")
        self._keep_alive = keep_alive
        self._timeout_s = timeout_s
        self._socket: Any = None

    def exchange(self, message: Message) -> Answer:
        """Send *message* once and return its answer, or a `Status` for what went wrong; never raises for the network."""
        request = self._endpoint.request(message)
        sent = False
        timeout = gevent.Timeout(self._timeout_s)
        timeout.start()
        try:
            if self._socket is None or self._ended():
                self._connect()
            sent = True
            return self._send_and_read(request)
        except gevent.Timeout as expired:
            self.close()
            if expired is not timeout:
                raise
            return Answer(Status.TIMEOUT if sent else Status.CONNECT_FAILED)
        except OSError:
            self.close()
            return Answer(Status.RESET if sent else Status.CONNECT_FAILED)
        except BaseException:
            self.close()
            raise
        finally:
            timeout.close()

    def _send_and_read(self, request: bytes) -> Answer:
        try:
            self._socket.sendall(request)
        except OSError:
            # A server may refuse a large request and close before it has read all of it; its answer is still there.
            try:
                return self._read_answer()
            finally:
                self.close()
        return self._read_answer()

    def close(self) -> None:
        """Close the connection; the next exchange opens a new one."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _connect(self) -> None:
        self.close()
        plain = socket.create_connection((self._endpoint.host, self._endpoint.port))
        try:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._endpoint.scheme == "https":
                self._socket = _tls_context().wrap_socket(plain, server_hostname=self._endpoint.host)
            else:
                self._socket = plain
        except BaseException:
            plain.close()
            raise

    def _ended(self) -> bool:
        """Whether the peer closed the idle connection: readable before we asked for anything."""
        poll = _poll()
        poll.register(self._socket.fileno(), _READABLE)
        return bool(poll.poll(0))

    def _read_answer(self) -> Answer:
        reading = _Reading()
        while not reading.complete:
            data = self._socket.recv(65_536)
            if not data:
                self.close()
                return reading.at_end_of_stream()
            try:
                reading.feed(data)
            except (httptools.HttpParserError, httptools.HttpParserUpgrade):
                self.close()
                return Answer(Status.OTHER)
        if not (reading.keep_alive and self._keep_alive):
            self.close()
        return reading.answer()


class _Reading:
    """The progress of one answer; the callbacks are httptools' protocol."""

    def __init__(self) -> None:
        self.complete = False
        self.keep_alive = False
        self._start()

    def _start(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._begun = False
        self._framed = False
        self._headers_complete = False
        self._content_type = ""
        self._retry_after = ""

    def feed(self, data: bytes) -> None:
        self._begun = True
        self._parser.feed_data(data)

    def on_header(self, name: bytes, value: bytes) -> None:
        match name.lower():
            case b"content-type":
                self._content_type = value.decode("latin-1").lower()
            case b"retry-after":
                self._retry_after = value.decode("latin-1")
            case b"content-length" | b"transfer-encoding":
                self._framed = True

    def on_headers_complete(self) -> None:
        self._headers_complete = True

    def on_message_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200:  # interim, such as 100 Continue; the answer follows
            self._content_type = self._retry_after = ""
            self._framed = self._headers_complete = False
            return
        self.complete = True
        self.keep_alive = self._parser.should_keep_alive()
        self._status = status

    def answer(self) -> Answer:
        retry_after_s = parse_retry_after(self._retry_after) if self._retry_after else None
        return Answer(self._status, self._content_type, retry_after_s)

    def at_end_of_stream(self) -> Answer:
        """Conclude from a connection that was closed: an answer without a length ends there; others are cut."""
        if not self._begun:
            return Answer(Status.RESET)
        if self._headers_complete and not self._framed:
            self._status = self._parser.get_status_code()
            return self.answer()
        return Answer(Status.TRUNCATED)
