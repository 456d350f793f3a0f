"""Crash points: armed by a specification, counted always."""

from __future__ import annotations

import errno

import pytest

from collector.crashpoints import POINTS, CrashPoints
from collector.errors import ConfigError


def test_an_unarmed_point_only_counts() -> None:
    """Passing a point costs nothing but a count."""
    crash = CrashPoints()
    crash("put.before")
    crash("put.before")
    assert crash.hits["put.before"] == 2


def test_actions_apply_at_their_hit() -> None:
    """``@N`` acts at the N-th hit only; without it at each; several points are separated by semicolons."""
    killed: list[str] = []
    crash = CrashPoints.parse("commit.after_response=kill@2; put.before=raise:ENOSPC;clear.after=sleep:0")
    crash.kill = killed.append
    crash("commit.after_response")
    assert killed == []
    crash("commit.after_response")
    crash("commit.after_response")
    assert killed == ["commit.after_response"]
    crash("clear.after")
    with pytest.raises(OSError, match=r"injected at put\.before") as failed:
        crash("put.before")
    assert failed.value.errno == errno.ENOSPC


@pytest.mark.parametrize(
    "text", ["nonsense", "put.before", "put.before=explode", "put.before=kill@0", "put.before=raise:EFOO", "x=kill"]
)
def test_a_bad_specification_is_refused(text: str) -> None:
    """A typing error must not make a test that tests nothing."""
    with pytest.raises(ConfigError, match="COLLECTOR_FAULTS"):
        CrashPoints.parse(text)


def test_a_point_that_does_not_exist_is_a_programming_error() -> None:
    """Every point is listed with the durable state it stands for."""
    with pytest.raises(KeyError):
        CrashPoints()("no.such.point")
    assert all(POINTS.values())
