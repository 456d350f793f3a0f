"""One lane of the timeline, drawn: where its figure goes, its words, and the legend of its lines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Line:
    """One curve of a lane.

    Attributes:
        curve: Name in `Story.curves`.
        unit: How the value under the cursor is written: `count`, `rate`, `ms`, `s` or `percent`.
        step: Hold each value until the next one (for totals and gauges) instead of joining them.
        area: Fill below the line.
    """

    curve: str
    label: str
    role: str
    unit: str
    dash: str = "solid"
    width: float = 1.6
    step: bool = False
    area: bool = False


@dataclass(frozen=True)
class Lane:
    """One drawn lane as the page needs it: where its figure goes, its words, and the legend of its lines.

    Attributes:
        missing: Why there is no figure; None when there is one.
        figure: The Bokeh figure, or None.
    """

    key: str
    title: str
    hint: str
    height: int
    lines: tuple[Line, ...] = ()
    missing: str | None = None
    figure: Any = None
