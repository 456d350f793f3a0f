"""One chart a figure and kind of run: a dot a night, the usual band, and the last two nights marked when they are called."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bokeh.models import BoxAnnotation, DatetimeTickFormatter, HoverTool, Range1d
from bokeh.plotting import figure

from reports.history.entry import Entry
from reports.history.trend import Drift
from reports.palette import light


def drift_chart(drift: Drift, nights: Sequence[Entry]) -> Any:
    """Return the figure; `nights` are those of `drift.values`, in the same order."""
    times = [entry.started_unix_ns / 1e6 for entry in nights]
    plot = figure(
        height=170, sizing_mode="stretch_width", x_axis_type="datetime", y_range=_range(drift), tools="", toolbar_location=None,
        background_fill_color=light("card"), border_fill_color=light("card"), outline_line_color=None, min_border_left=58,
        output_backend="canvas",
    )  # fmt: skip
    _look(plot)
    if drift.usual is not None and drift.noise is not None:
        low, high = drift.usual * (1 - drift.noise), drift.usual * (1 + drift.noise)
        plot.add_layout(
            BoxAnnotation(bottom=low, top=high, fill_color=light("phase"), fill_alpha=0.18, line_color=None)
        )
    colours = [
        light("fail") if drift.worse and index >= len(nights) - 2 else light("corrected")
        for index in range(len(nights))
    ]
    data = {"t": times, "y": list(drift.values), "colour": colours, "run": [entry.run_id for entry in nights]}
    plot.line("t", "y", source=data, line_color=light("typical"), line_width=1)
    dots = plot.scatter("t", "y", source=data, size=7, fill_color="colour", line_color=None)
    plot.add_tools(HoverTool(renderers=[dots], tooltips=[("run", "@run"), ("value", "@y{0.000}")]))
    return plot


def _range(drift: Drift) -> Any:
    low, high = min(drift.values), max(drift.values)
    room = (high - low) * 0.15 or abs(high) * 0.1 or 1.0
    return Range1d(max(0.0, low - room), high + room)


def _look(plot: Any) -> None:
    plot.grid.grid_line_color = light("grid")
    plot.axis.axis_line_color = light("line")
    plot.axis.major_tick_line_color = None
    plot.axis.minor_tick_line_color = None
    plot.axis.major_label_text_color = light("muted")
    plot.xaxis.formatter = DatetimeTickFormatter(days="%d %b", months="%b %Y", hours="%d %b %H:%M", minutes="%H:%M")
