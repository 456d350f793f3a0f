"""Outcomes made of words, for tests."""

from __future__ import annotations

from typing import Any

from chaos.faults import catalogue
from chaos.faults.kills import Kill
from chaos.trials.outcome import Outcome, Trial, Word, definition_of

UNBROKEN = ("reference", "naive")


KILLS: dict[str, Kill] = {
    **{name: Kill(mutant="meant", check="events.lost") for name in catalogue()},
    "slow-r2": Kill(mutant="impatient", check="events.duplicated"),
    "r2-latency-1s": Kill(mutant="impatient", check="events.duplicated"),
    "catalog-500": Kill(mutant="gives-up", check="events.lost"),
    "catalog-503": Kill(mutant="gives-up", check="events.lost"),
}
"""What a few faults kill, whatever kills.yaml says."""


def outcome(fault: str, target: str, word: Word, **more: Any) -> Outcome:
    """An outcome of the fault as it is now, a second after the epoch."""
    fields: dict[str, Any] = {
        "blamed": [], "detail": "", "run": f"run-{fault}-{target}", "seconds": 12.3, "unix_ns": 10**9, "seed": 7,
        "definition": definition_of(catalogue()[fault]), "planted": target not in UNBROKEN,
    }  # fmt: skip
    return Outcome(fault=fault, target=target, word=word, **fields | more)


def trial(fault: str = "slow-r2", target: str = "reference", check: str | None = None) -> Trial:
    """A trial; by default on the reference collector."""
    return Trial(fault=fault, target=target, path=target, planted=check is not None, check=check)


def verdict(whole: str, **checks: str) -> dict[str, Any]:
    """A verdict with the fault in effect unless said otherwise; `events_lost="FAIL"` is the check events.lost."""
    found = {"run.faults_effective": "PASS"} | {name.replace("_", ".", 1): value for name, value in checks.items()}
    return {"verdict": whole, "checks": [{"id": name, "verdict": value} for name, value in found.items()]}
