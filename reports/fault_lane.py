"""The first lane: phases as a ribbon, and below it the faults, each a bar of its own.

A dozen faults have a row each. More of them share rows where they do not overlap, and many rows get lower, so that a hundred
faults in turn take no more room than a dozen.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from bokeh.core.properties import value
from bokeh.models import ColumnDataSource, FixedTicker, Range1d

from reports.frame import PLAIN_FONT, SANS, Frame, letter
from reports.lane import Lane
from reports.palette import light
from reports.story import Fault, Story

ROW = 22
OWN_ROWS = 12
"""So many faults have a row each, and so many rows have full height."""

_GAP = 0.012
"""Faults in one row are at least this share of the run apart, so that two bars never look like one."""

_LOWEST_ROW = 5


def faults_lane(frame: Frame) -> Lane:
    """Draw phases and faults: outlined as planned, filled as effective."""
    faults, phases = frame.story.faults, frame.story.phases
    title, hint = "Phases and faults", "outline: planned; filled: in place"
    if not faults and not phases:
        return Lane("events", title, hint, 0, missing="no timeline was recorded")
    rows = rows_of(faults, frame.story.clock.end_s)
    most = max(rows, default=-1) + 1
    height = ROW if most <= OWN_ROWS else max(_LOWEST_ROW, ROW * OWN_ROWS // most)
    ribbon = 22 / height
    plot = frame.bare("events", 22 + 22 + height * most, Range1d(-most - 0.1, 0.15 + ribbon))
    plot.ygrid.grid_line_color = None
    own = len(faults) <= OWN_ROWS
    plot.yaxis.ticker = FixedTicker(ticks=[-(i + 0.5) for i in range(len(faults))] if own else [])
    plot.yaxis.major_label_overrides = {-(i + 0.5): letter(i) for i in range(len(faults))} if own else {}
    _add_phases(plot, frame.story, 0.15, 0.15 + 0.8 * ribbon)
    _add_bars(plot, faults, rows)
    return Lane("events", title, hint, plot.height, figure=plot)


def rows_of(faults: Sequence[Fault], end_s: float) -> list[int]:
    """Return the row of each fault, from 0: its own number for a dozen, else the first row that is free by then."""
    if len(faults) <= OWN_ROWS:
        return list(range(len(faults)))
    rows = [0] * len(faults)
    free_from: list[float] = []
    spans = [_span(fault) for fault in faults]
    for index in sorted(range(len(faults)), key=lambda i: spans[i]):
        start, end = spans[index]
        row = next((r for r, free in enumerate(free_from) if free <= start), len(free_from))
        free_from[row : row + 1] = [end + _GAP * end_s]
        rows[index] = row
    return rows


def _span(fault: Fault) -> tuple[float, float]:
    windows = [window for window in (fault.planned, fault.effective) if window is not None]
    return (min(w[0] for w in windows), max(w[1] for w in windows)) if windows else (0.0, 0.0)


def _add_phases(plot: Any, story: Story, bottom: float, top: float) -> None:
    spans = [span for span in story.phases if span.end_s > span.start_s]
    if not spans:
        return
    source = ColumnDataSource(
        {"left": np.array([s.start_s * 1000 for s in spans]), "right": np.array([s.end_s * 1000 for s in spans])}
    )
    plot.quad(
        "left", "right", top=top, bottom=bottom, source=source, fill_color=light("phase"), fill_alpha=0.22,
        line_color=light("card"), line_width=2,
    )  # fmt: skip
    wide = [s for s in spans if s.end_s - s.start_s >= 0.11 * story.clock.end_s]
    plot.text(
        np.array([(s.start_s + s.end_s) * 500 for s in wide]), np.full(len(wide), (bottom + top) / 2), [s.name for s in wide],
        text_color=light("text"), text_font=value(SANS), text_font_size=PLAIN_FONT, text_align="center", text_baseline="middle",
    )  # fmt: skip


def _add_bars(plot: Any, faults: Sequence[Fault], rows: Sequence[int]) -> None:
    for name, look in (
        ("effective", {"fill_alpha": 0.55, "line_color": None}),
        ("planned", {"fill_alpha": 0.0, "line_color": light("band"), "line_dash": [3, 3]}),
    ):
        drawn = [(w, -row - 0.5) for f, row in zip(faults, rows, strict=True) if (w := getattr(f, name)) is not None]
        if not drawn:
            continue
        middle = np.array([y for _, y in drawn])
        left = np.array([w[0] * 1000 for w, _ in drawn])
        right = np.array([max(w[1], w[0] + 0.15) * 1000 for w, _ in drawn])
        source = ColumnDataSource({"left": left, "right": right, "top": middle + 0.34, "bottom": middle - 0.34})
        plot.quad("left", "right", "top", "bottom", source=source, fill_color=light("band"), **look)
