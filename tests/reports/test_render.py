"""The report's files: whole, inert, small, the same every time."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from click.testing import CliRunner

from loadtests.records.rundir import RunDir
from loadtests.records.series import SeriesWriter
from reports.markdown import MOST_CHARACTERS, markdown_code, markdown_of, markdown_text
from reports.page import page_of
from reports.render import main, render
from reports.story import read_story
from reports.verdict import Check, Verdict, read_verdict
from tests.reports.drawn_runs import HOSTILE, bare_run, full_run, pass_doc, verdict_doc

NAMES = ("report.html", "report.md", "junit.xml")
MOST_BYTES = 2_000_000


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    made = full_run(tmp_path_factory.mktemp("runs"))
    render(made)
    return made


@pytest.fixture(scope="module")
def html(run: RunDir) -> str:
    return run.report_html.read_text(encoding="utf-8")


class Elements(HTMLParser):
    """Collects what a browser would see: elements with attributes, and the text of scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[tuple[str | None, str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append((dict(attrs).get("type"), ""))

    def handle_endtag(self, tag: str) -> None:
        self.elements.append((f"/{tag}", {}))

    def handle_data(self, data: str) -> None:
        if self.elements and self.elements[-1][0] == "script" and self.scripts:
            kind, text = self.scripts[-1]
            self.scripts[-1] = (kind, text + data)


def unpacked(html: str, element: str) -> str:
    packed = re.search(rf'id="{element}">([^<]+)<', html)
    assert packed is not None
    return gzip.decompress(base64.b64decode(packed[1])).decode()


def test_the_page_is_one_small_file(run: RunDir) -> None:
    """Fit for a mail."""
    assert run.report_html.stat().st_size < MOST_BYTES


def test_the_page_names_nothing_to_fetch(html: str) -> None:
    """No element has an address but those within the page."""
    for tag, attributes in Elements(html).elements:
        assert not {"src", "srcset", "action", "data", "poster"} & set(attributes), tag
        assert (attributes.get("href") or "#").startswith("#"), tag


def test_only_our_two_scripts_may_run(html: str) -> None:
    """The policy allows the starter and Bokeh by their hashes, and no other source at all."""
    policy = next(a["content"] for t, a in Elements(html).elements if a.get("http-equiv") == "Content-Security-Policy")
    executable = [text for kind, text in Elements(html).scripts if kind is None]
    hashes = {
        base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        for text in (*executable, unpacked(html, "bokeh"))
    }

    assert policy is not None
    assert len(executable) == 1
    assert policy.startswith("default-src 'none'; ")
    assert set(re.findall(r"'sha256-([^']+)'", policy)) == hashes
    assert "unsafe-eval" not in policy
    assert "'unsafe-inline'" not in policy.split("style-src")[0]


def test_a_hostile_id_makes_no_element(html: str) -> None:
    """An id that is markup is shown, not parsed; control characters are shown as escapes."""
    assert not [tag for tag, attributes in Elements(html).elements if tag == "img" or "onerror" in attributes]
    assert "&lt;/script&gt;&lt;img src=x onerror=" in html
    assert "\x1b" not in html
    assert "\u202e" not in html


def test_the_first_screen_is_at_the_top(html: str) -> None:
    """Verdict, summary and every labelled line come before the timeline."""
    top = html.partition('id="timeline"')[0]

    for line in verdict_doc().first_screen[1:]:
        text = re.sub(r"^[A-Z][a-z]+ {2,}", "", line)
        assert text.replace('"', "&#34;").replace("->", "-&gt;") in top


def test_every_check_is_in_the_page_and_in_the_markdown(run: RunDir, html: str) -> None:
    """Nothing the judge said is dropped."""
    markdown = run.report_md.read_text(encoding="utf-8")

    for check in verdict_doc().checks:
        assert f"<code>{check.id}</code>" in html
        assert f"`{check.id}`" in markdown
        assert check.claim in markdown


def test_every_lane_has_a_figure_and_all_share_one_axis(html: str) -> None:
    """Eight lanes, one time range, one cursor."""
    charts = json.loads(unpacked(html, "charts"))
    document = charts["document"]

    assert set(charts["figures"]) == {
        "events", "arrivals", "latency", "fill", "flushes", "freshness", "rows", "anomalies",
    }  # fmt: skip
    assert document.count('"name":"Figure"') == 8
    assert document.count('"name":"time"') == 1
    assert document.count('"name":"cursor"') == 1


def test_the_same_run_gives_the_same_bytes(run: RunDir, tmp_path: Path) -> None:
    """In another process, from another place, with other hash seeds, and after other figures were made."""
    copy = tmp_path / "elsewhere"
    shutil.copytree(run.root, copy)
    for name in NAMES:
        (copy / name).unlink()

    subprocess.run(
        [sys.executable, "-m", "reports.render", str(copy)],
        check=True,
        env={"PYTHONHASHSEED": "3"},
        capture_output=True,
    )
    render(run)

    for name in NAMES:
        assert (copy / name).read_bytes() == (run.root / name).read_bytes(), name


def test_a_run_without_streams_gets_a_report_that_says_so(tmp_path: Path) -> None:
    """Each lane says why it is empty; the verdict's own examples still have their place in time."""
    run = bare_run(tmp_path)
    render(run)
    html = run.report_html.read_text(encoding="utf-8")

    assert html.count("Nothing to draw") == 9
    assert set(json.loads(unpacked(html, "charts"))["figures"]) == {"anomalies"}


def test_a_day_of_samples_stays_small(tmp_path: Path) -> None:
    """A soak's report is no larger than a game day's."""
    run = bare_run(tmp_path, ended_mono_ns=5_000_000_000_000 + 86_400_000_000_000)
    series = SeriesWriter(run.series, "controller", "ab12cd34", part_rows=100_000)
    for second in range(0, 86_400, 2):
        series.add(5_000_000_000_000 + second * 1_000_000_000, "fill_ratio", (second % 600) / 600)
    series.close()

    render(run)

    assert run.report_html.stat().st_size < 700_000


def junit(run: RunDir) -> ET.Element:
    return ET.parse(run.junit).getroot()


_CHILDREN = {
    "testsuites": {"testsuite"},
    "testsuite": {"properties", "testcase"},
    "properties": {"property"},
    "property": set(),
    "testcase": {"failure", "error", "skipped"},
    "failure": set(),
    "error": set(),
}
_REQUIRED = {
    "testsuite": {"name", "tests", "failures", "errors", "skipped", "time", "timestamp"},
    "testcase": {"name", "classname", "time"},
    "property": {"name", "value"},
    "failure": {"message", "type"},
    "error": {"message", "type"},
}


def test_the_junit_file_has_the_shape_ci_systems_read(run: RunDir) -> None:
    """Elements, their nesting and their attributes are those of the JUnit format, and the counts are true."""
    root = junit(run)
    suite = root[0]

    for element in root.iter():
        assert {child.tag for child in element} <= _CHILDREN[element.tag]
        assert _REQUIRED.get(element.tag, set()) <= set(element.attrib)
    assert int(suite.attrib["tests"]) == len(suite.findall("testcase"))
    assert int(suite.attrib["failures"]) == len(suite.findall("testcase/failure")) == 2
    assert int(suite.attrib["errors"]) == len(suite.findall("testcase/error")) == 1


def test_could_not_tell_is_an_error_not_a_skip(run: RunDir) -> None:
    """Most CI systems show skipped as green."""
    case = next(c for c in junit(run).iter("testcase") if c.attrib["name"] == "events.late")

    assert [child.tag for child in case] == ["error"]


def test_the_junit_properties_hold_the_totals(run: RunDir) -> None:
    """A trend can be drawn from the files alone."""
    properties = {p.attrib["name"]: p.attrib["value"] for p in junit(run).iter("property")}

    assert (properties["totals.lost"], properties["totals.acked"], properties["seed"]) == ("412", "37950", "7")


def test_markdown_cannot_be_broken_out_of() -> None:
    """Text stays one line of text in a table cell, whatever is in it."""
    assert markdown_text("a|b\n# c <img> [x](y) `z`") == r"a\|b\\n\# c \<img\> \[x\](y) \`z\`"
    assert markdown_code("a`b``c") == "``` a`b``c ```"
    assert "\n" not in markdown_code(HOSTILE + "\n")


def test_the_markdown_fits_a_comment_and_folds_what_is_right(run: RunDir) -> None:
    """What is wrong stands open; faults, sections, anomalies and the run are folded, each fold closed again."""
    markdown = run.report_md.read_text(encoding="utf-8")
    top = markdown.partition("<details>")[0]

    assert len(markdown) < MOST_CHARACTERS
    assert "events.lost" in top
    assert "events.altered" not in top
    assert markdown.count("<details>") == markdown.count("</details>") >= 7


@pytest.mark.parametrize(("anomalies", "length"), [(100, 400), (2, 200_000)])
def test_a_huge_report_still_fits_a_comment(tmp_path: Path, anomalies: int, length: int) -> None:
    """Many anomalies, huge ids, or both: what does not fit is left out, and said to be."""
    example = {"id": HOSTILE + "x" * length, "source": "urn:icequake:ab12cd34:0", "first": 1, "last": 2, "events": 2}
    check = Check(id="events.lost", verdict=Verdict.FAIL, claim="c" * length, examples=[example] * anomalies)
    run = bare_run(tmp_path, doc=verdict_doc(checks=[check] * 30))

    text = markdown_of(page_of(run, read_verdict(run.verdict), read_story(run)))

    assert len(text) <= MOST_CHARACTERS
    assert "report.html" in text


def test_the_command_writes_the_files_and_names_them(tmp_path: Path) -> None:
    """`python -m reports.render last` renders the newest run."""
    run = bare_run(tmp_path, doc=pass_doc())

    result = CliRunner().invoke(main, ["last", "--runs", str(tmp_path)])

    assert result.exit_code == 0
    assert [Path(line).name for line in result.output.splitlines()] == list(NAMES)
    assert f"# {Verdict.PASS}" in run.report_md.read_text(encoding="utf-8")


@pytest.mark.parametrize("missing", ["run.json", "verdict.json"])
def test_a_run_that_cannot_be_rendered_is_one_sentence_and_254(tmp_path: Path, missing: str) -> None:
    """Not a run, or not judged yet: nothing is written."""
    run = bare_run(tmp_path)
    (run.root / missing).unlink()

    result = CliRunner().invoke(main, [str(run.root)])

    assert result.exit_code == 254
    assert len(result.output.splitlines()) == 1
    assert not run.report_html.exists()


def test_a_verdict_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    """It would be misread."""
    run = bare_run(tmp_path)
    run.verdict.write_text(run.verdict.read_text().replace("icequake.verdict/1.0", "icequake.verdict/2.0"))

    result = CliRunner().invoke(main, [str(run.root)])

    assert result.exit_code == 254
    assert "icequake.verdict/2.0" in result.output
