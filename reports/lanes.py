"""The timeline's lanes as Bokeh figures: one shared x axis, one shared cursor, fault windows behind all of them.

A lane that has nothing to show says why instead of drawing an empty frame.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from bokeh.models import (
    ColumnDataSource,
    FixedTicker,
    NumeralTickFormatter,
    PrintfTickFormatter,
    Range1d,
    Span,
)

from reports.anomaly_lane import anomalies_lane
from reports.curves import Curve
from reports.fault_lane import faults_lane
from reports.flush_lane import flush_lane
from reports.frame import Frame
from reports.lane import Lane, Line
from reports.page import Anomaly
from reports.palette import light
from reports.span_lanes import actions_lane, alerts_lane
from reports.story import Story

_PLANNED_LANES: tuple[tuple[str, str, str, str, tuple[Line, ...]], ...] = (
    (
        "arrivals",
        "Arrivals",
        "events per second; answers to retries count too",
        "no ledger was recorded",
        (
            Line("offered", "offered", "offered", "rate", dash="4 3"),
            Line("sent", "sent", "sent", "rate", dash="1 3"),
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


def draw_lanes(story: Story, alerts: Sequence[Mapping[str, Any]] = (), anomalies: Sequence[Anomaly] = ()) -> list[Lane]:
    """Return the lanes from top to bottom; the last one that is drawn carries the time axis.

    *alerts* are the rules of the verdict's section `alerts`, *anomalies* those of the page.
    """
    frame = Frame(story)
    lanes = [faults_lane(frame)]
    for key, title, hint, missing, lines in _PLANNED_LANES:
        if key == "fill":
            lines, hint = (*lines, *_partition_lines(story)), _fill_hint(story, hint)
        lanes.append(_curve_lane(frame, key, title, hint, missing, lines))
        if key == "fill":
            lanes.append(flush_lane(frame))
    lanes += [anomalies_lane(frame, anomalies), alerts_lane(frame, alerts), actions_lane(frame)]
    drawn = [lane.figure for lane in lanes if lane.figure is not None]
    if drawn:
        frame.show_time_axis(drawn[-1])
    return lanes


def _curve_lane(frame: Frame, key: str, title: str, hint: str, missing: str, lines: tuple[Line, ...]) -> Lane:
    present = tuple(line for line in lines if not _curve(frame, line).empty)
    if not present:
        return Lane(key, title, hint, 0, missing=missing)
    curves = [_curve(frame, line) for line in present]
    plot = _PLOTS[key](frame, key, curves)
    frame.shade(plot)
    for line, curve in zip(present, curves, strict=True):
        _add_line(plot, line, curve, floor=plot.y_range.start)
    return Lane(key, title, hint, plot.height, present, figure=plot)


_PARTITION = "partition "
"""Begins the name of a curve that is the fill of one partition; its labels follow."""


def _curve(frame: Frame, line: Line) -> Curve:
    label = line.curve.removeprefix(_PARTITION)
    return frame.story.curve(line.curve) if label == line.curve else frame.story.partitions[label]


def _partition_lines(story: Story) -> tuple[Line, ...]:
    return tuple(
        Line(f"{_PARTITION}{label}", label[:60], f"partition_{number}", "percent", width=1.2, step=True)
        for number, label in enumerate(story.partitions, start=1)
    )


def _fill_hint(story: Story, hint: str) -> str:
    if not story.partitions_seen:
        return f"{hint}; this target does not report its partitions one by one"
    if story.partitions_seen == len(story.partitions):
        return f"{hint}; and each partition"
    return f"{hint}; and the {len(story.partitions)} fullest of {story.partitions_seen} partitions"


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
    plot.yaxis.formatter = NumeralTickFormatter(format="0.[0]a")  # 1500 is 1.5k, not 2k beside another 2k
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
