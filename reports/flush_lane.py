"""Commits by the answer the target got, and the snapshots that the table kept of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np
from bokeh.models import ColumnDataSource, FixedTicker, HoverTool, Range1d

from reports.curves import MOST_BUCKETS
from reports.frame import Frame
from reports.lane import Lane
from reports.palette import light
from reports.story import Commit, Landing, Snapshot

_ROWS = ("snapshot", "unclear", "failed", "ok")
"""From the bottom up."""

_LANDINGS = (
    (Landing.COMMITTED, "ok", "visible", "circle"),
    (Landing.FAILED, "failed", "fail", "x"),
    (Landing.UNDECIDED, "unclear", "unknown", "diamond"),
)
_WORDS = {Landing.COMMITTED: "committed", Landing.FAILED: "failed", Landing.UNDECIDED: "unclear to the target"}


class _Timed(Protocol):
    @property
    def t_s(self) -> float: ...


T = TypeVar("T", bound=_Timed)


def flush_lane(frame: Frame) -> Lane:
    """Draw a mark for each commit request, and one for each snapshot; at most one of a kind in each bucket of the axis."""
    title, hint = "Flushes", "commit requests by the answer the target got, and the snapshots the table has"
    commits, snapshots = frame.story.commits, frame.story.snapshots
    if not commits and not snapshots:
        return Lane("flushes", title, hint, 0, missing="no commit request passed the gateway, and no snapshot was read")
    plot = frame.bare("flushes", 118, Range1d(-0.6, len(_ROWS) + 0.1))
    plot.yaxis.ticker = FixedTicker(ticks=list(range(len(_ROWS))))
    plot.yaxis.major_label_overrides = dict(enumerate(_ROWS))
    frame.shade(plot)
    for landing, row, role, marker in _LANDINGS:
        mine = thinned([c for c in commits if c.landing is landing], frame.story.clock.end_s)
        said = [commit_told(commit) for commit in mine]
        _add_marks(plot, f"commits_{landing}", row, mine, said, color=light(role), marker=marker)
    kept = thinned(snapshots, frame.story.clock.end_s)
    said = [snapshot_told(snapshot) for snapshot in kept]
    _add_marks(plot, "snapshots", "snapshot", kept, said, color=light("corrected"), marker="square")
    return Lane("flushes", title, hint, plot.height, figure=plot)


def commit_told(commit: Commit) -> str:
    """Say what became of a commit request."""
    return f"commit {_WORDS[commit.landing]} after {commit.ms:,.0f} ms"


def snapshot_told(snapshot: Snapshot) -> str:
    """Name a snapshot of the table."""
    return f"snapshot {snapshot.id} ({snapshot.operation})"


def thinned(marks: Iterable[T], end_s: float) -> list[T]:
    """Return all marks, or the first of each bucket of the axis where there are more than a screen can show."""
    every = sorted(marks, key=lambda mark: mark.t_s)
    if len(every) <= MOST_BUCKETS:
        return every
    width_s = end_s / MOST_BUCKETS
    return list({int(mark.t_s / width_s): mark for mark in reversed(every)}.values())[::-1]


def _add_marks(
    plot: Any, name: str, row: str, marks: Sequence[_Timed], said: list[str], *, color: str, marker: str
) -> None:
    y = np.full(len(marks), float(_ROWS.index(row)))
    source = ColumnDataSource({"t": np.array([mark.t_s * 1000 for mark in marks]), "y": y, "said": said}, name=name)
    drawn = plot.scatter(
        "t",
        "y",
        source=source,
        marker=marker,
        size=8,
        fill_color=color,
        line_color=color,
        fill_alpha=0.55,
        line_width=1.5,
    )
    plot.add_tools(HoverTool(renderers=[drawn], tooltips=[("", "@said")]))
