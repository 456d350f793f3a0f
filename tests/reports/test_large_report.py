"""A report of ten thousand points a series and a hundred faults: small, thinned, and still to be read."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest

from reports.curves import MOST_BUCKETS, Clock
from reports.fault_lane import rows_of
from reports.frame import Frame
from reports.lanes import draw_lanes
from reports.marks import marks_of
from reports.render import render
from reports.story import Fault, Story, read_story
from tests.reports.large_run import FAULTS, POINTS, large_run
from tests.reports.test_render import MOST_BYTES, unpacked


@pytest.fixture(scope="module")
def story_and_html(tmp_path_factory: pytest.TempPathFactory) -> tuple[Story, str]:
    run = large_run(tmp_path_factory.mktemp("runs"))
    render(run)
    assert run.report_html.stat().st_size < MOST_BYTES
    return read_story(run), run.report_html.read_text(encoding="utf-8")


def test_no_source_has_more_points_than_a_screen_can_show(story_and_html: tuple[Story, str]) -> None:
    """Every curve and every row of marks is thinned to the buckets of the axis."""
    story, _ = story_and_html
    drawn = [
        len(next(iter(renderer.data_source.data.values()), ()))
        for lane in draw_lanes(story)
        if lane.figure is not None
        for renderer in lane.figure.renderers
    ]

    assert len(story.commits) == len(story.snapshots) == POINTS
    assert max(drawn) <= MOST_BUCKETS
    assert sum(drawn) < 30 * MOST_BUCKETS


def test_a_hundred_faults_take_no_more_room_than_a_dozen(story_and_html: tuple[Story, str]) -> None:
    """The lane stays low, letters do not cover each other, and the list is folded."""
    story, html = story_and_html
    lane = draw_lanes(story)[0]
    letters = [r for r in lane.figure.renderers if "text" in r.data_source.data]

    assert len(story.faults) == FAULTS
    assert lane.figure.height <= 320
    assert Frame(story) is not None and len(letters) <= 50
    assert f"{FAULTS} faults" in html
    assert html.count('<button type="button" class="letter"') == FAULTS


def test_faults_that_overlap_never_share_a_row() -> None:
    """More rows, each lower; none hidden behind another."""
    faults = [Fault(f"f{i}", "healed", effective=(i * 1.0, i * 1.0 + 30)) for i in range(100)]
    rows = rows_of(faults, 200)

    for row in set(rows):
        spans = sorted(f.effective for f, r in zip(faults, rows, strict=True) if r == row and f.effective)
        assert all(before[1] < after[0] for before, after in pairwise(spans))


def test_what_a_reader_stops_at_is_never_thinned(story_and_html: tuple[Story, str]) -> None:
    """Commits are thinned as the timeline thins them; faults and phases are not."""
    story, html = story_and_html
    marks = marks_of(story, (), ())

    assert sum(not mark.stop for mark in marks) <= 2 * MOST_BUCKETS
    assert 0 < sum("failed" in mark.text for mark in marks) <= MOST_BUCKETS
    assert sum("in place" in mark.text for mark in marks) == FAULTS
    assert len(json.loads(unpacked(html, "charts"))["marks"]) >= FAULTS


def test_overlapping_faults_still_fit() -> None:
    """A hundred at once: a hundred rows of five pixels."""
    faults = tuple(Fault(f"f{i}", "healed", effective=(i, 900.0)) for i in range(FAULTS))
    story = Story(Clock(0, 0, 1_000 * 10**9), (), faults, (), (), {})

    assert max(rows_of(faults, 1_000)) == FAULTS - 1
    assert draw_lanes(story)[0].figure.height <= 570
