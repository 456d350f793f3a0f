"""What an answer lets a client conclude, and whether to try again."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from random import Random

from loadtests.records.ledger import Outcome, Status
from loadtests.records.target import Refusals

NEVER_KEPT = frozenset({400, 401, 403, 404, 405, 413, 415})
"""Statuses by which any server says that it did not take the request at all (RFC 9110, section 15.5)."""

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
