"""Send what is due without ever holding up the schedule: a queue, a bounded pool of connections, retries.

Arrivals are queued the moment they are due. A greenlet a connection takes them; more are opened while all are busy, up to
the bound. When every connection waits for the target, arrivals wait in the queue, and their waiting counts as latency.
Arrivals that waited longer than `send_within_s` are recorded as not sent.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random
from typing import Any, Protocol

import gevent
from gevent.event import Event
from gevent.pool import Group
from gevent.queue import Empty, Queue

from loadtests.answers import Answer, RetryPolicy, breach, classify
from loadtests.errors import GeneratorFailed
from loadtests.events import Message
from loadtests.recorder import Arrival, Clock, Recorder
from loadtests.records.ledger import Kind, Outcome
from loadtests.records.target import Contract
from loadtests.requests import Requests


class Transport(Protocol):
    """One connection to the target."""

    def exchange(self, message: Message) -> Answer:
        """Send *message* exactly once and return the answer, or what went wrong as a negative status."""

    def close(self) -> None:
        """Close the connection."""


@dataclass(frozen=True, slots=True)
class Attempted:
    """One attempt, for whoever displays them."""

    answer: Answer
    outcome: Outcome
    breach: str | None
    """How the answer breaks the contract, as one of `loadtests.answers.BREACHES`; None where it does not."""
    latency_ms: float
    """From the instant the request was due by the schedule."""
    body_bytes: int


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Bounds of one process.

    Attributes:
        connections: At most so many requests in flight.
        send_within_s: An arrival that could not be sent within this time of being due is given up.
    """

    connections: int = 256
    send_within_s: float = 10.0


class Sender:
    """Send arrivals and see each through to its outcome.

    Args:
        connect: Makes a transport; called once a connection greenlet.
        requests: Numbers events and renders requests.
        recorder: Where everything is written, before it happens.
        contract: What the target may answer.
        policy: When to retry.
        limits: Bounds.
        random: Jitter of retries.
        clock: Monotonic nanoseconds.
        turn_began: When the present turn of the event loop began, by the same clock; 0 where nobody knows.
        unix_offset_ns: Wall time less the clock's.
        observe: Called after each attempt.
        fail: Called once, from a greenlet of the pool, when the generator cannot go on.
    """

    def __init__(
        self,
        *,
        connect: Callable[[], Transport],
        requests: Requests,
        recorder: Recorder,
        contract: Contract,
        policy: RetryPolicy,
        limits: Limits,
        random: Random,
        clock: Clock,
        unix_offset_ns: int,
        observe: Callable[[Attempted], None],
        fail: Callable[[GeneratorFailed], None],
        turn_began: Callable[[], int] = lambda: 0,
    ) -> None:
        self._connect = connect
        self._requests = requests
        self._recorder = recorder
        self._contract = contract
        self._policy = policy
        self._limits = limits
        self._random = random
        self._clock = clock
        self._turn_began = turn_began
        self._unix_offset_ns = unix_offset_ns
        self._observe = observe
        self._fail = fail
        self._queue: Any = Queue()
        self._pool = Group()
        self._idle = 0
        self._in_flight: dict[int, Arrival] = {}
        self._backoffs: dict[int, tuple[Any, Arrival]] = {}
        self._quiet = Event()
        self._quiet.set()
        self._closed = False
        self.failure: GeneratorFailed | None = None

    @property
    def busy(self) -> bool:
        """Whether something is queued, in flight or waiting for another attempt."""
        return bool(self._queue.qsize() or self._in_flight or self._backoffs)

    def submit(self, intended_ns: int) -> None:
        """Queue the request that was due at *intended_ns*; returns at once. Ignored after `drain` or a failure."""
        if self._closed:
            return
        arrival = Arrival(intended_ns=intended_ns, due_ns=intended_ns, shape=self._requests.next_shape())
        self._recorder.due(arrival, now_ns=self._clock())
        self._enqueue(arrival)

    def _enqueue(self, arrival: Arrival) -> None:
        self._quiet.clear()
        self._queue.put(arrival)
        if self._queue.qsize() > self._idle and len(self._pool) < self._limits.connections:
            self._idle += 1
            self._pool.spawn(self._serve)

    def _serve(self) -> None:
        """One connection's greenlet: take what is due until killed."""
        transport = self._connect()
        try:
            while True:
                arrival = self._queue.get()
                self._idle -= 1
                self._handle(arrival, transport)
                self._idle += 1
                self._check_quiet()
        except GeneratorFailed as error:
            self._stop_for(error)
        except Exception as error:  # a bug of ours must end the run, not one connection
            self._stop_for(GeneratorFailed(f"the generator failed: {type(error).__name__}: {error}."))
            raise
        finally:
            transport.close()

    def _handle(self, arrival: Arrival, transport: Transport) -> None:
        if self._is_new(arrival) and self._is_stale(arrival):
            self._give_up(arrival)
            return
        key = id(arrival)
        self._in_flight[key] = arrival
        self._attempt(arrival, transport)
        del self._in_flight[key]

    def _attempt(self, arrival: Arrival, transport: Transport) -> None:
        message = self._render(arrival)
        arrival.attempt += 1
        sent_ns = self._clock()
        if arrival.attempt == 1:
            arrival.first_sent_ns = sent_ns
            self._plan_repetition(arrival, now_ns=sent_ns)
        requests = self._recorder.sending(arrival, sent_ns=sent_ns)
        answer = transport.exchange(message)
        done_ns = self._answered_ns(sent_ns)
        outcome = classify(answer, self._contract.refusals)
        self._recorder.answered(arrival, requests, answer, outcome, sent_ns=sent_ns, done_ns=done_ns)
        wrong = self._breach(arrival, answer, outcome)
        self._observe(Attempted(answer, outcome, wrong, (done_ns - arrival.intended_ns) / 1e6, len(message.body)))
        delay_s = self._retry_delay_s(arrival, answer, outcome, now_ns=done_ns)
        if delay_s is None:
            self._recorder.settled(arrival, now_ns=done_ns)
        else:
            self._back_off(arrival, delay_s, now_ns=done_ns)

    def _answered_ns(self, sent_ns: int) -> int:
        """When the answer was there: an exchange that waited was woken in a turn of the loop that began with its answer."""
        began_ns = self._turn_began()
        return began_ns if began_ns > sent_ns else self._clock()

    def _breach(self, arrival: Arrival, answer: Answer, outcome: Outcome) -> str | None:
        if outcome == Outcome.ACKED and arrival.shape.kind == Kind.NORMAL:
            return None
        found = (breach(part.kind, answer.status, outcome, self._contract) for part in arrival.parts)
        return next((name for name in found if name is not None), None)

    def _render(self, arrival: Arrival) -> Message:
        if arrival.message is None:
            arrival.place(self._requests.place(arrival.shape, intended_ns=arrival.intended_ns))
            unix_ns = arrival.intended_ns + self._unix_offset_ns
            arrival.message = self._requests.render(arrival.shape, arrival.parts, unix_ns=unix_ns)
        return arrival.message

    def _plan_repetition(self, arrival: Arrival, *, now_ns: int) -> None:
        """Let the same bytes follow, if its client will not see an answer in time."""
        after_s = arrival.shape.again_s
        if after_s is None or arrival.again or self._closed:
            return
        due_ns = now_ns + int(after_s * 1e9)
        arrival.fate.open += 1
        again = replace(arrival, intended_ns=due_ns, due_ns=due_ns, again=True, attempt=0, first_sent_ns=0)
        self._back_off(again, after_s, now_ns=now_ns)

    def _retry_delay_s(self, arrival: Arrival, answer: Answer, outcome: Outcome, *, now_ns: int) -> float | None:
        if outcome == Outcome.ACKED or self._closed:
            return None
        elapsed_s = (now_ns - arrival.first_sent_ns) / 1e9
        return self._policy.delay_s(answer, attempt=arrival.attempt, elapsed_s=elapsed_s, random=self._random)

    def _back_off(self, arrival: Arrival, delay_s: float, *, now_ns: int) -> None:
        arrival.due_ns = now_ns + int(delay_s * 1e9)
        timer = gevent.spawn_later(delay_s, self._retry, arrival)
        self._backoffs[id(arrival)] = (timer, arrival)

    def _retry(self, arrival: Arrival) -> None:
        if self._backoffs.pop(id(arrival), None) is not None:
            self._enqueue(arrival)

    def _is_stale(self, arrival: Arrival) -> bool:
        return self._clock() - arrival.due_ns > self._limits.send_within_s * 1e9

    def _give_up(self, arrival: Arrival) -> None:
        arrival.place(self._requests.place(arrival.shape, intended_ns=arrival.intended_ns))
        self._recorder.given_up(arrival, now_ns=self._clock())

    def tick(self) -> None:
        """Once a second: give up what waited too long while no connection was free, and write the records."""
        try:
            self._expire()
            self._recorder.tick(now_ns=self._clock())
        except GeneratorFailed as error:
            self._stop_for(error)

    def _expire(self) -> None:
        while not self._queue.empty() and self._is_new(self._queue.peek_nowait()):
            if not self._is_stale(self._queue.peek_nowait()):
                return
            self._give_up(self._queue.get_nowait())

    def _is_new(self, arrival: Arrival) -> bool:
        return arrival.attempt == 0 and not arrival.again

    def _stop_for(self, error: GeneratorFailed) -> None:
        self._closed = True
        self._quiet.set()
        if self.failure is None:
            self.failure = error
            self._fail(error)

    def _check_quiet(self) -> None:
        if self._queue.empty() and not self._in_flight:
            self._quiet.set()

    def drain(self, timeout_s: float) -> None:
        """Take nothing new, make no more retries, wait for answers in flight, and close every connection.

        Requests that were due already are still sent; what is unsent after *timeout_s* is recorded as not sent, and what
        is unanswered stays without an outcome in the ledger, which readers take as unknown.

        Raises:
            GeneratorFailed: a record could not be written, now or before.
        """
        self._closed = True
        for timer, arrival in list(self._backoffs.values()):
            timer.kill()
            self._recorder.settled(arrival, now_ns=self._clock())
        self._backoffs.clear()
        self._check_quiet()
        self._quiet.wait(timeout_s)
        self._pool.kill()
        if self.failure is not None:
            raise self.failure
        for arrival in self._in_flight.values():
            fate = arrival.fate
            fate.outcome = Outcome.UNKNOWN if fate.outcome != Outcome.ACKED else fate.outcome
            self._recorder.settled(arrival, now_ns=self._clock())
        self._leave_unsent()

    def _leave_unsent(self) -> None:
        while True:
            try:
                arrival = self._queue.get_nowait()
            except Empty:
                return
            if self._is_new(arrival):
                self._give_up(arrival)
            else:
                self._recorder.settled(arrival, now_ns=self._clock())
