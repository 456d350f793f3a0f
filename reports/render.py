"""Write report.html, report.md and junit.xml of a finished run: `python -m reports.render RUN`.

The page is one file that asks the network for nothing: Bokeh's own script is embedded compressed, every script is allowed by its
hash, and every value is escaped. The same run directory gives the same bytes.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import click
from bokeh.resources import Resources

from loadtests.records.errors import MissingRecord, RecordError
from loadtests.records.rundir import RunDir
from reports.embed import asset, packed, script_hash
from reports.errors import ReportError
from reports.frame import LEFT, RIGHT, document_json
from reports.junit import junit_xml
from reports.lane import Lane
from reports.lanes import draw_lanes
from reports.layout import environment
from reports.markdown import markdown_of
from reports.marks import marks_of
from reports.page import Anomaly, Page, page_of
from reports.palette import css_variables, dark_twins
from reports.run_argument import run_argument
from reports.story import Story, read_story
from reports.unusable import usable
from reports.verdict import read_verdict
from reports.visible import visible
from reports.wording import elapsed

BAD_FILES = 254


def render(run: RunDir) -> list[Path]:
    """Write the three files into the run directory, each atomically, and return their paths.

    Raises:
        RecordError: the verdict is missing, or a record cannot be read.
        ReportError: a file cannot be written.
    """
    if not run.verdict.exists():
        raise MissingRecord(f"{run.root} has no verdict yet; `python -m reports.judge {run.root}` makes one.")
    doc = read_verdict(run.verdict)
    story = read_story(run)
    page = page_of(run, doc, story)
    texts = {
        run.report_html: html_of(page, story),
        run.report_md: markdown_of(page),
        run.junit: junit_xml(doc),
    }
    for path, text in texts.items():
        _replace(path, text)
    return list(texts)


def _replace(path: Path, text: str) -> None:
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.write_text(text, encoding="utf-8")
        os.replace(draft, path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise ReportError(f"{path} cannot be written: {error.strerror}.") from error


def html_of(page: Page, story: Story) -> str:
    """Lay out the page."""
    made = environment()
    lanes = draw_lanes(story, _rules(page), page.anomalies)
    library = Resources(mode="inline", components=["bokeh"], minified=True).js_raw[0]
    starter = asset("report.js")
    return made.get_template("report.html.j2").render(
        page=page,
        lanes=lanes,
        style=asset("report.css"),
        light=css_variables(dark=False),
        dark=css_variables(dark=True),
        starter=starter,
        library=packed(library),
        charts=packed(_charts(lanes, page, story)),
        script_hashes=" ".join(f"'sha256-{script_hash(text)}'" for text in (starter, library)),
        length=elapsed(story.clock.end_s),
        unproven=sum(not fault.proven for fault in page.faults),
    )


def _rules(page: Page) -> Sequence[Mapping[str, Any]]:
    found: Sequence[Mapping[str, Any]] = page.doc.sections.get("alerts", {}).get("rules", ())
    return found


def _charts(lanes: Sequence[Lane], page: Page, story: Story) -> str:
    """Return what `report.js` draws from: the figures, where they go, their colours by night, and the x axis in words."""
    document, figures = document_json({lane.key: lane.figure for lane in lanes if lane.figure is not None})
    payload: dict[str, Any] = {
        "document": document,
        "figures": figures,
        "twins": dark_twins(),
        "borders": [LEFT, RIGHT],
        "zero_unix_ms": story.clock.zero_unix_ns // 1_000_000,
        "nearest_ms": story.clock.width_s * 2_500,
        "phases": [[span.name, span.start_s * 1000, span.end_s * 1000] for span in story.phases],
        "faults": [
            [f"{row.letter} {row.name}", fault.effective[0] * 1000, fault.effective[1] * 1000]
            for row, fault in zip(page.faults, story.faults, strict=True)
            if fault.effective is not None
        ],
        "marks": [[m.t_s * 1000, visible(m.text), m.stop] for m in marks_of(story, page.anomalies, _rules(page))],
        "anomalies": [_for_the_reader(anomaly) for anomaly in page.anomalies],
    }
    return json.dumps(payload, ensure_ascii=True, separators=(",", ":"))


def _for_the_reader(anomaly: Anomaly) -> dict[str, Any]:
    """Return what the page shows beside the timeline once an anomaly is chosen; times in milliseconds."""
    known = [
        ("Events", anomaly.events),
        ("Where", anomaly.where),
        ("Cause", anomaly.cause),
        ("During", f"{anomaly.letter} {anomaly.during}".strip()),
        ("Example id", anomaly.example),
        *((fact.label, fact.value) for fact in anomaly.details),
    ]
    return {
        "at": None if anomaly.at_s is None else anomaly.at_s * 1000,
        "window": None if anomaly.window is None else [t * 1000 for t in anomaly.window],
        "told": visible(anomaly.told),
        "facts": [[label, visible(text)] for label, text in known if text],
    }


@click.command()
@run_argument
def main(run: str, runs: Path) -> None:
    """Write report.html, report.md and junit.xml of RUN: a run directory, or `last`, a name or a run id below --runs."""
    try:
        with usable(run):
            written = render(RunDir.find(runs, run))
        click.echo("\n".join(map(str, written)))
    except ReportError as error:
        _fail(error, error.exit_code)
    except RecordError as error:
        _fail(error, BAD_FILES)


def _fail(error: Exception, exit_code: int) -> NoReturn:
    click.echo(f"render: {error}", err=True)
    sys.exit(exit_code)


if __name__ == "__main__":
    main()
