"""The verdict: a list of checks with stable ids, from which every report, mail and exit code is rendered.

A check is one claim about a run with its evidence. The worst check wins; "could not tell" is never a pass.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from msgspec import Struct, field

from loadtests.records.documents import read_document, write_document
from loadtests.records.schema import schema_name
from reports.visible import visible

KIND = "verdict"


class Verdict(enum.StrEnum):
    """What a check, or a whole run, came to."""

    PASS = "PASS"  # noqa: S105  # a verdict, not a password
    INCONCLUSIVE = "INCONCLUSIVE"
    FAIL = "FAIL"


_BY_SEVERITY = (Verdict.PASS, Verdict.INCONCLUSIVE, Verdict.FAIL)

EXIT_CODES = {Verdict.PASS: 0, Verdict.FAIL: 1, Verdict.INCONCLUSIVE: 2}
"""Process exit codes by verdict; 254 is a bad argument or file, 255 a failure of the harness itself."""


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """Return the worst of *verdicts*; of none at all, INCONCLUSIVE, since nothing was checked."""
    return max(verdicts, key=_BY_SEVERITY.index, default=Verdict.INCONCLUSIVE)


class Check(Struct, frozen=True, kw_only=True):
    """One claim and what became of it.

    Attributes:
        id: Stable name such as `events.lost`.
        claim: What is claimed, or what was found instead, as one sentence.
        counts: Numbers behind it.
        examples: At most a handful of anomalies (ranges, with everything known of them); `counts` has the total.
        evidence: Which records of the run show it, and the command that prints it.
        cause: The cause where one can be named.
    """

    id: str
    verdict: Verdict
    claim: str
    counts: dict[str, int] = field(default_factory=dict)
    examples: list[dict[str, Any]] = field(default_factory=list)
    evidence: list[str] = field(default_factory=list)
    cause: str | None = None


class Totals(Struct, frozen=True, kw_only=True):
    """Numbers of events, except `rows_read` (rows of this run in the current snapshot, copies included).

    `unwanted` were sent to be refused or skipped, and count nowhere else.
    """

    attempted: int = 0
    acked: int = 0
    refused: int = 0
    unknown: int = 0
    rows_read: int = 0
    distinct: int = 0
    lost: int = 0
    duplicated: int = 0
    altered: int = 0
    unexpected: int = 0
    resurrected: int = 0
    recovered: int = 0
    pending: int = 0
    stuck: int = 0
    late: int = 0
    unwanted: int = 0

    @property
    def wrong(self) -> int:
        """How many events are not where and what they should be, although the target had its time."""
        return self.lost + self.duplicated + self.altered + self.unexpected + self.resurrected + self.stuck


class VerdictDoc(Struct, frozen=True, kw_only=True):
    """The content of verdict.json.

    Attributes:
        first_screen: The lines that stand in the terminal, the mail and on top of the report.
        sections: `capacity`, `flush`, `recovery`, `alerts`, `trust`: the numbers behind the report's sections.
    """

    run_id: str
    scenario: str
    target: str
    seed: int
    verdict: Verdict
    exit_code: int
    started_unix_ns: int
    duration_s: float
    first_screen: list[str]
    totals: Totals
    sections: dict[str, dict[str, Any]]
    checks: list[Check]
    schema: str = schema_name(KIND)

    def check(self, check_id: str) -> Check:
        """Return the check named *check_id*. Raises KeyError."""
        for check in self.checks:
            if check.id == check_id:
                return check
        raise KeyError(check_id)


def write_verdict(path: Path, verdict: VerdictDoc) -> None:
    """Replace the verdict at *path* atomically; equal verdicts are equal bytes."""
    write_document(path, verdict)


def read_verdict(path: Path) -> VerdictDoc:
    """Read a verdict.

    Raises:
        MissingRecord, CorruptRecord, NewerVersion: see `loadtests.records.errors`.
    """
    return read_document(path, VerdictDoc, schema=KIND)


def in_a_sentence(doc: VerdictDoc) -> str:
    """Return what a run came to: what became of the events, or why the verdict is no PASS although nothing is wrong with them."""
    headline = doc.first_screen[1] if len(doc.first_screen) > 1 else ""
    reason = next((check for check in doc.checks if check.verdict is doc.verdict), None)
    if doc.verdict is Verdict.PASS or doc.totals.wrong or reason is None:
        return headline
    return visible(f"{reason.id}: {reason.claim}")
