"""What the events of a recorded run say, as its run.json and its ledgers tell."""

from __future__ import annotations

from collections.abc import Iterable

from loadtests.records.content import Content
from loadtests.records.ledger import Ledger, Record
from loadtests.records.rundir import RunInfo


def content_of(info: RunInfo, ledgers: Iterable[Ledger]) -> Content:
    """Return the content of a run; where its types change by phase, *ledgers* know when each phase began."""
    content = Content(info.seed, info.mix or None, phases=info.phases)
    for ledger in ledgers if info.phases else ():
        for row in ledger.records[ledger.records["record"] == Record.TURN]:
            content.turn(int(row["producer"]), int(row["first"]), int(row["status"]))
    return content
