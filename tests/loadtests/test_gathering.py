"""Workers elsewhere: what they may send, how their records come to the master, and what is known of one that is lost."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest

from loadtests.errors import GeneratorFailed
from loadtests.gathering import declare_unknown, write_at
from loadtests.records.histogram import merged
from loadtests.records.identity import twin_of
from loadtests.records.jsonl import read_jsonl
from loadtests.records.ledger import LedgerWriter, Outcome, read_ledgers
from loadtests.records.rundir import RunDir
from loadtests.remote import Lease, Offer, machine, offer_of
from reports.obligations import ACKED, ATTEMPTED, UNKNOWN, fold
from tests.loadtests.crowd import having, locust, received, wait_for
from tests.loadtests.runs import make_run
from tests.loadtests.servers import ACCEPTED, always, free_port, serving


@pytest.mark.parametrize(
    ("offset", "data", "there"),
    [
        (4, b"efg", b"abcdefg"),  # goes on where it ended
        (2, b"cdef", b"abcdef"),  # was sent before, in part
        (0, b"ab", b"abcd"),  # was sent before
        (5, b"x", b"abcd"),  # something before it is missing
    ],
)
def test_what_comes_again_or_too_early_changes_nothing(tmp_path: Path, offset: int, data: bytes, there: bytes) -> None:
    """Messages may be lost with a connection and are sent again; the file never has a hole."""
    path = tmp_path / "locust-0.ledger"
    path.write_bytes(b"abcd")
    assert write_at(path, offset, data) == len(there)
    assert path.read_bytes() == there


def test_a_lease_is_asked_for_ahead_and_waited_for_when_it_is_used_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a lease ahead of need; never beyond what the master knows; quicker use makes larger leases."""
    monkeypatch.setattr("loadtests.remote.ANSWER_S", 0.01)
    asked: list[int] = []
    lease = Lease(asked.append, clock=lambda: 0.0)
    with pytest.raises(GeneratorFailed, match="the master did not answer"):
        lease.cover(10)
    lease.grant(asked[-1])
    lease.cover(10)
    lease.cover(asked[-1])
    assert len(asked) == 2
    assert asked[1] - asked[0] > asked[0]
    with pytest.raises(GeneratorFailed):
        lease.cover(asked[0] + 1)


def test_a_worker_elsewhere_makes_the_same_run_below_its_own_directory(tmp_path: Path) -> None:
    """Same run id, same seed, same target; a run directory that is in sight on this machine is not copied."""
    run = make_run(tmp_path / "master")
    offer = Offer.read(offer_of(run))
    assert offer.is_here()
    assert offer.machine == machine()
    copy = offer.make(tmp_path / "worker")
    assert RunDir.open(copy.root).info == run.info
    assert copy.load_target() == run.load_target()
    (run.root / "run.json").unlink()
    assert not offer.is_here()


def test_of_a_lost_worker_only_what_may_have_been_sent_is_unknown(tmp_path: Path) -> None:
    """Acked stays acked, refused just now may have been retried, refused long ago was given up; the rest of the lease is open."""
    run = make_run(tmp_path)
    process, second = "locust-3", 10**9
    writer = LedgerWriter(run.ledger / f"{process}.ledger", run_id=run.info.run_id, process=process)
    for first, outcome, at_s in ((0, Outcome.ACKED, 1000), (10, Outcome.REFUSED, 1), (20, Outcome.REFUSED, 1000)):
        at_ns = at_s * second
        request = writer.attempt(producer=3, first=first, count=10, intended_ns=at_ns, sent_ns=at_ns)
        writer.done(
            request, producer=3, first=first, count=10, intended_ns=at_ns, sent_ns=at_ns, done_ns=at_ns, status=0,
            outcome=outcome,
        )  # fmt: skip
    writer.close()

    declare_unknown(run, 3, 50, 1001 * second)

    owed = fold(read_ledgers(run.ledger)).producers[3]
    flags = owed.spread(owed.flags, 0, 50)
    assert (flags & ATTEMPTED).all()
    assert np.flatnonzero(flags & ACKED).tolist() == list(range(10))
    assert np.flatnonzero(flags & UNKNOWN).tolist() == list(range(20, 50))


def test_of_a_lost_worker_with_colliding_ids_the_other_source_is_unknown_too(tmp_path: Path) -> None:
    """Its events may have been sent up to the end of the lease as well."""
    run = make_run(tmp_path)
    writer = LedgerWriter(run.ledger / "locust-3.ledger", run_id=run.info.run_id, process="locust-3")
    for producer in (3, twin_of(3)):
        writer.attempt(producer=producer, first=0, count=10, intended_ns=1, sent_ns=1)
    writer.close()

    declare_unknown(run, 3, 30, 10**9)

    owed = fold(read_ledgers(run.ledger)).producers
    for producer in (3, twin_of(3)):
        assert (owed[producer].spread(owed[producer].flags, 0, 30) & UNKNOWN).all()


@pytest.mark.integration
@pytest.mark.slow
@pytest.mark.parametrize("dies", [False, True])
def test_two_workers_elsewhere_give_the_master_all_they_know(tmp_path: Path, dies: bool) -> None:
    """Ledgers, histograms, series and status lines are the master's; of one that is killed nothing is claimed that is not so.

    Every event that the server got is in the master's ledgers: acked, or unknown where the worker died before it could tell.
    """
    port, runs = str(free_port()), tmp_path / "master"
    workers: list[subprocess.Popen[str]] = []
    with serving(always(ACCEPTED)) as server:
        master = locust(
            "--headless", "--only-summary", "--host", server.url, "--runs", str(runs), "-u", "10", "-r", "10", "-t", "14s",
            "--rate-per-user", "10", "--batch", "3", "--producer-base", "7", "--master", "--expect-workers", "2",
            "--master-bind-host", "127.0.0.1", "--master-bind-port", port, "--enable-rebalancing",
        )  # fmt: skip
        try:
            for number in range(2):
                own = str(tmp_path / f"worker-{number}")
                workers.append(
                    locust("--worker", "--apart", "--master-host", "127.0.0.1", "--master-port", port, "--runs", own)
                )
            wait_for(lambda: len(server.requests) > 200, "requests")
            if dies:
                workers[1].send_signal(signal.SIGKILL)
            out, _ = master.communicate(timeout=90)
            assert master.returncode == 0, out
        finally:
            for process in [master, *workers]:
                process.kill()
                process.communicate()

    run = RunDir.find(runs, "last")
    history = fold(read_ledgers(run.ledger))
    assert sorted(history.producers) == [7, 8]
    got = received(run, server.requests)
    assert having(history, ACKED) <= got
    assert got <= having(history, ACKED) | having(history, UNKNOWN)
    unknown = history.total(having=UNKNOWN)
    assert (unknown > 0) is dies
    states = [(entry["process"], entry["state"]) for entry in read_jsonl(run.root / "workers.jsonl", "workers")]
    assert {("locust-7", "joined"), ("locust-8", "joined")} <= set(states)
    assert any(state == "lost" for _, state in states) is dies
    assert merged(run.hist, "corrected").get_total_count() > 200
    if not dies:
        copies = {
            path.name: path.read_bytes() for path in tmp_path.glob("worker-*/*/*/locust-*") if path.suffix != ".part"
        }
        assert copies == {path.name: path.read_bytes() for name in ("ledger", "hist", "status", "series")
                       for path in (run.root / name).glob("locust-*")}  # fmt: skip
