"""Reset the buffer, and account for what was lost to the event.

1. Keep a copy: GET /admin/export. (Whoever has none confirms the loss instead: {"confirm": "discard N events"}.)
2. End the traffic, so that the account is closed; export and reset under the receipt of that export. (Here data files cannot be
   written meanwhile, so that a flush is in flight and events wait behind it.)
3. Flush what a reset leaves: a flush that was sealed is never discarded.
4. Compare, event by event: what the table lacks of the export is what the reset says it discarded, by number and SHA-256, and
   no other acknowledged event is missing.
5. Replay the copy, so that the loss of the exercise is no loss of data.

The verdict of the run says whether every acknowledged event is in the table exactly once after the replay.
"""

from __future__ import annotations

import hashlib
from typing import Any

from chaos.drills.desk import Backup, Desk, key_of, read_backup


def perform(desk: Desk) -> None:
    """Do it."""
    desk.wait_for_events(200)
    with desk.fault("r2-403-data", {}):
        desk.wait_behind_a_flush(100)
        desk.end_traffic()
        backup = read_backup(desk.admin.get("export"))
        before = _discarded(desk)
        reset = desk.admin.post("reset", backup.receipt)
    gone = int(reset["discarded"]["events"])
    desk.check("discarded", gone > 0, f"{gone} events were discarded, {reset['kept_events']} still wait")
    counted = _discarded(desk) - before  # another drill may have discarded some
    desk.check("counted", counted == gone, f"the collector counts {counted}, the reset says {gone}")
    desk.admin.post("flush")
    _account(desk, backup, reset["discarded"])

    replay = desk.admin.post("replay", backup.content)
    desk.check("brought back", replay["accepted"] == gone, f"{replay['accepted']} of {gone} events were replayed")


def _discarded(desk: Desk) -> int:
    return int(desk.admin.read("buffer")["discarded_events"])


def _account(desk: Desk, backup: Backup, discarded: dict[str, Any]) -> None:
    gone, keys = int(discarded["events"]), backup.keys()
    lacks = keys - desk.table.holds(keys)
    lines = [line for line in backup.lines() if key_of(line) in lacks]
    same = hashlib.sha256(b"".join(lines)).hexdigest() == discarded["sha256"]
    copies = gone - len(lines)
    if 0 < copies <= len(desk.ledger.again_since(0.0) & keys):  # second copies of events that had landed are no loss
        same, gone = True, len(lines)
    said = f"the table lacks {len(lines)} of the exported events, {gone} were discarded, the digests {'agree' if same else 'differ'}"
    desk.check("accounted", len(lines) == gone and same, said)
    others = desk.missing(desk.clock()) - lacks
    desk.check("nothing else", not others, f"{len(others)} other acknowledged events are missing")
