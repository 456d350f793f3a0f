"""The index of many runs, as one page that asks the network for nothing: what needs a person first, then trends, then every run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bokeh.resources import Resources
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from reports.embed import asset, packed, script_hash
from reports.frame import document_json
from reports.history.charts import drift_chart
from reports.history.entry import FIGURES, Entry, Figure
from reports.history.trend import Drift, drift_of, integrity
from reports.history.wording import change_text, duration_text, figure_text, when
from reports.palette import css_variables, dark_twins
from reports.verdict import Verdict
from reports.visible import visible

RUNS_SHOWN = 500


@dataclass(frozen=True)
class Trend:
    """One figure of one kind of run, with the key of its chart."""

    key: str
    kind: tuple[str, str, str]
    drift: Drift
    nights: list[Entry]


def trends_of(history: Sequence[Entry], pins: dict[str, list[Entry]] | None = None) -> list[Trend]:
    """Return every figure that was measured at least twice in runs of one kind; regressions first.

    Runs that proved nothing (INCONCLUSIVE) have no figures to go by, and how fast a target is that has to fail is of no interest.
    """
    kinds: dict[tuple[str, str, str], list[Entry]] = {}
    for entry in history:
        if entry.verdict in (Verdict.PASS, Verdict.FAIL) and entry.expect is not Verdict.FAIL:
            kinds.setdefault(entry.kind, []).append(entry)
    measured = [
        (kind, figure, found)
        for kind, nights in kinds.items()
        for figure in FIGURES
        if len(found := [entry for entry in nights if figure.name in entry.figures]) >= 2
    ]
    trends = [
        Trend(f"t{number}", kind, _drift(kind, figure, found, pins or {}, len(measured)), found)
        for number, (kind, figure, found) in enumerate(measured)
    ]
    return sorted(trends, key=lambda trend: not trend.drift.worse)


def _drift(
    kind: tuple[str, str, str], figure: Figure, nights: list[Entry], pins: dict[str, list[Entry]], figures: int
) -> Drift:
    return drift_of(figure, nights, pinned=pins.get("/".join(kind), ()), figures=figures)


def history_page(history: Sequence[Entry], trends: Sequence[Trend], title: str) -> str:
    """Lay out the page; runs newest first, at most `RUNS_SHOWN`."""
    library = Resources(mode="inline", components=["bokeh"], minified=True).js_raw[0]
    starter = asset("history.js")
    document, figures = document_json({trend.key: drift_chart(trend.drift, trend.nights) for trend in trends})
    payload = json.dumps({"document": document, "figures": figures, "twins": dark_twins()}, separators=(",", ":"))
    environment = Environment(
        loader=PackageLoader("reports", "."), autoescape=select_autoescape(enabled_extensions=("html.j2",)),
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        finalize=lambda value: visible(value) if type(value) is str else value,
    )  # fmt: skip
    environment.globals.update(change_text=change_text, figure_text=figure_text, when=when, duration_text=duration_text)
    return environment.get_template("history.html.j2").render(
        title=title, runs=list(reversed(history))[:RUNS_SHOWN], more=max(0, len(history) - RUNS_SHOWN), trends=trends,
        broken=integrity(history)[-10:], style=asset("report.css"), light=css_variables(dark=False), dark=css_variables(dark=True),
        library=packed(library), charts=packed(payload), starter=starter, has_report=_has_report,
        script_hashes=" ".join(f"'sha256-{script_hash(text)}'" for text in (starter, library)),
    )  # fmt: skip


def _has_report(entry: Entry) -> bool:
    return (entry.root / "report.html").exists()


def write_page(path: Path, history: Sequence[Entry], trends: Sequence[Trend], title: str) -> None:
    """Write the page next to the runs it links to."""
    path.write_text(history_page(history, trends, title), encoding="utf-8")


def as_rows(trends: Sequence[Trend]) -> list[dict[str, Any]]:
    """Return trends as plain JSON."""
    return [
        {
            "scenario": trend.kind[0], "target": trend.kind[1], "environment": trend.kind[2], "figure": trend.drift.figure.name,
            "nights": len(trend.drift.values), "last": trend.drift.values[-1], "usual": trend.drift.usual, "noise": trend.drift.noise,
            "change": trend.drift.change, "worse": trend.drift.worse, "since": trend.drift.since,
        }
        for trend in trends
    ]  # fmt: skip
