"""The real process on free loopback ports: start, refuse to start, serve, drain, survive a kill."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from collector.__main__ import main
from collector.protocol import private_names
from tests.collector.conftest import ENVIRON

EVENT = b'{"specversion":"1.0","id":"%d","source":"s","type":"t"}'
STRUCTURED = {"content-type": "application/cloudevents+json"}
SECRET = "canary-secret-value"


def free_ports(count: int) -> list[int]:
    """Return ports that were free a moment ago."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [listener.getsockname()[1] for listener in sockets]


@dataclass
class Running:
    """A collector process whose catalog is a closed port."""

    directory: Path
    extra: dict[str, str] = field(default_factory=dict)
    arguments: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.port, self.admin_port, closed = free_ports(3)
        environ = {
            **{name: value for name, value in os.environ.items() if name != "COLLECTOR_FAULTS"},
            **ENVIRON,
            "LISTEN_PORT": str(self.port),
            "ADMIN_PORT": str(self.admin_port),
            "DATA_DIR": str(self.directory / "buffer"),
            "CATALOG_URI": f"http://127.0.0.1:{closed}",
            "AWS_ACCESS_KEY_ID": "canary-key-value",
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "DRAIN_S": "0.5",
            **self.extra,
        }
        self.log = (self.directory / "log").open("ab")
        command = [sys.executable, "-m", "collector", *self.arguments]
        self.process = subprocess.Popen(command, env=environ, stderr=self.log)

    def wait_ready(self, path: str = "/readyz") -> None:
        deadline = time.monotonic() + 30
        while self.process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                if self.get(path)[0] == 200:
                    return
            self.process.poll()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(timeout=0.02)
        raise AssertionError(f"not ready: {self.logged()}")

    def get(self, path: str) -> tuple[int, bytes]:
        return self._open(urllib.request.Request(f"http://127.0.0.1:{self.port}{path}"))

    def post(self, body: bytes) -> int:
        url = f"http://127.0.0.1:{self.port}/events"
        return self._open(urllib.request.Request(url, body, STRUCTURED))[0]

    def admin(self, path: str, token: str) -> tuple[int, bytes]:
        url = f"http://127.0.0.1:{self.admin_port}{path}"
        return self._open(urllib.request.Request(url, headers={"authorization": f"Bearer {token}"}))

    def _open(self, request: urllib.request.Request) -> tuple[int, bytes]:
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    def logged(self) -> str:
        return (self.directory / "log").read_text()

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.log.close()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    """Start collectors that all use the same directory."""
    running: list[Running] = []

    def run(*arguments: str, **extra: str) -> Running:
        running.append(Running(tmp_path, extra, arguments))
        return running[-1]

    yield run
    for one in running:
        one.close()


@pytest.mark.integration
def test_it_serves_while_the_catalog_is_down_and_keeps_what_it_cannot_flush(start: Callable[..., Running]) -> None:
    """Ready at once; on SIGTERM it says with exit code 3 that events are left, and the next start has them."""
    first = start()
    first.wait_ready()
    assert first.post(EVENT % 1) == 202
    first.process.send_signal(signal.SIGTERM)
    assert first.process.wait(timeout=15) == 3

    second = start()
    second.wait_ready()
    status, body = second.admin("/admin/buffer", ENVIRON["ADMIN_TOKEN"])

    assert status == 200
    assert json.loads(body)["events"] == 1
    assert second.admin("/admin/buffer", "wrong")[0] == 401


@pytest.mark.integration
def test_an_empty_collector_drains_at_once(start: Callable[..., Running]) -> None:
    """Nothing left is exit code 0."""
    running = start(DRAIN_S="20")
    running.wait_ready()

    running.process.send_signal(signal.SIGTERM)

    assert running.process.wait(timeout=10) == 0


@pytest.mark.integration
def test_a_second_signal_cuts_the_drain_short(start: Callable[..., Running]) -> None:
    """While it drains it refuses and stays alive; an impatient operator does not need kill -9."""
    running = start(DRAIN_S="60")
    running.wait_ready()
    running.post(EVENT % 1)

    running.process.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + 10
    while running.get("/readyz")[0] != 503:
        assert time.monotonic() < deadline
    assert running.post(EVENT % 2) == 503
    assert running.get("/healthz")[0] == 200
    running.process.send_signal(signal.SIGTERM)

    assert running.process.wait(timeout=15) == 3


@pytest.mark.integration
def test_an_acknowledged_event_survives_kill_9(start: Callable[..., Running]) -> None:
    """The crash point after the 202 kills the process; the event is there afterwards."""
    first = start("--allow-faults", COLLECTOR_FAULTS="ingest.after_ack=kill@2")
    first.wait_ready()
    assert first.post(EVENT % 1) == 202
    with contextlib.suppress(OSError):
        first.post(EVENT % 2)
    assert first.process.wait(timeout=10) == -signal.SIGKILL

    second = start()
    second.wait_ready()

    assert json.loads(second.admin("/admin/buffer", ENVIRON["ADMIN_TOKEN"])[1])["events"] == 2


@pytest.mark.integration
def test_logs_are_json_lines_with_the_fill_and_without_secrets(start: Callable[..., Running]) -> None:
    """Also the line of a flush that fails."""
    running = start(LOG_INTERVAL_S="0.1", ICEBERG_BUFFER_TIMEOUT_MS="1")
    running.wait_ready()
    running.post(EVENT % 1)
    deadline = time.monotonic() + 20
    while "flush failed" not in running.logged():
        assert time.monotonic() < deadline, running.logged()
        with contextlib.suppress(subprocess.TimeoutExpired):
            running.process.wait(timeout=0.05)

    lines: list[dict[str, Any]] = [json.loads(line) for line in running.logged().splitlines()]

    failed = next(line for line in lines if line["message"] == "flush failed")
    assert {"error", "buffer_fill_rate", "flush_id"} <= set(failed)
    assert any(line["message"] == "buffer" and "buffer_fill_rate" in line for line in lines)
    assert "canary" not in running.logged()
    assert ENVIRON["ADMIN_TOKEN"] not in running.logged()
    assert json.loads(running.get("/readyz")[1])["table"].startswith(("failed", "undecided"))


@pytest.mark.integration
def test_a_second_process_on_the_same_directory_refuses_to_start(start: Callable[..., Running]) -> None:
    """Two writers would acknowledge into each other's files."""
    first = start()
    first.wait_ready()

    second = start()

    assert second.process.wait(timeout=15) == 255
    assert "cannot start" in second.logged()
    assert first.post(EVENT % 1) == 202


@pytest.mark.integration
def test_a_taken_port_refuses_to_start_and_names_the_variable(start: Callable[..., Running]) -> None:
    """Another port would be a collector that nobody finds."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        running = start(LISTEN_PORT=str(taken.getsockname()[1]))

        assert running.process.wait(timeout=15) == 255
    assert "LISTEN_PORT" in running.logged()


@pytest.mark.integration
@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /healthz HTTP/1.1\r\nx: " + b"y" * 200_000, b"431"),
        (b"GET /healthz HTTP/1.1\r\nx: y", b"408"),
        (b"", b"408"),
        (b"nonsense\r\n\r\n", b"400"),
    ],
)
def test_an_endless_slow_or_broken_head_ends_the_connection(
    start: Callable[..., Running], head: bytes, status: bytes
) -> None:
    """Nobody can hold a connection or memory without a request."""
    running = start(HEADER_TIMEOUT_S="0.3")
    running.wait_ready()

    with socket.create_connection(("127.0.0.1", running.port), timeout=10) as connection:
        with contextlib.suppress(OSError):
            connection.sendall(head)
        answer = b""
        with contextlib.suppress(ConnectionError):
            while chunk := connection.recv(4096):
                answer += chunk

    assert answer.startswith(b"HTTP/1.1 " + status) or (status == b"431" and answer == b"")
    assert running.get("/healthz")[0] == 200


@pytest.mark.parametrize("declared", [True, False])
def test_who_sends_far_too_much_before_reading_still_reads_413(start: Callable[..., Running], declared: bool) -> None:
    """The connection is closed when the rest was read and forgotten, not reset under a client that is still sending."""
    running = start()
    running.wait_ready()
    piece, pieces = bytes(1 << 20), 24
    with socket.create_connection(("127.0.0.1", running.port), timeout=30) as connection:
        length = f"content-length: {len(piece) * pieces}" if declared else "transfer-encoding: chunked"
        connection.sendall(f"POST /events HTTP/1.1\r\nhost: x\r\n{length}\r\n\r\n".encode())
        for _ in range(pieces):
            connection.sendall(piece if declared else b"%x\r\n%b\r\n" % (len(piece), piece))
        connection.sendall(b"" if declared else b"0\r\n\r\n")
        answer = b"".join(iter(lambda: connection.recv(65536), b""))

    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"connection: close" in answer


def test_faults_need_their_flag(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A variable that leaked into production must not kill anything."""
    for name, value in {**ENVIRON, "COLLECTOR_FAULTS": "ingest.after_ack=kill"}.items():
        monkeypatch.setenv(name, value)

    assert main([]) == 254
    assert "--allow-faults" in capsys.readouterr().err


def test_bad_configuration_is_one_sentence(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """On standard error, with the name of the variable, and without a traceback."""
    for name, value in {**ENVIRON, "ADMIN_TOKEN": "short"}.items():
        monkeypatch.setenv(name, value)

    assert main([]) == 254
    error = capsys.readouterr().err
    assert error.startswith("collector: ADMIN_TOKEN has 5 bytes")
    assert error.count("\n") == 1


def test_help_documents_every_variable(capsys: pytest.CaptureFixture[str]) -> None:
    """``--help`` needs no configuration."""
    with pytest.raises(SystemExit) as caught:
        main(["--help"])

    assert caught.value.code == 0
    assert "ICEBERG_BUFFER_SIZE" in capsys.readouterr().out


def test_uvicorn_still_has_what_the_collector_overrides() -> None:
    """A new uvicorn that renames these would lose limits and the drain without an error."""
    assert all(callable(name) for name in private_names())
    assert callable(uvicorn.Server.capture_signals)


@pytest.mark.integration
def test_a_body_that_arrives_at_once_is_no_head(start: Callable[..., Running]) -> None:
    """However large a piece of a body is read from the socket, the limit of the head does not count it."""
    running = start()
    running.wait_ready()
    event = EVENT.replace(b"}", b',"data":"%b"}' % (b"y" * 200_000))
    connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=10)
    statuses = []
    for number in range(5):
        connection.request("POST", "/events", event % number, STRUCTURED)
        with connection.getresponse() as answer:
            statuses.append(answer.status)
            answer.read()
    connection.close()

    assert statuses == [202] * 5
