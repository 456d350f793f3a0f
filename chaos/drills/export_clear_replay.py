"""Export the buffer to a backup, clear it, restart, and replay the backup: half of it, all of it, and all of it again.

1. GET /admin/export to a file. Its last line is the receipt: number of events and SHA-256. Traffic may go on.
2. Compare the receipt with the file before anything is cleared.
3. POST /admin/reset with the receipt. It discards what was exported and still waits, nothing that came later.
4. Restart the collector: SIGTERM, then start. Nothing that was cleared may be there again.
5. POST the first half of the file to /admin/replay, as if the replay had crashed there, then the whole file.
6. POST the whole file once more: it must add nothing.

The verdict of the run says whether every acknowledged event is in the table exactly once.
"""

from __future__ import annotations

import hashlib

from chaos.drills.desk import Desk, read_backup


def perform(desk: Desk) -> None:
    """Do it."""
    desk.wait_for_events(200)
    backup = read_backup(desk.admin.get("export"))
    lines = backup.content.splitlines(keepends=True)[:-1]
    digest = hashlib.sha256(b"".join(lines)).hexdigest()
    right = (len(lines), digest) == (backup.events, backup.sha256)
    desk.check("receipt", right, f"{len(lines)} events were received, the receipt says {backup.events}")

    reset = desk.admin.post("reset", backup.receipt)
    gone = int(reset["discarded"]["events"])
    desk.check("cleared", 0 < gone <= backup.events, f"{gone} of {backup.events} exported events were discarded")
    desk.restart()

    half = desk.admin.post("replay", backup.half())
    whole = desk.admin.post("replay", backup.content)
    accepted = half["accepted"] + whole["accepted"]
    desk.check("replayed", accepted == gone, f"{accepted} events were accepted, {gone} had been discarded")
    desk.check("complete", bool(whole["complete"]), "the replay saw all of the backup, as its receipt says")
    again = desk.admin.post("replay", backup.content)
    desk.check(
        "idempotent",
        again["accepted"] == 0 and again["duplicate"] == backup.events,
        f"a second replay accepted {again['accepted']} and knew {again['duplicate']} of {backup.events}",
    )
