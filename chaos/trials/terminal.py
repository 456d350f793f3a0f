"""The matrix on a terminal: tables that fit a hundred columns."""

from __future__ import annotations

import string
from collections.abc import Iterator, Sequence

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from chaos.faults.stages import Stage
from chaos.trials.marks import KILL_LEGEND, LEGEND, MARKS, SHORT, SHORT_WORDS, STATE_STYLES, STYLES, letter, share, when
from chaos.trials.matrix import Matrix, Row
from chaos.trials.outcome import Word

KEYS = string.ascii_lowercase + string.ascii_uppercase
"""Heads of the columns of the kill matrix, one character each."""


def terminal(matrix: Matrix, width: int) -> RenderableType:
    """Return every table, to be printed with rich on so many columns."""
    return Group(
        _title("Faults by stage"), _stage_table(matrix), Text(LEGEND, style="dim"), Text(_column_legend(matrix), style="dim"), Text(),
        _title("Mechanisms by stage"), _summary_table(matrix), Text("tried / there are", style="dim"), Text(),
        *_kill_tables(matrix, width),
    )  # fmt: skip


def _column_legend(matrix: Matrix) -> str:
    stages = "; ".join(f"{SHORT[stage]} {stage.about}" for stage in Stage)
    return f"{stages}; whole: {matrix.target}, nothing planted; mutant: a collector with one planted bug; tried: month and day."


def _title(words: str) -> Text:
    return Text(words, style="bold underline")


def _plain_table(*columns: str) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="bold")
    for column in columns:
        table.add_column(column, no_wrap=True)
    return table


def _stage_table(matrix: Matrix) -> Table:
    table = _plain_table("fault", *SHORT.values(), "whole", "mutant", "tried")
    for row in matrix.rows:
        marks = [Text(MARKS[row.stages[stage]], style=STATE_STYLES[row.stages[stage]]) for stage in Stage]
        table.add_row(row.fault, *marks, _word(row.unbroken), _mutant_word(row), when(row)[:5])
    return table


def _word(word: Word | None) -> Text:
    return Text("-", style="dim red") if word is None else Text(SHORT_WORDS.get(word, word), style=STYLES.get(word, ""))


def _mutant_word(row: Row) -> Text:
    return _word(row.kills.get(row.mutant) or next(iter(row.kills.values()), None))


def _summary_table(matrix: Matrix) -> Table:
    table = _plain_table("mechanism", *SHORT.values())
    for mechanism in matrix.mechanisms:
        table.add_row(mechanism, *(share(matrix, stage, mechanism) for stage in Stage))
    return table


def _kill_tables(matrix: Matrix, width: int) -> Iterator[RenderableType]:
    if not matrix.mutants:
        return
    yield _title("Planted bugs by fault")
    names = max(len(row.fault) for row in matrix.rows)
    for mutants in _groups(matrix.mutants, (width - names - 1) // 2):
        yield _kill_table(matrix.rows, mutants)
        yield Text("  ".join(f"{key}={name}" for key, name in zip(KEYS, mutants, strict=False)))
    yield Text(KILL_LEGEND, style="dim")


def _groups(mutants: Sequence[str], columns: int) -> Iterator[Sequence[str]]:
    size = max(1, min(columns, len(KEYS)))
    for begin in range(0, len(mutants), size):
        yield mutants[begin : begin + size]


def _kill_table(rows: Sequence[Row], mutants: Sequence[str]) -> Table:
    table = _plain_table("fault", *KEYS[: len(mutants)])
    for row in rows:
        if row.mutant in mutants or set(row.kills) & set(mutants):
            table.add_row(row.fault, *(_kill(row, mutant) for mutant in mutants))
    return table


def _kill(row: Row, mutant: str) -> Text:
    word = row.kills.get(mutant)
    return Text(letter(row, mutant), style=STYLES.get(word, "") if word is not None else "dim red")


def show(matrix: Matrix, console: Console) -> None:
    """Print every table."""
    console.print(terminal(matrix, console.width))
    if matrix.outdated:
        console.print(f"{matrix.outdated} outcomes of faults that have changed since are left out.")
