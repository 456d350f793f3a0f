"""Anomalies on the time axis: a row a check, a mark a range of events; a click opens everything known of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from bokeh.models import ColumnDataSource, FixedTicker, HoverTool, Range1d, TapTool

from reports.frame import Frame
from reports.lane import Lane
from reports.page import Anomaly
from reports.palette import light
from reports.verdict import Verdict

SOURCE = "anomaly_marks"
"""The name of the source whose column `number` says which anomaly of the page a mark is."""

ROW = 22
_ROLES = {Verdict.FAIL: "fail", Verdict.INCONCLUSIVE: "inconclusive", Verdict.PASS: "pass"}


def anomalies_lane(frame: Frame, anomalies: Sequence[Anomaly]) -> Lane:
    """Draw the anomalies whose time is known: when missing events were acknowledged, when others were committed."""
    title, hint = (
        "Anomalies",
        "when the events were acknowledged (missing ones) or committed; click a mark for all about it",
    )
    placed = [(number, anomaly) for number, anomaly in enumerate(anomalies) if anomaly.at_s is not None]
    if not placed:
        missing = (
            "no anomaly has a place in time; the list is below" if anomalies else "no check has an example to show"
        )
        return Lane("anomalies", title, hint, 0, missing=missing)
    checks = list(dict.fromkeys(anomaly.check for _, anomaly in placed))
    plot = frame.bare("anomalies", 16 + ROW * len(checks), Range1d(-len(checks) - 0.1, 0.1))
    plot.ygrid.grid_line_color = None
    plot.yaxis.ticker = FixedTicker(ticks=[])
    frame.shade(plot)
    frame.name_rows(plot, checks)
    _add_marks(plot, placed, checks)
    return Lane("anomalies", title, hint, plot.height, figure=plot)


def _add_marks(plot: Any, placed: list[tuple[int, Anomaly]], checks: list[str]) -> None:
    source = ColumnDataSource({
        "t": np.array([(anomaly.at_s or 0.0) * 1000 for _, anomaly in placed]),
        "y": np.array([-checks.index(anomaly.check) - 0.5 for _, anomaly in placed]),
        "number": [number for number, _ in placed],
        "said": [anomaly.told for _, anomaly in placed],
        "color": [light(_ROLES[anomaly.verdict]) for _, anomaly in placed],
    }, name=SOURCE)  # fmt: skip
    marks = plot.scatter(
        "t", "y", source=source, marker="diamond", size=13, fill_color="color", line_color="color", fill_alpha=0.6,
        nonselection_fill_alpha=0.6,
    )  # fmt: skip
    plot.add_tools(HoverTool(renderers=[marks], tooltips=[("", "@said")]), TapTool(renderers=[marks]))
