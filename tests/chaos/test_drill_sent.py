"""What a drill knows of what was sent: the ledgers of the run, event by event."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from chaos.drills.sent import Sent
from loadtests.records.identity import Identity, source_of
from loadtests.records.ledger import LedgerWriter, Outcome
from tests.chaos.fakes import make_run


def test_acknowledged_events_are_named_by_source_and_id(tmp_path: Path) -> None:
    """Only those that were acknowledged before the moment; refused and unanswered ones are owed to nobody."""
    run = make_run(tmp_path)
    writer = LedgerWriter(run.ledger / "one.ledger", run_id=run.info.run_id, process="one")

    def sent(first: int, at_s: int, outcome: Outcome | None, attempt: int = 1) -> None:
        at_ns = at_s * 1_000_000_000
        about: dict[str, Any] = {
            "producer": 3,
            "first": first,
            "count": 2,
            "attempt": attempt,
            "intended_ns": at_ns,
            "sent_ns": at_ns,
        }
        request = writer.attempt(**about)
        if outcome is not None:
            writer.done(request, **about, outcome=outcome, status=202, done_ns=at_ns + 1)

    sent(0, 1, Outcome.ACKED)
    sent(2, 2, Outcome.REFUSED)
    sent(4, 3, None)
    sent(4, 5, Outcome.ACKED, attempt=2)
    writer.close()
    ids = [one.decode() for one in Identity(run.info.seed, run.info.run_id).ids(3, 0, 6).tolist()]
    source = source_of(run.info.run_id, 3)

    assert Sent(run).acked_before(4.0) == {(source, one) for one in ids[:2]}
    assert Sent(run).acked_before(9.0) == {(source, one) for one in [*ids[:2], *ids[4:]]}
    assert Sent(run).again_since(4.0) == {(source, one) for one in ids[4:]}
    assert Sent(run).again_since(6.0) == set()
