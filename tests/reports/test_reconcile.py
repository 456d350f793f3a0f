"""The fold of the ledgers and the comparison with the table, against a naive model that keeps a dictionary of events."""

from __future__ import annotations

import tempfile
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from loadtests.records.ledger import Kind, LedgerWriter, Outcome, read_ledgers
from reports.keyset import CHUNK, Counted, count
from reports.obligations import ACKED, AMBIGUOUS, ATTEMPTED, EXEMPT, UNKNOWN, History, attempts_of, fold
from reports.reconcile import FileKeys, Reconciliation, reconcile
from reports.stages import Stage


@dataclass(frozen=True)
class Sent:
    """One request: what it carried and what it came to; outcome None is no second record."""

    producer: int
    first: int
    count: int
    outcome: Outcome | None
    kind: Kind = Kind.NORMAL


@dataclass(frozen=True)
class Rows:
    """One data file."""

    rows: list[tuple[int, int]]
    altered: list[tuple[int, int]] = field(default_factory=list)
    references: int = 1


def history_of(requests: list[Sent]) -> History:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "one.ledger"
        writer = LedgerWriter(path, run_id="abcd1234", process="p")
        for sent in requests:
            common: dict[str, Any] = {
                "producer": sent.producer,
                "first": sent.first,
                "count": sent.count,
                "kind": sent.kind,
            }
            times: dict[str, Any] = {"intended_ns": 1, "sent_ns": 1}
            request = writer.attempt(**common, **times)
            if sent.outcome is not None:
                writer.done(request, **common, **times, done_ns=2, status=202, outcome=sent.outcome)
        writer.close()
        return fold(read_ledgers(Path(directory)))


def files_of(tables: list[Rows]) -> list[FileKeys]:
    files = []
    for number, table in enumerate(tables):
        files.append(FileKeys(number, Stage.SCAN, table.references, _counted(table.rows), _counted(table.altered)))
    return files


def _counted(pairs: list[tuple[int, int]]) -> dict[int, Counted]:
    by_producer: dict[int, list[int]] = defaultdict(list)
    for producer, sequence in pairs:
        by_producer[producer].append(sequence)
    return {p: count(np.array(s, dtype=np.uint64)) for p, s in by_producer.items()}


def naive(requests: list[Sent], tables: list[Rows], aside: set[tuple[int, int]]) -> dict[str, set[tuple[int, int]]]:
    outcomes: dict[tuple[int, int], list[Outcome]] = defaultdict(list)
    exempt = set()
    for sent in requests:
        for sequence in range(sent.first, sent.first + sent.count):
            event = (sent.producer, sequence)
            outcomes[event].append(sent.outcome or Outcome.UNKNOWN)
            if sent.kind in (Kind.POISON, Kind.OVER_LIMIT):
                exempt.add(event)
    acked = {e for e, o in outcomes.items() if Outcome.ACKED in o}
    unknown = {e for e, o in outcomes.items() if Outcome.UNKNOWN in o} - acked
    copies: Counter[tuple[int, int]] = Counter()
    altered = set()
    for table in tables:
        for event in table.rows:
            copies[event] += table.references
        altered |= set(table.altered)
    there = set(copies)
    return {
        "missing": acked - there - exempt - aside,
        "quarantined": (acked - there - exempt) & aside,
        "duplicated": {e for e in there if copies[e] > 1 and e in outcomes},
        "altered": (altered & set(outcomes)) - exempt,
        "unexpected": there - set(outcomes),
        "resurrected": (there & set(outcomes)) - acked - unknown,
        "recovered": unknown & there,
        "not_landed": unknown - there,
    }


def sets_of(result: Reconciliation) -> dict[str, set[tuple[int, int]]]:
    return {
        name: {(r.producer, s) for r in found.ranges for s in range(r.first, r.last + 1)}
        for name, found in result.sets.items()
        if name != "late"
    }


FIRSTS = st.one_of(st.integers(0, 40), st.integers(CHUNK - 20, CHUNK + 20))
REQUESTS = st.lists(
    st.builds(
        Sent,
        producer=st.integers(0, 2),
        first=FIRSTS,
        count=st.integers(1, 12),
        outcome=st.sampled_from([None, Outcome.ACKED, Outcome.REFUSED, Outcome.UNKNOWN]),
        kind=st.sampled_from([Kind.NORMAL, Kind.NORMAL, Kind.PROBE, Kind.DUPLICATE, Kind.POISON, Kind.OVER_LIMIT]),
    ),
    max_size=12,
)
EVENTS = st.tuples(st.integers(0, 3), st.one_of(FIRSTS, st.just(1 << 39)))
TABLES = st.lists(
    st.lists(EVENTS, max_size=30).flatmap(
        lambda rows: st.builds(
            Rows,
            rows=st.just(rows),
            altered=st.lists(st.sampled_from(rows), max_size=3) if rows else st.just([]),
            references=st.integers(1, 3),
        )
    ),
    max_size=4,
)


@settings(max_examples=150, deadline=None)
@given(REQUESTS, TABLES, st.sets(EVENTS, max_size=20))
@example([Sent(0, 0, 5, Outcome.ACKED)], [Rows([(0, 1)] * 300)], {(0, 2), (0, 9)})
def test_the_sets_are_those_of_a_naive_model(
    requests: list[Sent], tables: list[Rows], aside: set[tuple[int, int]]
) -> None:
    """Whatever was sent, is there or is kept aside, every set has exactly the events it should have."""
    kept = {p: np.array(sorted(s for q, s in aside if q == p), dtype=np.uint64) for p, _ in aside}
    result = reconcile(history_of(requests), files_of(tables), quarantined=kept)

    assert sets_of(result) == naive(requests, tables, aside)
    assert {n: f.events for n, f in result.sets.items() if n != "late"} == {
        n: len(s) for n, s in naive(requests, tables, aside).items()
    }


@settings(max_examples=100, deadline=None)
@given(REQUESTS, TABLES)
def test_every_row_that_was_read_is_accounted_for(requests: list[Sent], tables: list[Rows]) -> None:
    """Copies, strays of unknown producers and far-off sequences included."""
    result = reconcile(history_of(requests), files_of(tables))

    assert result.unaccounted == 0
    assert result.rows_ours == sum(len(t.rows) * t.references for t in tables)
    assert result.distinct == len({event for t in tables for event in t.rows})


@settings(max_examples=100, deadline=None)
@given(REQUESTS)
def test_an_event_is_acked_else_unknown_else_refused(requests: list[Sent]) -> None:
    """The retry fold, against the naive one."""
    history = history_of(requests)
    outcomes: dict[tuple[int, int], list[Outcome]] = defaultdict(list)
    for sent in requests:
        for sequence in range(sent.first, sent.first + sent.count):
            outcomes[(sent.producer, sequence)].append(sent.outcome or Outcome.UNKNOWN)
    acked = sum(Outcome.ACKED in o for o in outcomes.values())
    unknown = sum(Outcome.UNKNOWN in o and Outcome.ACKED not in o for o in outcomes.values())

    assert history.total(having=ATTEMPTED) == len(outcomes)
    assert history.total(having=ACKED) == acked
    assert history.total(having=UNKNOWN) == unknown
    assert history.total(having=ATTEMPTED, lacking=ACKED | UNKNOWN) == len(outcomes) - acked - unknown


@pytest.mark.parametrize(
    ("requests", "ambiguous"),
    [
        ([Sent(0, 0, 1, Outcome.ACKED)], 0),
        ([Sent(0, 0, 1, Outcome.UNKNOWN)], 1),
        ([Sent(0, 0, 1, None)], 1),
        ([Sent(0, 0, 1, Outcome.REFUSED), Sent(0, 0, 1, Outcome.ACKED)], 1),
        ([Sent(0, 0, 1, Outcome.ACKED, Kind.DUPLICATE)], 1),
    ],
)
def test_more_than_one_attempt_or_an_unknown_one_is_ambiguous(requests: list[Sent], ambiguous: int) -> None:
    """Only such histories allow a second delivery."""
    assert history_of(requests).total(having=AMBIGUOUS) == ambiguous


def test_poison_is_exempt() -> None:
    """Sent to be refused: nothing is owed."""
    assert history_of([Sent(0, 0, 4, Outcome.ACKED, Kind.POISON)]).total(having=EXEMPT) == 4


def test_a_set_that_outgrows_its_ranges_is_still_counted() -> None:
    """Ranges are kept up to the limit; events are counted beyond it."""
    history = history_of([Sent(0, 0, 1000, Outcome.ACKED)])

    result = reconcile(history, files_of([Rows([(0, s) for s in range(0, 1000, 2)])]), keep=10)

    assert result.sets["missing"].events == 500
    assert len(result.sets["missing"].ranges) == 10
    assert result.stages[Stage.ACKED] == 500


def test_a_torn_ledger_leaves_its_last_request_unknown(tmp_path: Path) -> None:
    """The generator was killed while it wrote the second record."""
    path = tmp_path / "one.ledger"
    writer = LedgerWriter(path, run_id="abcd1234", process="p")
    common: dict[str, Any] = {"producer": 0, "first": 0, "count": 5, "intended_ns": 1, "sent_ns": 1}
    request = writer.attempt(**common)
    writer.done(request, **common, done_ns=2, status=202, outcome=Outcome.ACKED)
    writer.close()
    path.write_bytes(path.read_bytes()[:-10])

    history = fold(read_ledgers(tmp_path))

    assert history.total(having=UNKNOWN) == 5
    assert history.torn_bytes == 54


def test_two_generators_number_their_requests_independently(tmp_path: Path) -> None:
    """Request 1 of one file does not answer request 1 of another."""
    for name, answered in (("a", True), ("b", False)):
        writer = LedgerWriter(tmp_path / f"{name}.ledger", run_id="abcd1234", process=name)
        common: dict[str, Any] = {"producer": ord(name), "first": 0, "count": 5, "intended_ns": 1, "sent_ns": 1}
        request = writer.attempt(**common)
        if answered:
            writer.done(request, **common, done_ns=2, status=202, outcome=Outcome.ACKED)
        writer.close()

    history = fold(read_ledgers(tmp_path))

    assert (history.total(having=ACKED), history.total(having=UNKNOWN)) == (5, 5)
    assert [a.outcome for a in attempts_of(read_ledgers(tmp_path), ord("b"), 2)] == ["unknown"]


def test_sequences_far_apart_cost_what_is_there() -> None:
    """As a damaged ledger may name them; what lies between is found, and each row is accounted for once."""
    far, between = 1 << 50, 1 << 40
    requests = [Sent(0, 0, 5, Outcome.ACKED), Sent(0, far, 3, Outcome.ACKED)]
    result = reconcile(history_of(requests), files_of([Rows([(0, 0), (0, 4), (0, between), (0, far), (0, far)])]))

    assert sets_of(result)["missing"] == {(0, 1), (0, 2), (0, 3), (0, far + 1), (0, far + 2)}
    assert sets_of(result)["unexpected"] == {(0, between)}
    assert sets_of(result)["duplicated"] == {(0, far)}
    assert (result.rows_ours, result.unaccounted) == (5, 0)
