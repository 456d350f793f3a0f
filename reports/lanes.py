"""The timeline's lanes as Bokeh figures: one shared x axis, one shared cursor, fault windows behind all of them.

A lane that has nothing to show says why instead of drawing an empty frame.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from bokeh.core.properties import value
from bokeh.models import (
    ColumnDataSource,
    FixedTicker,
    NumeralTickFormatter,
    PrintfTickFormatter,
    Range1d,
    Span,
)

from reports.curves import Curve
from reports.frame import PLAIN_FONT, SANS, Frame, letter
from reports.lane import Lane, Line
from reports.palette import light
from reports.span_lanes import actions_lane, alerts_lane
from reports.story import Commit, Fault, Landing, Story

_PLANNED_LANES: tuple[tuple[str, str, str, str, tuple[Line, ...]], ...] = (
    (
        "arrivals",
        "Arrivals",
        "events per second; answers to retries count too",
        "no ledger was recorded",
        (
            Line("offered", "offered", "offered", "rate", dash="4 3"),
            Line("acked", "acked", "acked", "rate", area=True),
            Line("refused", "refused", "refused", "rate"),
            Line("unknown", "unknown", "unknown", "rate"),
        ),
    ),
    (
        "latency",
        "Latency",
        "corrected counts from the instant a request was due; logarithmic",
        "no latency was recorded",
        (
            Line("corrected_p99", "corrected p99", "corrected", "ms", width=1.8),
            Line("corrected_p50", "corrected p50", "typical", "ms"),
            Line("service_p99", "service p99", "service", "ms", dash="2 3"),
        ),
    ),
    (
        "fill",
        "Buffer fill",
        "fullest partition buffer, with the runbook's alerts at 50, 70 and 90 %",
        "the target does not report its fill",
        (Line("fill_ratio", "fill", "fill", "percent", step=True, area=True),),
    ),
    (
        "freshness",
        "Freshness",
        "age of the oldest acknowledged event that is not visible in the table yet",
        "freshness was not measured",
        (Line("freshness_s", "freshness", "freshness", "s"),),
    ),
    (
        "rows",
        "Visible in the table",
        "events acknowledged so far, and those a reader finds; the gap is what the buffer still owes",
        "the table was not watched while traffic ran",
        (
            Line("acked_total", "acked", "acked", "count", step=True),
            Line("visible", "visible", "visible", "count", step=True, area=True),
        ),
    ),
)


def draw_lanes(story: Story, alerts: Sequence[Mapping[str, Any]] = ()) -> list[Lane]:
    """Return the lanes from top to bottom; the last one that is drawn carries the time axis.

    *alerts* are the rules of the verdict's section `alerts`.
    """
    frame = Frame(story)
    lanes = [_events_lane(frame)]
    for key, title, hint, missing, lines in _PLANNED_LANES:
        lanes.append(_curve_lane(frame, key, title, hint, missing, lines))
        if key == "fill":
            lanes.append(_flush_lane(frame))
    lanes += [alerts_lane(frame, alerts), actions_lane(frame)]
    drawn = [lane.figure for lane in lanes if lane.figure is not None]
    if drawn:
        frame.show_time_axis(drawn[-1])
    return lanes


def _curve_lane(frame: Frame, key: str, title: str, hint: str, missing: str, lines: tuple[Line, ...]) -> Lane:
    present = tuple(line for line in lines if not frame.story.curve(line.curve).empty)
    if not present:
        return Lane(key, title, hint, 0, missing=missing)
    curves = [frame.story.curve(line.curve) for line in present]
    plot = _PLOTS[key](frame, key, curves)
    frame.shade(plot)
    for line, curve in zip(present, curves, strict=True):
        _add_line(plot, line, curve, floor=plot.y_range.start)
    return Lane(key, title, hint, plot.height, present, figure=plot)


def _add_line(plot: Any, line: Line, curve: Curve, *, floor: float) -> None:
    source = ColumnDataSource({"t": curve.t_s * 1000, "y": curve.value}, name=line.curve)
    if line.area:
        lower = source.data["y"] * 0 + floor
        source.data["floor"] = lower
        if line.step:
            plot.varea_step("t", "floor", "y", source=source, color=light(line.role), alpha=0.16, step_mode="after")
        else:
            plot.varea("t", "floor", "y", source=source, color=light(line.role), alpha=0.16)
    look = {"source": source, "line_color": light(line.role), "line_width": line.width, "line_dash": line.dash}
    if line.step:
        plot.step("t", "y", mode="after", **look)
    else:
        plot.line("t", "y", line_join="round", **look)
        if len(curve.t_s) <= 2:
            plot.scatter("t", "y", source=source, size=4, color=light(line.role), line_color=None)


def _highest(curves: Iterable[Curve]) -> float:
    return max(
        (float(np.nanmax(c.value)) for c in curves if not c.empty and not np.all(np.isnan(c.value))), default=0.0
    )


def _count_plot(frame: Frame, key: str, curves: list[Curve]) -> Any:
    top = _highest(curves) or 1.0
    plot = frame.bare(key, 150 if key == "arrivals" else 130, Range1d(0, top * 1.08))
    plot.yaxis.ticker.desired_num_ticks = 4
    plot.yaxis.formatter = NumeralTickFormatter(format="0a" if top >= 8 else "0.[0]")
    if 2_000 <= top < 8_000 or top >= 1_000_000:
        plot.yaxis.formatter = NumeralTickFormatter(format="0.[0]a")
    return plot


_LATENCY_TICKS = {
    1: "1 ms", 10: "10 ms", 100: "100 ms", 1_000: "1 s", 10_000: "10 s", 60_000: "1 min", 600_000: "10 min",
}  # fmt: skip


def _latency_plot(frame: Frame, key: str, curves: list[Curve]) -> Any:
    least = min(float(np.nanmin(np.where(c.value > 0, c.value, np.nan))) for c in curves)
    low = min(max(least * 0.7, 0.1), 1.0) if least < 1 else 1.0
    plot = frame.bare(key, 150, Range1d(low, max(_highest(curves) * 1.5, 20.0)), y_axis_type="log")
    plot.yaxis.ticker = FixedTicker(ticks=list(_LATENCY_TICKS), minor_ticks=[])
    plot.ygrid.ticker = plot.yaxis[0].ticker
    plot.yaxis.major_label_overrides = dict(_LATENCY_TICKS)
    return plot


_ALERTS = ((0.5, "muted"), (0.7, "inconclusive"), (0.9, "fail"))
"""The runbook's fill alerts and the colours of their lines."""


def _fill_plot(frame: Frame, key: str, curves: list[Curve]) -> Any:
    plot = frame.bare(key, 130, Range1d(0, max(1.05, _highest(curves) * 1.08)))
    plot.yaxis.ticker = FixedTicker(ticks=[0, 0.5, 0.7, 0.9])
    plot.yaxis.formatter = NumeralTickFormatter(format="0%")
    plot.ygrid.grid_line_color = None
    for level, role in _ALERTS:
        plot.add_layout(
            Span(
                location=level,
                dimension="width",
                line_color=light(role),
                line_dash=[5, 4],
                line_width=1,
                level="underlay",
            )
        )
    return plot


def _seconds_plot(frame: Frame, key: str, curves: list[Curve]) -> Any:
    plot = frame.bare(key, 110, Range1d(0, max(_highest(curves) * 1.08, 1.0)))
    plot.yaxis.ticker.desired_num_ticks = 3
    plot.yaxis.formatter = PrintfTickFormatter(format="%g s")
    return plot


_PLOTS: dict[str, Callable[[Frame, str, list[Curve]], Any]] = {
    "arrivals": _count_plot,
    "rows": _count_plot,
    "latency": _latency_plot,
    "fill": _fill_plot,
    "freshness": _seconds_plot,
}

_LANDINGS = (
    (Landing.COMMITTED, "visible", "circle"),
    (Landing.FAILED, "fail", "x"),
    (Landing.UNDECIDED, "unknown", "diamond"),
)


def _flush_lane(frame: Frame) -> Lane:
    title, hint = "Flushes", "commit requests by the answer the target got"
    commits = frame.story.commits
    if not commits:
        return Lane("flushes", title, hint, 0, missing="no commit request passed the gateway")
    plot = frame.bare("flushes", 100, Range1d(-0.6, len(_LANDINGS) + 0.1))
    plot.yaxis.ticker = FixedTicker(ticks=list(range(len(_LANDINGS))))
    rows = list(reversed(_LANDINGS))
    plot.yaxis.major_label_overrides = {i: _SHORT[landing] for i, (landing, _, _) in enumerate(rows)}
    frame.shade(plot)
    for row, (landing, role, marker) in enumerate(rows):
        _add_marks(plot, row, [c for c in commits if c.landing is landing], light(role), marker)
    return Lane("flushes", title, hint, plot.height, figure=plot)


_SHORT = {Landing.COMMITTED: "ok", Landing.FAILED: "failed", Landing.UNDECIDED: "unclear"}


def _add_marks(plot: Any, row: int, commits: list[Commit], color: str, marker: str) -> None:
    source = ColumnDataSource(
        {"t": np.array([c.t_s * 1000 for c in commits]), "y": np.full(len(commits), float(row)),
         "ms": np.array([c.ms for c in commits])},
        name=f"commits_{_LANDINGS[len(_LANDINGS) - 1 - row][0]}",
    )  # fmt: skip
    plot.scatter(
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


def _events_lane(frame: Frame) -> Lane:
    """Draw phases as a ribbon on top and below it a row for each fault: outlined as planned, filled as effective."""
    faults, phases = frame.story.faults, frame.story.phases
    title, hint = "Phases and faults", "outline: planned; filled: in place"
    if not faults and not phases:
        return Lane("events", title, hint, 0, missing="no timeline was recorded")
    rows = len(faults)
    plot = frame.bare("events", 44 + 22 * rows, Range1d(-rows - 0.1, 1.15))
    plot.ygrid.grid_line_color = None
    plot.yaxis.ticker = FixedTicker(ticks=[-(i + 0.5) for i in range(rows)])
    plot.yaxis.major_label_overrides = {-(i + 0.5): letter(i) for i in range(rows)}
    _add_phases(plot, frame.story)
    for row, fault in enumerate(faults):
        _add_fault(plot, -row - 0.5, fault)
    return Lane("events", title, hint, plot.height, figure=plot)


def _add_phases(plot: Any, story: Story) -> None:
    spans = [span for span in story.phases if span.end_s > span.start_s]
    if not spans:
        return
    source = ColumnDataSource(
        {"left": np.array([s.start_s * 1000 for s in spans]), "right": np.array([s.end_s * 1000 for s in spans])}
    )
    plot.quad(
        "left", "right", top=1.05, bottom=0.25, source=source, fill_color=light("phase"), fill_alpha=0.22,
        line_color=light("card"), line_width=2,
    )  # fmt: skip
    wide = [s for s in spans if s.end_s - s.start_s >= 0.11 * story.clock.end_s]
    plot.text(
        np.array([(s.start_s + s.end_s) * 500 for s in wide]), np.full(len(wide), 0.65), [s.name for s in wide],
        text_color=light("text"), text_font=value(SANS), text_font_size=PLAIN_FONT, text_align="center", text_baseline="middle",
    )  # fmt: skip


def _add_fault(plot: Any, y: float, fault: Fault) -> None:
    for window, look in (
        (fault.effective, {"fill_alpha": 0.55, "line_color": None}),
        (fault.planned, {"fill_alpha": 0.0, "line_color": light("band"), "line_dash": [3, 3]}),
    ):
        if window is not None:
            start, end = window
            plot.quad(
                left=start * 1000, right=max(end, start + 0.15) * 1000, top=y + 0.34, bottom=y - 0.34,
                fill_color=light("band"), **look,
            )  # fmt: skip
