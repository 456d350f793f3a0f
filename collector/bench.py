"""How many events a second one core acknowledges, each synced to disk before its 202.

``python -m collector.bench`` starts the real server on one core and a raw-socket client on another one. Nothing is
flushed while it measures: the catalog address is a closed port and the buffer is large enough for the whole run.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

EVENT_BYTES = 270
_MARKER = b"@@SEQUENCE@@"
_READY_TIMEOUT_S = 20.0


@dataclass(frozen=True, slots=True)
class BenchResult:
    """One measurement.

    Attributes:
        requests: Requests answered with 202.
        events: Events in them.
        other: Requests answered with anything else.
        seconds: Wall time of the client.
        server_cpu_s: User and system time the server used meanwhile.
        syncs: Transactions the buffer synced meanwhile.
    """

    requests: int
    events: int
    other: int
    seconds: float
    server_cpu_s: float
    syncs: int

    @property
    def events_per_s(self) -> float:
        """Acknowledged events per second of wall time."""
        return self.events / self.seconds

    @property
    def cpu_us_per_request(self) -> float:
        """Server CPU time per acknowledged request, in microseconds."""
        return self.server_cpu_s * 1e6 / max(1, self.requests)

    @property
    def events_per_cpu_s(self) -> float:
        """Acknowledged events per second of server CPU time: what a whole core would carry."""
        return self.events / max(1e-9, self.server_cpu_s)

    def __str__(self) -> str:
        """Return the lines a person reads."""
        return (
            f"acknowledged      {self.events_per_s:12,.0f} events/s  ({self.requests:,} requests in {self.seconds:.1f} s,"
            f" {self.other} not accepted)\n"
            f"server CPU        {self.cpu_us_per_request:12,.0f} us/request  ({self.events_per_cpu_s:,.0f} events per "
            f"CPU second)\n"
            f"syncs before acks {self.syncs:12,d}  ({self.requests / max(1, self.syncs):.1f} requests per sync)"
        )


def run(seconds: float = 5.0, *, connections: int = 16, batch: int = 100, data_dir: Path | None = None) -> BenchResult:
    """Measure for ``seconds``; the server is pinned to one core and the client to another where there are two.

    Args:
        seconds: Length of the measurement, after a warm-up of a fifth of it.
        connections: Requests in flight at once, one a connection.
        batch: Events of ``EVENT_BYTES`` bytes in a request.
        data_dir: A directory on the disk to measure; a temporary one by default.
    """
    if not Path("/proc/self/stat").exists():
        raise RuntimeError("the benchmark reads the server's CPU time from /proc, which this system does not have")
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    with (
        tempfile.TemporaryDirectory(dir=data_dir) as directory,
        _server(Path(directory), cores[:1]) as (pid, port),
        _client(port, connections, batch, cores[-1:]) as client,
    ):
        _ask(client, seconds / 5)
        before_cpu, before_syncs = _cpu_s(pid), _syncs(port)
        accepted, other, elapsed = _ask(client, seconds)
        return BenchResult(
            requests=accepted,
            events=accepted * batch,
            other=other,
            seconds=elapsed,
            server_cpu_s=_cpu_s(pid) - before_cpu,
            syncs=_syncs(port) - before_syncs,
        )


@contextlib.contextmanager
def _server(directory: Path, cores: list[int]) -> Iterator[tuple[int, int]]:
    port, admin_port, closed_port = _free_ports(3)
    environ = {
        **os.environ,
        "LISTEN_PORT": str(port),
        "ADMIN_PORT": str(admin_port),
        "ADMIN_TOKEN": os.urandom(32).hex(),
        "DATA_DIR": str(directory / "buffer"),
        "CATALOG_URI": f"http://127.0.0.1:{closed_port}",
        "TABLE_IDENTIFIER": "bench.events",
        "ICEBERG_BUFFER_SIZE": "10000000",
        "ICEBERG_BUFFER_FLUSH_AT": "1",
        "ICEBERG_BUFFER_TIMEOUT_MS": "3600000",
        "LOG_INTERVAL_S": "3600",
        "DRAIN_S": "0",
    }
    command = [sys.executable, "-m", "collector"]
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(command, env=environ, stderr=log)
    try:
        _pin(process.pid, cores)
        _await_ready(port, process)
        yield process.pid, port
    finally:
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [listener.getsockname()[1] for listener in sockets]


def _pin(pid: int, cores: list[int]) -> None:
    if cores:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            os.sched_setaffinity(int(thread.name), cores)


def _await_ready(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _READY_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=1):
                return
        except OSError:
            time.sleep(0.02)
    raise RuntimeError(f"the collector did not become ready (exit code {process.poll()})")


def _cpu_s(pid: int) -> float:
    """Return user and system time of a process from ``/proc`` (fields 14 and 15 of ``stat``)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _syncs(port: int) -> int:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        found = re.search(r"^collector_buffer_syncs_total (\S+)$", answer.read().decode(), re.MULTILINE)
    return int(float(found[1])) if found else 0


# The client, a process of its own.


@contextlib.contextmanager
def _client(port: int, connections: int, batch: int, cores: list[int]) -> Iterator[Connection]:
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_client_main, args=(theirs, port, connections, batch, cores), daemon=True)
    process.start()
    try:
        yield ours
    finally:
        ours.send(0.0)
        process.join(timeout=10)


def _ask(client: Connection, seconds: float) -> tuple[int, int, float]:
    client.send(seconds)
    accepted, other, elapsed = client.recv()
    return accepted, other, elapsed


def _client_main(pipe: Connection, port: int, connections: int, batch: int, cores: list[int]) -> None:
    if cores:
        os.sched_setaffinity(0, cores)
    sockets = [socket.create_connection(("127.0.0.1", port)) for _ in range(connections)]
    parts = _template(batch)
    sequence = 0
    while seconds := pipe.recv():
        accepted, other, elapsed, sequence = _drive(sockets, parts, seconds, sequence)
        pipe.send((accepted, other, elapsed))


def _template(batch: int) -> list[bytes]:
    """Return a whole request, split where the unique part of each id goes."""
    marker = _MARKER.decode()
    event = {
        "specversion": "1.0",
        "id": marker,
        "source": "urn:bench:1",
        "type": "bench.event",
        "time": "2026-01-01T00:00:00.000000Z",
        "datacontenttype": "application/json",
        "data": {"amount": 12.5, "currency": "EUR", "note": ""},
    }
    padding = EVENT_BYTES - len(json.dumps(event, separators=(",", ":")))
    event["data"] = {"amount": 12.5, "currency": "EUR", "note": "x" * padding}
    body = json.dumps([event] * batch, separators=(",", ":"))
    head = (
        f"POST /events HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/cloudevents-batch+json\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    )
    return (head + body).encode().split(_MARKER)


def _drive(
    sockets: list[socket.socket], parts: list[bytes], seconds: float, sequence: int
) -> tuple[int, int, float, int]:
    """Keep one request in flight on every connection; ids are unique per event and not in order."""
    import selectors

    def send(connection: socket.socket) -> None:
        nonlocal sequence
        out = [parts[0]]
        for part in parts[1:]:
            out += (b"%012x" % (sequence * 0x9E3779B97F4A7C15 % (1 << 48)), part)
            sequence += 1
        connection.sendall(b"".join(out))

    accepted = other = 0
    started = time.perf_counter()
    with selectors.DefaultSelector() as selector:
        for connection in sockets:
            selector.register(connection, selectors.EVENT_READ)
            send(connection)
        waiting = len(sockets)
        while waiting:
            for key, _ in selector.select():
                connection = key.fileobj  # type: ignore[assignment]
                answer = connection.recv(65536)
                while b"\r\n\r\n" not in answer or not answer.endswith((b"}", b"]")):
                    answer += connection.recv(65536)
                accepted += answer[9:12] == b"202"
                other += answer[9:12] != b"202"
                if time.perf_counter() - started < seconds:
                    send(connection)
                else:
                    waiting -= 1
                    selector.unregister(connection)
    return accepted, other, time.perf_counter() - started, sequence


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(prog="python -m collector.bench", description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--batch", type=int, default=100, help="events in a request")
    parser.add_argument("--data-dir", type=Path, help="an existing directory on the disk to measure")
    parser.add_argument("--json", action="store_true", help="print the raw numbers as JSON")
    arguments = parser.parse_args()
    result = run(
        arguments.seconds,
        connections=arguments.connections,
        batch=arguments.batch,
        data_dir=arguments.data_dir,
    )
    print(json.dumps(asdict(result)) if arguments.json else result)


if __name__ == "__main__":
    main()
