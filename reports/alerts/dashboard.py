"""A Grafana dashboard for a target's buffer, as code: the questions of the runbook from top to bottom, the alerts' thresholds drawn in."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from chaos.alerting.rules import Group

WIDTH, HEIGHT = 12, 8
_PANELS: tuple[tuple[str, str, str, str, tuple[float, ...]], ...] = (
    ("How full is the fullest buffer?", "max({fill})", "fill", "percentunit", (0.5, 0.7, 0.9)),
    ("How many events wait?", "sum({buffered})", "buffered", "short", ()),
    ("How old is the oldest event?", "max({oldest_age_s})", "oldest_age_s", "s", ()),
    ("When was the last commit?", "time() - max({last_commit_s})", "last_commit_s", "s", ()),
    ("How many flushes fail?", "sum(rate({flushes_failed}[5m])) * 60", "flushes_failed", "short", ()),
    ("Were accepted events given up?", "sum(increase({discarded}[1h]))", "discarded", "short", ()),
)
"""Title, query with the words of the target file, the word it needs, Grafana's unit, thresholds to draw."""


def dashboard(name: str, words: Mapping[str, str], groups: tuple[Group, ...]) -> dict[str, Any]:
    """Return the dashboard of target *name*; questions whose word the target file lacks are left out."""
    chosen = [panel for panel in _PANELS if panel[2] in words]
    panels = [_panel(index, panel, words) for index, panel in enumerate(chosen)]
    return {
        "title": f"Event buffer of {name}",
        "uid": f"icequake-{name}"[:40],
        "schemaVersion": 39,
        "timezone": "utc",
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [{"name": "datasource", "type": "datasource", "query": "prometheus"}]},
        "panels": [*panels, _alerts_panel(len(panels), groups)],
    }


def _panel(index: int, panel: tuple[str, str, str, str, tuple[float, ...]], words: Mapping[str, str]) -> dict[str, Any]:
    title, query, word, unit, thresholds = panel
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    steps += [
        {"color": colour, "value": at} for at, colour in zip(thresholds, ("yellow", "orange", "red"), strict=False)
    ]
    return {
        "id": index + 1,
        "type": "timeseries",
        "title": title,
        "datasource": {"type": "prometheus", "uid": "${datasource}"},
        "gridPos": _place(index),
        "fieldConfig": {
            "defaults": {
                "unit": unit,
                "min": 0,
                "thresholds": {"mode": "absolute", "steps": steps},
                "custom": {"thresholdsStyle": {"mode": "line" if thresholds else "off"}},
            },
            "overrides": [],
        },
        "targets": [{"refId": "A", "expr": query.replace(f"{{{word}}}", words[word])}],
    }


def _alerts_panel(index: int, groups: tuple[Group, ...]) -> dict[str, Any]:
    names = "|".join(rule.name for group in groups for rule in group.rules)
    return {
        "id": index + 1,
        "type": "timeseries",
        "title": "Which alerts are pending or firing?",
        "datasource": {"type": "prometheus", "uid": "${datasource}"},
        "gridPos": _place(index),
        "fieldConfig": {"defaults": {"unit": "short", "min": 0}, "overrides": []},
        "targets": [
            {"refId": "A", "expr": f'ALERTS{{alertname=~"{names}"}}', "legendFormat": "{{alertname}} {{alertstate}}"}
        ],
    }


def _place(index: int) -> dict[str, int]:
    return {"x": index % 2 * WIDTH, "y": index // 2 * HEIGHT, "w": WIDTH, "h": HEIGHT}


def dashboard_json(name: str, words: Mapping[str, str], groups: tuple[Group, ...]) -> str:
    """Return the dashboard as the JSON that Grafana imports."""
    return json.dumps(dashboard(name, words, groups), indent=2) + "\n"
