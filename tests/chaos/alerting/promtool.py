"""Rules and queries, evaluated by Prometheus' own promtool: its test file says what our evaluator found, promtool whether it agrees."""

from __future__ import annotations

import math
import random
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from chaos.alerting.engine import Episode
from chaos.alerting.promql import Expression
from chaos.alerting.samples import Labels, Samples, labels_of

STEP_S = 15
Pushed = Mapping[str, Sequence[float | str]]
"""Series by selector text, one value a step: a number, `_` for a missing sample, or `stale`."""

NAMES = ("events", "capacity", "requests_total")


def random_series(seed: int, steps: int = 40) -> dict[str, list[float | str]]:
    """Make gauges and a counter with gaps, staleness and restarts."""
    chance = random.Random(seed)
    series: dict[str, list[float | str]] = {}
    for name in NAMES:
        for job in ("a", "b"):
            for zone in ("x", "y")[: chance.choice((1, 2))]:
                series[f'{name}{{job="{job}",zone="{zone}"}}'] = _values(chance, steps, counter=name.endswith("_total"))
    return series


def _values(chance: random.Random, steps: int, *, counter: bool) -> list[float | str]:
    values: list[float | str] = []
    level, quiet = float(chance.randint(0, 20)), 0
    for _ in range(steps):
        if quiet:
            quiet -= 1
            values.append("_")
            continue
        dice = chance.random()
        if dice < 0.05:
            quiet = chance.choice((1, 3, 25))
            values.append("stale")
            continue
        if counter:
            level = 0.0 if dice < 0.12 else level + chance.choice((0, 0, 1, 2.5, 7))
        else:
            level = max(0.0, level + chance.choice((-3, -1, 0, 0.25, 1, 4)))
        values.append("_" if dice > 0.93 else level)
    return values


def samples_of(pushed: Pushed) -> Samples:
    """Turn series into samples as our evaluator reads them; second 0 is the first step."""
    samples = Samples()
    for step in range(max(map(len, pushed.values()))):
        for selector, values in pushed.items():
            name, labels = split(selector)
            value = values[step] if step < len(values) else "_"
            job = selector
            if value == "stale":
                samples.end_of_scrape(step * STEP_S, job=job)
            elif value != "_":
                samples.add(step * STEP_S, name, float(value), labels, job=job)
                samples.end_of_scrape(step * STEP_S, job=job)
    return samples


def split(selector: str) -> tuple[str, Labels]:
    name, _, rest = selector.rstrip("}").partition("{")
    pairs = [part.partition("=") for part in rest.split(",") if part]
    return name, labels_of({key: value.strip('"') for key, _, value in pairs})


def expected(expression: str, pushed: Pushed, t_s: float) -> dict[str, Any]:
    """Write down what our evaluator found, as promtool's `promql_expr_test`."""
    value = Expression.parse(expression).at(samples_of(pushed), t_s)
    vector = {frozenset(): value} if isinstance(value, float) else value
    samples = [{"labels": selector_of(labels), "value": _number(v)} for labels, v in vector.items()]
    return {"expr": expression, "eval_time": f"{t_s:g}s", "exp_samples": samples}


def selector_of(labels: Labels) -> str:
    pairs = dict(labels)
    name = pairs.pop("__name__", "")
    return name + "{" + ",".join(f'{key}="{value}"' for key, value in sorted(pairs.items())) + "}"


def _number(value: float) -> float | str:
    if math.isnan(value):
        return ".nan"
    return value


def alerts_at(episodes: Sequence[Episode], alert: str, t_s: float) -> list[dict[str, Any]]:
    """Return the instances of an alert that fire at an instant, as promtool's `exp_alerts`."""
    firing = [
        e
        for e in episodes
        if e.rule.name == alert
        and e.fired_s is not None
        and e.fired_s <= t_s
        and (e.cleared_s is None or t_s < e.cleared_s)
    ]
    return [{"exp_labels": dict(e.labels)} for e in firing]


def run_promtool(
    promtool: Path, directory: Path, test: Mapping[str, Any], rules: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run `promtool test rules` on one test."""
    document: dict[str, Any] = {"evaluation_interval": f"{STEP_S}s", "fuzzy_compare": True, "tests": [test]}
    if rules:
        (directory / "rules.yml").write_text(rules)
        document["rule_files"] = ["rules.yml"]
    path = directory / "test.yml"
    path.write_text(yaml.safe_dump(document, sort_keys=False).replace("'.nan'", ".nan"))
    return subprocess.run(
        [promtool, "test", "rules", path.name], cwd=directory, capture_output=True, text=True, timeout=120, check=False
    )


def input_series(pushed: Pushed) -> list[dict[str, str]]:
    return [{"series": selector, "values": " ".join(map(str, values))} for selector, values in pushed.items()]
