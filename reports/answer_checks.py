"""Was every request answered as the contract says? Known beforehand for requests that are invalid or over a limit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

from loadtests.answers import BREACHES, breach
from loadtests.records.ledger import Kind, Outcome
from reports.reconcile import Reconciliation
from reports.runrecords import RunRecords
from reports.verdict import Check, Verdict

CHECK = "events.answered"


def answer_checks(records: RunRecords, result: Reconciliation) -> list[Check]:
    """Return `events.answered`."""
    answers, contract = records.history.answers, records.target.contract
    breaches: Counter[str] = Counter()
    for (kind, status, outcome), number in answers.items():
        name = breach(kind, status, outcome, contract)
        if name is not None:
            breaches[name] += number
    counts = {"requests": sum(answers.values()), **_unwanted_requests(answers), **breaches}
    problems = [f"{number:,} times {BREACHES[name]}" for name, number in breaches.most_common()]
    if result.unwanted:
        counts["unwanted_in_table"] = result.unwanted
        problems.append(f"{result.unwanted:,} events that are invalid or over a limit are in the table")
    if problems:
        return [_check(Verdict.FAIL, problems[0], counts, problems[1:])]
    return [_unless_untried(answers, counts, pressed=contract.refusals.statuses)]


def _unwanted_requests(answers: dict[tuple[Kind, int, Outcome], int]) -> dict[str, int]:
    kinds = (Kind.POISON, Kind.OVER_LIMIT)
    numbers = {k.name.lower(): sum(n for (kind, _, _), n in answers.items() if kind == k) for k in kinds}
    return {name: number for name, number in numbers.items() if number}


def _unless_untried(
    answers: dict[tuple[Kind, int, Outcome], int], counts: dict[str, int], *, pressed: Collection[int]
) -> Check:
    """PASS, unless not one request that should have been refused got an answer of its own, beyond back-pressure."""
    for kind in (Kind.POISON, Kind.OVER_LIMIT):
        mine = {(status, outcome) for (k, status, outcome) in answers if k == kind}
        told = [s for s, outcome in mine if outcome == Outcome.ACKED or (400 <= s < 500 and s not in pressed)]
        if mine and not told:
            claim = f"no {kind.name.lower().replace('_', '-')} request got an answer that tells how the target takes it"
            return _check(Verdict.INCONCLUSIVE, claim, counts)
    return _check(Verdict.PASS, "every request got an answer that the contract allows", counts)


def _check(verdict: Verdict, claim: str, counts: dict[str, int], evidence: list[str] | None = None) -> Check:
    return Check(id=CHECK, verdict=verdict, claim=claim, counts=counts, evidence=evidence or [])
