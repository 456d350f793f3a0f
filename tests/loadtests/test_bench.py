"""The benchmarks measure what they say, on small numbers; speed itself is asserted nowhere."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from loadtests.bench_job import Job
from loadtests.bench_latency import experiment, true_latencies_ms
from loadtests.bench_load import NAMES, Result, compare, finish, ledger_us, print_results, read_wrk, sink, start
from loadtests.bench_server import Sink
from loadtests.records.identity import Identity
from loadtests.records.ledger import LedgerWriter
from tests.loadtests.runs import RUN_ID, make_run

OURS = (NAMES["ours"], NAMES["ours-no-ledger"])


class Transport:
    def __init__(self) -> None:
        self.answers = 0

    def write(self, data: bytes) -> None:
        self.answers += data.count(b"202 Accepted")


@pytest.mark.parametrize("log", [True, False])
@pytest.mark.parametrize("piece", [1, 7, 50, 10_000])
def test_the_sink_answers_each_request_once_however_it_is_cut(piece: int, log: bool):
    """Bodies of any length, several requests on one connection, in pieces of any size."""
    stream = b"".join(
        b"POST /events HTTP/1.1\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
        for body in (b"", b'{"id":"a"}', b"x" * 500, b"\r\n\r\n")
    )
    answered: list[tuple[int, bytes]] = []
    server, transport = Sink(answered if log else None), Transport()
    server.connection_made(transport)

    for start_at in range(0, len(stream), piece):
        server.data_received(stream[start_at : start_at + piece])

    assert transport.answers == 4
    assert [event for _, event in answered] == ([b"a"] if log else [])


def test_the_truth_is_answered_less_due(tmp_path: Path):
    """By event: the server's clock less the schedule's."""
    run = make_run(tmp_path)
    ledger = LedgerWriter(run.ledger / "locust-0.ledger", run_id=RUN_ID, process="locust-0")
    for first in range(3):
        ledger.attempt(producer=0, first=first, count=1, intended_ns=first * 1_000_000, sent_ns=first * 9_000_000)
    ledger.close()
    ids = [value.decode() for value in Identity(7, RUN_ID).ids(0, 0, 3)]
    log = tmp_path / "answered"
    log.write_text("".join(f"{20_000_000} {event}\n" for event in ids))

    assert true_latencies_ms(run, log).tolist() == [20.0, 19.0, 18.0]


def test_events_per_core_follow_from_cpu_time():
    """A hundred events in a request that takes 100 us are a million a second."""
    assert Result("x", 100, 100.0, 5.0, 0).events_per_core == 1_000_000


def test_the_ledgers_writes_take_time(tmp_path: Path):
    """Some microseconds, but not nothing."""
    assert ledger_us(tmp_path, pairs=200) > 0


WRK = """#!/bin/sh
printf '%s\\n' "$@" > "{log}"
sed -n 's/.*io.open("\\(.*\\)", "rb").*/\\1/p' "$5" | xargs cat > "{body}"
cat <<'END'
Running 2s test @ http://127.0.0.1:18080/events
  1 threads and 16 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency   301.50us  215.31us   9.37ms   97.42%
    Req/Sec    53.11k     3.70k   57.61k    80.95%
  110942 requests in 2.10s, 6.24MB read
  Socket errors: connect 0, read 3, write 1, timeout 2
  Non-2xx or 3xx responses: 12
Requests/sec:  52829.51
Transfer/sec:      2.97MB
END
"""


@pytest.fixture
def fake_wrk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A wrk on PATH that keeps what it was given and prints what the real one prints."""
    directory = tmp_path / "bin"
    directory.mkdir()
    program = directory / "wrk"
    program.write_text(WRK.format(log=tmp_path / "arguments", body=tmp_path / "body"))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{directory}{os.pathsep}{os.environ['PATH']}")
    return tmp_path


def test_wrk_has_a_row_of_its_own_where_it_is_installed(fake_wrk: Path, capsys: pytest.CaptureFixture[str]):
    """Single and batched: a body of events, requests by its own count and time, what failed beside them."""
    results = compare("http://127.0.0.1:18080/events", str(fake_wrk), rounds=1, seconds=2, generators=())

    assert [(one.batch, one.failed, round(one.requests_per_s)) for one in results] == [(1, 18, 52830), (100, 18, 52830)]
    words = (fake_wrk / "arguments").read_text().split()
    assert words[:4] == ["-t1", "-c16", "-d2s", "-s"]
    assert words[-1] == "http://127.0.0.1:18080/events"
    assert len(json.loads((fake_wrk / "body").read_bytes())) == 100
    print_results([*(Result(name, batch, 100.0, 5.0, 0) for name in OURS for batch in (1, 100)), *results], 3.0)
    printed = capsys.readouterr().out
    assert printed.count("wrk, one body (no ids, no ledger)") == 2
    assert printed.count("18 FAILED") == 2


def test_wrk_without_a_count_is_an_error():
    """Another program of that name is no measurement."""
    with pytest.raises(RuntimeError, match="printed no number of requests"):
        read_wrk("wrk: unable to connect to 127.0.0.1:18080", cpu_s=1.0)


@pytest.mark.integration
@pytest.mark.slow
@pytest.mark.parametrize("generator", ["ours", "ours-no-ledger", "stock-dicts", "stock-bytes"])
def test_every_generator_sends_and_is_answered(tmp_path: Path, generator: str):
    """Each as a process of its own, against the sink, without a failure."""
    with sink() as (url, _):
        rate = 50 if generator.startswith("ours") else 0
        job = Job(generator=generator, url=url, seconds=1, batch=5, users=4, rate=rate, runs=str(tmp_path))  # type: ignore[arg-type]
        measured = finish(start(job))

    assert measured.requests > 10
    assert measured.failed == 0
    assert measured.cpu_s > 0


@pytest.mark.integration
@pytest.mark.slow
def test_after_a_stall_ours_says_what_the_server_says_and_stock_locust_does_not():
    """Within a twentieth on a busy machine, where stock says less than a third of the truth."""
    found = experiment(rate=200, seconds=12)  # of 2,600 stock requests 16 meet the stall: less than a hundredth

    assert found.error < 0.05
    assert found.ours.p99_ms > 1000
    assert found.stock.p99_ms < found.true_p99_ms / 3
    assert np.isfinite(found.true_p99_ms)
