"""Who reads the page: by key, by ear, on paper, in dim light. And an anomaly leads to its events, files, snapshot and fault."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from loadtests.records.errors import RecordError
from loadtests.records.ledger import Outcome
from reports.errors import ReportError
from reports.judge import judge
from reports.render import render
from reports.unusable import SHAPE
from reports.verdict import write_verdict
from tests.histories import HandMadeRun
from tests.live_session import chromium
from tests.reports.drawn_runs import full_run
from tests.reports.large_run import large_run
from tests.reports.test_broken_runs import poisoned
from tests.reports.test_render_browser import Visit

pytestmark = pytest.mark.integration

_CONTRASTS = """() => {
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const over = (colours) => {
    canvas.clearRect(0, 0, 1, 1);
    for (const colour of colours) { canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1); }
    return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const light = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const ratio = (a, b) => (Math.max(light(a), light(b)) + 0.05) / (Math.min(light(a), light(b)) + 0.05);
  const low = [];
  for (const element of document.querySelectorAll("body *")) {
    const words = [...element.childNodes].filter(n => n.nodeType === 3).map(n => n.textContent.trim()).join(" ").trim();
    if (!words || !element.checkVisibility() || element.closest("script, .plot, .unseen")) continue;
    const style = getComputedStyle(element);
    const behind = [];
    for (let e = element; e; e = e.parentElement) behind.unshift(getComputedStyle(e).backgroundColor);
    const size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
    const found = ratio(over([...behind, style.color]), over(behind));
    if (found < (large ? 3 : 4.5)) low.push([found.toFixed(2), style.color, words.slice(0, 40)]);
  }
  return low;
}"""

_NAMELESS = """() => [...document.querySelectorAll("button, a, input, summary, [role=figure], table, aside")]
  .filter(e => !(e.getAttribute("aria-label") || e.textContent.trim()))
  .map(e => e.outerHTML.slice(0, 80))"""

_FOCUS = """() => {
  const e = document.activeElement;
  const box = e.getBoundingClientRect();
  const middle = document.elementFromPoint(box.x + Math.min(box.width / 2, 300), box.y + box.height / 2);
  return {
    what: e === document.body ? 'BODY' : e.id || e.textContent.trim().slice(0, 40) || e.tagName, top: box.top + scrollY, ring: getComputedStyle(e).outlineStyle,
    covered: !(middle === e || e.contains(middle) || middle?.contains(e)),
  };
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = full_run(tmp_path_factory.mktemp("runs"))
    render(run)
    return run.report_html


@pytest.fixture(scope="module")
def judged_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A judged run with lost, duplicated and altered events, all during one fault."""
    run = HandMadeRun(tmp_path_factory.mktemp("judged"))
    run.answered(*range(1, 10), outcome=Outcome.ACKED, status=202, at=26)
    run.fault("slow-r2", 25, 31)
    run.table(1, 2, 3, stage="object", flush="c1/7/1")
    run.table(4, 5, flush="c1/7/2", at=27)
    run.table(4, 5, flush="c1/7/2", at=28)
    run.table(6, 7, 8, 9, flush="c1/7/3", at=29, altered=[6])
    root = run.written()
    write_verdict(root / "verdict.json", judge(root))
    render(run.run)
    return run.run.report_html


@pytest.mark.parametrize(
    ("check", "facts"),
    [
        ("events.lost", ("urn:icequake:abcd1234:0 1 to 3", "s3://bucket/data/1.parquet", "c1/7/1")),
        ("events.duplicated", ("urn:icequake:abcd1234:0 4 to 5", "s3://bucket/data/2.parquet", "Snapshot ids\n2, 3")),
        ("events.altered", ("urn:icequake:abcd1234:0 6", "s3://bucket/data/4.parquet", "Snapshot ids\n4")),
    ],
)
@pytest.mark.parametrize("way", ["key", "click"])
def test_an_anomaly_leads_to_all_that_is_known_of_it(
    browser: Any, judged_file: Path, check: str, facts: tuple[str, ...], way: str
) -> None:
    """By its button in the list and by its mark in the timeline: events, file, snapshot and the window of the fault."""
    visit = Visit(browser, judged_file, viewport={"width": 1280, "height": 900})
    page = visit.page
    if way == "key":
        page.locator(f"#anomalies tr:has(code.name:text-is('{check}')) button").focus()
        page.keyboard.press("Enter")
    else:
        lane = page.locator("#lane-anomalies")
        lane.scroll_into_view_if_needed()
        box = lane.bounding_box()
        x, y = page.evaluate(_MARK, check)
        page.mouse.click(box["x"] + x, box["y"] + y)
    page.locator("#chosen", has_text=check).wait_for()
    said = page.inner_text("#chosen")

    for fact in (*facts, "A during slow-r2", "Fault window\n00:25.0 to 00:31.0"):
        assert fact in said
    assert page.evaluate("document.activeElement.id") == "chosen"
    assert "slow-r2" in page.inner_text("#readout")
    page.click("#chosen-close")
    assert not page.is_visible("#chosen")
    assert page.evaluate("document.activeElement.tagName") in ("BUTTON", "INPUT")
    page.context.close()


_MARK = """check => {
  const model = Bokeh.documents.at(-1);
  const [source, time] = [model.get_model_by_name("anomaly_marks"), model.get_model_by_name("time")];
  const i = source.data.said.findIndex(text => text.startsWith(check));
  const plot = model.get_model_by_name("anomalies");
  const [view] = [...Bokeh.index.find_by_id(plot.id)];
  const frame = view.frame.bbox;
  const share = (source.data.t[i] - time.start) / (time.end - time.start);
  return [frame.left + share * frame.width, frame.top + (plot.y_range.end - source.data.y[i]) /
    (plot.y_range.end - plot.y_range.start) * frame.height];
}"""


def test_everything_is_reached_by_key_in_the_order_of_the_page(browser: Any, page_file: Path) -> None:
    """Each stop shows a ring, none lies under the bars that stay on top, and the canvases are no stops."""
    visit = Visit(browser, page_file, viewport={"width": 1280, "height": 900})
    stops = []
    for _ in range(80):
        visit.page.keyboard.press("Tab")
        stop = visit.page.evaluate(_FOCUS)
        if stop["what"] == "BODY":
            break
        stops.append(stop)
    names = [stop["what"] for stop in stops]

    assert names.index("previous") < names.index("scrub") < names.index("A")
    assert "Show on the timeline" in names
    assert [stop for stop in stops if stop["ring"] == "none"] == []
    assert [stop["what"] for stop in stops if stop["covered"]] == []
    tops = [stop["top"] for stop in stops if stop["top"] > 1000]
    assert tops == sorted(tops)
    visit.page.context.close()


def test_the_slider_does_by_key_what_a_mouse_does(browser: Any, page_file: Path) -> None:
    """Arrows move the cursor and fill the legends; N and P go from event to event; + and 0 zoom."""
    visit = Visit(browser, page_file, viewport={"width": 1280, "height": 900})
    page = visit.page
    page.focus("#scrub")
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    assert "UTC" in page.get_attribute("#scrub", "aria-valuetext")

    told = []
    for _ in range(12):
        page.keyboard.press("n")
        told.append(page.inner_text("#readout"))
    assert any("fault A slow-r2 in place" in text for text in told)
    assert any("events.lost" in text for text in told)
    assert page.inner_text('.key[data-curve="offered"] b').endswith("/s")
    page.keyboard.press("+")
    assert page.is_visible("#reset")
    page.keyboard.press("0")
    assert not page.is_visible("#reset")
    assert visit.said == []
    page.context.close()


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_can_be_read(browser: Any, page_file: Path, scheme: str, width: int) -> None:
    """At least 4.5 to 1 (3 to 1 where large), with every detail open; nothing has no name."""
    visit = Visit(browser, page_file, viewport={"width": width, "height": 900}, color_scheme=scheme)
    visit.page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")

    assert visit.page.evaluate(_CONTRASTS) == []
    assert visit.page.evaluate(_NAMELESS) == []
    visit.page.context.close()


def test_a_screen_reader_finds_its_way(browser: Any, page_file: Path) -> None:
    """Landmarks, one heading of the first rank, no rank left out, and tables that are tables at any width."""
    visit = Visit(browser, page_file, viewport={"width": 390, "height": 844})
    seen = visit.page.locator("body").aria_snapshot()
    ranks = visit.page.evaluate("[...document.querySelectorAll('h1,h2,h3,h4')].map(h => Number(h.tagName[1]))")

    for mark in (
        "- banner:",
        '- navigation "Sections":',
        "- main:",
        '- slider "Time"',
        'figure "Latency: corrected',
        '- table "Faults"',
    ):
        assert mark in seen, mark
    assert ranks.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(ranks))
    visit.page.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_paper_gets_everything_and_cuts_nothing(browser: Any, page_file: Path, scheme: str) -> None:
    """Charts become pictures as wide as the paper, what is folded opens, and nothing is wider than the page."""
    visit = Visit(browser, page_file, viewport={"width": 1280, "height": 900}, color_scheme=scheme)
    page = visit.page
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    page.set_viewport_size({"width": 700, "height": 900})
    page.emulate_media(media="print")
    pictures = page.evaluate(
        "Promise.all([...document.querySelectorAll('.plot > img')].map(i => i.decode().then(() => i.getBoundingClientRect().width)))"
    )

    assert len(pictures) == len(page.query_selector_all(".plot"))
    assert all(600 < width <= 700 for width in pictures)
    assert page.evaluate("document.documentElement.scrollWidth") <= 700
    assert page.locator("details:not([open])").count() == 0
    assert not page.is_visible("nav")
    assert len(page.pdf(format="A4")) > 10_000
    page.emulate_media(media="screen")
    page.evaluate("window.dispatchEvent(new Event('afterprint'))")
    assert page.locator(".plot > img").count() == 0
    page.context.close()


@pytest.mark.slow
def test_a_hundred_faults_and_ten_thousand_points_are_drawn(browser: Any, tmp_path: Path) -> None:
    """The page draws, zooms to a fault at a click, and says nothing on the console."""
    run = large_run(tmp_path)
    render(run)
    visit = Visit(browser, run.report_html, viewport={"width": 1280, "height": 900})
    visit.page.click("summary:has-text('100 faults')")
    visit.page.click("button.letter >> nth=57")
    visit.page.locator("#readout", has_text="fault-number-57").wait_for()

    assert visit.page.is_visible("#reset")
    assert visit.said == []
    visit.page.context.close()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_no_record_whatever_it_holds_runs_as_a_script(browser: Any, tmp_path: Path, seed: int) -> None:
    """Markup and broken characters in place of any value of the verdict: no dialog, no error, no request, no element."""
    run = full_run(tmp_path)
    for name in ("timeline.jsonl", "gateway.jsonl"):
        poisoned(run.root / name, random.Random(seed))
    try:
        render(run)
    except (ReportError, RecordError, *SHAPE):
        assert seed  # a sentence instead of a page, as test_broken_runs has it; the first one is known to make a page
        return
    dialogs: list[str] = []
    context = browser.new_context()
    page = context.new_page()
    page.on("dialog", lambda dialog: dialogs.append(dialog.message))
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(run.report_html.as_uri())
    page.wait_for_selector("html[data-charts]", timeout=60_000)

    assert (dialogs, errors) == ([], [])
    assert page.title() == "FAIL quick on my-collector"
    assert page.locator("img, iframe, object").count() == 0
    context.close()
