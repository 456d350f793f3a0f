"""The page in a real browser: drawn, silent, offline, inert, and fit for a phone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reports.render import render
from tests.live_session import chromium
from tests.reports.drawn_runs import full_run

pytestmark = pytest.mark.integration

LANES = ("events", "arrivals", "latency", "fill", "flushes", "freshness", "rows", "anomalies")
_DRAWN = "html[data-charts]"  # the page's policy forbids the evaluation that wait_for_function polls with
_CANVASES = """lane => {
  const found = [];
  const walk = node => {
    for (const child of [...(node.shadowRoot?.children ?? []), ...node.children]) {
      if (child.tagName === 'CANVAS' && child.width > 0) found.push(child);
      walk(child);
    }
  };
  walk(document.getElementById('lane-' + lane));
  return found.length;
}"""


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = full_run(tmp_path_factory.mktemp("runs"))
    render(run)
    return run.report_html


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as started:
        yield started


class Visit:
    """One open page, with what it said and asked for."""

    def __init__(self, browser: Any, path: Path, **context: Any) -> None:
        self.page = browser.new_context(**context).new_page()
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda m: self.said.append(m.text) if m.type in ("error", "warning") else None)
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(path.as_uri())
        self.page.wait_for_selector(_DRAWN, timeout=60_000)


@pytest.fixture(scope="module", params=[(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")], ids=str)
def visit(request: pytest.FixtureRequest, browser: Any, page_file: Path) -> Iterator[Visit]:
    width, scheme = request.param
    made = Visit(browser, page_file, viewport={"width": width, "height": 844}, color_scheme=scheme)
    yield made
    made.page.context.close()


def test_all_lanes_are_drawn_without_a_word_on_the_console(visit: Visit) -> None:
    """A canvas a lane, no error, no warning, no breach of the content policy."""
    assert {lane: bool(visit.page.evaluate(_CANVASES, lane)) for lane in LANES} == dict.fromkeys(LANES, True)
    assert visit.said == []


def test_nothing_is_asked_of_the_network(visit: Visit, page_file: Path) -> None:
    """The page itself is the only request."""
    assert visit.asked == [page_file.as_uri()]


def test_a_hostile_id_is_inert(visit: Visit) -> None:
    """It is on the page as text; it did not run."""
    assert visit.page.title() == "FAIL quick on my-collector"
    assert visit.page.locator("img").count() == 0
    assert "</script><img src=x onerror=" in visit.page.inner_text("body")


def test_the_page_never_scrolls_sideways(visit: Visit) -> None:
    """Not even on a phone, with every detail open."""
    visit.page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")

    assert visit.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_the_cursor_tells_the_values_of_all_lanes(browser: Any, page_file: Path) -> None:
    """Pointing at one lane fills the legends of the others and names the phase and the fault."""
    visit = Visit(browser, page_file, viewport={"width": 1280, "height": 900})
    lane = visit.page.locator("#lane-latency")
    lane.scroll_into_view_if_needed()
    box = lane.bounding_box()
    for step in range(3):
        visit.page.mouse.move(box["x"] + box["width"] * 0.3 + step, box["y"] + 60)
    visit.page.locator("#readout", has_text="slow-r2").wait_for()

    assert "inject" in visit.page.inner_text("#readout")
    assert visit.page.inner_text('.key[data-curve="offered"] b') == "500/s"
    assert visit.page.inner_text('.key[data-curve="fill_ratio"] b').endswith("%")


def test_a_drag_zooms_all_lanes_and_a_button_shows_the_whole_run_again(browser: Any, page_file: Path) -> None:
    """The button is there only while there is something to undo."""
    visit = Visit(browser, page_file, viewport={"width": 1280, "height": 900})
    lane = visit.page.locator("#lane-latency")
    lane.scroll_into_view_if_needed()
    box = lane.bounding_box()
    assert not visit.page.is_visible("#reset")

    visit.page.mouse.move(box["x"] + 300, box["y"] + 50)
    visit.page.mouse.down()
    visit.page.mouse.move(box["x"] + 600, box["y"] + 60, steps=8)
    visit.page.mouse.up()
    visit.page.locator("#reset").click()

    visit.page.locator("#reset").wait_for(state="hidden")


def test_a_tap_on_a_phone_moves_the_cursor_and_leaves_scrolling_to_the_page(browser: Any, page_file: Path) -> None:
    """Charts fill a phone's screen, so a finger on them must still scroll."""
    visit = Visit(browser, page_file, viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    lane = visit.page.locator("#lane-latency")
    lane.scroll_into_view_if_needed()
    lane.tap()
    visit.page.locator("#readout", has_text="UTC").wait_for()

    assert (
        visit.page.evaluate("getComputedStyle(document.querySelector('#lane-latency > .touch')).touchAction") == "pan-y"
    )


def test_the_charts_follow_a_change_of_the_colour_scheme(browser: Any, page_file: Path) -> None:
    """A laptop that turns dark in the evening does not leave white charts on a dark page."""
    visit = Visit(browser, page_file, viewport={"width": 1280, "height": 900}, color_scheme="light")
    background = "() => Bokeh.documents.at(-1).get_model_by_name('arrivals').background_fill_color"
    assert visit.page.evaluate(background) == "#fefefe"

    visit.page.emulate_media(color_scheme="dark")

    visit.page.wait_for_selector('html[data-charts="dark"]')
    assert visit.page.evaluate(background) == "#191d21"
    assert visit.said == []


def test_without_scripts_the_page_says_so_and_is_complete(browser: Any, page_file: Path) -> None:
    """Facts and checks need no script."""
    page = browser.new_context(java_script_enabled=False).new_page()
    page.goto(page_file.as_uri())

    assert "The charts need JavaScript" in page.inner_text("noscript")
    assert "412 acknowledged events are in no table" in page.inner_text("#recovery")


def test_a_browser_without_decompression_gets_a_message(browser: Any, page_file: Path) -> None:
    """A plain sentence in place of the charts."""
    page = browser.new_context().new_page()
    page.add_init_script("delete window.DecompressionStream")
    page.goto(page_file.as_uri())

    assert "too old for the charts" in page.inner_text("#notice")
