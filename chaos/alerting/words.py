"""The table of alerts, written for one target: its words become that target's metrics."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from chaos.alerting.rules import Group, parse_rules
from loadtests.records.target import Target

TABLE = Path(__file__).with_name("table.yaml")
_WORD = re.compile(r"\{([a-z_]+)\}")

TRUTH: Mapping[str, str] = {
    "fill": "icequake_fill_ratio",
    "buffered": "icequake_pending_events",
    "flushes_failed": "icequake_commits_failed_total",
    "last_commit_s": "icequake_last_commit_timestamp_seconds",
    "oldest_age_s": "icequake_oldest_pending_age_seconds",
}
"""What the words mean on the truth: series that icequake derives from ledgers, gateway and table (`reports.alerts.truth`)."""


@dataclass(frozen=True)
class Table:
    """The table for one target.

    Attributes:
        groups: Rules whose words all have a meaning.
        lacking: Names of the other alerts, and the word each lacks.
    """

    groups: tuple[Group, ...]
    lacking: dict[str, str]


def metrics_of(target: Target) -> dict[str, str]:
    """Return what each word means on the target's own metrics."""
    metrics = target.metrics
    names = ("fill", "buffered", "flushes_failed", "discarded", "last_commit_s", "oldest_age_s")
    found = {name: getattr(metrics, name) for name in names} if metrics is not None else {}
    return {name: text for name, text in found.items() if text is not None}


def figures_of(target: Target) -> dict[str, str]:
    """Return the figures of the target's contract that rules may speak of."""
    contract = target.contract
    figures = {"freshness_s": contract.freshness_s, "capacity_events": contract.capacity_events}
    return {name: f"{value:g}" for name, value in figures.items() if value is not None}


def table_for(words: Mapping[str, str]) -> Table:
    """Write the table with *words*."""
    document = yaml.safe_load(TABLE.read_text(encoding="utf-8"))
    lacking: dict[str, str] = {}
    for group in document["groups"]:
        group["rules"] = [rule for rule in group["rules"] if _fill_in(rule, words, lacking)]
    document["groups"] = [group for group in document["groups"] if group["rules"]]
    return Table(parse_rules(yaml.safe_dump(document), TABLE.name), lacking)


def _fill_in(rule: dict[str, Any], words: Mapping[str, str], lacking: dict[str, str]) -> bool:
    missing = [word for word in _WORD.findall(rule["expr"]) if word not in words]
    if missing:
        lacking[rule["alert"]] = missing[0]
        return False
    rule["expr"] = _WORD.sub(lambda match: words[match[1]], rule["expr"])
    return True
