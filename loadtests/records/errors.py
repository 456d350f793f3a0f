"""
What can be wrong with the records of a run, and what a caller may conclude.

RecordError
  MissingRecord      the file or directory is not there
  CorruptRecord      it is there, but is not what its name promises
  NewerVersion       a later icequake wrote it; this one would misread it
  InvalidDocument    a person's YAML or JSON file is wrong; says file, line and what to do
  LedgerWriteError   an attempt could not be recorded, so nothing more may be sent
"""

from __future__ import annotations

from pathlib import Path


class RecordError(Exception):
    """Base of everything this package raises. `str()` is one sentence for a person, on one line, whatever it quotes."""

    def __str__(self) -> str:
        return " ".join(super().__str__().split())


class MissingRecord(RecordError):
    """A file or run directory that was asked for does not exist."""


class CorruptRecord(RecordError):
    """A record exists but cannot be read as what it claims to be."""


class NewerVersion(RecordError):
    """A record was written by a newer major version of its format."""

    def __init__(self, path: Path, schema: str, *, known: str) -> None:
        super().__init__(
            f"{path} has format {schema}; this icequake reads up to {known}. Read it with the icequake that wrote it."
        )


class InvalidDocument(RecordError):
    """A YAML or JSON document written by a person is wrong.

    Attributes:
        path: The file (or a name such as "<string>").
        line: One-based line, or None when the fault has no single line.
        sentence: What is wrong and what to do.
    """

    def __init__(self, path: Path | str, line: int | None, sentence: str) -> None:
        where = f"{path}:{line}" if line is not None else str(path)
        super().__init__(f"{where}: {sentence}")
        self.path = path
        self.line = line
        self.sentence = sentence


class LedgerWriteError(RecordError):
    """The ledger could not be written; a run that cannot record its attempts must stop sending."""
