"""Colours by role. The page's style sheet and the charts both take them from here, so that light and dark stay one palette.

Charts are drawn with the light colours; `report.js` swaps each for its dark twin when the reader prefers dark. So no two roles
share a light colour, and none is a default of Bokeh's (a property at its default is left out of the figures).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Ink:
    """One role's colour on a light and on a dark page, as #rrggbb."""

    light: str
    dark: str


PALETTE: dict[str, Ink] = {
    "page": Ink("#f6f7f8", "#111417"),
    "card": Ink("#fefefe", "#191d21"),
    "line": Ink("#dfe3e7", "#2d3339"),
    "grid": Ink("#eaedf0", "#252a30"),
    "text": Ink("#16191d", "#e7eaed"),
    "muted": Ink("#5b6570", "#9aa5b0"),
    "link": Ink("#0b5cad", "#7db8f5"),
    "pass": Ink("#1a7340", "#5cc98a"),
    "fail": Ink("#b3261e", "#ff8a80"),
    "inconclusive": Ink("#8a5a00", "#f0b84a"),
    "offered": Ink("#7f8a97", "#7d8894"),
    "acked": Ink("#1b7f79", "#4fc4bb"),
    "refused": Ink("#c77700", "#f2a33c"),
    "unknown": Ink("#8e44ad", "#c792e0"),
    "corrected": Ink("#2563c9", "#6fa8ff"),
    "typical": Ink("#5f8fdc", "#3f6fb8"),
    "service": Ink("#747d88", "#a3adb8"),
    "fill": Ink("#2f6f9f", "#62aee2"),
    "partition_1": Ink("#0f7f9c", "#4fc6e0"),
    "partition_2": Ink("#a8477f", "#e58bc0"),
    "partition_3": Ink("#5c7d1e", "#a9cc62"),
    "partition_4": Ink("#7a5fc0", "#b3a0f0"),
    "partition_5": Ink("#a4582c", "#e39a70"),
    "sent": Ink("#4a6076", "#a9bccf"),
    "freshness": Ink("#9a5b13", "#d9a05b"),
    "visible": Ink("#15803c", "#54c07a"),
    "band": Ink("#c2410c", "#ff9a5c"),
    "phase": Ink("#94a3b3", "#566270"),
    "cursor": Ink("#30363d", "#c5ccd3"),
}


def light(role: str) -> str:
    """Return the colour of *role* on a light page."""
    return PALETTE[role].light


def dark_twins() -> dict[str, str]:
    """Map each light colour to its dark twin."""
    return {ink.light: ink.dark for ink in PALETTE.values()}


def css_variables(*, dark: bool) -> str:
    """Return the declarations of all roles as custom properties (`--role: #rrggbb;`)."""
    return " ".join(f"--{role}: {ink.dark if dark else ink.light};" for role, ink in PALETTE.items())
