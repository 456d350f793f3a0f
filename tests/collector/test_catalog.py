"""The connection to a REST catalog: bounded in time and in what an error may hold."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import requests
from pyiceberg.catalog.rest import RestCatalog

from collector.catalog import MAX_ERROR_BYTES, BoundedAdapter, BoundedRestCatalog


@contextmanager
def _server(answer: bytes, *, hold: threading.Event | None = None) -> Iterator[str]:
    """Answer one connection with fixed bytes, then hold it open until told."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(answer)
                if hold is not None:
                    hold.wait(10)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
        if hold is not None:
            hold.set()
        thread.join()


def _get(url: str, read_s: float = 5.0) -> requests.Response:
    with requests.Session() as session:
        session.mount("http://", BoundedAdapter(1.0, read_s))
        return session.get(url)


@pytest.mark.integration
def test_a_catalog_that_never_answers_is_given_up() -> None:
    """Every call has a read timeout."""
    with (
        _server(b"", hold=threading.Event()) as url,
        pytest.raises(requests.exceptions.ReadTimeout),
    ):
        _get(url, read_s=0.1)


@pytest.mark.integration
def test_a_huge_error_answer_is_cut_off() -> None:
    """An error body is read up to its limit, never whole."""
    body = b"x" * (4 * MAX_ERROR_BYTES)
    head = f"HTTP/1.1 500 Oops\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    with _server(head + body) as url:
        assert len(_get(url).content) == MAX_ERROR_BYTES


@pytest.mark.integration
def test_a_whole_answer_arrives_unchanged() -> None:
    """An ordinary answer is what the server sent."""
    with _server(b'HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n{"a":1}') as url:
        assert _get(url).json() == {"a": 1}


@pytest.mark.integration
def test_a_body_cut_short_is_an_error() -> None:
    """A connection that closes before Content-Length is reached raises."""
    with (
        _server(b'HTTP/1.1 200 OK\r\nContent-Length: 70\r\n\r\n{"a":1}') as url,
        pytest.raises(Exception, match="IncompleteRead"),
    ):
        _get(url)


def test_pyiceberg_still_makes_its_session_where_the_timeout_is_put() -> None:
    """Canary: the private method that ``BoundedRestCatalog`` overrides exists and is what the constructor calls."""
    made: list[requests.Session] = []

    class Probe(BoundedRestCatalog):
        def _create_session(self) -> requests.Session:
            made.append(super()._create_session())
            raise ConnectionAbortedError

    assert "_create_session" in vars(RestCatalog)
    with pytest.raises(ConnectionAbortedError):
        Probe("c", uri="http://127.0.0.1:1", token="t")
    assert isinstance(made[0].get_adapter("http://127.0.0.1:1"), BoundedAdapter)
    made[0].close()
