"""What has been tried and what it killed: faults x stages of the pipeline, and faults x mutants."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum

from msgspec import Struct

from chaos.faults import FaultSpec
from chaos.faults.kills import Kill
from chaos.faults.stages import Stage
from chaos.trials.outcome import Outcome, Word, definition_of
from loadtests.records.schema import schema_name

REFERENCE = "reference"


class State(StrEnum):
    """How much is known of a fault at a stage.

    `killed`: the reference passed and a planted bug was found. `tried`: it took effect, and nothing was killed. `not tried`: never,
    or without effect. `not applicable`: it does not bite at this stage.
    """

    KILLED = "killed"
    TRIED = "tried"
    NOT_TRIED = "not tried"
    NOT_APPLICABLE = "not applicable"


class Row(Struct, frozen=True, kw_only=True):
    """One fault.

    Attributes:
        mutant: The one that it must kill, by `check`.
        stages: One state for each stage of the pipeline.
        unbroken: What came of it on the target without a planted bug; None when it was not tried.
        kills: Mutant -> what came of it.
        unix_ns: When it was last tried.
        runs: Target -> run directory of the last trial.
    """

    fault: str
    about: str
    mechanism: str
    tier: str
    mutant: str
    check: str
    stages: dict[Stage, State]
    unbroken: Word | None
    kills: dict[str, Word]
    unix_ns: int | None
    runs: dict[str, str]


class Matrix(Struct, frozen=True, kw_only=True):
    """Everything there is to show.

    Attributes:
        target: The target without a planted bug.
        mutants: The columns of the kill matrix.
        outdated: Outcomes of faults that have changed since; they say nothing about the present ones.
    """

    rows: list[Row]
    target: str
    mutants: list[str]
    outdated: int = 0
    schema: str = schema_name("catalogue-report")

    def count(self, state: State, stage: Stage, mechanism: str) -> int:
        """Count the faults of a mechanism that are in *state* at *stage*."""
        return sum(row.mechanism == mechanism and row.stages[stage] is state for row in self.rows)

    @property
    def mechanisms(self) -> list[str]:
        """The mechanisms of its faults, in the order of the catalogue."""
        return list(dict.fromkeys(row.mechanism for row in self.rows))


def make_matrix(
    specs: Sequence[FaultSpec], kills: Mapping[str, Kill], outcomes: Iterable[Outcome], *, target: str = REFERENCE
) -> Matrix:
    """Arrange *outcomes* (in the order of their time; the last of a fault and target counts) by the faults *specs*.

    Outcomes of *target* and of collectors with a planted bug are used, those of other targets are not.
    """
    known = {spec.name: definition_of(spec) for spec in specs}
    last: dict[tuple[str, str], Outcome] = {}
    outdated: set[tuple[str, str]] = set()
    for outcome in outcomes:
        asked = outcome.planted if outcome.target != target else not outcome.planted
        if outcome.fault not in known or not asked or outcome.word is Word.STOPPED:
            continue
        key = (outcome.fault, outcome.target)
        if outcome.definition == known[outcome.fault]:
            last[key] = outcome
        else:
            outdated.add(key)
    wanted = {kills[spec.name].mutant for spec in specs}
    tried = {name for _, name in last if name != target}
    rows = [_row(spec, kills[spec.name], [last[key] for key in last if key[0] == spec.name], target) for spec in specs]
    mutants = sorted({*wanted, *tried})
    return Matrix(rows=rows, target=target, mutants=mutants, outdated=len(outdated - set(last)))


def _row(spec: FaultSpec, kill: Kill, outcomes: Sequence[Outcome], target: str) -> Row:
    unbroken = next((one.word for one in outcomes if one.target == target), None)
    killed = {one.target: one.word for one in outcomes if one.target != target}
    state = _state(unbroken, killed)
    return Row(
        fault=spec.name,
        about=spec.about,
        mechanism=spec.mechanism,
        tier=spec.micro.tier,
        mutant=kill.mutant,
        check=kill.check,
        stages={stage: state if stage in spec.stages else State.NOT_APPLICABLE for stage in Stage},
        unbroken=unbroken,
        kills=killed,
        unix_ns=max((one.unix_ns for one in outcomes), default=None),
        runs={one.target: one.run for one in outcomes if one.run is not None},
    )


_EFFECTIVE = (Word.PASSED, Word.FAILED, Word.KILLED, Word.SURVIVED, Word.UNHURT, Word.WRONG_CHECK)


def _state(unbroken: Word | None, kills: Mapping[str, Word]) -> State:
    if unbroken is Word.PASSED and Word.KILLED in kills.values():
        return State.KILLED
    if any(word in _EFFECTIVE for word in (unbroken, *kills.values())):
        return State.TRIED
    return State.NOT_TRIED
