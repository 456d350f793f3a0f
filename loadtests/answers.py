"""What an answer lets a client conclude, and whether to try again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from random import Random

from loadtests.records.ledger import Kind, Outcome, Status
from loadtests.records.target import Contract, Refusals

NEVER_KEPT = frozenset({400, 401, 403, 404, 405, 411, 413, 415, 422, 431})
"""Statuses by which any server says that it did not take the request at all (RFC 9110, section 15.5; RFC 6585, section 5)."""

INVALID = frozenset({400, 415, 422})
"""Statuses that say: this is no valid CloudEvent."""

TOO_LARGE = frozenset({413})
"""Statuses that say: this is more than I take in one request."""

WORTH_RETRYING = frozenset({408, 425, 429})
"""4xx that ask for another try; every 5xx does too."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back for one attempt.

    Attributes:
        status: The HTTP status, or a (negative) `Status` when there was no whole answer.
        content_type: The Content-Type, lower case; empty if there was none.
        retry_after_s: Seconds the server asked to wait; None if it did not.
    """

    status: int
    content_type: str = ""
    retry_after_s: float | None = None


def classify(answer: Answer, refusals: Refusals) -> Outcome:
    """Return what may be concluded from *answer* under the contract's *refusals*.

    A status from the contract is a refusal only with the contract's marker in its Content-Type: without it, something
    between us and the target may have answered after the target had taken the events.
    """
    status = answer.status
    if 200 <= status < 300:
        return Outcome.ACKED
    if status == Status.CONNECT_FAILED or status in NEVER_KEPT:
        return Outcome.REFUSED
    if status in refusals.statuses and (refusals.marker is None or refusals.marker.lower() in answer.content_type):
        return Outcome.REFUSED
    return Outcome.UNKNOWN


def breach(kind: Kind, status: int, outcome: Outcome, contract: Contract) -> str | None:
    """Return how an answer breaks the contract, as one of `BREACHES`; None when it may have been given.

    An answer that leaves the outcome unknown is nobody's breach, except a 500 to what should have been refused.
    """
    if kind in (Kind.POISON, Kind.OVER_LIMIT):
        return _breach_of_unwanted(kind, status, outcome, contract)
    if status in INVALID:
        return "valid_refused"
    return "valid_refused" if status in TOO_LARGE and contract.limits is not None else None


def _breach_of_unwanted(kind: Kind, status: int, outcome: Outcome, contract: Contract) -> str | None:
    name = kind.name.lower()
    if outcome == Outcome.ACKED:
        skipped = kind == Kind.POISON and contract.invalid == "skip_event"
        return None if skipped else f"{name}_acknowledged"
    if status == _BROKE:
        return f"{name}_answered_500"
    return "over_limit_not_413" if kind == Kind.OVER_LIMIT and status in INVALID else None


_BROKE = 500

BREACHES: Mapping[str, str] = {
    "valid_refused": "valid events within the limits were refused as invalid or too large",
    "poison_acknowledged": "requests with an invalid event were acknowledged",
    "poison_answered_500": "requests with an invalid event were answered 500",
    "over_limit_acknowledged": "requests over the limits were acknowledged",
    "over_limit_answered_500": "requests over the limits were answered 500",
    "over_limit_not_413": "requests over the limits were refused by another status than 413",
}
"""What can be wrong with an answer."""


def parse_retry_after(value: str, *, now: datetime | None = None) -> float | None:
    """Return the seconds a Retry-After header asks for (RFC 9110, 10.2.3: seconds or a date); None if malformed."""
    value = value.strip()
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        until = parsedate_to_datetime(value)
    except ValueError:
        return None
    if until.tzinfo is None:
        until = until.replace(tzinfo=UTC)
    return max(0.0, (until - (now or datetime.now(UTC))).total_seconds())


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """When to send the same events again: exponential backoff with full jitter, bounded in number and total time.

    Attributes:
        attempts_max: Attempts of one request in all, the first included; 1 never retries.
        total_s_max: A retry that would start later than this after the first attempt is not made.
        base_s: The first backoff is at most this long; each further one at most twice its predecessor.
        cap_s: No backoff is longer, Retry-After apart.
    """

    attempts_max: int = 6
    total_s_max: float = 60.0
    base_s: float = 0.2
    cap_s: float = 10.0

    def delay_s(self, answer: Answer, *, attempt: int, elapsed_s: float, random: Random) -> float | None:
        """Return how long to wait before the attempt after *attempt* (1 is the first), or None to give up.

        Retry-After is a lower bound; the jitter comes on top, so that refused clients do not return in step.

        Args:
            answer: The answer to that attempt.
            attempt: Its number.
            elapsed_s: Seconds since the first attempt left.
            random: Source of the jitter.
        """
        if attempt >= self.attempts_max or not _may_help(answer.status):
            return None
        backoff_s = random.uniform(0.0, min(self.cap_s, self.base_s * 2 ** (attempt - 1)))
        delay_s = backoff_s + (answer.retry_after_s or 0.0)
        return delay_s if elapsed_s + delay_s <= self.total_s_max else None


def _may_help(status: int) -> bool:
    return status < 0 or status >= 500 or status in WORTH_RETRYING
