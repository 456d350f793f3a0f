"""Keep an answer: JSON for machines, Markdown for a pull request, HTML with its charts for people."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Callable
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any

import msgspec
from bokeh.models import HoverTool
from bokeh.plotting import figure
from bokeh.resources import Resources
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from reports.embed import asset, packed, script_hash
from reports.experiment.answer_doc import AnswerDoc, Table
from reports.experiment.answers import Answer, Chart
from reports.frame import document_json
from reports.palette import css_variables, dark_twins, light
from reports.visible import visible

LINES = ("partition_1", "partition_2", "partition_3", "partition_4", "partition_5")
"""Colours of the lines of a chart, in turn."""


def write_answer(answer: Answer, directory: Path, argv: tuple[str, ...]) -> list[Path]:
    """Write the answer into a new directory below *directory*; return the paths. Raises OSError."""
    place = directory / f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{answer.name}"
    place.mkdir(parents=True, exist_ok=True)
    texts: dict[str, Callable[[], str]] = {
        "answer.json": lambda: (
            msgspec.json.format(msgspec.json.encode(document(answer, argv)), indent=2).decode() + "\n"
        ),
        "answer.md": lambda: markdown(answer, argv),
        **{name: partial(str, text) for name, text in answer.files.items()},
        "answer.html": lambda: page(answer, argv),
    }  # the page last: whatever stops it, the figures are kept
    for name, text in texts.items():
        (place / name).write_text(text(), encoding="utf-8")
    return [place / name for name in texts]


def document(answer: Answer, argv: tuple[str, ...]) -> AnswerDoc:
    """Return the answer as `answer.json` has it."""
    return AnswerDoc(
        name=answer.name,
        sentence=answer.sentence,
        exit_code=answer.exit_code,
        argv=list(argv),
        notes=answer.notes,
        data=answer.data,
        outcomes=list(answer.outcomes),
        tables=[Table(grid.title, grid.columns, grid.rows) for grid in answer.grids],
    )


def markdown(answer: Answer, argv: tuple[str, ...]) -> str:
    """Return the answer as Markdown."""
    lines = [f"# {answer.name}: {answer.sentence}", "", *(f"- {note}" for note in answer.notes)]
    for grid in answer.grids:
        lines += ["", f"## {grid.title}", "", f"| {' | '.join(grid.columns)} |", "|" + " --- |" * len(grid.columns)]
        lines += [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in grid.rows]
    return "\n".join([*lines, "", f"`{shlex.join(argv)}`", ""])


def page(answer: Answer, argv: tuple[str, ...]) -> str:
    """Return the answer as one page that asks the network for nothing."""
    library = Resources(mode="inline", components=["bokeh"], minified=True).js_raw[0]
    starter = asset("history.js")
    document, figures = document_json({f"c{index}": _figure(chart) for index, chart in enumerate(answer.charts)})
    payload = json.dumps({"document": document, "figures": figures, "twins": dark_twins()}, separators=(",", ":"))
    environment = Environment(
        loader=PackageLoader("reports", "."), autoescape=select_autoescape(enabled_extensions=("html.j2",)),
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        finalize=lambda value: visible(value) if type(value) is str else value,
    )  # fmt: skip
    return environment.get_template("experiment.html.j2").render(
        answer=answer, command=shlex.join(argv), keys=[f"c{i}" for i in range(len(answer.charts))], style=asset("report.css"),
        light=css_variables(dark=False), dark=css_variables(dark=True), library=packed(library), charts=packed(payload), starter=starter,
        script_hashes=" ".join(f"'sha256-{script_hash(text)}'" for text in (starter, library)),
    )  # fmt: skip


def _figure(chart: Chart) -> Any:
    plot = figure(
        height=320, sizing_mode="stretch_width", tools="", toolbar_location=None, x_axis_label=chart.x, y_axis_label=chart.y,
        background_fill_color=light("card"), border_fill_color=light("card"), outline_line_color=None, output_backend="canvas",
    )  # fmt: skip
    plot.grid.grid_line_color = light("grid")
    plot.axis.axis_line_color = light("line")
    plot.axis.major_label_text_color = light("muted")
    plot.axis.axis_label_text_color = light("muted")
    for name, colour in zip(chart.lines, cycle(LINES)):
        across, up = zip(*chart.lines[name], strict=True) if chart.lines[name] else ((), ())
        plot.line(list(across), list(up), line_color=light(colour), line_width=2, legend_label=name)
    colours = [light("pass") if name in chart.marked else light("corrected") for _, _, name in chart.points]
    data = {
        "x": [p[0] for p in chart.points],
        "y": [p[1] for p in chart.points],
        "run": [p[2] for p in chart.points],
        "colour": colours,
    }
    dots = plot.scatter("x", "y", source=data, size=9, fill_color="colour", line_color=None)
    plot.add_tools(
        HoverTool(renderers=[dots], tooltips=[("run", "@run"), (chart.x, "@x{0,0.0}"), (chart.y, "@y{0,0.0}")])
    )
    if chart.lines:
        plot.legend.background_fill_color, plot.legend.label_text_color = light("card"), light("muted")
        plot.legend.border_line_color = light("line")
    return plot
