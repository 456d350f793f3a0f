"""The matrix for people: tables for a terminal of 100 columns, Markdown and one HTML page; JSON for programs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import jinja2
import msgspec
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

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
    "K killed   S survived   W found by another check   V void   I inconclusive   X icequake failed   · not tried"
)
TEMPLATE = "catalogue.html.j2"


def terminal(matrix: Matrix) -> RenderableType:
    """Return every table, to be printed with rich."""
    return Group(
        _title("Faults by stage"), _stage_table(matrix), Text(LEGEND, style="dim"), Text(_column_legend(matrix), style="dim"), Text(),
        _title("Mechanisms by stage"), _summary_table(matrix), Text("tried / there are", style="dim"), Text(),
        *_kill_tables(matrix),
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
    if row.mutant is None and not row.kills:
        return Text("none", style="dim")
    return _word(row.kills.get(row.mutant or "") or next(iter(row.kills.values()), None))


def when(row: Row) -> str:
    """Say when a fault was last tried (month, day and time in UTC); "" when never."""
    return "" if row.unix_ns is None else f"{datetime.fromtimestamp(row.unix_ns / 1e9, UTC):%m-%d %H:%M}"


def _summary_table(matrix: Matrix) -> Table:
    table = _plain_table("mechanism", *SHORT.values())
    for mechanism in matrix.mechanisms:
        table.add_row(mechanism, *(share(matrix, stage, mechanism) for stage in Stage))
    return table


def share(matrix: Matrix, stage: Stage, mechanism: str) -> str:
    """Say how many of a mechanism's faults at *stage* were tried, of how many; "" when there are none."""
    tried = sum(matrix.count(state, stage, mechanism) for state in (State.KILLED, State.TRIED))
    known = tried + matrix.count(State.NOT_TRIED, stage, mechanism)
    return f"{tried}/{known}" if known else ""


def _kill_tables(matrix: Matrix) -> Iterator[RenderableType]:
    if not matrix.mutants:
        return
    numbers = [str(number) for number, _ in enumerate(matrix.mutants, 1)]
    table = _plain_table("fault", *numbers)
    for row in matrix.rows:
        if row.mutant is not None or row.kills:
            table.add_row(row.fault, *(_kill(row, mutant) for mutant in matrix.mutants))
    yield _title("Planted bugs by fault")
    yield table
    yield Text("   ".join(f"{number} {name}" for number, name in zip(numbers, matrix.mutants, strict=True)))
    yield Text(KILL_LEGEND, style="dim")
    spared = [row for row in matrix.rows if row.none is not None]
    if spared:
        reasons = _plain_table("fault", "why no mutant")
        reasons.columns[1].no_wrap = False
        for row in spared:
            reasons.add_row(row.fault, row.none)
        yield Text()
        yield _title("Without a planted bug")
        yield reasons


def letter(row: Row, mutant: str) -> str:
    """Return the mark of a cell of the kill matrix; "" where nothing is expected and nothing was tried."""
    word = row.kills.get(mutant)
    if word is None:
        return "·" if mutant == row.mutant else ""
    return LETTERS.get(word, "?")


def _kill(row: Row, mutant: str) -> Text:
    word = row.kills.get(mutant)
    return Text(letter(row, mutant), style=STYLES.get(word, "") if word is not None else "dim red")


# -- files


def markdown(matrix: Matrix) -> str:
    """Return the matrix as Markdown."""
    stages = _lines(
        ["fault", *(stage.value for stage in Stage), matrix.target, "mutant", "check", "tried (UTC)"],
        (
            [f"`{row.fault}`", *(MARKS[row.stages[stage]] for stage in Stage), row.unbroken or "-", _mutant_cell(row), row.check or "", when(row)]
            for row in matrix.rows
        ),
    )  # fmt: skip
    mechanisms = _lines(
        ["mechanism", *(stage.value for stage in Stage)],
        ([name, *(share(matrix, stage, name) for stage in Stage)] for name in matrix.mechanisms),
    )
    kills = _lines(
        ["fault", *matrix.mutants],
        (
            [f"`{row.fault}`", *(letter(row, name) for name in matrix.mutants)]
            for row in matrix.rows
            if row.none is None
        ),
    )
    spared = _lines(
        ["fault", "why no mutant"], ([f"`{row.fault}`", row.none or ""] for row in matrix.rows if row.none is not None)
    )
    return "\n\n".join(
        ["# Faults tried", "## Faults by stage", stages, LEGEND, "## Mechanisms by stage", mechanisms,
         "## Planted bugs by fault", kills, KILL_LEGEND, "## Without a planted bug", spared]
    ) + "\n"  # fmt: skip


def _mutant_cell(row: Row) -> str:
    if row.mutant is None:
        return "none"
    return f"{row.mutant}: {row.kills.get(row.mutant, '-')}"


def _lines(head: list[str], rows: Iterator[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def page(matrix: Matrix) -> str:
    """Return the matrix as one HTML page without scripts or outside resources."""
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    return environment.get_template(TEMPLATE).render(
        matrix=matrix, stages=list(Stage), marks=MARKS, letter=letter, share=share, when=when, mutant_cell=_mutant_cell,
        legend=LEGEND, kill_legend=KILL_LEGEND,
    )  # fmt: skip


def json_text(matrix: Matrix) -> str:
    """Return the matrix as JSON, the document `catalogue` of `icequake schema`."""
    return msgspec.json.format(msgspec.json.encode(matrix), indent=2).decode() + "\n"


FILES: dict[str, Callable[[Matrix], str]] = {
    "catalogue.json": json_text,
    "catalogue.md": markdown,
    "catalogue.html": page,
}


def write_report(matrix: Matrix, directory: Path) -> list[Path]:
    """Write every file of the report into *directory* and return their paths. Raises OSError."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, view in FILES.items():
        (directory / name).write_text(view(matrix), encoding="utf-8")
    return [directory / name for name in FILES]


def show(matrix: Matrix, console: Console) -> None:
    """Print every table."""
    console.print(terminal(matrix))
    if matrix.outdated:
        console.print(f"{matrix.outdated} outcomes of faults that have changed since are left out.")
