"""What a stall looks like: `icequake bench latency`.

A server is stopped for two seconds (SIGSTOP) while two generators send to it at one rate: ours, which measures from the instant a
request was due, and stock Locust, whose users wait for the stalled server and send nothing meanwhile (coordinated omission). The
truth is arithmetic: a request due at time t of a stall that ends at e has at least e - t to wait, and nobody else has to wait. When
it ends is told by a third client, which sent a request when the server stopped.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import sys
import tempfile
import time
from dataclasses import dataclass
from urllib.parse import urlsplit

import numpy as np

from loadtests.bench_children import WARM_UP_S, Generator, Job, Measured
from loadtests.bench_load import finish, sink, start

ERROR_MAX = 0.01
STALL_S = 2.0


@dataclass(frozen=True)
class Outcome:
    """One run of the experiment; latencies in milliseconds."""

    true_p99_ms: float
    ours: Measured
    stock: Measured

    @property
    def error(self) -> float:
        """How far our p99 is from the true one, as a share of it."""
        return abs(self.ours.p99_ms - self.true_p99_ms) / self.true_p99_ms


def true_latencies_ms(
    *, rate: float, seconds: float, began_s: float, stall: tuple[float, float], service_ms: float
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Return the latency that each request of an even schedule must have.

    Args:
        rate: Requests per second, evenly spaced.
        seconds: How long requests were due.
        began_s: When the first was due.
        stall: When the server stopped and went on.
        service_ms: What a request takes when nothing is wrong.
    """
    due_s = began_s + np.arange(0.0, seconds, 1.0 / rate)
    waiting = (due_s >= stall[0]) & (due_s < stall[1])
    return np.where(waiting, (stall[1] - due_s) * 1000, 0.0) + service_ms


def experiment(*, rate: float, seconds: float, users: int = 16) -> Outcome:
    """Let both generators meet one stall."""
    with sink() as (url, server), tempfile.TemporaryDirectory() as runs:

        def job(generator: Generator) -> Job:
            return Job(generator=generator, url=url, seconds=seconds, batch=1, users=users, rate=rate, runs=runs)

        children = [start(job("ours")), start(job("stock-bytes"))]
        time.sleep(seconds / 2 + WARM_UP_S + 2)  # they need a while to start
        stall = _stall(url, server)
        ours, stock = (finish(child) for child in children)
    truth = true_latencies_ms(
        rate=rate,
        seconds=ours.offered / rate,
        began_s=ours.began_ns / 1e9,
        stall=stall,
        service_ms=ours.p50_ms,
    )
    return Outcome(float(np.percentile(truth, 99)), ours, stock)


def _stall(url: str, server: int) -> tuple[float, float]:
    """Stop the server for a while; return when it stopped, and when a third client saw it answer again."""
    address = urlsplit(url)
    with socket.create_connection((address.hostname or "", address.port or 80), timeout=STALL_S * 10) as witness:
        os.kill(server, signal.SIGSTOP)
        stopped_s = time.monotonic()
        witness.sendall(b"POST /events HTTP/1.1\r\nContent-Length: 0\r\n\r\n")
        time.sleep(STALL_S)
        os.kill(server, signal.SIGCONT)
        witness.recv(1024)
        return stopped_s, time.monotonic()


def main() -> int:
    """Run the benchmark of the command line; exit 1 when our p99 is not within a hundredth of the truth."""
    parser = argparse.ArgumentParser(prog="icequake bench latency", description="A stall as generators see it.")
    parser.add_argument("--rate", type=float, default=200.0, help="requests/s")
    parser.add_argument("--seconds", type=float, default=28.0)
    options = parser.parse_args()
    found = experiment(rate=options.rate, seconds=options.seconds)
    print(f"a server that stops for {STALL_S:g} s, at {options.rate:g} requests/s for {options.seconds:g} s\n")
    print(f"  {'':<38}{'p50':>10}{'p99':>12}{'max':>12}{'requests':>12}")
    print(f"  {'the truth, by the schedule':<38}{'':>10}{found.true_p99_ms:>9,.0f} ms")
    for name, one in (("icequake, corrected", found.ours), ("Locust FastHttpUser, 16 users", found.stock)):
        print(f"  {name:<38}{one.p50_ms:>7.1f} ms{one.p99_ms:>9,.0f} ms{one.max_ms:>9,.0f} ms{one.requests:>12,}")
    print(f"\n  our p99 is {found.error:.2%} from the truth (to be below {ERROR_MAX:.0%})")
    return 0 if found.error <= ERROR_MAX else 1


if __name__ == "__main__":
    sys.exit(main())
