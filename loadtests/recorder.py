"""Everything one generator process writes down: ledger, histograms, series and its status line."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from loadtests.answers import Answer
from loadtests.errors import GeneratorFailed
from loadtests.events import Message
from loadtests.records.errors import LedgerWriteError
from loadtests.records.histogram import NAMES, HistogramWriter, max_ms, new_histogram, percentiles_ms, record_ns
from loadtests.records.jsonl import JsonlWriter
from loadtests.records.ledger import Kind, LedgerWriter, Outcome
from loadtests.records.rundir import RunDir
from loadtests.records.series import SeriesWriter
from loadtests.requests import Part
from loadtests.shapes import Shape

Clock = Callable[[], int]
"""Returns monotonic nanoseconds."""

SERIES_FLUSH_TICKS = 10
"""A killed process loses at most so many seconds of series; ledger and histograms lose nothing."""

_WEIGHT = {Outcome.NONE: 0, Outcome.REFUSED: 1, Outcome.UNKNOWN: 2, Outcome.ACKED: 3}


@dataclass(slots=True)
class Fate:
    """What is known so far of events that one or more requests carry.

    Attributes:
        outcome: Acked if any attempt was; else unknown if any was; else refused.
        open: Requests that carry them and are not settled yet.
    """

    outcome: Outcome = Outcome.NONE
    open: int = 1


@dataclass(slots=True)
class Arrival:
    """One request that became due: its events and what is known of them so far.

    Attributes:
        intended_ns: When it was due by the schedule (monotonic).
        due_ns: When its next attempt is due: `intended_ns`, later the end of a backoff.
        shape: What it is meant to be.
        again: It repeats a request whose client saw no answer.
        attempt: Attempts made so far.
        fate: Of its events; a repetition shares it with the request it repeats.
        parts: Its events, chosen at the first attempt.
        wanted: How many of them the target may keep: all but those sent to be refused or skipped.
        message: Rendered at the first attempt; every retry sends the same bytes.
    """

    intended_ns: int
    due_ns: int
    shape: Shape
    again: bool = False
    attempt: int = 0
    first_sent_ns: int = 0
    fate: Fate = field(default_factory=Fate)
    parts: tuple[Part, ...] = ()
    wanted: int = 0
    message: Message | None = None

    @property
    def count(self) -> int:
        """Events it carries."""
        return self.shape.count

    def place(self, parts: tuple[Part, ...]) -> None:
        """Say which events it carries."""
        self.parts = parts
        self.wanted = sum(part.count for part in parts if part.kind == Kind.NORMAL)


@dataclass
class Counts:
    """Events since the start. `acked`, `refused` and `unknown` count each event once, when nothing more will be sent for
    it, so `attempted` less these three are in flight or waiting for a retry. Events that were sent to be refused or skipped
    count as `unwanted` and nowhere else; `sent` counts each event as often as it left."""

    offered: int = 0
    attempted: int = 0
    acked: int = 0
    refused: int = 0
    unknown: int = 0
    not_sent: int = 0
    unwanted: int = 0
    sent: int = 0

    @property
    def inflight(self) -> int:
        """Events attempted and not settled yet."""
        return self.attempted - self.acked - self.refused - self.unknown


@dataclass
class _Second:
    """Answers since the last tick, in events and per attempt: a refusal shows even if a retry is acked later."""

    offered: int = 0
    attempts: int = 0
    not_sent: int = 0
    unwanted: int = 0
    answered: dict[Outcome, int] = field(
        default_factory=lambda: {Outcome.ACKED: 0, Outcome.REFUSED: 0, Outcome.UNKNOWN: 0}
    )


class Recorder:
    """Write the records of one process.

    Args:
        run: The run directory; the ledger file must not exist yet.
        process: Names the files, such as `locust-0`.
        clock: Monotonic nanoseconds.

    Raises:
        GeneratorFailed: from every method when a record could not be written; nothing may be sent afterwards.
    """

    def __init__(self, run: RunDir, *, process: str, clock: Clock) -> None:
        run_id = run.info.run_id
        self._clock = clock
        self._labels = {"process": process}
        self.counts = Counts()
        self._second = _Second()
        self._ticked_ns = clock()
        self._ticks = 0
        self._histograms = {name: new_histogram() for name in NAMES}
        with _failing():
            self._ledger = LedgerWriter(run.ledger / f"{process}.ledger", run_id=run_id, process=process)
            self._hist = HistogramWriter(run.hist, process, run_id)
            self._status = JsonlWriter(run.status / f"{process}.jsonl", "status", run_id)
            self._series = SeriesWriter(run.series, process, run_id)

    def due(self, arrival: Arrival, *, now_ns: int) -> None:
        """Count *arrival*, noticed at *now_ns*."""
        self.counts.offered += arrival.count
        self._second.offered += arrival.count
        record_ns(self._histograms["dispatch"], now_ns - arrival.intended_ns)

    def turned(self, producer: int, first: int, phase: int) -> None:
        """Record that the event types of *producer* follow *phase* of the mix from event *first* on."""
        with _failing():
            self._ledger.turn(producer=producer, first=first, phase=phase, now_ns=self._clock())

    def sending(self, arrival: Arrival, *, sent_ns: int) -> list[int]:
        """Record the attempt that is about to leave; return its numbers in the ledger. Call before a byte is sent."""
        assert arrival.message is not None
        size = len(arrival.message.body)
        with _failing():
            requests = [
                self._ledger.attempt(
                    producer=part.producer,
                    first=part.first,
                    count=part.count,
                    intended_ns=arrival.intended_ns,
                    sent_ns=sent_ns,
                    attempt=arrival.attempt,
                    kind=Kind.DUPLICATE if arrival.again else part.kind,
                    body_bytes=size,
                )
                for part in arrival.parts
            ]
        wanted = arrival.wanted
        if arrival.attempt == 1 and not arrival.again:
            self.counts.attempted += wanted
            self.counts.unwanted += arrival.count - wanted
            self._second.unwanted += arrival.count - wanted
        self.counts.sent += wanted
        self._second.attempts += wanted
        record_ns(self._histograms["lag"], sent_ns - arrival.due_ns)
        return requests

    def answered(
        self, arrival: Arrival, requests: Sequence[int], answer: Answer, outcome: Outcome, *, sent_ns: int, done_ns: int
    ) -> None:
        """Record the answer to an attempt, whose numbers are *requests*, and fold it into the events' fate."""
        with _failing():
            for request, part in zip(requests, arrival.parts, strict=True):
                self._ledger.done(
                    request,
                    producer=part.producer,
                    first=part.first,
                    count=part.count,
                    intended_ns=arrival.intended_ns,
                    sent_ns=sent_ns,
                    done_ns=done_ns,
                    status=answer.status,
                    outcome=outcome,
                    attempt=arrival.attempt,
                    kind=Kind.DUPLICATE if arrival.again else part.kind,
                )
        arrival.fate.outcome = max(arrival.fate.outcome, outcome, key=_WEIGHT.__getitem__)
        self._second.answered[outcome] += arrival.wanted
        record_ns(self._histograms["service"], done_ns - sent_ns)

    def settled(self, arrival: Arrival, *, now_ns: int) -> None:
        """No more attempts of *arrival* follow; once that holds of all requests with its events, count their outcome."""
        if arrival.wanted and not arrival.again:  # no caller waits for the refusal of what is wrong
            record_ns(self._histograms["corrected"], now_ns - arrival.intended_ns)
        arrival.fate.open -= 1
        if arrival.fate.open:
            return
        wanted = arrival.wanted
        if arrival.fate.outcome == Outcome.ACKED:
            self.counts.acked += wanted
        elif arrival.fate.outcome == Outcome.REFUSED:
            self.counts.refused += wanted
        else:
            self.counts.unknown += wanted

    def given_up(self, arrival: Arrival, *, now_ns: int) -> None:
        """Record that *arrival* was due but will never be sent."""
        with _failing():
            for part in arrival.parts:
                self._ledger.not_sent(
                    producer=part.producer,
                    first=part.first,
                    count=part.count,
                    intended_ns=arrival.intended_ns,
                    now_ns=now_ns,
                )
        self.counts.not_sent += arrival.count
        self._second.not_sent += arrival.count

    def tick(self, *, now_ns: int) -> None:
        """Write what the time since the last tick saw. Call about once a second."""
        second, self._second = self._second, _Second()
        elapsed_s = max((now_ns - self._ticked_ns) / 1e9, 1e-9)
        self._ticked_ns = now_ns
        self._ticks += 1
        with _failing():
            for name, value in self._samples(second, elapsed_s):
                self._series.add(now_ns, name, value, self._labels)
            for name, histogram in self._histograms.items():
                self._hist.write(now_ns, name, histogram)
            # A new one costs a tenth of hdrh's reset.
            self._histograms = {name: new_histogram() for name in NAMES}
            self._write_status(now_ns)
            if self._ticks % SERIES_FLUSH_TICKS == 0:
                self._series.flush()

    def _samples(self, second: _Second, elapsed_s: float) -> Iterator[tuple[str, float]]:
        yield "offered_events_per_s", second.offered / elapsed_s
        yield "attempted_events", second.attempts
        yield "acked_events", second.answered[Outcome.ACKED]
        yield "refused_events", second.answered[Outcome.REFUSED]
        yield "unknown_events", second.answered[Outcome.UNKNOWN]
        yield "not_sent_events", second.not_sent
        yield "unwanted_events", second.unwanted
        yield "inflight_events", self.counts.inflight
        for name, series in _LATENCY_SERIES.items():
            histogram = self._histograms[name]
            if histogram.get_total_count():
                p50, p99 = percentiles_ms(histogram, (50, 99))
                yield f"{series}_p50", p50
                yield f"{series}_p99", p99
                yield f"{series}_max", max_ms(histogram)

    def _write_status(self, now_ns: int) -> None:
        counts = self.counts
        self._status.append(
            {
                "t_ns": now_ns,
                "offered": counts.offered,
                "attempted": counts.attempted,
                "acked": counts.acked,
                "refused": counts.refused,
                "unknown": counts.unknown,
                "inflight": counts.inflight,
                "not_sent": counts.not_sent,
                "unwanted": counts.unwanted,
                "sent": counts.sent,
            }
        )

    def close(self, *, now_ns: int) -> None:
        """Write the last tick and close every file."""
        self.tick(now_ns=now_ns)
        with _failing():
            self._series.close()
        self._hist.close()
        self._status.close()
        self._ledger.close()


_LATENCY_SERIES = {
    "corrected": "latency_corrected_ms",
    "service": "latency_service_ms",
    "lag": "send_lag_ms",
    "dispatch": "dispatch_lag_ms",
}


@contextmanager
def _failing() -> Iterator[None]:
    try:
        yield
    except LedgerWriteError as error:
        raise GeneratorFailed(str(error)) from error
    except OSError as error:
        raise GeneratorFailed(f"the run's records cannot be written: {error}.") from error
