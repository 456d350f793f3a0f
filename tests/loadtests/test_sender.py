from collections.abc import Callable
from pathlib import Path
from random import Random

import gevent
import pytest
from gevent.event import Event

from loadtests.answers import Answer, RetryPolicy
from loadtests.errors import GeneratorFailed
from loadtests.events import EventFactory, Message
from loadtests.recorder import Recorder
from loadtests.records.histogram import max_ms, merged
from loadtests.records.ledger import Kind, Outcome, Record, Status, read_ledgers
from loadtests.records.series import read_series
from loadtests.records.target import Contract
from loadtests.requests import Requests
from loadtests.sender import Limits, Sender
from loadtests.shapes import Shapes
from loadtests.traffic import Mix
from tests.loadtests.runs import RUN_ID, make_run

SECOND = 1_000_000_000
ACK = Answer(202)
BUSY = Answer(503, "application/problem+json")
AT_ONCE = RetryPolicy(attempts_max=4, base_s=0.0)


class Rig:
    """A sender on a clock that the test turns, with a transport that the test scripts."""

    def __init__(self, tmp_path: Path, script: Callable[["Rig", Message], Answer], **limits) -> None:
        self.now_ns = 100 * SECOND
        self.run = make_run(tmp_path)
        self.script = script
        self.messages: list[Message] = []
        self.attempts_on_disk: list[int] = []
        self.observed: list = []
        self.failures: list[GeneratorFailed] = []
        self.recorder = Recorder(self.run, process="locust-2", clock=lambda: self.now_ns)
        self.sender = self.make(limits)

    def make(
        self, limits: dict, policy: RetryPolicy = AT_ONCE, mix: Mix | None = None, contract: Contract | None = None
    ) -> Sender:
        mix, contract = mix or Mix(), contract or Contract()
        return Sender(
            connect=lambda: self,
            requests=Requests(
                lambda producer: EventFactory(seed=7, run_id=RUN_ID, producer=producer, mix=mix, batch=10),
                producer=2,
                shapes=Shapes(mix, batch=10, mode="batch", contract=contract, seed=7, producer=2),
                limits=contract.limits,
            ),
            recorder=self.recorder,
            contract=contract,
            policy=policy,
            limits=Limits(**limits),
            random=Random(1),
            clock=lambda: self.now_ns,
            unix_offset_ns=0,
            observe=self.observed.append,
            fail=self.failures.append,
        )

    def exchange(self, message: Message) -> Answer:
        self.messages.append(message)
        self.attempts_on_disk.append(int((self.records["record"] == Record.ATTEMPT).sum()))
        return self.script(self, message)

    def close(self) -> None:
        pass

    @property
    def records(self):
        return read_ledgers(self.run.ledger)[0].records

    @property
    def counts(self):
        return self.recorder.counts

    def settle(self) -> None:
        """Let every greenlet that can go on go on: a timer of its own ends after all that are due."""
        for _ in range(10):
            gevent.sleep(0.001)

    def finish(self, timeout_s: float = 5.0) -> None:
        self.sender.drain(timeout_s)
        self.recorder.close(now_ns=self.now_ns)


def replies(*answers: Answer) -> Callable[[Rig, Message], Answer]:
    """Answer the n-th request with the n-th answer, and further ones with the last."""
    return lambda rig, _: answers[min(len(rig.messages), len(answers)) - 1]


def test_an_attempt_is_on_disk_before_the_request_leaves(tmp_path: Path):
    """Whenever the transport is asked to send, the ledger already holds the attempt."""
    rig = Rig(tmp_path, replies(BUSY, ACK))
    for _ in range(3):
        rig.sender.submit(rig.now_ns)
    rig.settle()
    rig.finish()

    assert rig.attempts_on_disk == [1, 2, 3, 4]


def test_a_retry_sends_the_same_bytes_under_the_next_attempt_number(tmp_path: Path):
    """The same ids leave again, and the event is acked if any attempt was."""
    rig = Rig(tmp_path, replies(BUSY, Answer(Status.TIMEOUT), ACK))
    rig.sender.submit(rig.now_ns)
    rig.settle()
    rig.finish()

    attempts = rig.records[rig.records["record"] == Record.ATTEMPT]
    dones = rig.records[rig.records["record"] == Record.DONE]
    assert len(set(rig.messages)) == 1
    assert list(attempts["attempt"]) == [1, 2, 3]
    assert set(attempts["first"]) == {0}
    assert list(dones["outcome"]) == [Outcome.REFUSED, Outcome.UNKNOWN, Outcome.ACKED]
    assert (rig.counts.attempted, rig.counts.acked, rig.counts.unknown, rig.counts.refused) == (10, 10, 0, 0)


def test_a_wrong_request_is_not_retried(tmp_path: Path):
    """A 400 is the end of it."""
    rig = Rig(tmp_path, replies(Answer(400)))
    rig.sender.submit(rig.now_ns)
    rig.settle()
    rig.finish()

    assert len(rig.messages) == 1
    assert rig.counts.refused == 10


@pytest.mark.parametrize(
    ("answers", "counted"),
    [((BUSY,), "refused"), ((BUSY, Answer(500), BUSY), "unknown"), ((Answer(Status.CONNECT_FAILED),), "refused")],
)
def test_when_retries_end_one_unknown_attempt_makes_the_event_unknown(tmp_path: Path, answers, counted):
    """Only if every attempt was definitely refused is the event refused."""
    rig = Rig(tmp_path, replies(*answers))
    rig.sender.submit(rig.now_ns)
    rig.settle()
    rig.finish()

    assert len(rig.messages) == AT_ONCE.attempts_max
    assert getattr(rig.counts, counted) == 10
    assert rig.counts.inflight == 0


def test_a_stalled_target_does_not_hold_up_the_schedule(tmp_path: Path):
    """Arrivals go on while every answer is outstanding, and their wait counts as corrected latency only."""
    release = Event()

    def stall(rig: Rig, _: Message) -> Answer:
        release.wait()
        return ACK

    rig = Rig(tmp_path, stall, connections=2)
    for _ in range(20):
        rig.sender.submit(rig.now_ns)
        rig.now_ns += SECOND // 10
        gevent.sleep(0)
    assert rig.counts.offered == 200
    assert rig.counts.attempted == 20  # two connections, ten events each
    release.set()
    rig.settle()
    rig.finish()

    assert rig.counts.acked == 200
    assert max_ms(merged(rig.run.hist, "corrected")) == pytest.approx(2000, rel=0.01)
    assert merged(rig.run.hist, "service").get_total_count() == 20
    assert max_ms(merged(rig.run.hist, "lag")) == pytest.approx(1800, rel=0.01)
    assert max_ms(merged(rig.run.hist, "dispatch")) < 1


def test_an_arrival_that_waited_too_long_is_recorded_as_not_sent(tmp_path: Path):
    """While no connection is free, the tick gives up what passed the bound; it is never attempted."""
    release = Event()

    def stall(rig: Rig, _: Message) -> Answer:
        release.wait()
        return ACK

    rig = Rig(tmp_path, stall, connections=1, send_within_s=3.0)
    for _ in range(3):
        rig.sender.submit(rig.now_ns)
    gevent.sleep(0)
    rig.now_ns += 4 * SECOND
    rig.sender.submit(rig.now_ns)
    rig.sender.tick()
    assert rig.counts.not_sent == 20
    release.set()
    rig.settle()
    rig.finish()

    given_up = rig.records[rig.records["kind"] == Kind.NOT_SENT]
    attempted = rig.records[rig.records["record"] == Record.ATTEMPT]
    assert list(given_up["first"]) == [10, 20]
    assert list(attempted["first"]) == [0, 30]
    assert rig.counts.acked == 20


def test_a_drain_waits_for_answers_and_makes_no_more_retries(tmp_path: Path):
    """What is in flight is awaited; what waits for a retry keeps its outcome; nothing new is taken."""
    rig = Rig(tmp_path, replies(BUSY))
    rig.sender = rig.make({}, RetryPolicy(attempts_max=5, base_s=0.0, total_s_max=1e6))
    rig.script = lambda _, __: Answer(503, "application/problem+json", 1000.0)
    rig.sender.submit(rig.now_ns)
    rig.settle()
    assert rig.counts.inflight == 10
    rig.finish()
    rig.sender.submit(rig.now_ns)

    assert (rig.counts.refused, rig.counts.inflight, rig.counts.offered) == (10, 0, 10)
    assert len(rig.messages) == 1


def test_a_drain_is_bounded_and_what_is_unanswered_stays_open_in_the_ledger(tmp_path: Path):
    """After its time the drain leaves: attempts without an outcome, arrivals not sent, both counted."""
    forever = Event()

    def stall(rig: Rig, _: Message) -> Answer:
        forever.wait()
        return ACK

    rig = Rig(tmp_path, stall, connections=1)
    rig.sender.submit(rig.now_ns)
    rig.sender.submit(rig.now_ns)
    rig.settle()
    rig.finish(timeout_s=0.01)

    assert (rig.counts.unknown, rig.counts.not_sent, rig.counts.acked) == (10, 10, 0)
    assert list(rig.records["record"]) == [Record.ATTEMPT, Record.DONE]
    assert list(rig.records["kind"]) == [Kind.NORMAL, Kind.NOT_SENT]


def test_a_ledger_that_cannot_be_written_stops_everything_before_the_request(tmp_path: Path):
    """The request whose attempt could not be recorded never leaves, and no other does."""
    rig = Rig(tmp_path, replies(ACK))
    rig.recorder._ledger.close()  # the next write fails as on a dead disk
    rig.sender.submit(rig.now_ns)
    rig.settle()
    rig.sender.submit(rig.now_ns)
    rig.settle()

    assert rig.messages == []
    assert len(rig.failures) == 1
    assert "ledger" in str(rig.failures[0])
    with pytest.raises(GeneratorFailed):
        rig.sender.drain(1.0)


def test_the_status_line_and_the_series_agree_with_the_counts(tmp_path: Path):
    """The status line shows settled events, the series answers by the second."""
    rig = Rig(tmp_path, replies(BUSY, ACK))
    rig.sender.submit(rig.now_ns)
    rig.settle()
    rig.now_ns += SECOND
    rig.sender.tick()
    rig.finish()

    last = (rig.run.status / "locust-2.jsonl").read_bytes().splitlines()[-1]
    assert b'"offered":10,"attempted":10,"acked":10,"refused":0,"unknown":0,"inflight":0,"not_sent":0' in last
    table = read_series(rig.run.series, ["acked_events", "refused_events", "offered_events_per_s"]).to_pylist()
    assert {row["labels"] for row in table} == {"process=locust-2"}
    total = {
        name: sum(row["value"] for row in table if row["name"] == name) for name in ("acked_events", "refused_events")
    }
    assert total == {"acked_events": 10, "refused_events": 10}
    assert max(row["value"] for row in table if row["name"] == "offered_events_per_s") == 10


def test_a_refusal_that_comes_during_the_drain_is_settled_not_retried(tmp_path: Path):
    """An answer awaited by the drain ends its request, whatever it says."""
    release = Event()

    def stall(rig: Rig, _: Message) -> Answer:
        release.wait()
        return BUSY

    rig = Rig(tmp_path, stall)
    rig.sender.submit(rig.now_ns)
    rig.settle()
    gevent.spawn(release.set)
    rig.finish()
    rig.settle()

    assert (rig.counts.refused, rig.counts.inflight) == (10, 0)
    assert len(rig.messages) == 1
