"""What a verdict means for a trial, and that outcomes are kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from chaos.faults import catalogue
from chaos.trials.outcome import KEPT, Kept, Trial, Word, definition_of, word_for, worst
from loadtests.records.errors import CorruptRecord
from tests.chaos.trials.outcomes import outcome, trial, verdict


@pytest.mark.parametrize(
    ("judged", "word"),
    [
        (verdict("PASS"), Word.PASSED),
        (verdict("FAIL", events_lost="FAIL"), Word.FAILED),
        (verdict("FAIL", events_lost="FAIL", run_faults_effective="INCONCLUSIVE"), Word.FAILED),
        (verdict("INCONCLUSIVE", run_faults_effective="INCONCLUSIVE"), Word.VOID),
        (verdict("INCONCLUSIVE", run_complete="INCONCLUSIVE"), Word.UNDECIDED),
    ],
)
def test_a_target_without_a_planted_bug_must_pass(judged: dict[str, Any], word: Word) -> None:
    """A fault without effect is no evidence for it, but a FAIL is one against it."""
    assert word_for(trial(), judged) is word


@pytest.mark.parametrize(
    ("judged", "word"),
    [
        (verdict("FAIL", events_lost="FAIL"), Word.KILLED),
        (verdict("FAIL", events_lost="PASS", events_stuck="FAIL"), Word.WRONG_CHECK),
        (verdict("FAIL", events_stuck="FAIL"), Word.WRONG_CHECK),
        (verdict("PASS", events_lost="PASS"), Word.SURVIVED),
        (verdict("FAIL", events_lost="FAIL", run_faults_effective="INCONCLUSIVE"), Word.VOID),
        (verdict("INCONCLUSIVE", run_complete="INCONCLUSIVE"), Word.UNDECIDED),
    ],
)
def test_a_planted_bug_is_killed_by_its_check_with_the_fault_in_effect(judged: dict[str, Any], word: Word) -> None:
    """Anything else is not this fault finding this bug."""
    assert word_for(trial(target="gives-up", check="events.lost"), judged) is word


@pytest.mark.parametrize(
    ("judged", "word"),
    [
        (verdict("FAIL", events_stuck="FAIL"), Word.KILLED),
        (verdict("PASS"), Word.UNHURT),
        (verdict("FAIL", events_lost="FAIL", run_faults_effective="INCONCLUSIVE"), Word.VOID),
    ],
)
def test_a_planted_bug_that_a_fault_need_not_find_may_live(judged: dict[str, Any], word: Word) -> None:
    """Whichever check finds it, it is found."""
    extra = Trial(fault="slow-r2", target="gives-up", path="x", planted=True)

    assert word_for(extra, judged) is word
    assert Word.UNHURT.exit_code == 0


def test_a_verdict_that_says_nothing_of_effect_is_no_evidence() -> None:
    """A record without the check is treated as a fault without effect."""
    assert word_for(trial(check="events.lost"), {"verdict": "FAIL", "checks": []}) is Word.VOID


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ([], 0),
        ([Word.PASSED, Word.KILLED], 0),
        ([Word.PASSED, Word.VOID], 2),
        ([Word.UNDECIDED, Word.SURVIVED], 1),
        ([Word.FAILED, Word.VOID], 1),
        ([Word.WRONG_CHECK], 1),
        ([Word.STOPPED], 2),
        ([Word.BROKEN, Word.FAILED], 255),
    ],
)
def test_the_worst_outcome_is_the_exit_code(words: list[Word], code: int) -> None:
    """As `icequake run` would end: 0, 1, 2 or 255."""
    assert worst(iter(words)) == code


def test_outcomes_are_kept_in_order(tmp_path: Path) -> None:
    """And none are there before anything was tried."""
    kept = Kept(tmp_path / "runs")
    assert kept.read() == []

    both = [outcome("slow-r2", "reference", Word.PASSED), outcome("slow-r2", "impatient", Word.KILLED)]
    for one in both:
        kept.add(one)

    assert kept.read() == both


def test_a_torn_line_hides_nothing_else(tmp_path: Path) -> None:
    """A command that was killed while it wrote."""
    kept = Kept(tmp_path)
    kept.add(outcome("slow-r2", "reference", Word.PASSED))
    with (tmp_path / KEPT).open("a") as stream:
        stream.write('{"is":"outco')
    kept.add(outcome("nothing", "reference", Word.PASSED))

    assert [one.fault for one in kept.read()] == ["slow-r2", "nothing"]


def test_a_line_that_is_no_outcome_is_said(tmp_path: Path) -> None:
    """With the file, and what to do."""
    kept = Kept(tmp_path)
    kept.add(outcome("slow-r2", "reference", Word.PASSED))
    path = tmp_path / KEPT
    path.write_text(path.read_text().replace('"PASS"', '"splendid"'))

    with pytest.raises(CorruptRecord, match=r"catalogue\.jsonl has a line that is no outcome .*; move the file away\."):
        kept.read()


def test_what_a_fault_does_is_its_definition() -> None:
    """How it is described, where it bites, and which tier it is in, are not."""
    spec = catalogue()["slow-r2"]
    replace = msgspec.structs.replace

    same = replace(spec, about="other words", stages=[], micro=replace(spec.micro, tier="nightly"))
    assert definition_of(same) == definition_of(spec)
    assert definition_of(replace(spec, params={**spec.params, "latency_ms": 501})) != definition_of(spec)
    assert definition_of(replace(spec, micro=replace(spec.micro, for_s=4))) != definition_of(spec)
