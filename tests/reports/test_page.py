"""What the report says, before it is laid out."""

from __future__ import annotations

from pathlib import Path

import pytest

from reports.frame import letter
from reports.page import Page, page_of
from reports.story import read_story
from reports.verdict import Check, Verdict
from tests.reports.drawn_runs import bare_run, full_run, verdict_doc


@pytest.fixture
def page(tmp_path: Path) -> Page:
    run = full_run(tmp_path)
    return page_of(run, verdict_doc(), read_story(run))


def test_every_check_is_in_exactly_one_section(page: Page) -> None:
    """A check of a kind nobody foresaw goes to trust, not nowhere."""
    shown = [check.id for section in page.questions for check in section.checks]

    assert sorted(shown) == sorted(check.id for check in verdict_doc().checks)


def test_a_check_of_an_unknown_kind_is_shown_under_trust(tmp_path: Path) -> None:
    """Sections to come must not lose their checks in an older layout."""
    run = bare_run(tmp_path)
    doc = verdict_doc(checks=[Check(id="mail.sent", verdict=Verdict.FAIL, claim="no mail was sent")])

    trust = page_of(run, doc, read_story(run)).questions[-1]

    assert [check.id for check in trust.checks] == ["mail.sent"]
    assert trust.verdict is Verdict.FAIL


def test_a_section_is_as_bad_as_its_worst_check_and_shows_it_first(page: Page) -> None:
    """A reader sees what is wrong without scrolling."""
    recovery = next(section for section in page.questions if section.key == "recovery")

    assert recovery.verdict is Verdict.FAIL
    assert [check.verdict for check in recovery.checks] == sorted(
        (check.verdict for check in recovery.checks), key=["FAIL", "INCONCLUSIVE", "PASS"].index
    )


def test_an_anomaly_names_range_cause_fault_and_example(page: Page) -> None:
    """What a person needs to look at one of them."""
    doubled = next(a for a in page.anomalies if a.check == "events.duplicated")

    assert doubled.events == "urn:icequake:ab12cd34:1 12 to 71 (60 events)"
    assert (doubled.cause, doubled.during) == ("same event in two files", "commit-answer-lost")
    assert doubled.example == "89ab12cd34ef5678"


def test_a_fault_says_what_was_planned_and_what_was_hit(page: Page) -> None:
    """Void and triggered ones too."""
    rows = {row.name: row for row in page.faults}

    assert rows["slow-r2"].affected == "212 requests"
    assert rows["commit-answer-lost"].planned == "after the 2nd commit POST"
    assert not rows["catalog-outage"].proven
    assert rows["catalog-outage"].effective == "never"


def test_letters_name_any_number_of_faults() -> None:
    """After Z come A1, B1 and so on."""
    assert [letter(i) for i in (0, 25, 26, 53)] == ["A", "Z", "A1", "B2"]


def test_a_run_that_ended_early_says_so(tmp_path: Path) -> None:
    """In the words of the runner."""
    run = bare_run(tmp_path, stopped="SIGINT was received")

    assert page_of(run, verdict_doc(), read_story(run)).stopped == "SIGINT was received"
