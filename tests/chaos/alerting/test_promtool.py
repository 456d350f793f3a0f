"""Our evaluator agrees with Prometheus' own, and so does the rule file that we write."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from chaos.alerting.engine import evaluate
from chaos.alerting.rules import parse_rules, rule_file
from chaos.alerting.words import figures_of, metrics_of, table_for
from chaos.setup import prepare_promtool
from chaos.target import find_target
from tests.chaos.alerting.promtool import (
    STEP_S,
    alerts_at,
    expected,
    input_series,
    random_series,
    run_promtool,
    samples_of,
)

pytestmark = [pytest.mark.slow, pytest.mark.integration]

EXPRESSIONS = (
    'events', 'events{job="a"}', 'events{job=~"a|b",zone!="x"}', 'events{job!~"a"}', "events offset 1m",
    "max(events)", "min(events)", "sum by (job) (events)", "avg without (zone) (events)", "count(events) by (zone)", "group(events)",
    "rate(requests_total[1m])", "increase(requests_total[2m])", "sum(increase(requests_total[5m]))", "rate(requests_total[1m] offset 30s)",
    "delta(events[2m])", "deriv(events[3m])", "predict_linear(events[2m], 600)", "changes(events[3m])", "resets(requests_total[5m])",
    "max_over_time(events[1m])", "min_over_time(events[90s])", "avg_over_time(events[2m])", "sum_over_time(events[2m])",
    "count_over_time(events[2m])", "last_over_time(events[4m])", "present_over_time(events[1m])",
    "events > 5", "events > bool 5", "5 < events", "events == 4", "events != 4", "events > capacity",
    "events > on (job, zone) capacity", "events / capacity", "events / on (job, zone) capacity", "(events + capacity) * 2",
    "sum(events) / sum(capacity)", "sum by (job) (events) / ignoring (zone) sum by (job) (capacity)",
    "events and capacity > 3", "events and on() sum(capacity) > 10", "events or capacity", "events unless capacity",
    'events unless on(job) capacity{zone="y"}', "max(events) > 3 and on() sum(capacity) > 0",
    'absent(events{job="c"})', "absent(events)", 'absent(events{job="a",zone=~"x"})',
    "time()", "time() - events", "vector(3)", "scalar(sum(events)) + 1", "1 + 2 * 3",
    "-events", "abs(events - 10)", "sqrt(events)", "ceil(events / 3)", "floor(events / 3)", "events % 3", "events ^ 2",
)  # fmt: skip
INSTANTS_S = (0, 15, 37, 150, 300, 455, 585, 620, 900)
SEEDS = range(8)

RULES = """
groups:
- name: some
  interval: 15s
  rules:
  - {record: "job:events:sum", expr: sum by (job) (events)}
  - {alert: Many, expr: "job:events:sum > 20", for: 45s, labels: {severity: page}}
  - {alert: Gone, expr: "absent(events{job=\\"a\\",zone=\\"x\\"})", for: 30s}
  - {alert: Flapping, expr: "events > 9", keep_firing_for: 60s}
  - {alert: Slow, expr: "rate(requests_total[1m]) < 0.0987", for: 1m, keep_firing_for: 45s}
"""


@pytest.fixture(scope="module")
def promtool() -> Path:
    return prepare_promtool(Path(sys.executable))


@pytest.mark.parametrize("seed", SEEDS)
def test_expressions_have_the_values_that_prometheus_gives_them(promtool: Path, tmp_path: Path, seed: int) -> None:
    """Over series with gaps, stale markers and counter resets; NaN, which equals nothing, is left out."""
    pushed = random_series(seed)
    found = [expected(text, pushed, t_s) for text in EXPRESSIONS for t_s in INSTANTS_S]
    found = [one for one in found if not any(sample["value"] == ".nan" for sample in one["exp_samples"])]

    done = run_promtool(
        promtool, tmp_path, {"interval": f"{STEP_S}s", "input_series": input_series(pushed), "promql_expr_test": found}
    )

    assert len(found) > 0.9 * len(EXPRESSIONS) * len(INSTANTS_S)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("seed", SEEDS)
def test_alerts_fire_and_clear_when_prometheus_says(promtool: Path, tmp_path: Path, seed: int) -> None:
    """With recording rules, `for` and `keep_firing_for`, at every evaluation."""
    pushed = random_series(seed)
    groups = parse_rules(RULES, "test")
    steps = 45
    episodes = evaluate(groups, samples_of(pushed), 0, steps * STEP_S)
    wanted = [
        {
            "eval_time": f"{step * STEP_S}s",
            "alertname": rule.name,
            "exp_alerts": alerts_at(episodes, rule.name, step * STEP_S),
        }
        for step in range(steps)
        for rule in groups[0].rules
        if not rule.record
    ]

    done = run_promtool(
        promtool,
        tmp_path,
        {"interval": f"{STEP_S}s", "input_series": input_series(pushed), "alert_rule_test": wanted},
        rule_file(groups),
    )

    assert any(one["exp_alerts"] for one in wanted)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", ["reference", "naive"])
def test_the_rule_file_that_we_write_is_one_that_prometheus_takes(promtool: Path, tmp_path: Path, name: str) -> None:
    """`promtool check rules` finds nothing."""
    target = find_target(name)[1]
    path = tmp_path / "rules.yml"
    path.write_text(rule_file(table_for(metrics_of(target) | figures_of(target)).groups))

    done = subprocess.run([promtool, "check", "rules", path], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
