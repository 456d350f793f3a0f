"""What happened at instants, in words, for a reader who moves along the time axis by key or by ear."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reports.flush_lane import commit_told, snapshot_told, thinned
from reports.frame import letter
from reports.page import Anomaly
from reports.story import Landing, Story


@dataclass(frozen=True)
class Mark:
    """One instant. `stop`: "next event" goes to it; ordinary commits and snapshots are only told in passing."""

    t_s: float
    text: str
    stop: bool = True


def marks_of(story: Story, anomalies: Sequence[Anomaly], alerts: Sequence[Mapping[str, Any]]) -> list[Mark]:
    """Return all instants in order: phases, faults, anomalies, alerts, what people did, commits and snapshots.

    Of commits and snapshots there are as many as the timeline draws.
    """
    told = [*_phases_and_faults(story), *_anomalies(anomalies), *_alerts(alerts), *_actions(story), *_flushes(story)]
    return sorted(told, key=lambda mark: (mark.t_s, mark.text))


def _phases_and_faults(story: Story) -> Iterator[Mark]:
    for span in story.phases:
        yield Mark(span.start_s, f"phase {span.name}")
    for index, fault in enumerate(story.faults):
        if fault.effective is not None:
            yield Mark(fault.effective[0], f"fault {letter(index)} {fault.name} in place")
            yield Mark(fault.effective[1], f"fault {letter(index)} {fault.name} gone")


def _anomalies(anomalies: Sequence[Anomaly]) -> Iterator[Mark]:
    return (
        Mark(anomaly.at_s, f"{anomaly.check}: {anomaly.events}") for anomaly in anomalies if anomaly.at_s is not None
    )


def _alerts(rules: Iterable[Mapping[str, Any]]) -> Iterator[Mark]:
    for rule in rules:
        for key, word in (("crossed_at_s", "pending"), ("fired_at_s", "firing"), ("cleared_at_s", "cleared")):
            if rule.get(key) is not None:
                yield Mark(max(float(rule[key]), 0.0), f"alert {rule['alert']} {word}")


def _actions(story: Story) -> Iterator[Mark]:
    for action in story.actions:
        yield Mark(action.start_s, f"{action.kind}: {action.text}")


def _flushes(story: Story) -> Iterator[Mark]:
    for landing in Landing:
        for commit in thinned([c for c in story.commits if c.landing is landing], story.clock.end_s):
            yield Mark(commit.t_s, commit_told(commit), stop=landing is not Landing.COMMITTED)
    for snapshot in thinned(story.snapshots, story.clock.end_s):
        yield Mark(snapshot.t_s, snapshot_told(snapshot), stop=False)
