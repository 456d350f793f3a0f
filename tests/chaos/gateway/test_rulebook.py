"""Which rules touch a request, and how they count."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chaos.gateway.rulebook import RuleBook, draw
from chaos.gateway.rules import During, Match, Pass, Refuse, Rule, Status
from tests.chaos.gateway.fakes import Clock

REFUSE = Refuse(answer=Status(status=503))


def in_loop(test: Callable[[], None]) -> None:
    async def wrapped() -> None:
        test()

    asyncio.run(wrapped())


def turns(match: Match, requests: int, *, seed: int = 7, rule_id: str = "r") -> list[int]:
    """Return which of *requests* commits a rule chooses, counted from 1."""
    chosen: list[int] = []

    def test() -> None:
        book = RuleBook(seed)
        book.put(rule_id, Rule(action=Pass(), match=match))
        for number in range(1, requests + 1):
            if book.choose("catalog", "POST", "commit", "/t"):
                chosen.append(number)

    in_loop(test)
    return chosen


@pytest.mark.parametrize(
    ("match", "expected"),
    [
        (Match(), [1, 2, 3, 4, 5, 6]),
        (Match(nth=2), [2]),
        (Match(nth=(1, 5)), [1, 5]),
        (Match(every=3), [3, 6]),
        (Match(first=2), [1, 2]),
        (Match(share=0.0), []),
        (Match(upstream="r2"), []),
        (Match(upstream=("r2", "catalog"), verb="post", object=("commit",), path="^/t$"), [1, 2, 3, 4, 5, 6]),
        (Match(verb="GET"), []),
        (Match(object="load-table"), []),
        (Match(path="/u"), []),
    ],
)
def test_rule_chooses_its_requests(match: Match, expected: list[int]) -> None:
    """Each field narrows; nth, every and first count matching requests from one."""
    assert expected == turns(match, 6)


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**32), share=st.floats(0.05, 0.95), requests=st.integers(1, 200))
def test_share_is_a_pure_function_of_seed_rule_and_occurrence(seed: int, share: float, requests: int) -> None:
    """Two runs with one seed choose the same requests, and a longer run continues a shorter one."""
    match = Match(share=share)
    chosen = turns(match, requests, seed=seed)

    assert chosen == turns(match, requests, seed=seed)
    assert chosen == [number for number in turns(match, requests + 50, seed=seed) if number <= requests]


@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 2**32))
def test_share_is_a_share(seed: int) -> None:
    """Of two thousand requests about the asked share is chosen (six standard deviations)."""
    chosen = turns(Match(share=0.3), 2000, seed=seed)

    assert abs(len(chosen) - 600) < 6 * (2000 * 0.3 * 0.7) ** 0.5


def test_other_seed_and_other_rule_choose_otherwise() -> None:
    """Seeds and names are wired: neither two seeds nor two rules share their draws."""
    match = Match(share=0.5)

    assert turns(match, 100) != turns(match, 100, seed=8)
    assert turns(match, 100) != turns(match, 100, rule_id="other")
    assert draw(1, "a", "share", 1).random() != draw(1, "a", "jitter", 1).random()


def test_rule_may_bring_its_own_seed() -> None:
    """A seed in the rule overrides the gateway's."""
    chosen: list[list[bool]] = []

    def test() -> None:
        for gateway_seed in (1, 2):
            book = RuleBook(gateway_seed)
            book.put("r", Rule(action=Pass(), match=Match(share=0.5), seed=99))
            chosen.append([bool(book.choose("r2", "GET", "list", "/")) for _ in range(50)])

    in_loop(test)
    assert chosen[0] == chosen[1]


def test_during_bounds_the_time_in_which_a_rule_matches() -> None:
    """Outside of its time a rule neither touches nor counts requests."""

    def test() -> None:
        clock = Clock()
        book = RuleBook(0, clock)
        book.put("r", Rule(action=Pass(), match=Match(during=During(from_s=10, to_s=20))))
        chosen = []
        for _ in range(4):
            chosen.append(bool(book.choose("r2", "GET", "list", "/")))
            clock.now_s += 8

        assert chosen == [False, False, True, False]
        assert _counters(book, "r") == {"matched": 1, "applied": 0, "passed": 0}

    in_loop(test)


def test_counters_start_again_when_a_rule_is_put_again() -> None:
    """Putting a rule anew makes its next request the first; who waited for the old rule is let go."""

    def test() -> None:
        book = RuleBook(0)
        book.put("r", Rule(action=REFUSE, match=Match(nth=1)))
        old = book.active[0]
        assert book.choose("r2", "GET", "list", "/")
        book.put("r", Rule(action=REFUSE, match=Match(nth=1)))

        assert old.deleted.done()
        assert _counters(book, "r") == {"matched": 0, "applied": 0, "passed": 0}
        assert book.choose("r2", "GET", "list", "/")

    in_loop(test)


def test_counters_outlive_their_rule() -> None:
    """Proof of effect is read after the fault was healed."""

    def test() -> None:
        book = RuleBook(0)
        book.put("r", Rule(action=REFUSE))
        book.choose("r2", "GET", "list", "/")[0].took_effect()

        assert (book.delete("r"), book.delete("r")) == (True, False)
        assert _counters(book, "r") == {"matched": 1, "applied": 1, "passed": 0}
        assert book.choose("r2", "GET", "list", "/") == []

    in_loop(test)


def test_clear_removes_every_rule() -> None:
    """Clearing says how many there were."""

    def test() -> None:
        book = RuleBook(0)
        for name in "abc":
            book.put(name, Rule(action=REFUSE))

        assert (book.clear(), book.active) == (3, ())

    in_loop(test)


def _counters(book: RuleBook, rule_id: str) -> Any:
    return book.counters()["rules"][rule_id]  # type: ignore[index]
