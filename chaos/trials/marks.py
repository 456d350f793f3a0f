"""The marks that every view of the matrix uses, and what they mean."""

from __future__ import annotations

from datetime import UTC, datetime

from chaos.faults.stages import Stage
from chaos.trials.matrix import Matrix, Row, State
from chaos.trials.outcome import Word

SHORT = {
    Stage.INGEST: "ing", Stage.BUFFER: "buf", Stage.ENCODE: "enc", Stage.DATA: "dat", Stage.MANIFEST: "man",
    Stage.COMMIT: "com", Stage.CATALOG_READ: "cat", Stage.RECOVERY: "rec", Stage.HOST: "hos", Stage.TABLE: "tab",
}  # fmt: skip
MARKS = {State.KILLED: "●", State.TRIED: "○", State.NOT_TRIED: "-", State.NOT_APPLICABLE: ""}
STATE_STYLES = {State.KILLED: "bold green", State.TRIED: "yellow", State.NOT_TRIED: "dim red", State.NOT_APPLICABLE: ""}
LETTERS = {
    Word.KILLED: "K", Word.SURVIVED: "S", Word.UNHURT: "u", Word.WRONG_CHECK: "W", Word.VOID: "V", Word.UNDECIDED: "I", Word.BROKEN: "X",
}  # fmt: skip
STYLES = {
    Word.PASSED: "green", Word.KILLED: "green", Word.FAILED: "bold red", Word.SURVIVED: "bold red",
    Word.WRONG_CHECK: "bold red", Word.VOID: "yellow", Word.UNDECIDED: "yellow", Word.BROKEN: "bold red",
}  # fmt: skip
SHORT_WORDS = {Word.WRONG_CHECK: "wrong", Word.UNDECIDED: "incl.", Word.BROKEN: "error"}
WIDTH = 100
"""Columns of output that is not a terminal's."""
LEGEND = "● tried, and killed a planted bug   ○ tried   - not tried   (nothing: does not bite there)"
KILL_LEGEND = (
    "K killed   S survived   u unhurt, and need not be found   W found by another check\n"
    "V void   I inconclusive   X icequake failed   · not tried"
)


def letter(row: Row, mutant: str) -> str:
    """Return the mark of a cell of the kill matrix; "" where nothing is expected and nothing was tried."""
    word = row.kills.get(mutant)
    if word is None:
        return "·" if mutant == row.mutant else ""
    return LETTERS.get(word, "?")


def when(row: Row) -> str:
    """Say when a fault was last tried (month, day and time in UTC); "" when never."""
    return "" if row.unix_ns is None else f"{datetime.fromtimestamp(row.unix_ns / 1e9, UTC):%m-%d %H:%M}"


def share(matrix: Matrix, stage: Stage, mechanism: str) -> str:
    """Say how many of a mechanism's faults at *stage* were tried, of how many; "" when there are none."""
    tried = sum(matrix.count(state, stage, mechanism) for state in (State.KILLED, State.TRIED))
    known = tried + matrix.count(State.NOT_TRIED, stage, mechanism)
    return f"{tried}/{known}" if known else ""
