"""Export the buffer to a backup, clear it, restart, and replay the backup: half of it, a crash, all of it, and all of it again.

1. GET /admin/export to a file. Its last line is the receipt: number of events and SHA-256. Traffic may go on, and a flush may be
   in flight (here data files cannot be written, so that one is). The backup holds every acknowledged event that the table lacks.
2. Compare the receipt with the file before anything is cleared.
3. POST /admin/reset with the receipt. It discards what was exported and still waits, nothing that came later.
4. Restart the collector: SIGTERM, then start. Nothing that was cleared may be there again.
5. POST the first half of the file to /admin/replay; the collector is killed (SIGKILL) and started. Then POST the whole file.
6. POST the whole file once more: it must add nothing. After a flush every event of the backup is in the table.

The verdict of the run says whether every acknowledged event is in the table exactly once.
"""

from __future__ import annotations

import hashlib

from chaos.drills.desk import Backup, Desk, read_backup


def perform(desk: Desk) -> None:
    """Do it."""
    desk.wait_for_events(200)
    with desk.fault("r2-403-data", {}):
        desk.wait_behind_a_flush(100)
        backup = _exported(desk)
        cleared_s = desk.clock()
        reset = desk.admin.post("reset", backup.receipt)
    gone = int(reset["discarded"]["events"])
    desk.check("cleared", 0 < gone <= backup.events, f"{gone} of {backup.events} exported events were discarded")
    desk.restart()
    _replay(desk, backup, gone, cleared_s)

    desk.admin.post("flush")
    keys = backup.keys()
    lacks = keys - desk.table.holds(keys)
    desk.check("brought back", not lacks, f"{len(lacks)} of {len(keys)} exported events are not in the table")


def _exported(desk: Desk) -> Backup:
    began_s = desk.clock()
    backup = read_backup(desk.admin.get("export"))
    lines = backup.lines()
    digest = hashlib.sha256(b"".join(lines)).hexdigest()
    right = (len(lines), digest) == (backup.events, backup.sha256)
    desk.check("receipt", right, f"{len(lines)} events were received, the receipt says {backup.events}")
    missing = desk.missing(began_s)
    left_out = missing - backup.keys()
    said = f"of {len(missing)} acknowledged events that the table lacks, {len(left_out)} are not in the export"
    desk.check("whole", not left_out, said)
    return backup


def _replay(desk: Desk, backup: Backup, gone: int, cleared_s: float) -> None:
    half = desk.admin.post("replay", backup.half())
    desk.kill()
    desk.start({})
    whole = desk.admin.post("replay", backup.content)
    accepted = half["accepted"] + whole["accepted"]
    again = len(desk.ledger.again_since(cleared_s) & backup.keys())  # clients may have brought some back themselves
    said = f"{accepted} events were accepted, {gone} had been discarded, {again} of them came again from clients"
    desk.check("replayed", gone - again <= accepted <= gone, said)
    desk.check("complete", bool(whole["complete"]), "the replay saw all of the backup, as its receipt says")
    twice = desk.admin.post("replay", backup.content)
    desk.check(
        "idempotent",
        twice["accepted"] == 0 and twice["duplicate"] == backup.events,
        f"a second replay accepted {twice['accepted']} and knew {twice['duplicate']} of {backup.events}",
    )
