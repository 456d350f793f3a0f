"""The load generator beside others, in one run: `icequake bench load`.

Each generator is a process of its own on one core, and the server another; they take turns, round after round, and medians are
printed, since machines have moods. Ours sends at an offered rate with the ledger on; stock Locust runs as fast as 16 users can; wrk
does where it is installed. Rates are given per CPU second of the generator: what a whole core would carry.

    single    one event a request
    batched   a hundred events a request
    ledger    what writing the ledger costs, batched
    held      a rate offered for a while by one process: how late requests left
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import msgspec

from loadtests.bench_job import Generator, Job, Measured
from loadtests.records.ledger import LedgerWriter, Outcome

GENERATORS: tuple[Generator, ...] = ("ours", "ours-no-ledger", "stock-bytes", "stock-dicts")
USERS = 16
BATCH = 100
LEDGER_COST_MAX = 0.15
HELD_PER_S = 5_000
PRIORITY = -15
OURS_RATE = 5_000
"""Offered while ours is compared: enough to be busy all the time, as the others are."""


@dataclass(frozen=True)
class Result:
    """One generator's median over the rounds."""

    name: str
    batch: int
    cpu_us_per_request: float
    requests_per_s: float
    failed: int

    @property
    def events_per_core(self) -> float:
        """Events per CPU second of the generator."""
        return self.batch * 1e6 / self.cpu_us_per_request

    def __str__(self) -> str:
        """Return a row of the table."""
        failed = f"   {self.failed} FAILED" if self.failed else ""
        return (
            f"  {self.name:<34}{self.cpu_us_per_request:>8.0f}{1e6 / self.cpu_us_per_request:>12,.0f}"
            f"{self.events_per_core:>14,.0f}{self.requests_per_s:>14,.0f}{failed}"
        )


HEADER = f"  {'':<34}{'CPU us':>8}{'requests':>12}{'events':>14}{'requests':>14}\n" + (
    f"  {'':<34}{'a req.':>8}{'a CPU s':>12}{'a CPU s':>14}{'a second':>14}"
)


@contextmanager
def sink(log: Path | None = None) -> Iterator[tuple[str, int]]:
    """Run the server that keeps nothing; yield its URL and its process id. It writes *log* when it ends."""
    first, _ = cores()
    argv = [sys.executable, "-m", "loadtests.bench_server", *([str(log)] if log is not None else [])]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, start_new_session=True) as server:
        try:
            assert server.stdout is not None
            port = int(server.stdout.readline())
            _pin(server.pid, first)
            yield f"http://127.0.0.1:{port}/events", server.pid
        finally:
            server.terminate()
            try:
                server.wait(timeout=20)
            finally:
                server.kill()


def cores() -> tuple[int | None, int | None]:
    """Return a core for the server and one for the generator; None where they cannot be chosen or there is but one."""
    usable = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    return (usable[0], usable[-1]) if len(usable) > 1 else (None, None)


def first_in_line(pid: int) -> None:
    """Give a process, the first of its session, priority over whatever else runs here, where that is allowed.

    Linux shares processors by session first (autogroups), and only within one by priority.
    """
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, pid, PRIORITY)
    with suppress(OSError):
        Path(f"/proc/{pid}/autogroup").write_text(str(PRIORITY))


def _pin(pid: int, core: int | None) -> None:
    """Give a process its core, and priority, where that is allowed."""
    first_in_line(pid)
    if core is not None:
        with suppress(OSError):
            os.sched_setaffinity(pid, {core})


def start(job: Job) -> subprocess.Popen[str]:
    """Start a generator on its core."""
    argv = [sys.executable, "-m", "loadtests.bench_children", msgspec.json.encode(job).decode()]
    # A session of its own: see `first_in_line`.
    child = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    _pin(child.pid, cores()[1])
    return child


def finish(child: subprocess.Popen[str]) -> Measured:
    """Wait for a generator and return what it measured. Raises RuntimeError when it failed."""
    out, errors = child.communicate(timeout=300)
    if child.returncode != 0:
        raise RuntimeError(f"a generator failed: {errors.strip()[-500:]}")
    return msgspec.json.decode(out.strip().splitlines()[-1], type=Measured)


def compare(
    url: str, runs: str, *, rounds: int, seconds: float, generators: Sequence[Generator] = GENERATORS
) -> list[Result]:
    """Let the generators take turns, single and batched; and wrk with them where it is installed."""
    cases: list[tuple[str, int, Callable[[], Measured]]] = []
    for batch in (1, BATCH):
        for name in generators:
            rate = OURS_RATE if name.startswith("ours") else 0
            job = Job(generator=name, url=url, seconds=seconds, batch=batch, users=USERS, rate=rate, runs=runs)
            cases.append((name, batch, lambda job=job: finish(start(job))))  # type: ignore[misc]
        if shutil.which("wrk"):
            cases.append(("wrk", batch, lambda batch=batch: run_wrk(url, batch, seconds)))  # type: ignore[misc]
    measured: dict[tuple[str, int], list[Measured]] = {}
    for number in range(rounds):
        for title, batch, run in cases:
            print(f"\r  round {number + 1} of {rounds}: {title}, {batch} a request" + " " * 20, end="", file=sys.stderr)
            measured.setdefault((title, batch), []).append(run())
    print("\r" + " " * 70 + "\r", end="", file=sys.stderr)
    return [_median(title, batch, several) for (title, batch), several in measured.items()]


def _median(name: str, batch: int, several: Sequence[Measured]) -> Result:
    return Result(
        NAMES[name],
        batch,
        median(m.cpu_s * 1e6 / max(1, m.requests) for m in several),
        median(m.requests / m.seconds for m in several),
        sum(m.failed for m in several),
    )


NAMES = {
    "ours": "icequake, ledger on",
    "ours-no-ledger": "icequake, ledger off",
    "stock-bytes": "Locust FastHttpUser, bytes ready",
    "stock-dicts": "Locust FastHttpUser, json=",
    "wrk": "wrk, one body (no ids, no ledger)",
}

_LUA = """wrk.method = "POST"
wrk.headers["Content-Type"] = "application/cloudevents-batch+json"
local file = io.open("{body}", "rb")
wrk.body = file:read("*a")
"""


def run_wrk(url: str, batch: int, seconds: float) -> Measured:
    """Let wrk send one body again and again. Raises RuntimeError, CalledProcessError."""
    from loadtests.events import EventFactory
    from loadtests.traffic import Mix

    with tempfile.TemporaryDirectory() as directory:
        body, script = Path(directory) / "body", Path(directory) / "post.lua"
        message = EventFactory(seed=1, run_id="ab12cd34", producer=0, mix=Mix(), batch=batch).render(
            0, batch, unix_ns=0
        )
        body.write_bytes(message.body)
        script.write_text(_LUA.format(body=body))
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        argv = ["wrk", "-t1", f"-c{USERS}", f"-d{max(1, round(seconds))}s", "-s", str(script), url]
        core = cores()[1]
        pinned = [*(["taskset", "-c", str(core)] if core is not None and shutil.which("taskset") else []), *argv]
        out = subprocess.run(pinned, capture_output=True, text=True, check=True).stdout
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return read_wrk(out, cpu_s=after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def read_wrk(out: str, *, cpu_s: float) -> Measured:
    """Return what wrk printed. Requests without an answer, and answers that are not 2xx or 3xx, count as failed.

    Raises:
        RuntimeError: it printed something else.
    """
    done = re.search(r"^\s*(\d+) requests in ([\d.]+)(ms|s|m|h)\b", out, re.MULTILINE)
    if done is None:
        raise RuntimeError(f"wrk printed no number of requests: {out.strip()[-500:]}")
    sockets = re.search(r"^\s*Socket errors: (.*)$", out, re.MULTILINE)
    refused = re.search(r"^\s*Non-2xx or 3xx responses: (\d+)", out, re.MULTILINE)
    failed = sum(int(number) for number in re.findall(r"\d+", sockets[1] if sockets else ""))
    return Measured(
        requests=int(done[1]), failed=failed + int(refused[1] if refused else 0), cpu_s=cpu_s,
        seconds=float(done[2]) * {"ms": 0.001, "s": 1, "m": 60, "h": 3600}[done[3]], p50_ms=0, p99_ms=0, max_ms=0,
    )  # fmt: skip


def held(url: str, runs: str, *, rate: float, batch: int, seconds: float) -> Measured:
    """Offer *rate* requests a second by one process for so long."""
    job = Job(generator="ours", url=url, seconds=seconds, batch=batch, users=50, rate=rate, runs=runs)
    return finish(start(job))


def ledger_us(directory: Path, pairs: int = 20_000) -> float:
    """Return the CPU time in microseconds of what the ledger writes for one request: its attempt and its outcome."""
    ledger = LedgerWriter(directory / "bench.ledger", run_id="ab12cd34", process="bench")
    began_s = time.process_time()
    for number in range(pairs):
        first = number * BATCH
        request = ledger.attempt(producer=0, first=first, count=BATCH, intended_ns=number, sent_ns=number)
        ledger.done(
            request, producer=0, first=first, count=BATCH, intended_ns=number, sent_ns=number, done_ns=number, status=202,
            outcome=Outcome.ACKED,
        )  # fmt: skip
    spent_s = time.process_time() - began_s
    ledger.close()
    return spent_s * 1e6 / pairs


def print_held(measured: Measured, *, rate: float, batch: int) -> None:
    """Print how well a rate was held."""
    sent = measured.requests / measured.seconds
    print(
        f"  {rate:,.0f} requests/s offered, {batch} events each: {sent:,.0f} answered a second, {measured.not_sent} of "
        f"{measured.offered:,} never sent\n"
        f"  send lag p50 {measured.lag_p50_ms:.1f} ms, p99 {measured.lag_p99_ms:.1f} ms, max {measured.lag_max_ms:.0f} ms; "
        f"{measured.cpu_s / measured.seconds:.0%} of a core"
    )


def main() -> None:
    """Run the benchmark of the command line."""
    parser = argparse.ArgumentParser(prog="icequake bench load", description="The load generator beside others.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each measurement")
    parser.add_argument("--rate", type=float, default=HELD_PER_S, help="requests/s to hold")
    parser.add_argument("--held-seconds", type=float, default=10.0)
    options = parser.parse_args()
    with sink() as (url, _), tempfile.TemporaryDirectory() as runs:
        results = compare(url, runs, rounds=options.rounds, seconds=options.seconds)
        print_results(results, ledger_us(Path(runs)))
        print("\nheld by one process, ledger on")
        for batch in (1, 20):
            measured = held(url, runs, rate=options.rate, batch=batch, seconds=options.held_seconds)
            print_held(measured, rate=options.rate, batch=batch)


def print_results(results: Sequence[Result], alone_us: float) -> None:
    """Print the comparison, and what the ledger costs."""
    load = os.getloadavg()[0]
    print(f"load average {load:.1f} on {os.cpu_count()} processors; the more, the less these figures say\n")
    for batch, title in ((1, "single"), (BATCH, f"batched, {BATCH} events a request")):
        print(f"{title}\n{HEADER}")
        for result in results:
            if result.batch == batch:
                print(result)
        print()
    by = {(result.name, result.batch): result.cpu_us_per_request for result in results}
    for batch in (1, BATCH):
        on_us, off_us = by[NAMES["ours"], batch], by[NAMES["ours-no-ledger"], batch]
        print(
            f"the ledger, {batch} a request: {on_us / off_us - 1:+.1%} of CPU on against off; its two writes alone take "
            f"{alone_us:.1f} us, {alone_us / (on_us - alone_us):.1%} (to be below {LEDGER_COST_MAX:.0%})"
        )
    if not shutil.which("wrk"):
        print("wrk is not installed, so it is not in the table")


if __name__ == "__main__":
    main()
