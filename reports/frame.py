"""What all lanes share: the x axis, the cursor, the look of a bare figure and the fault windows behind it; and their JSON."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from bokeh.core.json_encoder import serialize_json
from bokeh.core.properties import value
from bokeh.document import Document
from bokeh.models import BoxZoomTool, ColumnDataSource, CrosshairTool, DatetimeTickFormatter, Label, Range1d, Span
from bokeh.plotting import figure

from reports.palette import light
from reports.story import Story

LEFT, RIGHT = 66, 12
PLAIN_FONT = "11px"
SANS = "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif"
LETTER_ROOM = 0.02
"""Two letters of faults in a lane are at least this share of the run apart."""
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


class Frame:
    """The shared parts of one report's figures."""

    def __init__(self, story: Story) -> None:
        self.story = story
        end_ms = story.clock.end_s * 1000
        self.x_range = Range1d(0, end_ms, bounds=(0, end_ms), min_interval=2_000, name="time")
        self.cursor = Span(
            dimension="height",
            name="cursor",
            line_color=light("cursor"),
            line_width=1,
            line_dash=[3, 3],
            level="overlay",
        )
        faults = story.faults
        self._bands = {
            "effective": _bands([fault.effective for fault in faults if fault.effective]),
            "planned": _bands([fault.planned for fault in faults if fault.planned and not fault.effective]),
        }
        self._letters = _letters(story)

    def bare(self, key: str, height: int, y_range: Any, **more: Any) -> Any:
        """Return an empty figure named *key* with the shared axis and cursor; `more` goes to Bokeh's `figure`."""
        zoom = BoxZoomTool(dimensions="width")
        plot = figure(
            name=key, height=height, sizing_mode="stretch_width", x_range=self.x_range, y_range=y_range,
            tools=[CrosshairTool(dimensions="height", overlay=self.cursor), zoom], toolbar_location=None, active_drag=zoom,
            min_border_left=LEFT, min_border_right=RIGHT, min_border_top=4, min_border_bottom=7, output_backend="canvas",
            background_fill_color=light("card"), border_fill_color=light("card"), outline_line_color=None, lod_threshold=None,
            **more,
        )  # fmt: skip
        plot.grid.grid_line_color = light("grid")
        plot.axis.axis_line_color = light("line")
        plot.axis.major_tick_line_color = None
        plot.axis.minor_tick_line_color = None
        plot.axis.major_label_text_color = light("muted")
        plot.axis.major_label_text_font = SANS
        plot.axis.major_label_text_font_size = PLAIN_FONT
        plot.xaxis.visible = False
        return plot

    def shade(self, plot: Any) -> None:
        """Draw every fault window behind the lane with its letter, dashed where it was only planned."""
        for source, look in (
            (self._bands["effective"], {"fill_alpha": 0.10, "line_alpha": 0.35}),
            (self._bands["planned"], {"fill_alpha": 0.0, "line_alpha": 0.6, "line_dash": [4, 4]}),
        ):
            if source is not None:
                plot.vstrip(
                    "x0",
                    "x1",
                    source=source,
                    fill_color=light("band"),
                    line_color=light("band"),
                    level="underlay",
                    **look,
                )
        if self._letters["t"]:
            plot.text(
                self._letters["t"], plot.y_range.end, self._letters["text"], x_offset=3, y_offset=2, text_baseline="top",
                text_color=light("band"), text_font=value(SANS), text_font_size="10px", text_font_style="bold",
            )  # fmt: skip

    def name_rows(self, plot: Any, labels: Sequence[str]) -> None:
        """Write *labels* at the left edge of rows 0, -1, ... of *plot*, above what is drawn and wherever a zoom goes."""
        for row, text in enumerate(labels):
            plot.add_layout(Label(
                x=4, x_units="screen", y=-row - 0.5, text=text, level="annotation", text_baseline="middle",
                text_color=light("text"), text_font=SANS, text_font_size=PLAIN_FONT,
            ))  # fmt: skip

    def show_time_axis(self, plot: Any) -> None:
        """Show elapsed time below *plot*, which grows by the room that takes."""
        long = self.story.clock.end_s >= 3600
        plot.xaxis.visible = True
        plot.xaxis.formatter = DatetimeTickFormatter(
            **dict.fromkeys(("milliseconds", "seconds", "minsec", "minutes"), "%H:%M:%S" if long else "%M:%S"),
            hourmin="%H:%M", hours="%H:%M", days="day %j", boundary_scaling=False,
        )  # fmt: skip
        plot.height += 22


def _bands(windows: Sequence[tuple[float, float]]) -> ColumnDataSource | None:
    """Return the source of the strips behind all lanes; None when there is none to draw."""
    if not windows:
        return None
    left = np.array([start * 1000 for start, _ in windows])
    right = np.array([max(end, start + 0.05) * 1000 for start, end in windows])
    return ColumnDataSource({"x0": left, "x1": right})


def _letters(story: Story) -> dict[str, list[Any]]:
    """Return where the letters of the faults stand; one that would cover the letter before it is left out."""
    placed: dict[str, list[Any]] = {"t": [], "text": []}
    starts = [
        ((fault.effective or fault.planned or (math.inf, 0))[0], letter(index))
        for index, fault in enumerate(story.faults)
        if fault.effective or fault.planned
    ]
    last = -math.inf
    for start_s, text in sorted(starts):
        if start_s - last >= LETTER_ROOM * story.clock.end_s:
            placed["t"].append(start_s * 1000)
            placed["text"].append(text)
            last = start_s
    return placed


def letter(index: int) -> str:
    """Return the letter that names fault *index* in the lanes and in the list of faults: A to Z, then A1, B1, ..."""
    turn, place = divmod(index, len(_LETTERS))
    return _LETTERS[place] + (str(turn) if turn else "")


def document_json(figures: Mapping[str, Any]) -> tuple[str, dict[str, str]]:
    """Return the Bokeh document of *figures* (by lane key) as JSON, and the id of each figure's model in it.

    Bokeh numbers its models from a counter of the process; here they are numbered from 1, so that equal lanes give equal text.
    """
    document = Document()
    for plot in figures.values():
        document.add_root(plot)
    text = serialize_json(document.to_json(deferred=False))
    known = set(re.findall(r'"id":"(p\d+)"', text))
    names: dict[str, str] = {}

    def renumber(match: re.Match[str]) -> str:
        return f'"{names.setdefault(match[1], f"m{len(names) + 1}")}"' if match[1] in known else match[0]

    text = re.sub(r'"(p\d+)"', renumber, text)
    return text, {key: names[plot.id] for key, plot in figures.items()}
