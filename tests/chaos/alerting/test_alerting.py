"""Alert rules: read, evaluated, and written for a target."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from chaos.alerting.engine import Episode, evaluate
from chaos.alerting.errors import AlertRuleError, Unsupported
from chaos.alerting.promql import Expression
from chaos.alerting.rules import parse_rules, read_rules, rule_file
from chaos.alerting.samples import Samples, labels_of, parse_sample_name
from chaos.alerting.words import TRUTH, figures_of, metrics_of, table_for
from chaos.target import find_target

EMPTY = labels_of({})


def gauge(name: str, values: Sequence[float | None], step_s: float = 5) -> Samples:
    """One series; None is a scrape without it."""
    samples = Samples()
    for index, value in enumerate(values):
        if value is not None:
            samples.add(index * step_s, name, value)
        samples.end_of_scrape(index * step_s)
    return samples


def one_rule(text: str) -> str:
    return f"groups: [{{name: g, interval: 5s, rules: [{text}]}}]"


def episodes(rule: str, samples: Samples, end_s: float) -> list[tuple[float, float | None, float | None]]:
    found: list[Episode] = evaluate(parse_rules(one_rule(rule), "test"), samples, 0, end_s)
    return [(e.crossed_s, e.fired_s, e.cleared_s) for e in found]


def test_an_alert_fires_after_its_time_and_clears_when_the_condition_ends() -> None:
    """`for` counts from the first evaluation that found it."""
    samples = gauge("fill", [0.1, 0.95, 0.95, 0.95, 0.2, 0.2])
    assert episodes("{alert: Full, expr: fill > 0.9, for: 10s}", samples, 25) == [(5, 15, 20)]


def test_a_condition_that_does_not_hold_long_enough_never_fires() -> None:
    """It was pending, and the count starts again."""
    samples = gauge("fill", [0.95, 0.95, 0.2, 0.95, 0.95])
    assert episodes("{alert: Full, expr: fill > 0.9, for: 10s}", samples, 20) == [(0, None, 10), (15, None, None)]


def test_keep_firing_for_bridges_a_gap() -> None:
    """One episode instead of two."""
    samples = gauge("fill", [0.95, 0.1, 0.95, 0.1, 0.1, 0.1])
    assert episodes("{alert: Full, expr: fill > 0.9, keep_firing_for: 10s}", samples, 25) == [(0, 0, 25)]


def test_a_metric_that_a_scrape_lacks_is_absent_at_once() -> None:
    """A dead collector does not stay at its last value for five minutes."""
    samples = gauge("fill", [0.95, None, None])
    assert episodes("{alert: Full, expr: fill > 0.9}", samples, 10) == [(0, 0, 5)]
    assert episodes("{alert: Gone, expr: absent(fill)}", samples, 10) == [(5, 5, None)]


def test_recording_rules_feed_the_rules_after_them() -> None:
    """In the order of the group."""
    rules = "{record: worst, expr: max(fill)}, {alert: Full, expr: worst > 0.9}"
    assert episodes(rules, gauge("fill", [0.1, 0.95]), 5) == [(5, 5, None)]


def test_a_counter_that_restarts_does_not_fall() -> None:
    """A reset counts from zero."""
    samples = gauge("failed_total", [4, 5, 0, 1, 1, 1, 1], step_s=10)
    assert Expression.parse("resets(failed_total[1m])").at(samples, 50) == {EMPTY: 1.0}
    grown = Expression.parse("increase(failed_total[1m])").at(samples, 50)
    assert isinstance(grown, dict)
    assert grown[EMPTY] == pytest.approx(2 * 60 / 50, rel=0.25)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("max_over_time(fill[5m:1m])", "subquery"),
        ("histogram_quantile(0.9, fill)", "histogram_quantile"),
        ("topk(3, fill)", "topk"),
        ("a * on(x) group_left b", "group_left"),
        ("fill @ 5", "@"),
    ],
)
def test_what_cannot_be_evaluated_is_named_when_the_rule_is_read(text: str, what: str) -> None:
    """The rule stays in the list, with its problem; the others are evaluated."""
    with pytest.raises(Unsupported, match=what):
        Expression.parse(text)
    rule = parse_rules(one_rule(f"{{alert: A, expr: '{text}'}}"), "test")[0].rules[0]
    assert rule.expression is None
    assert rule.problem is not None
    assert what in rule.problem


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("groups: [", "not a Prometheus rule file"),
        ("groups: 3", "not a Prometheus rule file: groups: Expected"),
        (one_rule("{alert: A, expr: 'max('}"), "is not PromQL"),
        (one_rule("{alert: A, record: b, expr: x}"), "either `alert` or `record`"),
        (one_rule("{alert: A, expr: x, for: soon}"), "is not a duration"),
        (one_rule("{alert: A, expr: x, fro: 5m}"), "fro"),
        ("groups:\n- name: g\n  rules:\n  - alert: A\n    expr: 'max('\n", r"my.yml:5: rule A: 'max\(' is not PromQL"),
        (
            "groups:\n- name: g\n  rules:\n  - alert: A\n    expr: x\n    for: soon\n",
            "my.yml:6: 'soon' is not a duration",
        ),
        ("groups:\n- name: g\n  interval: often\n  rules: []\n", "my.yml:3: 'often' is not a duration"),
        ("groups:\n- name: g\n  rules:\n  - expr: x\n", "my.yml:4: the rule with expr 'x' must have either"),
        ("groups:\n- name: g\n  rules:\n  - alert: A\n    expr: x\n    fro: 5m\n", "my.yml:6: .*unknown field `fro`"),
    ],
)
def test_a_bad_rule_file_gets_one_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    """With its name."""
    path = tmp_path / "my.yml"
    path.write_text(text)
    with pytest.raises(AlertRuleError, match=sentence) as caught:
        read_rules(path)
    assert str(path) in str(caught.value)


def test_a_missing_rule_file_gets_one_sentence(tmp_path: Path) -> None:
    """So does one that is not text."""
    with pytest.raises(AlertRuleError, match="cannot be read"):
        read_rules(tmp_path / "none.yml")


def test_many_to_many_matching_is_an_error_of_the_rule() -> None:
    """As in Prometheus."""
    samples = gauge("a", [1])
    samples.add(0, "b", 1, labels_of({"x": "1"}))
    samples.add(0, "b", 1, labels_of({"x": "2"}))
    with pytest.raises(AlertRuleError, match="many-to-many"):
        Expression.parse("a + on() b").at(samples, 0)


def test_the_table_is_written_for_a_target_and_read_back_the_same() -> None:
    """Every alert of the table exists for the reference collector; the file is Prometheus' own format."""
    target = find_target("reference")[1]
    table = table_for(metrics_of(target) | figures_of(target))
    assert table.lacking == {}
    assert parse_rules(rule_file(table.groups), "again") == table.groups


def test_alerts_whose_metric_a_target_lacks_are_named() -> None:
    """The naive collector tells its fill and what it holds, nothing else."""
    target = find_target("naive")[1]
    table = table_for(metrics_of(target) | figures_of(target))
    assert set(table.lacking.values()) == {"oldest_age_s", "flushes_failed", "last_commit_s", "discarded"}
    assert {rule.name for group in table.groups for rule in group.rules} >= {"BufferAlmostFull", "BufferFullSoon"}


def test_the_table_can_be_written_for_the_truth() -> None:
    """All but the events that a target gives up, which only it can tell."""
    target = find_target("reference")[1]
    assert set(table_for({**TRUTH, **figures_of(target)}).lacking) == {"EventsDiscarded"}


def test_sample_names_are_split_into_metric_and_labels() -> None:
    """As the sampler writes them."""
    assert parse_sample_name("a_total{k=v,x=y}") == ("a_total", labels_of({"k": "v", "x": "y"}))
    assert parse_sample_name("a_total") == ("a_total", EMPTY)
