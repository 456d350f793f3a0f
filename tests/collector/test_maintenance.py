"""Which snapshots may go."""

from __future__ import annotations

from collector.config import MaintenanceConfig
from collector.maintenance import SnapshotInfo, expirable

CONFIG = MaintenanceConfig(snapshots_max=4, snapshot_min_age_s=100, manifests_max=10)


def lineage(count: int, *, own: bool = True) -> list[SnapshotInfo]:
    return [SnapshotInfo(number, number * 10.0, own) for number in reversed(range(count))]


def test_nothing_goes_while_there_are_few() -> None:
    """Up to the limit every snapshot stays, however old."""
    assert expirable(lineage(4), [3], CONFIG, 1e9) == []


def test_beyond_the_limit_the_newest_half_of_it_stays() -> None:
    """Expiry makes room for a while, so that it does not run at each flush."""
    assert expirable(lineage(5), [4], CONFIG, 1e9) == [2, 1, 0]


def test_young_foreign_and_referenced_snapshots_stay() -> None:
    """Minimum age, other writers' snapshots, and heads of branches and tags are respected."""
    assert expirable(lineage(5), [4], CONFIG, 105.0) == [0]
    assert expirable(lineage(5, own=False), [4], CONFIG, 1e9) == []
    assert expirable(lineage(5), [4, 1], CONFIG, 1e9) == [2, 0]
