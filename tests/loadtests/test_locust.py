"""Real Locust processes against small real servers."""

import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from loadtests.records.histogram import merged, percentile_ms
from loadtests.records.identity import Identity
from loadtests.records.ledger import Kind, Ledger, Outcome, Record, Status, read_ledgers
from loadtests.records.rundir import RunDir
from tests.loadtests.runs import make_run
from tests.loadtests.servers import ACCEPTED, Served, always, free_port, serving

pytestmark = pytest.mark.integration
ROOT = Path(__file__).parents[2]
BUSY = b"HTTP/1.1 503 Busy\r\nContent-Type: application/problem+json\r\nContent-Length: 0\r\n\r\n"


def locust(url: str, tmp_path: Path, *args: str, **kwargs) -> subprocess.Popen:
    argv = [sys.executable, "-m", "locust", "-f", "loadtests/locustfile.py", "--headless", "--only-summary"]
    argv += ["--host", url, "--runs", str(tmp_path / "runs"), *args]
    # A session of its own, so that a hanging run can be ended with its workers.
    kwargs["start_new_session"] = True
    return subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **kwargs)


def finish(process: subprocess.Popen, code: int = 0) -> str:
    """Wait for the end, return what was printed; a run that does not end is killed and fails the test."""
    try:
        out, _ = process.communicate(timeout=45)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, _ = process.communicate()
        pytest.fail(f"Locust did not end:\n{out}")
    assert process.returncode == code, out
    return out


def two_workers() -> list[str]:
    """Arguments for a master and two workers on a free port; Locust wants it for both sides."""
    port = str(free_port())
    return ["--processes", "2", "--master-bind-host", "127.0.0.1", "--master-bind-port", port, "--master-port", port]


def last_run(tmp_path: Path) -> RunDir:
    return RunDir.find(tmp_path / "runs", "last")


def test_after_a_stall_the_corrected_latency_tells_it_and_the_service_time_does_not(tmp_path: Path):
    """A server that stalls for 2 s in 8 s: p99 from the intended time is near 2 s; few requests were in service then."""
    stall_over = threading.Event()

    def script(served: Served, connection) -> bool:
        if served.number == 300:
            threading.Timer(2.0, stall_over.set).start()
        if served.number >= 300:
            stall_over.wait()
        connection.sendall(ACCEPTED)
        return True

    with serving(script) as server:
        # One connection: a pool that is full makes every later arrival wait, and only the schedule knows.
        finish(
            locust(
                server.url, tmp_path, "-u", "10", "-r", "10", "-t", "8s", "--rate-per-user", "20", "--batch", "5",
                "--connections", "1",
            )
        )  # fmt: skip

    run = last_run(tmp_path)
    corrected, service = merged(run.hist, "corrected"), merged(run.hist, "service")
    assert corrected.get_total_count() == service.get_total_count() == len(server.requests)
    assert percentile_ms(corrected, 99) >= 1500
    assert percentile_ms(service, 99) <= 500
    (ledger,) = read_ledgers(run.ledger)
    done = ledger.records[ledger.records["record"] == Record.DONE]
    truth_ms = np.sort(done["done_ns"] - done["intended_ns"]) / 1e6
    for percent in (50, 90, 99):  # whatever the machine did meanwhile, the histogram says what the ledger says
        true_ms = float(np.percentile(truth_ms, percent, method="inverted_cdf"))
        assert percentile_ms(corrected, percent) == pytest.approx(true_ms, rel=0.01, abs=0.1)


def test_every_request_the_server_saw_was_in_the_ledger_before(tmp_path: Path):
    """For each request, at the moment the server read it, the ledger file already held its attempt."""
    seen: list[tuple[int, int]] = []

    def script(served: Served, connection) -> bool:
        size = next((tmp_path / "runs").glob("2*/ledger/*.ledger")).stat().st_size
        seen.append((served.number, size))
        connection.sendall(ACCEPTED if served.number % 3 else BUSY)
        return True

    with serving(script) as server:
        finish(locust(server.url, tmp_path, "-u", "5", "-r", "5", "-t", "4s", "--rate-per-user", "20", "--seed", "9"))

    run = last_run(tmp_path)
    (ledger,) = read_ledgers(run.ledger)
    attempts = ledger.records[ledger.records["record"] == Record.ATTEMPT]
    assert len(attempts) == len(server.requests) > 100
    header_bytes = (run.ledger / "locust-0.ledger").stat().st_size - len(ledger.records) * 64
    assert all((size - header_bytes) // 64 >= number for number, size in seen)
    sent = np.array([served.ids[0].encode() for served in server.requests], dtype="S16")
    firsts = Identity(9, run.info.run_id).invert(0, sent)
    assert sorted(firsts.tolist()) == sorted(attempts["first"].tolist())
    assert (run.info.phase, run.info.scenario, run.info.stopped) == ("done", "locust", None)


def test_traffic_lasts_as_long_as_the_run_time_and_nothing_leaves_before_it_is_due(tmp_path: Path):
    """Start-up does not eat into --run-time, and no attempt has a send time before its intended time."""
    with serving(always(ACCEPTED)) as server:
        finish(locust(server.url, tmp_path, "-u", "4", "-r", "4", "-t", "4s", "--rate-per-user", "25", "--batch", "2"))

    (ledger,) = read_ledgers(last_run(tmp_path).ledger)
    attempts = ledger.records[ledger.records["record"] == Record.ATTEMPT]
    span_s = int(attempts["intended_ns"].max() - attempts["intended_ns"].min()) / 1e9
    assert span_s == pytest.approx(4.0, abs=0.4)
    assert len(attempts) == pytest.approx(400, rel=0.1)
    assert (attempts["sent_ns"] >= attempts["intended_ns"]).all()


def test_refusals_by_contract_are_no_failures_and_do_not_change_the_exit_code(tmp_path: Path):
    """A target that refuses everything gives exit 0 and a row of its own; the judge decides what it means."""
    with serving(always(BUSY)) as server:
        out = finish(
            locust(server.url, tmp_path, "-u", "1", "-t", "3s", "--rate-per-user", "5", "--retry-attempts", "1")
        )

    assert "refused" in out
    status = json.loads((last_run(tmp_path).status / "locust-0.jsonl").read_text().splitlines()[-1])
    assert status["refused"] == status["attempted"] > 0
    assert status["acked"] == status["unknown"] == status["inflight"] == 0


def test_a_dead_target_is_all_definite_refusals(tmp_path: Path):
    """Where nobody listens nothing was ever sent, and the run ends normally."""
    args = ["-u", "1", "-t", "3s", "--rate-per-user", "5", "--retry-attempts", "2"]
    finish(locust(f"http://127.0.0.1:{free_port()}/events", tmp_path, *args))

    (ledger,) = read_ledgers(last_run(tmp_path).ledger)
    dones = ledger.records[ledger.records["record"] == Record.DONE]
    assert len(dones) > 0
    assert set(dones["status"]) == {Status.CONNECT_FAILED}
    assert set(dones["outcome"]) == {Outcome.REFUSED}


def test_a_ledger_that_cannot_grow_stops_the_run_with_255(tmp_path: Path):
    """On a full disk (a file size limit here) sending ends at once, and no request lacks its attempt."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (6_400, 6_400))

    run = make_run(tmp_path)
    with serving(always(ACCEPTED)) as server:
        args = ["-u", "2", "-r", "2", "-t", "60s", "--rate-per-user", "50", "--seed", "7", "--run-dir", str(run.root)]
        out = finish(locust(server.url, tmp_path, *args, preexec_fn=limit), 255)

    assert "cannot be written" in out or "is the disk full" in out
    (ledger,) = read_ledgers(run.ledger)
    attempts = ledger.records[ledger.records["record"] == Record.ATTEMPT]
    assert len(server.requests) <= len(attempts) < 100


def test_a_ledger_path_that_is_taken_stops_the_run_with_255(tmp_path: Path):
    """Another generator's ledger is never appended to."""
    run = make_run(tmp_path)
    (run.ledger / "locust-0.ledger").mkdir()
    with serving(always(ACCEPTED)) as server:
        args = ["-u", "1", "-t", "20s", "--seed", "7", "--run-dir", str(run.root)]
        out = finish(locust(server.url, tmp_path, *args), 255)

    assert "cannot be created" in out
    assert server.requests == []


def test_a_worker_whose_ledger_fails_ends_the_whole_run_with_255(tmp_path: Path):
    """The master learns of it, stops the others and exits 255."""
    run = make_run(tmp_path)
    (run.ledger / "locust-4.ledger").mkdir()
    with serving(always(ACCEPTED)) as server:
        args = ["-u", "4", "-r", "4", "-t", "60s", "--seed", "7", "--run-dir", str(run.root), "--producer-base", "3"]
        args += two_workers()
        began = time.monotonic()
        out = finish(locust(server.url, tmp_path, *args), 255)

    assert "a worker failed" in out
    assert time.monotonic() - began < 40


def offered_per_s(ledger: Ledger) -> float:
    """Return the rate at which requests were due, sent or not: by the schedule, not by the clock of a busy machine."""
    due = ledger.records["intended_ns"][
        (ledger.records["record"] == Record.ATTEMPT) | (ledger.records["kind"] == Kind.NOT_SENT)
    ]
    return (len(due) - 1) * 1e9 / float(np.ptp(due.astype(np.int64)))


def test_workers_share_nothing_but_the_run_directory(tmp_path: Path):
    """Each worker has a producer, a ledger and histograms of its own, and together they offer the rate."""
    with serving(always(ACCEPTED)) as server:
        args = ["-u", "10", "-r", "10", "-t", "5s", "--rate-per-user", "10", "--batch", "3", "--producer-base", "7"]
        args += two_workers()
        finish(locust(server.url, tmp_path, *args))

    run = last_run(tmp_path)
    ledgers = read_ledgers(run.ledger)
    assert [ledger.header["process"] for ledger in ledgers] == ["locust-7", "locust-8"]
    assert [set(ledger.records["producer"].tolist()) for ledger in ledgers] == [{7}, {8}]
    acked = sum(int((ledger.records["outcome"] == Outcome.ACKED).sum()) for ledger in ledgers)
    assert acked == len(server.requests)
    assert acked <= 520
    assert [offered_per_s(ledger) for ledger in ledgers] == pytest.approx([50, 50], rel=0.04)
    ids = [identity for served in server.requests for identity in served.ids]
    assert len(
        {(served.body.split(b'"source":"')[1][:32], i) for served in server.requests for i in served.ids}
    ) == len(ids)


def test_sigterm_stops_sending_waits_for_answers_and_exits_0(tmp_path: Path):
    """Answers that are outstanding when the signal comes are still recorded."""
    started, term_sent = threading.Event(), threading.Event()

    def script(served: Served, connection) -> bool:
        if served.number >= 10:
            started.set()
            term_sent.wait(20)
        connection.sendall(ACCEPTED)
        return True

    with serving(script) as server:
        process = locust(server.url, tmp_path, "-u", "1", "-t", "60s", "--rate-per-user", "20")
        assert started.wait(30)
        process.send_signal(signal.SIGTERM)
        threading.Timer(0.5, term_sent.set).start()
        finish(process)

    (ledger,) = read_ledgers(last_run(tmp_path).ledger)
    attempts = int((ledger.records["record"] == Record.ATTEMPT).sum())
    acked = int((ledger.records["outcome"] == Outcome.ACKED).sum())
    assert attempts == acked == len(server.requests) >= 10


def test_a_killed_generator_leaves_its_last_attempts_unknown_not_unwritten(tmp_path: Path):
    """After SIGKILL the ledger holds an attempt for every request the server saw."""
    enough = threading.Event()

    def script(served: Served, connection) -> bool:
        if served.number >= 50:
            enough.set()
        connection.sendall(ACCEPTED)
        return True

    with serving(script) as server:
        process = locust(server.url, tmp_path, "-u", "2", "-r", "2", "-t", "60s", "--rate-per-user", "50")
        assert enough.wait(30)
        os.kill(process.pid, signal.SIGKILL)
        finish(process, -signal.SIGKILL)
        server_saw = len(server.requests)

    (ledger,) = read_ledgers(last_run(tmp_path).ledger)
    assert int((ledger.records["record"] == Record.ATTEMPT).sum()) >= server_saw


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--batch", "0"], "--batch must be greater than 0"),
        (["--rate-per-user", "-1"], "--rate-per-user must be greater than 0"),
        (["--mode", "binary"], "use --batch 1"),
        (["--run-dir", "no-such-run"], "is not a run directory"),
        (["--producer-base", "65536"], "--producer-base"),
        (["--ingest-headers", "x"], "JSON object"),
    ],
)
def test_wrong_arguments_exit_254_with_a_sentence(tmp_path: Path, args: list[str], says: str):
    """What is wrong is said in one sentence before anything is sent."""
    out = finish(locust("http://127.0.0.1:1/events", tmp_path, "-u", "1", "-t", "5s", *args), 254)

    assert says in out
    assert "Traceback" not in out
    assert not (tmp_path / "runs").exists()


def test_a_run_whose_mix_differs_from_the_traffic_is_refused(tmp_path: Path):
    """The judge expects the types of run.json, so other types must not be sent."""
    run = make_run(tmp_path)
    args = ["-u", "1", "-t", "20s", "--seed", "7", "--run-dir", str(run.root), "--traffic", "hot-type"]
    out = finish(locust("http://127.0.0.1:1/events", tmp_path, *args), 254)

    assert "run.json" in out


def test_a_seed_that_is_not_the_runs_is_refused(tmp_path: Path):
    """The judge recomputes ids from the seed of run.json, so no other may be used."""
    args = ["-u", "1", "-t", "20s", "--run-dir", str(make_run(tmp_path).root), "--seed", "8"]
    out = finish(locust("http://127.0.0.1:1/events", tmp_path, *args), 254)

    assert "use --seed 7" in out


def test_the_environment_brings_secret_headers(tmp_path: Path):
    """Headers from the environment variable reach the target and not the run directory."""
    environment = {**os.environ, "ICEQUAKE_INGEST_HEADERS": '{"Authorization": "Bearer s3cret"}'}
    with serving(always(ACCEPTED)) as server:
        args = ["-u", "1", "-t", "3s", "--rate-per-user", "5", "--batch", "1", "--mode", "binary"]
        finish(locust(server.url, tmp_path, *args, env=environment))

    assert b"Authorization: Bearer s3cret" in server.requests[0].head
    assert b"ce-id: " in server.requests[0].head
    text = b"".join(path.read_bytes() for path in last_run(tmp_path).root.rglob("*") if path.is_file())
    assert b"s3cret" not in text
