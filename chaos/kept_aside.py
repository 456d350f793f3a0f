"""What the target keeps aside, written into the run directory: all of it, or a sentence that says how much is not known."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from chaos.drills.desk import AdminClient, DrillFailed
from loadtests.records.quarantine import NAME, write_quarantine


def keep_quarantine(admin: AdminClient, run: Path, run_id: str) -> str | None:
    """Read the target's quarantine into `quarantine.jsonl`, one event in memory at a time.

    Returns:
        None when every event was listed, else what a person must know: an event that is not listed counts as lost.
    """
    listing = _Listing(admin.lines("quarantine"))
    try:
        write_quarantine(run, run_id, listing.events())
    except DrillFailed as error:
        if not listing.listed:
            (run / NAME).unlink(missing_ok=True)  # an empty list would say that nothing is kept aside
        return f"the target's quarantine could not be read to its end, {listing.listed} events were: {error}"
    if listing.total is None:
        return f"the target's quarantine does not end with its total: it was cut off after {listing.listed} events"
    if listing.total != listing.listed:
        return f"the target's quarantine lists {listing.listed} of {listing.total} events"
    return None


class _Listing:
    """Lines of a listing; the last is {"total": number}."""

    def __init__(self, lines: Iterator[dict[str, Any]]) -> None:
        self._lines = lines
        self.listed, self.total = 0, None

    def events(self) -> Iterator[dict[str, Any]]:
        for line in self._lines:
            if line.keys() == {"total"}:
                self.total = line["total"]
                return
            self.listed += 1
            yield line
