"""Lanes made of spans: which alerts were pending and firing, and what people (and drills) did when."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from bokeh.models import ColumnDataSource, FixedTicker, HoverTool, Range1d

from reports.frame import Frame
from reports.lane import Lane
from reports.palette import light

ROW = 22


def alerts_lane(frame: Frame, rules: Sequence[Mapping[str, Any]]) -> Lane:
    """Draw a row for each alert that crossed its threshold: outlined while pending, filled while firing."""
    title, hint = "Alerts", "outline: pending; filled: firing, on the target's own metrics"
    crossed = [rule for rule in rules if rule.get("crossed_at_s") is not None]
    if not crossed:
        return Lane(
            "alerts",
            title,
            hint,
            0,
            missing="no alert crossed its threshold" if rules else "no alert rule was evaluated",
        )
    plot = _rows(frame, "alerts", [str(rule["alert"]) for rule in crossed])
    for row, rule in enumerate(crossed):
        end_s = frame.story.clock.end_s if rule["cleared_at_s"] is None else rule["cleared_at_s"]
        fired_s = rule["fired_at_s"]
        role = "fail" if rule["severity"] == "page" else "inconclusive"
        _bar(
            plot,
            row,
            rule["crossed_at_s"],
            end_s if fired_s is None else fired_s,
            fill_alpha=0.0,
            line_color=light(role),
            line_dash=[3, 3],
            role=role,
        )
        if fired_s is not None:
            _bar(plot, row, fired_s, end_s, fill_alpha=0.55, line_color=None, role=role)
    return Lane("alerts", title, hint, plot.height, figure=plot)


def actions_lane(frame: Frame) -> Lane:
    """Draw what operators did as marks and drills as bars; what each was is said under the cursor."""
    title, hint = "Operators and drills", "marks: what people did; bars: procedures"
    actions = frame.story.actions
    if not actions:
        return Lane("actions", title, hint, 0, missing="nobody did anything, and no drill was done")
    labels = list(dict.fromkeys(action.kind for action in actions))
    plot = _rows(frame, "actions", labels)
    for row, kind in enumerate(labels):
        mine = [action for action in actions if action.kind == kind]
        for action in mine:
            if action.end_s is not None:
                _bar(plot, row, action.start_s, action.end_s, fill_alpha=0.45, line_color=None, role="corrected")
        source = ColumnDataSource({
            "t": np.array([a.start_s * 1000 for a in mine]), "y": np.full(len(mine), -row - 0.5), "said": [a.text for a in mine]
        })  # fmt: skip
        dots = plot.scatter(
            "t", "y", source=source, size=8, marker="inverted_triangle", fill_color=light("corrected"), line_color=None
        )
        plot.add_tools(HoverTool(renderers=[dots], tooltips=[("", "@said")]))
    return Lane("actions", title, hint, plot.height, figure=plot)


def _rows(frame: Frame, key: str, labels: Sequence[str]) -> Any:
    """Return an empty figure with a row a label, the label written at its left edge, above what is drawn."""
    plot = frame.bare(key, 16 + ROW * len(labels), Range1d(-len(labels) - 0.1, 0.1))
    plot.ygrid.grid_line_color = None
    plot.yaxis.ticker = FixedTicker(ticks=[])
    frame.shade(plot)
    frame.name_rows(plot, labels)
    return plot


def _bar(plot: Any, row: int, start_s: float, end_s: float, *, role: str, **look: Any) -> None:
    plot.quad(
        left=start_s * 1000,
        right=max(end_s, start_s + 0.15) * 1000,
        top=-row - 0.16,
        bottom=-row - 0.84,
        fill_color=light(role),
        **look,
    )
