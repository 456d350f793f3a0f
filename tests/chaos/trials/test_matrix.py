"""What is known of a fault at a stage, and of a planted bug under a fault."""

from __future__ import annotations

import msgspec
import pytest

from chaos.faults import FaultSpec, catalogue
from chaos.faults.stages import Stage
from chaos.trials.matrix import Matrix, State, make_matrix
from chaos.trials.outcome import Outcome, Word
from tests.chaos.trials.outcomes import KILLS, outcome

NAMES = ("slow-r2", "catalog-500", "nothing")
SPECS: list[FaultSpec] = [catalogue()[name] for name in NAMES]


def matrix(*outcomes: Outcome) -> Matrix:
    return make_matrix(SPECS, KILLS, outcomes)


@pytest.mark.parametrize(
    ("whole", "mutant", "state"),
    [
        (None, None, State.NOT_TRIED),
        (Word.PASSED, Word.KILLED, State.KILLED),
        (Word.PASSED, Word.SURVIVED, State.TRIED),
        (Word.PASSED, None, State.TRIED),
        (Word.FAILED, Word.KILLED, State.TRIED),
        (None, Word.KILLED, State.TRIED),
        (Word.VOID, Word.VOID, State.NOT_TRIED),
        (Word.BROKEN, None, State.NOT_TRIED),
    ],
)
def test_a_fault_has_killed_when_the_reference_passed_and_the_mutant_did_not(
    whole: Word | None, mutant: Word | None, state: State
) -> None:
    """A trial without effect is none."""
    tried = [("reference", whole), ("impatient", mutant)]

    row = matrix(*(outcome("slow-r2", target, word) for target, word in tried if word is not None)).rows[0]

    assert row.stages[Stage.DATA] is state
    assert row.stages[Stage.HOST] is State.NOT_APPLICABLE
    assert (row.unbroken, row.kills.get("impatient")) == (whole, mutant)


def test_the_last_trial_counts() -> None:
    """What failed once and was mended is not held against it."""
    row = matrix(
        outcome("slow-r2", "reference", Word.FAILED, run="one"),
        outcome("slow-r2", "reference", Word.PASSED, run="two", unix_ns=2 * 10**9),
    ).rows[0]

    assert (row.unbroken, row.runs, row.unix_ns) == (Word.PASSED, {"reference": "two"}, 2 * 10**9)


def test_a_stopped_trial_says_nothing() -> None:
    """It leaves what is known as it was."""
    row = matrix(outcome("slow-r2", "reference", Word.PASSED), outcome("slow-r2", "reference", Word.STOPPED)).rows[0]

    assert row.unbroken is Word.PASSED


def test_what_was_tried_before_a_fault_changed_was_not_tried() -> None:
    """And it is counted, unless it has been tried since."""
    old = outcome("slow-r2", "reference", Word.PASSED, definition="of before")

    assert (matrix(old).rows[0].unbroken, matrix(old).outdated) == (None, 1)
    assert matrix(old, outcome("slow-r2", "reference", Word.PASSED)).outdated == 0


def test_the_columns_are_the_mutants_that_are_wanted() -> None:
    """Whether they were tried or not."""
    whole = matrix(outcome("slow-r2", "impatient", Word.KILLED), outcome("nothing", "reference", Word.PASSED))

    assert whole.mutants == ["gives-up", "impatient", "meant"]


def test_a_planted_bug_that_was_tried_too_is_a_column() -> None:
    """Whether it was found or not; a target of somebody else is none."""
    whole = matrix(outcome("slow-r2", "expires", Word.UNHURT), outcome("slow-r2", "naive", Word.FAILED))

    assert whole.mutants == ["expires", "gives-up", "impatient", "meant"]
    assert (whole.rows[0].kills, whole.rows[0].unbroken) == ({"expires": Word.UNHURT}, None)


def test_another_target_is_judged_by_its_own_trials() -> None:
    """What planted bugs did says nothing about it."""
    tried = [outcome("slow-r2", "reference", Word.PASSED), outcome("slow-r2", "naive", Word.FAILED)]

    assert make_matrix(SPECS, KILLS, tried, target="naive").rows[0].unbroken is Word.FAILED


def test_mechanisms_are_counted_by_stage() -> None:
    """So that a gap between mechanisms and stages can be seen."""
    whole = matrix(outcome("slow-r2", "reference", Word.PASSED))

    assert whole.mechanisms == ["toxic", "http", "nothing"]
    assert whole.count(State.TRIED, Stage.DATA, "toxic") == 1
    assert whole.count(State.NOT_TRIED, Stage.COMMIT, "http") == 1
    assert whole.count(State.NOT_TRIED, Stage.DATA, "http") == 0


def test_a_matrix_is_a_document() -> None:
    """Other programs read it back as it was."""
    whole = matrix(outcome("slow-r2", "reference", Word.PASSED), outcome("slow-r2", "impatient", Word.KILLED))

    text = msgspec.json.encode(whole)

    assert msgspec.json.decode(text, type=Matrix) == whole
    assert b'"schema":"icequake.catalogue-report/1.0"' in text
