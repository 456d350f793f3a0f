"""A claimed capacity, held to account: a little below it all is clean for long, a little above it the target refuses without loss."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from reports.experiment.capacity import Capacity, Trial
from reports.experiment.lab import Outcome, Run
from reports.verdict import Verdict

BELOW, ABOVE = 0.95, 1.10
LONG_S = 600.0
"""How long each of the two lasts, if nobody says otherwise."""


@dataclass(frozen=True)
class Verified:
    """Two long runs, at `BELOW` and at `ABOVE` times the claim.

    Attributes:
        above: None where the lower one was not clean: the claim is refuted then.
    """

    events_per_s: float
    below: Outcome
    above: Outcome | None

    @property
    def outcomes(self) -> list[Outcome]:
        """The runs that were made."""
        return [self.below] if self.above is None else [self.below, self.above]

    @property
    def below_holds(self) -> bool:
        """Whether the lower rate was clean throughout."""
        return self.below.clean

    @property
    def above_refuses(self) -> bool:
        """Whether the higher rate was refused now and then, and everything acknowledged is in its place."""
        above = self.above
        return above is not None and above.refused_requests > 0 and not above.wrong and above.verdict is Verdict.PASS

    @property
    def holds(self) -> bool:
        """Whether both did as they were to."""
        return self.below_holds and self.above_refuses

    @property
    def told_nothing(self) -> bool:
        """Whether one of them shows nothing, so that the claim is neither shown nor refuted."""
        return any(outcome.told_nothing for outcome in self.outcomes)

    def sentence(self) -> str:
        """Say it."""
        said = "; ".join([self._said_below(), *([] if self.above is None else [self._said_above(self.above)])])
        return f"The claim of {self.events_per_s:,.0f} events/s {self._word()}: {said}."

    def _word(self) -> str:
        if self.holds:
            return "holds"
        return "could not be verified" if self.told_nothing else "does not hold"

    def _said_below(self) -> str:
        what = f"{BELOW:.0%} of it ({self.below.point.events_per_s:,.0f} events/s) for {length(self.below)}"
        return f"{what} was clean" if self.below_holds else f"{what} was not: {fault_of(self.below)}"

    def _said_above(self, above: Outcome) -> str:
        what = f"{ABOVE:.0%} ({above.point.events_per_s:,.0f} events/s) for {length(above)}"
        if self.above_refuses:
            return f"{what} was refused {above.refused_requests:,} times and nothing was lost"
        if not above.refused_requests and not above.told_nothing:
            return f"{what} was never refused: the capacity is higher"
        return f"{what}: {fault_of(above)}"


def length(outcome: Outcome) -> str:
    """Say how long the traffic of a run lasted."""
    seconds = outcome.point.for_s
    return f"{round(seconds / 60, 1):g} minutes" if seconds >= 120 else f"{seconds:g} s"


def fault_of(outcome: Outcome) -> str:
    """Say why a run was not clean."""
    counts = {
        "events wrong": outcome.wrong,
        "requests refused": outcome.refused_requests,
        "events unanswered": outcome.unknown,
        "events late": outcome.late,
    }
    said = [f"{number:,} {what}" for what, number in counts.items() if number]
    said += ["the generator was behind its schedule"] if outcome.behind else []
    return ", ".join(said) or f"run {outcome.run_id} is {outcome.verdict}"


def verify(run: Run, trial: Trial, events_per_s: float, *, for_s: float = LONG_S) -> Verified:
    """Run `BELOW` times the claimed rate *for_s*, and `ABOVE` times as long as half of the excess needs to fill a buffer."""
    low, high = events_per_s * BELOW, events_per_s * ABOVE
    low_s = max(for_s, trial.seconds(low, 1 - BELOW))
    high_s = max(trial.least_s, min(for_s, trial.seconds(high, (ABOVE - 1) / 2)))
    below = run(trial.point(low, for_s=low_s, repeat=100))
    above = run(trial.point(high, for_s=high_s, repeat=100)) if below.clean else None
    return Verified(events_per_s, below, above)


@dataclass(frozen=True)
class Claimed:
    """A capacity that was searched for and verified.

    Attributes:
        refuted: What a search with shorter trials had found, and the long run that was not clean; None when the first search was right.
    """

    found: Capacity
    verified: Verified | None
    refuted: tuple[Capacity, Verified] | None = None


def find_and_verify(
    run: Run, trial: Trial, search: Callable[[Trial, float | None], Capacity], *, for_s: float
) -> Claimed:
    """Search and verify; where the long run below the answer is not clean, once more with trials that last as long as it took.

    Some work of a target comes round seldom (the reference collector merges manifests every 40 flushes): shorter trials miss it.

    Args:
        search: Gets how to try a rate, and the rate to begin with (None: as it was told).
    """
    found = search(trial, None)
    if found.events_per_s is None:
        return Claimed(found, None)
    verified = verify(run, trial, found.events_per_s, for_s=for_s)
    if verified.below_holds or verified.told_nothing:
        return Claimed(found, verified)
    longer = replace(trial, least_s=_seen_in_s(verified.below, found))
    again = search(longer, found.events_per_s / 4)
    if again.events_per_s is None:
        return Claimed(again, None, (found, verified))
    return Claimed(again, verify(run, longer, again.events_per_s, for_s=for_s), (found, verified))


def _seen_in_s(outcome: Outcome, found: Capacity) -> float:
    """How long a trial must last to see what a long run saw: a half more than that took."""
    took_s = outcome.refused_after_s if outcome.refused_after_s is not None else outcome.point.for_s
    return float(math.ceil(max(found.longest_trial_s, 1.5 * took_s)))
