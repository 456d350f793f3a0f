"""One trial of a fault and what came of it; outcomes are kept, so that what was never tried can be told."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

from loadtests.records.errors import CorruptRecord
from loadtests.records.jsonl import JsonlWriter, read_jsonl

if TYPE_CHECKING:  # whoever only passes outcomes on needs no mechanisms
    from chaos.faults import FaultSpec

KIND = "catalogue"
KEPT = "catalogue.jsonl"
"""Where outcomes are kept, below the runs directory."""
EFFECTIVE = "run.faults_effective"


class Word(StrEnum):
    """What came of a trial. A target without a bug should PASS, one with a planted bug should be killed.

    `unhurt` is a planted bug that did not show under a fault that need not find it.
    """

    PASSED = "PASS"
    FAILED = "FAIL"
    KILLED = "killed"
    SURVIVED = "survived"
    UNHURT = "unhurt"
    WRONG_CHECK = "wrong check"
    VOID = "void"
    UNDECIDED = "inconclusive"
    STOPPED = "stopped"
    BROKEN = "icequake failed"

    @property
    def exit_code(self) -> int:
        """0 as it should be, 1 not so, 2 nothing was found out, 255 icequake itself failed."""
        return _EXIT_CODES[self]


_EXIT_CODES = {
    Word.PASSED: 0, Word.KILLED: 0, Word.UNHURT: 0, Word.FAILED: 1, Word.SURVIVED: 1, Word.WRONG_CHECK: 1,
    Word.VOID: 2, Word.UNDECIDED: 2, Word.STOPPED: 2, Word.BROKEN: 255,
}  # fmt: skip
_SEVERITY = (0, 2, 1, 255)


def worst(words: Iterator[Word]) -> int:
    """Return the exit code of several trials: that of the worst."""
    return max((word.exit_code for word in words), key=_SEVERITY.index, default=0)


class Trial(Struct, frozen=True, kw_only=True):
    """A fault to be tried on a target.

    Attributes:
        target: Its name, as it is shown.
        path: A target's name or its .yaml file.
        planted: Whether the target has a planted bug.
        check: The check that must find it; None when this fault need not.
    """

    fault: str
    target: str
    path: str
    planted: bool = False
    check: str | None = None


class Outcome(Struct, frozen=True, kw_only=True, tag="outcome", tag_field="is"):
    """What came of a trial.

    Attributes:
        planted: Whether the target has a planted bug.
        blamed: The checks that were not PASS, in the order of the verdict.
        detail: Why, where the word alone does not say.
        run: Name of the run directory; None when there was no run.
        seconds: From the first step of the trial to the verdict.
        unix_ns: When it ended.
        seed: Of the last try.
        definition: Which version of the fault was tried, see `definition_of`.
        tries: How many runs it took; a planted bug that survived one is tried with the next seed.
    """

    fault: str
    target: str
    word: Word
    blamed: list[str]
    detail: str
    run: str | None
    seconds: float
    unix_ns: int
    seed: int
    definition: str
    planted: bool = False
    tries: int = 1


def word_for(trial: Trial, verdict: dict[str, Any]) -> Word:
    """Say what a verdict means for a trial: a kill counts only by the right check and with the fault in effect."""
    found = {check["id"]: check["verdict"] for check in verdict["checks"]}
    whole = verdict["verdict"]
    effective = found.get(EFFECTIVE) == "PASS"
    if not trial.planted:
        return {"PASS": Word.PASSED, "FAIL": Word.FAILED}.get(whole, Word.UNDECIDED if effective else Word.VOID)
    if not effective:
        return Word.VOID
    if whole == "FAIL":
        return Word.KILLED if trial.check is None or found.get(trial.check) == "FAIL" else Word.WRONG_CHECK
    if whole == "PASS":
        return Word.UNHURT if trial.check is None else Word.SURVIVED
    return Word.UNDECIDED


def definition_of(spec: FaultSpec) -> str:
    """Return a digest of what a fault does and how it is tried; an outcome of another version says nothing about this one."""
    micro = msgspec.to_builtins(msgspec.structs.replace(spec.micro, tier="quick"))
    if spec.micro.stack is None:
        del micro["stack"]
    what = [spec.mechanism, spec.params, micro]
    return hashlib.sha256(msgspec.json.encode(what, order="sorted")).hexdigest()[:12]


class Kept:
    """The outcomes that a runs directory has kept."""

    def __init__(self, runs: Path) -> None:
        self._path = runs / KEPT

    def add(self, outcome: Outcome) -> None:
        """Append one; raises OSError when the disk is full."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with JsonlWriter(self._path, KIND, KIND) as writer:
            writer.append(msgspec.to_builtins(outcome))

    def read(self) -> list[Outcome]:
        """Return every outcome in order; none when nothing was tried. Raises CorruptRecord, NewerVersion."""
        if not self._path.is_file():
            return []
        try:
            return [msgspec.convert(record, Outcome) for record in read_jsonl(self._path, KIND)]
        except msgspec.ValidationError as error:
            raise CorruptRecord(f"{self._path} has a line that is no outcome ({error}); move the file away.") from error
