"""Alert rules in Prometheus' own file format, read into typed groups.

    groups:
      - name: buffer
        interval: 15s
        rules:
          - alert: BufferAlmostFull
            expr: max(collector_buffer_fill_ratio) > 0.9
            for: 5m
            labels: {severity: page}

Recording rules are understood too. Templates in labels and annotations are kept as they are.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import promql_parser as ql
import yaml
from msgspec import Struct

from chaos.alerting.errors import AlertRuleError, Unsupported
from chaos.alerting.promql import Expression
from loadtests.records.documents import line_of, parse_yaml
from loadtests.records.errors import InvalidDocument

DEFAULT_INTERVAL_S = 15.0
_ZERO = re.compile(r"0(ms|[smhdwy])?")


class RuleText(Struct, frozen=True, forbid_unknown_fields=True, rename={"for_": "for"}):
    """One entry of a rule file, as written."""

    expr: str
    alert: str | None = None
    record: str | None = None
    for_: str = "0s"
    keep_firing_for: str = "0s"
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


class GroupText(Struct, frozen=True):
    """One group of a rule file, as written; its other settings (limit, query_offset) do not matter here."""

    name: str
    rules: list[RuleText]
    interval: str | None = None


class FileText(Struct, frozen=True):
    """A rule file, as written."""

    groups: list[GroupText]


@dataclass(frozen=True)
class Rule:
    """An alert (or, with `record`, a recording rule).

    Attributes:
        name: The alert's name, or that of the recorded metric.
        expression: None when it cannot be evaluated here; `problem` says why.
        for_s, keep_firing_s: Seconds, as in Prometheus.
    """

    name: str
    text: str
    expression: Expression | None
    for_s: float = 0.0
    keep_firing_s: float = 0.0
    labels: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)
    record: bool = False
    problem: str | None = None

    @property
    def severity(self) -> str:
        """What the label says; empty without it."""
        return self.labels.get("severity", "")


@dataclass(frozen=True)
class Group:
    """Rules that are evaluated one after the other, every `interval_s` seconds."""

    name: str
    interval_s: float
    rules: tuple[Rule, ...]


def read_rules(path: Path) -> tuple[Group, ...]:
    """Read a rule file.

    Raises:
        AlertRuleError: it is not there, not YAML, not in Prometheus' format, or an expression is not PromQL.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise AlertRuleError(f"{path} cannot be read: {error}.") from error
    return parse_rules(text, str(path))


def parse_rules(text: str, where: str) -> tuple[Group, ...]:
    """Read rules from *text*; *where* names it in errors, which are those of `read_rules` and say the line."""
    try:
        document = parse_yaml(text, FileText, path=where)
    except InvalidDocument as error:
        raise AlertRuleError(f"{_at(where, error.line)}: not a Prometheus rule file: {error.sentence}") from error
    node = yaml.compose(text, Loader=yaml.SafeLoader)

    def place(path: str) -> str:
        return _at(where, line_of(node, f" - at `$.{path}`"))

    return tuple(_group(group, f"groups[{index}]", place) for index, group in enumerate(document.groups))


def _at(where: str, line: int | None) -> str:
    return where if line is None else f"{where}:{line}"


Place = Callable[[str], str]
"""Where in a file a path such as `groups[0].rules[1].expr` is: `FILE:LINE`."""


def _group(group: GroupText, path: str, place: Place) -> Group:
    interval_s = _seconds(group.interval, place(f"{path}.interval")) if group.interval else DEFAULT_INTERVAL_S
    rules = (_rule(rule, f"{path}.rules[{index}]", place) for index, rule in enumerate(group.rules))
    return Group(group.name, interval_s, tuple(rules))


def _rule(rule: RuleText, path: str, place: Place) -> Rule:
    if (rule.alert is None) == (rule.record is None):
        raise AlertRuleError(f"{place(path)}: the rule with expr {rule.expr!r} must have either `alert` or `record`.")
    try:
        expression, problem = Expression.parse(rule.expr), None
    except Unsupported as error:
        expression, problem = None, str(error)
    except AlertRuleError as error:
        raise AlertRuleError(f"{place(f'{path}.expr')}: rule {rule.alert or rule.record}: {error}") from error
    return Rule(
        name=str(rule.alert or rule.record),
        text=rule.expr,
        expression=expression,
        for_s=_seconds(rule.for_, place(f"{path}.for")),
        keep_firing_s=_seconds(rule.keep_firing_for, place(f"{path}.keep_firing_for")),
        labels=rule.labels,
        annotations=rule.annotations,
        record=rule.record is not None,
        problem=problem,
    )


def _seconds(text: str, where: str) -> float:
    if _ZERO.fullmatch(text):  # the parser is for ranges, which are never empty
        return 0.0
    try:
        return float(ql.parse_duration(text).total_seconds())
    except ValueError as error:
        raise AlertRuleError(f"{where}: {text!r} is not a duration such as 5m ({error}).") from error


def rule_file(groups: tuple[Group, ...]) -> str:
    """Write groups as a rule file for Prometheus."""
    return yaml.safe_dump({"groups": [_group_text(group) for group in groups]}, sort_keys=False, width=120)


def _group_text(group: Group) -> dict[str, Any]:
    return {"name": group.name, "interval": _duration(group.interval_s), "rules": [_rule_text(r) for r in group.rules]}


def _rule_text(rule: Rule) -> dict[str, Any]:
    text: dict[str, Any] = {"record" if rule.record else "alert": rule.name, "expr": rule.text}
    if rule.for_s:
        text["for"] = _duration(rule.for_s)
    if rule.keep_firing_s:
        text["keep_firing_for"] = _duration(rule.keep_firing_s)
    return (
        text
        | ({"labels": rule.labels} if rule.labels else {})
        | ({"annotations": rule.annotations} if rule.annotations else {})
    )


def _duration(seconds: float) -> str:
    return f"{seconds:g}s" if seconds == int(seconds) else f"{round(seconds * 1000)}ms"
