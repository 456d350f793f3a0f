"""`answer.json`: what an experiment found, for other programs. Its schema is `icequake schema answer`."""

from __future__ import annotations

from typing import Any

from msgspec import Struct, field

from loadtests.records.schema import schema_name
from reports.experiment.lab import Outcome

KIND = "answer"


class Table(Struct, frozen=True):
    """One table of the answer, as people read it; every row is as long as `columns`."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


class AnswerDoc(Struct, frozen=True, kw_only=True):
    """One experiment, answered or ended early.

    Attributes:
        name: `capacity`, `survival`, `sweep` or `ab`.
        sentence: The answer.
        exit_code: 0 answered, and nothing was lost; 1 something was, or a claim did not hold; 2 not answered; 255 icequake failed.
        argv: The command line.
        notes: What else must be known of it.
        data: The answer's numbers, by name; their units end the names.
        outcomes: Every run that was made for it, in order.
        tables: What the terminal shows.
    """

    name: str
    sentence: str
    exit_code: int
    argv: list[str]
    notes: list[str] = field(default_factory=list)
    data: dict[str, Any] = field(default_factory=dict)
    outcomes: list[Outcome] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    schema: str = schema_name(KIND)
