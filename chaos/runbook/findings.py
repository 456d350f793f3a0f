"""What can be wrong with a runbook, and how a finding is told."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

SCHEMA = "icequake.runbook-check/1.0"


class Kind(StrEnum):
    """How a step of a runbook fails whoever follows it."""

    MISSING = "does not exist"
    NOTHING = "succeeds without doing it"
    BLIND = "cannot see failure"
    UNSAFE = "does harm or comes too late"


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        rule: Its name.
        line: Where, from 1.
        text: The command or the sentence.
        why: What happens when somebody follows it.
        instead: What to write.
    """

    rule: str
    kind: Kind
    line: int
    text: str
    why: str
    instead: str


@dataclass
class Report:
    """What was found in one runbook.

    Attributes:
        unchecked: Command lines of programs that no rule knows, by line.
    """

    name: str
    commands: int
    findings: list[Finding] = field(default_factory=list)
    unchecked: dict[int, str] = field(default_factory=dict)

    @property
    def exit_code(self) -> int:
        """0 nothing wrong, 1 something is, 2 nothing found but not everything could be checked."""
        if self.findings:
            return 1
        return 2 if self.unchecked or not self.commands else 0

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON-ready data."""
        return {
            "schema": SCHEMA,
            "file": self.name,
            "commands": self.commands,
            "exit_code": self.exit_code,
            "findings": [
                {
                    "rule": one.rule,
                    "kind": str(one.kind),
                    "line": one.line,
                    "text": one.text,
                    "why": one.why,
                    "instead": one.instead,
                }
                for one in self.findings
            ],
            "unchecked": [{"line": line, "text": text} for line, text in sorted(self.unchecked.items())],
        }
