"""One metric of the target against what an honest target says."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Compared:
    """One metric over a run, against its bounds where they come closest to it, or are broken by most.

    Attributes:
        said: What it said, or by how much it grew.
        at_least, at_most: What an honest target says; None where nothing bounds it.
        at_ns: When; None for what is said of the whole run.
        readings: How many readings were compared.
        broken: At how many of them it was out of bounds.
    """

    metric: str
    said: float
    at_least: float | None
    at_most: float | None
    at_ns: int | None
    readings: int
    broken: int

    @property
    def sentence(self) -> str:
        """What is wrong, or not."""
        bounds = [f"at least {self.at_least:.4g}" if self.at_least is not None else ""]
        bounds += [f"at most {self.at_most:.4g}" if self.at_most is not None else ""]
        return f"{self.metric} said {self.said:.4g}; in truth {' and '.join(b for b in bounds if b)}"
