"""Outcomes made of words, for tests."""

from __future__ import annotations

from typing import Any

from chaos.faults import catalogue
from chaos.trials.outcome import Outcome, Trial, Word, definition_of


def outcome(fault: str, target: str, word: Word, **more: Any) -> Outcome:
    """An outcome of the fault as it is now, a second after the epoch."""
    fields: dict[str, Any] = {
        "blamed": [], "detail": "", "run": f"run-{fault}-{target}", "seconds": 12.3, "unix_ns": 10**9, "seed": 7,
        "definition": definition_of(catalogue()[fault]),
    }  # fmt: skip
    return Outcome(fault=fault, target=target, word=word, **fields | more)


def trial(fault: str = "slow-r2", target: str = "reference", check: str | None = None) -> Trial:
    """A trial; by default on the reference collector."""
    return Trial(fault=fault, target=target, path=target, check=check)


def verdict(whole: str, **checks: str) -> dict[str, Any]:
    """A verdict with the fault in effect unless said otherwise; `events_lost="FAIL"` is the check events.lost."""
    found = {"run.faults_effective": "PASS"} | {name.replace("_", ".", 1): value for name, value in checks.items()}
    return {"verdict": whole, "checks": [{"id": name, "verdict": value} for name, value in found.items()]}
