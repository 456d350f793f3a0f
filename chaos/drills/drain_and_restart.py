"""Drain the collector and restart it.

1. SIGTERM. The exit status is 0 when all was flushed, 3 when events are left on disk for the next start.
2. After status 0 every acknowledged event is in the table.
3. Start it. After status 3 it holds every acknowledged event that the table lacks (GET /admin/export shows which); flush, and
   none is missing any more.
4. Events are accepted again.
"""

from __future__ import annotations

from chaos.drills.desk import Desk, read_backup

DRAINED, LEFT_ON_DISK = 0, 3


def perform(desk: Desk) -> None:
    """Do it."""
    before = desk.wait_for_events(200)
    status = desk.stop()
    stopped_s = desk.clock()
    ended = f"it ended with status {status}, {before} were buffered before"
    desk.check("ended", status in (DRAINED, LEFT_ON_DISK), ended)
    missing = desk.missing(stopped_s)
    if status == DRAINED:
        desk.check("drained", not missing, f"{len(missing)} acknowledged events are not in the table")
    desk.start({})
    if status != DRAINED:
        held = read_backup(desk.admin.get("export")).keys()
        missing = desk.missing(stopped_s)  # it may have flushed some of them meanwhile
        lost = f"{len(missing)} acknowledged events are missing, {len(missing - held)} of them are not on its disk"
        desk.check("left on disk", missing <= held, lost)
        desk.admin.post("flush")
        desk.all_there("came back", stopped_s)
    desk.accepts()
