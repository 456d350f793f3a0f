"""`python -m chaos.gateway.bench`: what the gateway costs.

Sends small catalog commits (0.9 KB up, 0.6 KB down) to a tiny upstream of its own, directly and through a real gateway process,
and prints added latency (one connection, one request at a time, the two ways alternating) and requests per second. "Per core"
divides the requests by the CPU time that the gateway itself used, so that the load generator, which shares the machine, does not
count. Also streams large objects. Everything runs on loopback and ends with the command.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

COMMIT_BYTES = 900
ANSWER_BYTES = 600
OBJECT_BYTES = 8 * 1024 * 1024
CONNECTIONS = 16
ROUND_REQUESTS = 100
"""Requests sent one way before the other way has its turn: what else the machine does hits both alike."""

_ANSWER = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % ANSWER_BYTES
    + b"x" * ANSWER_BYTES
)


@dataclass(frozen=True)
class Price:
    """The result; times in milliseconds, per small request.

    `added_*` is the difference between the percentiles of the two ways. `per_core` is None where the system does not tell a
    process's CPU time.
    """

    direct_p50_ms: float
    direct_p99_ms: float
    gateway_p50_ms: float
    gateway_p99_ms: float
    added_p50_ms: float
    added_p99_ms: float
    requests_per_s: float
    requests_per_core_s: float | None
    upload_mib_per_s: float
    peak_rss_mib: float | None


class TinyUpstream(asyncio.Protocol):
    """Answers each request the same, as soon as its body is whole."""

    def __init__(self) -> None:
        self._head = b""
        self._left = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Count the body down; only requests of this benchmark are understood."""
        if not self._left:
            self._head += data
            head, end, body = self._head.partition(b"\r\n\r\n")
            if not end:
                return
            self._head = b""
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            self._left, data = length, body
        self._left -= len(data)
        if self._left == 0:
            self._transport.write(_ANSWER)


async def _serve_upstream() -> None:
    server = await asyncio.get_running_loop().create_server(TinyUpstream, "127.0.0.1", 0)
    print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)
    await asyncio.to_thread(sys.stdin.buffer.read)  # the parent's end closes our input


class _LoadClient(asyncio.Protocol):
    """Sends one request after another until told to stop."""

    def __init__(self, request: bytes, until_s: float) -> None:
        self._request = request
        self._until_s = until_s
        self._seen = 0
        self.done: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._count = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._seen += len(data)
        if not data.endswith(b"x" * 16) or self._seen < ANSWER_BYTES:
            return
        self._seen = 0
        self._count += 1
        if time.monotonic() < self._until_s:
            self._transport.write(self._request)
        else:
            self._transport.close()
            self.done.set_result(self._count)


def run(seconds: float) -> Price:
    """Measure for about three times *seconds*."""
    with _upstream() as upstream_port, _gateway(upstream_port) as (gateway_port, pid):
        direct_ms, gateway_ms = _latencies_ms(upstream_port, gateway_port, seconds)
        cpu_s = _cpu_s(pid)
        count, elapsed_s = asyncio.run(_throughput(gateway_port, seconds))
        used_s = None if cpu_s is None else (_cpu_s(pid) or 0.0) - cpu_s
        upload = _upload_mib_per_s(gateway_port, seconds)
        rss_mib = _peak_rss_mib(pid)
    direct, through = _percentiles(direct_ms), _percentiles(gateway_ms)
    return Price(
        direct_p50_ms=round(direct[0], 3),
        direct_p99_ms=round(direct[1], 3),
        gateway_p50_ms=round(through[0], 3),
        gateway_p99_ms=round(through[1], 3),
        added_p50_ms=round(through[0] - direct[0], 3),
        added_p99_ms=round(through[1] - direct[1], 3),
        requests_per_s=round(count / elapsed_s),
        requests_per_core_s=round(count / used_s) if used_s else None,
        upload_mib_per_s=round(upload),
        peak_rss_mib=rss_mib,
    )


def _commit(port: int) -> bytes:
    head = (
        "POST /v1/bucket/namespaces/bench/tables/events HTTP/1.1\r\n"
        f"Host: 127.0.0.1:{port}\r\nUser-Agent: bench\r\nAccept: */*\r\nAuthorization: Bearer {'t' * 64}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {COMMIT_BYTES}\r\n\r\n"
    )
    return head.encode() + b"y" * COMMIT_BYTES


def _latencies_ms(upstream_port: int, gateway_port: int, seconds: float) -> tuple[list[float], list[float]]:
    direct: list[float] = []
    through: list[float] = []
    until_s = time.monotonic() + seconds
    with _connected(upstream_port) as straight, _connected(gateway_port) as around:
        while time.monotonic() < until_s:
            _timed(straight, _commit(upstream_port), direct)
            _timed(around, _commit(gateway_port), through)
    return direct, through


def _timed(connection: socket.socket, request: bytes, into: list[float]) -> None:
    for _ in range(ROUND_REQUESTS):
        started_ns = time.perf_counter_ns()
        connection.sendall(request)
        _read_answer(connection)
        into.append((time.perf_counter_ns() - started_ns) / 1e6)


def _read_answer(connection: socket.socket) -> None:
    received = b""
    while not received.endswith(b"x" * ANSWER_BYTES):
        data = connection.recv(65536)
        if not data:
            raise ConnectionError("The connection under test was closed.")
        received += data


async def _throughput(port: int, seconds: float) -> tuple[int, float]:
    started_s = time.monotonic()
    loop = asyncio.get_running_loop()
    clients = []
    for _ in range(CONNECTIONS):
        until_s = started_s + seconds
        _, client = await loop.create_connection(lambda u=until_s: _LoadClient(_commit(port), u), "127.0.0.1", port)  # type: ignore[misc]
        clients.append(client)
    count = sum(await asyncio.gather(*(client.done for client in clients)))
    return count, time.monotonic() - started_s


def _upload_mib_per_s(port: int, seconds: float) -> float:
    head = f"PUT /bench/data/file.parquet HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: {OBJECT_BYTES}\r\n\r\n"
    content = bytes(OBJECT_BYTES)
    started_s, count = time.monotonic(), 0
    with _connected(port) as connection:
        while time.monotonic() - started_s < seconds:
            connection.sendall(head.encode())
            connection.sendall(content)
            _read_answer(connection)
            count += 1
    return count * OBJECT_BYTES / 2**20 / (time.monotonic() - started_s)


def _percentiles(values: list[float]) -> tuple[float, float]:
    cuts = statistics.quantiles(values, n=100)
    return cuts[49], cuts[98]


@contextmanager
def _connected(port: int) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield connection


@contextmanager
def _upstream() -> Iterator[int]:
    argv = [sys.executable, "-m", "chaos.gateway.bench", "--upstream"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            yield int(_first_line(process)["port"])
        finally:
            process.terminate()


@contextmanager
def _gateway(upstream_port: int) -> Iterator[tuple[int, int]]:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "gateway.json"
        listener = {"name": "catalog", "listen": "127.0.0.1:0", "upstream": f"http://127.0.0.1:{upstream_port}"}
        config = {"listeners": [listener], "control": "127.0.0.1:0", "token": os.urandom(16).hex()}
        path.touch(0o600)
        path.write_text(json.dumps(config | {"log": str(Path(directory) / "gateway.jsonl")}))
        argv = [sys.executable, "-m", "chaos.gateway", "--config", str(path)]
        with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:
            try:
                address = str(_first_line(process)["listeners"]["catalog"])
                yield int(address.rpartition(":")[2]), process.pid
            finally:
                process.terminate()


def _first_line(process: subprocess.Popen[bytes]) -> Any:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise RuntimeError(f"{process.args!r} ended before it was ready.")
    return json.loads(line)


def _cpu_s(pid: int) -> float | None:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _peak_rss_mib(pid: int) -> float | None:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return None
    kib = next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))
    return round(int(kib) / 1024, 1)


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark and print the result; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m chaos.gateway.bench", description="Measure the gateway's price.")
    parser.add_argument("--seconds", type=float, default=3.0, help="length of each of the three parts (default 3)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--upstream", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.upstream:
        asyncio.run(_serve_upstream())
        return 0
    price = run(options.seconds)
    if options.json:
        print(json.dumps(asdict(price)))
        return 0
    per_core = f"{price.requests_per_core_s:,.0f}" if price.requests_per_core_s else "not told by this system"
    print(f"added latency   p50 {price.added_p50_ms:.3f} ms, p99 {price.added_p99_ms:.3f} ms")
    print(
        f"                direct {price.direct_p50_ms:.3f} / {price.direct_p99_ms:.3f} ms, through the gateway", end=" "
    )
    print(f"{price.gateway_p50_ms:.3f} / {price.gateway_p99_ms:.3f} ms")
    print(
        f"small requests  {price.requests_per_s:,.0f} /s with {CONNECTIONS} connections; {per_core} /s per core of gateway CPU"
    )
    rss = "" if price.peak_rss_mib is None else f"; peak memory {price.peak_rss_mib} MiB"
    print(f"large objects   {price.upload_mib_per_s:,.0f} MiB/s upward{rss}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
