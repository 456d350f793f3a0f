import gc
import json
import os
import socket
import subprocess
import sys
import textwrap
import threading
from datetime import datetime
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from loadtests.answers import Answer
from loadtests.endpoint import Endpoint, parse_headers
from loadtests.errors import BadTraffic
from loadtests.events import Message
from loadtests.probe import blocking_exchange
from loadtests.records.ledger import Status
from tests.loadtests.servers import ACCEPTED, Served, always, free_port, serving

HELLO = Message((("Content-Type", "application/json"),), b'{"events":[]}')

CLIENT = textwrap.dedent("""
    import gevent.monkey; gevent.monkey.patch_all()  # as Locust does
    import json, os, sys
    from loadtests.client import Connection
    from loadtests.endpoint import Endpoint
    from loadtests.events import Message
    options = json.loads(os.environ.get("OPTIONS", "{}"))
    connection = Connection(
        Endpoint.parse(sys.argv[1]), timeout_s=float(sys.argv[3]), keep_alive=options.get("keep_alive", True)
    )
    body = b'{"events":[]}' + b" " * options.get("blanks", 0)
    for _ in range(int(sys.argv[2])):
        if sys.argv[4:]:
            sys.stdin.readline()
        answer = connection.exchange(Message((("Content-Type", "application/json"),), body))
        print(json.dumps([answer.status, answer.content_type, answer.retry_after_s]), flush=True)
""")


def gevent_answers(url: str, count: int = 1, timeout_s: float = 5.0, **options: object) -> list[Answer]:
    """Answers as Locust's process would see them: gevent patched, hence a process of its own."""
    argv = [sys.executable, "-c", CLIENT, url, str(count), str(timeout_s)]
    environment = {**os.environ, "OPTIONS": json.dumps(options)}
    done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60, env=environment)
    null = None
    return [Answer(*eval(line, {"null": null})) for line in done.stdout.splitlines()]


def blocking_answers(url: str, count: int = 1, timeout_s: float = 5.0) -> list[Answer]:
    exchange = blocking_exchange(Endpoint.parse(url), timeout_s=timeout_s)
    answers = [exchange(HELLO) for _ in range(count)]
    gc.collect()  # a socket left open would warn, and warnings are errors
    return answers


both = pytest.mark.parametrize("answers", [gevent_answers, blocking_answers])
pytestmark = pytest.mark.integration


@both
@pytest.mark.parametrize(
    ("reply", "keep", "expected"),
    [
        (ACCEPTED, True, Answer(202)),
        (
            b"HTTP/1.1 503 Busy\r\nContent-Type: application/Problem+json\r\nRetry-After: 4\r\nContent-Length: 2\r\n\r\n{}",
            True,
            Answer(503, "application/problem+json", 4.0),
        ),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n", True, Answer(202)),
        (b"HTTP/1.1 202 Accepted\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", True, Answer(202)),
        (b"HTTP/1.0 202 Accepted\r\n\r\n{}", False, Answer(202)),
        (b"HTTP/1.1 202 Accepted\r\nContent-Length: 10\r\n\r\n{}", False, Answer(Status.TRUNCATED)),
        (b"", False, Answer(Status.RESET)),
        (b"SMTP is not HTTP\r\n\r\n", False, Answer(Status.OTHER)),
    ],
)
def test_what_comes_back_is_told_apart(answers, reply, keep, expected):
    """A whole answer gives its status; a cut, a missing and a foreign one each have a status of their own."""
    with serving(always(reply, keep=keep)) as server:
        assert answers(server.url) == [expected]


def test_without_keep_alive_each_request_opens_a_connection():
    """And says that it will close it."""
    with serving(always(ACCEPTED)) as server:
        assert gevent_answers(server.url, 3, keep_alive=False) == [Answer(202)] * 3

        assert server.connections == 3
        assert all(b"Connection: close\r\n" in request.head for request in server.requests)


def test_an_answer_before_the_body_was_read_is_an_answer():
    """A server that refuses by the head of a large request and closes: its 413 is known, though sending failed."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def refuse() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

        refusing = threading.Thread(target=refuse)
        refusing.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/events"
        assert gevent_answers(url, blanks=20_000_000) == [Answer(413)]
        refusing.join(timeout=5)


@both
def test_a_refused_connection_is_definite(answers):
    """Where nobody listens nothing was sent."""
    assert answers(f"http://127.0.0.1:{free_port()}/events") == [Answer(Status.CONNECT_FAILED)]


@both
def test_an_answer_that_does_not_come_is_a_timeout(answers):
    """A server that reads and says nothing leaves the outcome open."""
    release = threading.Event()

    def silent(_: Served, __: socket.socket) -> bool:
        return not release.wait(30)

    with serving(silent) as server:
        assert answers(server.url, timeout_s=0.3) == [Answer(Status.TIMEOUT)]
        release.set()


def test_a_connection_is_kept_and_each_request_sent_once():
    """Several requests share a connection; the server sees each exactly once."""
    with serving(always(ACCEPTED)) as server:
        assert gevent_answers(server.url, 5) == [Answer(202)] * 5

        assert server.connections == 1
        assert len(server.requests) == 5


def test_a_connection_the_server_closed_while_idle_is_replaced_not_repeated():
    """An idle connection that was closed costs nothing: it is noticed before the next request leaves."""
    with serving(always(ACCEPTED, keep=False)) as server:
        argv = [sys.executable, "-c", CLIENT, server.url, "2", "5", "step"]
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as client:
            assert client.stdin and client.stdout
            seen = []
            for _ in range(2):
                client.stdin.write("\n")
                client.stdin.flush()
                seen.append(client.stdout.readline())
                assert server.closed.acquire(timeout=30)

        assert seen == ['[202, "", null]\n'] * 2
        assert server.connections == 2
        assert len(server.requests) == 2


def test_a_request_cut_off_by_the_server_is_not_sent_again():
    """When the connection dies after the request left, it is the caller who decides about another attempt."""
    with serving(always(b"", keep=False)) as server:
        assert gevent_answers(server.url) == [Answer(Status.RESET)]
        assert len(server.requests) == 1


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A self-signed certificate for 127.0.0.1 with its key, in one PEM file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(datetime(2020, 1, 1)).not_valid_after(datetime(2100, 1, 1))
    names = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    builder = builder.add_extension(names, critical=False)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    form = serialization.Encoding.PEM
    secret = key.private_bytes(form, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path = tmp_path / "server.pem"
    path.write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(form) + secret)
    return path


@pytest.mark.parametrize("trusted", [True, False])
def test_https_verifies_the_server(certificate: Path, monkeypatch, trusted):
    """A server whose certificate is trusted is used, over one connection; another never gets the request."""
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with serving(always(ACCEPTED), certificate=certificate) as server:
        answers = gevent_answers(server.url.replace("http:", "https:"), 3)

    if trusted:
        assert answers == [Answer(202)] * 3
        assert len(server.requests) == 3
    else:
        assert answers == [Answer(Status.CONNECT_FAILED)] * 3
        assert server.requests == []


def test_the_request_carries_host_headers_and_length():
    """Extra headers of the target and those of the message go out, with the exact length."""
    endpoint = Endpoint.parse("http://127.0.0.1:8787/v1/events?x=1", {"Authorization": "Bearer s3cret"})
    head, _, body = endpoint.request(HELLO).partition(b"\r\n\r\n")

    assert head.split(b"\r\n") == [
        b"POST /v1/events?x=1 HTTP/1.1",
        b"Host: 127.0.0.1:8787",
        b"Authorization: Bearer s3cret",
        b"Content-Type: application/json",
        b"Content-Length: 13",
    ]
    assert body == HELLO.body
    assert "s3cret" not in repr(endpoint)


@pytest.mark.parametrize(
    ("url", "path"), [("http://h:1", "/events"), ("http://h:1/", "/events"), ("https://h/x", "/x")]
)
def test_events_go_to_slash_events_unless_the_url_says_otherwise(url, path):
    """A bare host means the collector's usual path."""
    assert Endpoint.parse(url).path == path


@pytest.mark.parametrize("url", ["", "127.0.0.1:8787", "ftp://h/x", "http://", "http://h:99999/", "http://user:pw@h/"])
def test_a_url_that_is_none_is_refused(url):
    """The sentence shows a URL that would do."""
    with pytest.raises(BadTraffic, match="give a URL such as"):
        Endpoint.parse(url)


@pytest.mark.parametrize("headers", [{"X": "a\r\nY: b"}, {"": "x"}])
def test_a_header_that_would_break_the_request_is_refused(headers):
    """No header can smuggle another."""
    with pytest.raises(BadTraffic, match="header"):
        Endpoint.parse("http://h/", headers)


@pytest.mark.parametrize("text", ["[]", "{", '{"a": 1}', "Bearer s3cret"])
def test_headers_that_are_no_json_object_are_refused_without_being_shown(text):
    """The text may hold a secret, so the sentence does not repeat it."""
    with pytest.raises(BadTraffic) as raised:
        parse_headers(text)
    assert "s3cret" not in str(raised.value)
