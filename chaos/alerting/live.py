"""The table of alerts over a run that goes on: on the target's metrics as they are scraped, and on what the auditor sees."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from chaos.alerting.engine import Episode, Evaluator
from chaos.alerting.rules import Rule
from chaos.alerting.samples import Samples, parse_sample_name
from chaos.alerting.words import TRUTH, figures_of, metrics_of, table_for
from loadtests.records.target import Target

IN_TRUTH = " in truth"
_SEEN = ("buffered", "last_commit_s", "oldest_age_s")
"""Words that have a meaning while a run goes on: per type and per commit only the finished run is taken apart."""


class LiveAlerts:
    """Evaluates the table, look by look. Not safe for several threads; `table` may be called from any.

    A rule on the truth has the words "in truth" after its name.
    """

    def __init__(self, target: Target) -> None:
        figures = figures_of(target)
        own = table_for(metrics_of(target) | figures)
        truth = table_for({word: TRUTH[word] for word in _SEEN} | figures)
        self._samples = Samples()
        self._watched = {
            name
            for group in own.groups
            for rule in group.rules
            if rule.expression
            for name in rule.expression.metrics()
        }
        self._own = [Evaluator(group) for group in own.groups]
        self._truth = [Evaluator(group) for group in truth.groups if group.name != "icequake-meta"]
        self._snapshot: object = None
        self._committed_s: float | None = None
        self._fired: dict[str, int] = {}
        self._open: dict[str, Episode] = {}

    def look(self, unix_s: float, scraped: Mapping[str, float], visible: Mapping[str, Any]) -> list[tuple[str, str]]:
        """Evaluate every rule; return what changed as (rule, "firing" or "resolved").

        Args:
            scraped: The last scrape; empty when the target did not answer.
            visible: The auditor's last line; empty before the first.
        """
        self._take(unix_s, scraped, visible)
        before = {name for name, episode in self._open.items() if episode.fired_s is not None}
        self._open = {}
        for evaluators, suffix in ((self._own, ""), (self._truth, IN_TRUTH)):
            for evaluator in evaluators:
                evaluator.evaluate(self._samples, unix_s)
                for episode in evaluator.open():
                    self._keep(episode.rule.name + suffix, episode)
        after = {name for name, episode in self._open.items() if episode.fired_s is not None}
        for name in after - before:
            self._fired[name] = self._fired.get(name, 0) + 1
        return [(name, "firing") for name in sorted(after - before)] + [
            (name, "resolved") for name in sorted(before - after)
        ]

    def _keep(self, name: str, episode: Episode) -> None:
        known = self._open.get(name)
        if known is None or (known.fired_s is None and episode.fired_s is not None):
            self._open[name] = episode

    def _take(self, unix_s: float, scraped: Mapping[str, float], visible: Mapping[str, Any]) -> None:
        for name, value in scraped.items():
            metric, labels = parse_sample_name(name)
            if metric in self._watched:
                self._samples.add(unix_s, metric, value, labels, job="target")
        self._samples.end_of_scrape(unix_s, job="target")
        if "pending" not in visible:
            return
        if visible.get("snapshot_id") != self._snapshot:
            self._snapshot, self._committed_s = visible.get("snapshot_id"), unix_s
        seen = {
            "buffered": visible["pending"],
            "oldest_age_s": visible.get("freshness_s"),
            "last_commit_s": self._committed_s,
        }
        for word, value in seen.items():
            if value is not None:
                self._samples.add(unix_s, TRUTH[word], float(value), job="truth")
        self._samples.end_of_scrape(unix_s, job="truth")

    def table(self, zero_unix_s: float) -> list[dict[str, Any]]:
        """Return a row a rule: name, about, severity, state (ok, pending, firing) and since when, and how often it fired.

        `since_s` counts from *zero_unix_s*: when the condition began to hold for a pending one, when it fired for a firing one.
        """
        rules = [(rule, "") for one in self._own for rule in one.group.rules]
        rules += [(rule, IN_TRUTH) for one in self._truth for rule in one.group.rules]
        return [self._row(rule, suffix, zero_unix_s) for rule, suffix in rules]

    def _row(self, rule: Rule, suffix: str, zero_unix_s: float) -> dict[str, Any]:
        name = rule.name + suffix
        episode = self._open.get(name)
        state = "ok" if episode is None else "pending" if episode.fired_s is None else "firing"
        began_s = None if episode is None else episode.crossed_s if episode.fired_s is None else episode.fired_s
        return {
            "name": name,
            "about": rule.annotations.get("summary", rule.text),
            "severity": rule.severity,
            "state": state,
            "since_s": None if began_s is None else round(max(began_s - zero_unix_s, 0.0), 1),
            "fired": self._fired.get(name, 0),
        }
