"""Two runs side by side: what was measured, what was judged, and whether they may be compared at all."""

from __future__ import annotations

from dataclasses import dataclass

from reports.history.entry import FIGURES, Entry


@dataclass(frozen=True)
class Difference:
    """One figure of two runs; `change` is b over a, minus one."""

    name: str
    unit: str
    a: float | None
    b: float | None

    @property
    def change(self) -> float | None:
        """How much more B is than A, as a share; None where one was not measured, or A is zero."""
        return None if self.a is None or self.b is None or not self.a else self.b / self.a - 1


@dataclass(frozen=True)
class Comparison:
    """Two runs.

    Attributes:
        caveats: Why their figures differ for other reasons than the target; empty when they can be compared.
        newly_failed, no_longer_failed: Checks.
        versions: Packages whose versions differ: name -> (a, b).
    """

    differences: list[Difference]
    caveats: list[str]
    newly_failed: list[str]
    no_longer_failed: list[str]
    versions: dict[str, tuple[str, str]]


def compare(a: Entry, b: Entry) -> Comparison:
    """Compare two runs."""
    return Comparison(
        differences=[
            Difference(f.name, f.unit, a.figures.get(f.name), b.figures.get(f.name))
            for f in FIGURES
            if f.name in a.figures or f.name in b.figures
        ],
        caveats=_caveats(a, b),
        newly_failed=sorted(set(b.failed_checks) - set(a.failed_checks)),
        no_longer_failed=sorted(set(a.failed_checks) - set(b.failed_checks)),
        versions={
            name: (a.versions.get(name, "none"), b.versions.get(name, "none"))
            for name in sorted({*a.versions, *b.versions})
            if a.versions.get(name) != b.versions.get(name)
        },
    )


def _caveats(a: Entry, b: Entry) -> list[str]:
    caveats = []
    if a.scenario != b.scenario:
        caveats.append(f"the scenarios differ: {a.scenario} and {b.scenario}")
    if a.fingerprint != b.fingerprint:
        caveats.append(
            f"they ran on different machines or stacks ({a.fingerprint} and {b.fingerprint}): figures cannot be compared"
        )
    for entry in (a, b):
        if entry.problem is not None:
            caveats.append(f"{entry.run_id}: {entry.problem}")
    return caveats
