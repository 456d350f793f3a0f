"""Bring the rows of a lost data file back from the collector's export.

1. Let no client through for a moment, so that the export holds all that is flushed next: GET /admin/export, with number and
   SHA-256 in its receipt.
2. POST /admin/flush: what was exported is in data files now. Let clients through again.
3. A data file of that flush is lost, and the doctor names it: `icequake doctor`. (Detected.)
4. `icequake repair --export FILE`: the events of its partition that the table lacks are taken from the export; they must be exactly
   as many as the file had. None is given up. (Mitigated, once the doctor finds nothing critical.)
5. Events are accepted; after a flush every event that was acknowledged before is in the table. (Recovered.)

The verdict of the run says whether every acknowledged event is in the table exactly once, with its content.
"""

from __future__ import annotations

from chaos.drills.desk import Desk, DrillFailed, read_backup

DAMAGE = "data-file-deleted"
RECIPE = "append-from-export"
DETECT_S = 30.0


def perform(desk: Desk) -> None:
    """Do it."""
    desk.wait_for_events(200)
    with desk.fault("ingest-down", {}):
        backup = read_backup(desk.admin.get("export"))
        flushes = desk.admin.post("flush")["flushes"]
    landed = sum(int(one["events"]) for one in flushes if one["outcome"] == "committed")
    desk.check("flushed", 0 < landed <= backup.events, f"{landed} of {backup.events} exported events were flushed")
    with desk.fault(DAMAGE, {"newest": True}):
        _restore(desk, backup.content)
        restored_s = desk.clock()
        desk.accepts()
        desk.admin.post("flush")
        if desk.all_there("all back", restored_s):
            desk.reached("recovered", "every event that was acknowledged before is in the table")


def _restore(desk: Desk, export: bytes) -> None:
    found: list[str] = []

    def noticed() -> bool:
        found[:] = desk.table.critical()
        return bool(found)

    if not desk.wait(noticed, DETECT_S):
        raise DrillFailed(f"the doctor found nothing critical within {DETECT_S:g} s: there was nothing to restore.")
    desk.reached("detected", found[0])
    step = desk.table.mend(accept_loss=False, export=export)
    said = f"{step.recipe or 'nothing'} was done; not mended: {'; '.join(step.left) or 'nothing'}"
    desk.check("restored", step.recipe == RECIPE and not step.rows_lost and not step.left, said)
    left = desk.table.critical()
    desk.check("sound", not left, "; ".join(left[:3]) or "the doctor finds nothing critical")
    if not left:
        desk.reached("mitigated", "the table is sound again")
