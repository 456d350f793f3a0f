"""Reset the buffer, and account for what was lost to the event.

1. Keep a copy: GET /admin/export. (Whoever has none confirms the loss instead: {"confirm": "discard N events"}.)
2. End the traffic, so that the account is closed; export and reset under the receipt of that export.
3. Flush what a reset leaves: a flush that was sealed is never discarded.
4. Compare: acknowledged events that the table does not show are as many as the reset says it discarded.
5. Replay the copy, so that the loss of the exercise is no loss of data.

The verdict of the run says whether every acknowledged event is in the table exactly once after the replay.
"""

from __future__ import annotations

from chaos.drills.desk import Desk, read_backup


def perform(desk: Desk) -> None:
    """Do it."""
    desk.wait_for_events(200)
    desk.end_traffic()
    backup = read_backup(desk.admin.get("export"))
    reset = desk.admin.post("reset", backup.receipt)
    gone = int(reset["discarded"]["events"])
    desk.check("discarded", gone > 0, f"{gone} events were discarded, {reset['kept_events']} still wait")
    desk.check("counted", int(desk.admin.read("buffer")["discarded_events"]) == gone, f"the collector counts {gone}")

    desk.admin.post("flush")
    exact = desk.wait(lambda: desk.acked() - desk.visible() == gone, 30.0)
    missing = desk.acked() - desk.visible()
    desk.check("accounted", exact, f"{missing} acknowledged events are not in the table, {gone} were discarded")

    replay = desk.admin.post("replay", backup.content)
    desk.check("brought back", replay["accepted"] == gone, f"{replay['accepted']} of {gone} events were replayed")
