"""What passed while a fault was on is counted from the gateway's log and the ledgers, each request once."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from chaos.requests_seen import RequestsSeen
from chaos.trigger import Trigger
from loadtests.records.ledger import Kind, LedgerWriter, Outcome
from loadtests.records.rundir import RunDir
from tests.chaos.fakes import gateway_log, make_run

COMMIT = Trigger(2, "commit", "POST")


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return make_run(tmp_path)


def attempts(run: RunDir, *spans: tuple[int, int | None, Outcome]) -> None:
    """Write attempts: sent_ns, done_ns (None: no answer ever came), outcome."""
    writer = LedgerWriter(run.ledger / "a.ledger", run_id=run.info.run_id, process="a")
    for number, (sent_ns, done_ns, outcome) in enumerate(spans):
        request = writer.attempt(producer=0, first=number, count=1, intended_ns=sent_ns, sent_ns=sent_ns)
        if done_ns is not None:
            writer.done(
                request, producer=0, first=number, count=1, intended_ns=sent_ns, sent_ns=sent_ns, done_ns=done_ns,
                status=0, outcome=outcome,
            )  # fmt: skip
    writer.close()


def test_nothing_was_seen_before_anything_happened(run: RunDir) -> None:
    """No log, no ledger: zero, not an error."""
    seen = RequestsSeen(run)
    assert (seen.on_path("r2", 0, 10), seen.on_path("ingest", 0, 10), seen.disturbed(0, 10)) == (0, 0, 0)
    assert seen.count(COMMIT, 0) == 0


@pytest.mark.parametrize(
    ("t_ns", "ms", "inside"),
    [(100, 0, True), (200, 0, True), (99, 0, False), (201, 0, False), (50, 0.0001, True), (150, 1, True), (0, 0.00004, False),
     (150, None, True)],
)  # fmt: skip
def test_a_request_counts_when_it_was_open_in_the_span(run: RunDir, t_ns: int, ms: float | None, inside: bool) -> None:
    """Begun before its end and not answered before its beginning, ends included."""
    gateway_log(run, {"t_ns": t_ns, "ms": ms})
    assert RequestsSeen(run).on_path("catalog", 100, 200) == inside


def test_requests_are_counted_by_path(run: RunDir) -> None:
    """R2 and the catalog apart; the harness's own probes are nobody's requests."""
    gateway_log(
        run, {"t_ns": 5}, {"t_ns": 5, "upstream": "r2"}, {"t_ns": 6, "upstream": "r2"},
        {"t_ns": 5, "upstream": "r2", "path": "/icequake-probe"},
    )  # fmt: skip
    seen = RequestsSeen(run)
    assert (seen.on_path("r2", 0, 10), seen.on_path("catalog", 0, 10)) == (2, 1)


def test_a_held_request_counts_once(run: RunDir) -> None:
    """Its begin and release lines tell of the same request."""
    gateway_log(
        run, {"t_ns": 5, "n": 1, "begin": True}, {"t_ns": 5, "n": 1, "ms": 0}, {"t_ns": 8, "n": 1, "released": True}
    )
    assert RequestsSeen(run).on_path("catalog", 0, 10) == 1


def test_a_trigger_counts_requests_since_the_baseline(run: RunDir) -> None:
    """Of its object and verb, by number, from the moment they began: a held one at once, a zombie not again."""
    gateway_log(
        run,
        {"n": 1, "t_ns": 50},
        {"n": 2, "t_ns": 100},
        {"n": 3, "t_ns": 120, "verb": "GET"},
        {"n": 4, "t_ns": 130, "object": "load-table"},
        {"n": 5, "t_ns": 140, "begin": True},
        {"n": 5, "t_ns": 140},
        {"n": 1, "t_ns": 150, "released": True},
    )
    seen = RequestsSeen(run)
    assert seen.count(COMMIT, 100) == 2
    assert seen.count(Trigger(1, "commit", None), 100) == 3


def test_waiting_ends_when_the_trigger_has_come(run: RunDir) -> None:
    """The second of two commits."""
    gateway_log(run, {"t_ns": 1}, {"t_ns": 2})
    assert RequestsSeen(run).wait_for(COMMIT, 0, threading.Event()) is True


def test_waiting_ends_when_the_run_does(run: RunDir) -> None:
    """A trigger that never comes does not hold a run."""
    gateway_log(run, {"t_ns": 1})
    stop = threading.Event()
    stop.set()
    assert RequestsSeen(run).wait_for(COMMIT, 0, stop) is False


def test_a_log_is_followed_as_it_grows(run: RunDir) -> None:
    """Lines that came since the last question are seen; a torn one waits for its end."""
    seen = RequestsSeen(run)
    gateway_log(run, {"n": 1, "t_ns": 1})
    assert seen.count(COMMIT, 0) == 1
    with run.gateway_log.open("ab") as log:
        log.write(b'{"n":2,"t_ns":2,"upstream":"catalog","object":"commit",')
        log.flush()
        assert seen.count(COMMIT, 0) == 1
        log.write(b'"verb":"POST","path":"/x"}\n')
    assert seen.count(COMMIT, 0) == 2


def test_client_attempts_are_counted_by_sending(run: RunDir) -> None:
    """On the path `ingest` it is the ledgers that know."""
    attempts(
        run, (99, 150, Outcome.ACKED), (100, 300, Outcome.ACKED), (200, None, Outcome.NONE), (201, 202, Outcome.ACKED)
    )
    assert RequestsSeen(run).on_path("ingest", 100, 200) == 2


def test_disturbed_are_attempts_that_ended_without_an_acknowledgement(run: RunDir) -> None:
    """Refused and unknown ones, when they ended in the span; arrivals that were never sent are no attempts."""
    attempts(
        run, (1, 100, Outcome.REFUSED), (1, 200, Outcome.UNKNOWN), (1, 150, Outcome.ACKED), (1, 99, Outcome.REFUSED),
        (1, 201, Outcome.UNKNOWN), (150, None, Outcome.NONE),
    )  # fmt: skip
    writer = LedgerWriter(run.ledger / "b.ledger", run_id="r", process="b")
    writer.not_sent(producer=0, first=0, count=1, intended_ns=120, now_ns=150)
    writer.close()
    assert RequestsSeen(run).disturbed(100, 200) == 2


@pytest.mark.parametrize(
    ("kind", "counts"), [(Kind.NORMAL, 1), (Kind.PROBE, 1), (Kind.POISON, 0), (Kind.OVER_LIMIT, 0)]
)
def test_a_refusal_that_was_wanted_disturbs_nobody(run: RunDir, kind: Kind, counts: int) -> None:
    """An invalid request is refused, fault or no fault."""
    writer = LedgerWriter(run.ledger / "a.ledger", run_id="r", process="a")
    number = writer.attempt(producer=0, first=0, count=1, intended_ns=100, sent_ns=100, attempt=1, kind=kind)
    writer.done(
        number, producer=0, first=0, count=1, intended_ns=100, sent_ns=100, done_ns=150, status=400,
        outcome=Outcome.REFUSED, attempt=1, kind=kind,
    )  # fmt: skip
    writer.close()
    assert RequestsSeen(run).disturbed(100, 200) == counts
