"""The matrix as files: Markdown and one HTML page for people, JSON for programs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import jinja2
import msgspec

from chaos.faults.stages import Stage
from chaos.trials.marks import KILL_LEGEND, LEGEND, MARKS, letter, share, when
from chaos.trials.matrix import Matrix, Row

TEMPLATE = "catalogue.html.j2"


def markdown(matrix: Matrix) -> str:
    """Return the matrix as Markdown."""
    stages = _lines(
        ["fault", *(stage.value for stage in Stage), matrix.target, "mutant", "check", "tried (UTC)"],
        (
            [f"`{row.fault}`", *(MARKS[row.stages[stage]] for stage in Stage), row.unbroken or "-", _mutant_cell(row), row.check, when(row)]
            for row in matrix.rows
        ),
    )  # fmt: skip
    mechanisms = _lines(
        ["mechanism", *(stage.value for stage in Stage)],
        ([name, *(share(matrix, stage, name) for stage in Stage)] for name in matrix.mechanisms),
    )
    kills = _lines(
        ["fault", *matrix.mutants],
        ([f"`{row.fault}`", *(letter(row, name) for name in matrix.mutants)] for row in matrix.rows),
    )
    return "\n\n".join(
        ["# Faults tried", "## Faults by stage", stages, LEGEND, "## Mechanisms by stage", mechanisms,
         "## Planted bugs by fault", kills, KILL_LEGEND]
    ) + "\n"  # fmt: skip


def _mutant_cell(row: Row) -> str:
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
