from datetime import UTC, datetime
from random import Random

import pytest

from loadtests.answers import Answer, RetryPolicy, classify, parse_retry_after
from loadtests.records.ledger import Outcome, Status
from loadtests.records.target import Refusals

PROBLEM = "application/problem+json; charset=utf-8"
ACKED, REFUSED, UNKNOWN = Outcome.ACKED, Outcome.REFUSED, Outcome.UNKNOWN


@pytest.mark.parametrize(
    ("status", "content_type", "outcome"),
    [
        (200, "", ACKED),
        (202, "text/plain", ACKED),
        (204, "", ACKED),
        (299, "", ACKED),
        (400, "", REFUSED),
        (401, "", REFUSED),
        (403, "text/html", REFUSED),
        (404, "", REFUSED),
        (405, "", REFUSED),
        (413, "", REFUSED),
        (415, "", REFUSED),
        (429, PROBLEM, REFUSED),
        (503, PROBLEM, REFUSED),
        (429, "text/html", UNKNOWN),
        (503, "text/html", UNKNOWN),
        (503, "", UNKNOWN),
        (500, PROBLEM, UNKNOWN),
        (502, "", UNKNOWN),
        (504, "", UNKNOWN),
        (408, PROBLEM, UNKNOWN),
        (409, "", UNKNOWN),
        (302, "", UNKNOWN),
        (Status.CONNECT_FAILED, "", REFUSED),
        (Status.RESET, "", UNKNOWN),
        (Status.TIMEOUT, "", UNKNOWN),
        (Status.TRUNCATED, "", UNKNOWN),
        (Status.OTHER, "", UNKNOWN),
    ],
)
def test_what_an_answer_lets_one_conclude(status, content_type, outcome):
    """Only a 2xx is an ack; only a vouched-for answer, or none asked, is a refusal; all else is unknown."""
    assert classify(Answer(status, content_type), Refusals()) == outcome


def test_a_contract_without_a_marker_trusts_the_status():
    """A target that marks nothing is taken at its status."""
    refusals = Refusals(statuses=[503], marker=None)

    assert classify(Answer(503, "text/html"), refusals) == REFUSED
    assert classify(Answer(429, "text/html"), refusals) == UNKNOWN


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("3", 3.0), (" 0 ", 0.0), ("Tue, 24 Nov 2026 20:00:05 GMT", 5.0), ("Tue, 24 Nov 2026 19:00:00 GMT", 0.0), ("soon", None), ("-1", None), ("1.5", None)],
)  # fmt: skip
def test_retry_after_is_seconds_or_a_date(value, seconds):
    """Both forms of RFC 9110 are read; anything else is as if it were not there."""
    assert parse_retry_after(value, now=datetime(2026, 11, 24, 20, tzinfo=UTC)) == seconds


def delays(answer: Answer, policy: RetryPolicy | None = None, **kwargs) -> list[float | None]:
    """Every delay a client with a clock of its own would wait, until it gives up."""
    policy, random, elapsed_s, out = policy or RetryPolicy(), Random(7), 0.0, []
    for attempt in range(1, 1000):
        delay_s = policy.delay_s(answer, attempt=attempt, elapsed_s=elapsed_s, random=random)
        if delay_s is None:
            break
        out.append(delay_s)
        elapsed_s += delay_s
    return out


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 413, 415, 409, 302, Status.NONE + 200])
def test_what_cannot_help_is_not_tried_again(status):
    """A wrong request stays wrong."""
    assert delays(Answer(status)) == []


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504, Status.CONNECT_FAILED, Status.RESET, Status.TIMEOUT])
def test_what_may_pass_is_tried_again_a_bounded_number_of_times(status):
    """Six attempts are five retries."""
    assert len(delays(Answer(status))) == 5


def test_backoff_has_full_jitter_under_a_doubling_bound():
    """Each delay lies anywhere between 0 and its bound, which doubles up to the cap."""
    policy = RetryPolicy(attempts_max=10, total_s_max=1e9, base_s=1.0, cap_s=4.0)
    random = Random(1)
    seen = [
        [policy.delay_s(Answer(503), attempt=attempt, elapsed_s=0, random=random) or 0.0 for _ in range(2000)]
        for attempt in (1, 2, 3, 4, 9)
    ]

    for bound, values in zip((1, 2, 4, 4, 4), seen, strict=True):
        assert max(values) <= bound
        assert max(values) > 0.95 * bound
        assert min(values) < 0.05 * bound


def test_retry_after_is_a_lower_bound():
    """No retry comes earlier than the server asked, and they do not come in step."""
    values = delays(Answer(503, PROBLEM, 2.0))

    assert min(values) >= 2.0
    assert len(set(values)) == len(values)


def test_retries_end_with_the_total_time():
    """A retry that would start after the total time is not made, however many attempts are left."""
    policy = RetryPolicy(attempts_max=100, total_s_max=10.0, base_s=0.1, cap_s=0.1)

    assert delays(Answer(503, PROBLEM, 11.0), policy) == []
    assert 3 <= len(delays(Answer(503, PROBLEM, 2.5), policy)) <= 4
    assert sum(delays(Answer(503), policy)) <= 10.0
