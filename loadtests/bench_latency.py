"""What a stall looks like: `icequake bench latency`.

A server is stopped for two seconds (SIGSTOP) while a generator sends to it: ours, which measures from the instant a
request was due, and stock Locust, whose users wait for the stalled server and send nothing meanwhile (coordinated omission). The
truth is told by the server's own clock: when it answered each event, less when the schedule had its request due.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from loadtests.bench_job import WARM_UP_S, Job, Measured
from loadtests.bench_load import finish, sink, start
from loadtests.records.identity import Identity
from loadtests.records.ledger import Record, read_ledgers
from loadtests.records.rundir import RunDir

ERROR_MAX = 0.01
STALL_S = 2.0


@dataclass(frozen=True)
class Outcome:
    """One run of the experiment; latencies in milliseconds."""

    true_p99_ms: float
    requests: int
    ours: Measured
    stock: Measured

    @property
    def error(self) -> float:
        """How far our p99 is from the true one, as a share of it."""
        return abs(self.ours.p99_ms - self.true_p99_ms) / self.true_p99_ms


def experiment(*, rate: float, seconds: float, users: int = 16) -> Outcome:
    """Let each generator meet a stall, one after the other, so that neither holds up the other."""
    with tempfile.TemporaryDirectory() as directory:
        log, runs = Path(directory) / "answered", Path(directory) / "runs"
        job = Job(generator="ours", url="", seconds=seconds, batch=1, users=users, rate=rate, runs=str(runs))
        ours = _through_a_stall(job, log)
        truth = true_latencies_ms(RunDir.find(runs, "last"), log)
        stock = _through_a_stall(msgspec.structs.replace(job, generator="stock-bytes"), log)
    return Outcome(float(np.percentile(truth, 99)), len(truth), ours, stock)


def _through_a_stall(job: Job, log: Path) -> Measured:
    """Run a generator against a server that stops in the middle."""
    with sink(log) as (url, server):
        child = start(msgspec.structs.replace(job, url=url))
        time.sleep(job.seconds / 2 + WARM_UP_S + 2)  # it needs a while to start
        os.kill(server, signal.SIGSTOP)
        time.sleep(STALL_S)
        os.kill(server, signal.SIGCONT)
        return finish(child)


def true_latencies_ms(run: RunDir, log: Path) -> npt.NDArray[np.float64]:
    """Return, for each request of *run*, when the server answered it by its own *log*, less when the schedule had it due."""
    answered = {event: int(t_ns) for t_ns, event in (line.split() for line in log.read_text().splitlines())}
    identity = Identity(run.info.seed, run.info.run_id)
    (ledger,) = read_ledgers(run.ledger)
    sent = ledger.records[ledger.records["record"] == Record.ATTEMPT]
    ids = [value.decode() for value in identity.ids_of(0, sent["first"])]
    pairs = zip(ids, sent["intended_ns"].tolist(), strict=True)
    return np.array([(answered[event] - due_ns) / 1e6 for event, due_ns in pairs])


def main() -> int:
    """Run the benchmark of the command line; exit 1 when our p99 is not within a hundredth of the truth."""
    parser = argparse.ArgumentParser(prog="icequake bench latency", description="A stall as generators see it.")
    parser.add_argument("--rate", type=float, default=200.0, help="requests/s")
    parser.add_argument("--seconds", type=float, default=20.0)
    options = parser.parse_args()
    found = experiment(rate=options.rate, seconds=options.seconds)
    print(f"a server that stops for {STALL_S:g} s, at {options.rate:g} requests/s for {options.seconds:g} s\n")
    print(f"  {'':<38}{'p50':>10}{'p99':>12}{'max':>12}{'requests':>12}")
    print(f"  {'the truth, by the server':<38}{'':>10}{found.true_p99_ms:>9,.0f} ms{'':>12}{found.requests:>12,}")
    for name, one in (("icequake, corrected", found.ours), ("Locust FastHttpUser, 16 users", found.stock)):
        print(f"  {name:<38}{one.p50_ms:>7.1f} ms{one.p99_ms:>9,.0f} ms{one.max_ms:>9,.0f} ms{one.requests:>12,}")
    print(f"\n  our p99 is {found.error:.2%} from the truth (to be below {ERROR_MAX:.0%})")
    return 0 if found.error <= ERROR_MAX else 1


if __name__ == "__main__":
    sys.exit(main())
