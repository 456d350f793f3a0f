"""Which snapshots of the collector may be forgotten.

Every flush makes a snapshot, and each one makes the table's metadata larger and each commit slower. Expiry removes
snapshots from the metadata only; no file is deleted.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from collector.config import MaintenanceConfig


@dataclass(frozen=True, slots=True)
class SnapshotInfo:
    """What expiry needs to know of a snapshot: ``own`` is one that a collector's flush made."""

    id: int
    timestamp_s: float
    own: bool


def expirable(
    ancestors: Iterable[SnapshotInfo], referenced: Iterable[int], config: MaintenanceConfig, now: float
) -> list[int]:
    """Return the ids to expire: none until main has more than ``snapshots_max``, then down to half of that.

    Args:
        ancestors: Snapshots of main, newest first.
        referenced: Heads of branches and tags; they stay.
        config: The bounds; a snapshot younger than ``snapshot_min_age_s`` stays in any case.
        now: Unix seconds.

    Snapshots that somebody else made stay, and so do those outside of main. The newest half stays so that readers
    and a flush that is being settled find what they look for; the watermark outlives them in any case.
    """
    snapshots = list(ancestors)
    if len(snapshots) <= config.snapshots_max:
        return []
    protected = set(referenced)
    return [
        snapshot.id
        for snapshot in snapshots[max(1, config.snapshots_max // 2) :]
        if snapshot.own and snapshot.id not in protected and now - snapshot.timestamp_s >= config.snapshot_min_age_s
    ]
