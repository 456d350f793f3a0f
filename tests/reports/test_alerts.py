"""Who would have been told, and when: alert rules over a hand-made run, on its metrics and on the truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner
from prometheus_client.parser import text_string_to_metric_families

from chaos.alerting.promql import Expression
from chaos.alerting.rules import parse_rules
from chaos.alerting.words import figures_of, metrics_of, table_for
from chaos.target import find_target
from collector.crashpoints import CrashPoints
from collector.flusher import FlushResult
from collector.telemetry import Metrics as CollectorMetrics
from loadtests.records.ledger import Outcome
from loadtests.records.series import SeriesWriter
from loadtests.records.target import Metrics
from loadtests.records.target_config import write_target_config
from reports.alerts.__main__ import main
from reports.alerts.assess import Assessment, RuleReport, assess
from reports.alerts.dashboard import dashboard
from reports.alerts.truth import pending_by_type
from reports.runrecords import RunRecords, read_run
from tests.collector.conftest import EMPTY
from tests.histories import HandMadeRun, mono_ns

METRICS = Metrics(url="http://127.0.0.1:1/metrics", fill="fill", buffered="held")


@pytest.fixture
def run(tmp_path: Path) -> HandMadeRun:
    return HandMadeRun(tmp_path, capacity_events=100)


def scraped(run: HandMadeRun, fill: Sequence[float | None]) -> None:
    """One scrape a second; None: no answer."""
    writer = SeriesWriter(run.run.series, "target", "abcd1234")
    for second, value in enumerate(fill):
        writer.add(mono_ns(second), "target_up", float(value is not None))
        if value is not None:
            for name in ("fill_ratio", "target:fill"):
                writer.add(mono_ns(second), name, value)
            writer.add(mono_ns(second), "target:held", value * 100)
    writer.close()


def read(run: HandMadeRun) -> RunRecords:
    records = read_run(run.written())
    return replace(records, target=msgspec.structs.replace(records.target, metrics=METRICS))


def rule(found: Assessment, name: str) -> RuleReport:
    return next(one for one in found.rules if one.rule.name == name)


def full_from(second: int, length: int = 70) -> list[float | None]:
    return [0.1 if s < second else min(1.0, 0.1 + 0.03 * (s - second)) for s in range(length)]


def test_an_alert_that_fires_before_the_first_refusal_has_a_lead(run: HandMadeRun) -> None:
    """And one that waits five minutes has none, which is a finding that says below which rate it would."""
    scraped(run, full_from(10))
    run.refused(1, at=45)
    run.acked(2)
    run.table(2)

    found = assess(read(run))

    early, late = rule(found, "BufferFullSoon"), rule(found, "BufferAlmostFull")
    assert found.first_overflow_s is not None
    assert early.lead_s is not None
    assert early.lead_s > 0
    assert (late.own.crossed_s is not None, late.own.fired_s) == (True, None)
    assert late.in_time_below_events_per_s == pytest.approx(100 * 0.1 / 306, abs=0.01)
    assert any("BufferAlmostFull did not fire before the first refusal" in text for text in found.findings)
    assert not any("Nobody" in text for text in found.findings)


def test_refusals_for_another_reason_are_not_an_overflow(run: HandMadeRun) -> None:
    """A buffer at a tenth refuses nobody for want of room."""
    scraped(run, [0.1] * 70)
    run.refused(1, at=45)

    found = assess(read(run))

    assert found.first_overflow_s is None
    assert [text for text in found.findings if "cannot be written" not in text] == []


def test_fill_in_truth_is_of_the_capacity_in_force(run: HandMadeRun) -> None:
    """Sixty events wait: more than half of the hundred that the target file states, little of the thousand that it was started with."""
    scraped(run, [0.06] * 70)
    write_target_config(run.run.root, {"ICEBERG_BUFFER_SIZE": "1000"}, {})
    for first in range(0, 180, 10):
        run.batch(first, 10, outcome=Outcome.ACKED, at=2)

    found = assess(read(run))

    assert not any("on the truth" in text for text in found.findings), found.findings
    assert rule(found, "BufferAlmostFull").in_time_below_events_per_s == pytest.approx(1000 * 0.1 / 306, abs=0.01)


def test_commits_that_never_arrived_do_not_make_the_target_a_liar(run: HandMadeRun) -> None:
    """It says that flushes fail; whoever answers commits was never reached, so the truth has none that failed."""
    scraped(run, [0.1] * 70)
    writer = SeriesWriter(run.run.series, "flushes", "abcd1234")
    for second in range(70):
        writer.add(mono_ns(second), "target:failed_total", float(max(0, second - 5)))
    writer.close()
    records = read(run)
    metrics = msgspec.structs.replace(METRICS, flushes_failed="failed_total")
    found = assess(replace(records, target=msgspec.structs.replace(records.target, metrics=metrics)))
    assert rule(found, "FlushFailing").own.fired_s is not None
    assert not any("FlushFailing fired" in text for text in found.findings), found.findings


def test_nobody_paged_is_a_finding(run: HandMadeRun) -> None:
    """The buffer jumped to full within one evaluation."""
    scraped(run, [0.1] * 44 + [1.0] * 3 + [0.1] * 23)
    run.refused(1, at=45)
    assert any("Nobody would have been paged" in text for text in assess(read(run)).findings)


def test_a_gauge_that_lies_is_found_by_the_truth(run: HandMadeRun) -> None:
    """It says a tenth while a hundred acknowledged events of one type wait for a minute."""
    scraped(run, [0.1] * 70)
    for first in range(0, 600, 10):
        run.batch(first, 10, outcome=Outcome.ACKED, at=2)

    found = assess(read(run))

    assert rule(found, "BufferFilling").own.fired_s is None
    assert any("BufferFilling would have fired on the truth but did not" in text for text in found.findings)


def test_a_collector_that_does_not_answer_is_absent(run: HandMadeRun) -> None:
    """Its last values do not linger; the alert clears when it is back."""
    scraped(run, [0.1] * 10 + [None] * 30 + [0.1] * 30)
    absent = rule(assess(read(run)), "CollectorAbsent")
    assert absent.own.fired_s is not None
    assert absent.own.cleared_s is not None
    assert absent.truth is None


def test_pending_events_are_counted_by_type_until_they_are_seen(run: HandMadeRun) -> None:
    """Acknowledged at 20 s, seen at 21 s."""
    run.acked(*range(30), at=20)
    run.table(*range(30), at=21)
    grid = np.array([mono_ns(19), mono_ns(20), mono_ns(22)], dtype=np.int64)
    assert pending_by_type(read(run), grid).sum(axis=0).tolist() == [0, 30, 0]


def test_a_rule_that_cannot_fire_in_time_at_this_load_is_a_finding(run: HandMadeRun) -> None:
    """Also when the buffer never was full: a hundred events fill it long before five minutes are over. At a tenth of the load it can."""
    scraped(run, [0.1] * 70)
    for second in range(1, 60):
        run.batch(second * 10, 10, outcome=Outcome.ACKED, at=second)

    found = assess(read(run)).findings

    assert any(
        "BufferAlmostFull cannot fire in time at this load: the busiest buffer takes 3.4 events/s, and the rule fires before it is "
        "full only below 0.03." in text
        for text in found
    ), found
    assert not any("BufferFullSoon cannot" in text for text in found)


def test_a_rule_that_can_fire_in_time_is_none(tmp_path: Path) -> None:
    """A tenth of a large buffer lasts longer than five minutes at three events a second."""
    run = HandMadeRun(tmp_path, capacity_events=100_000)
    scraped(run, [0.1] * 70)
    for second in range(1, 60):
        run.batch(second * 10, 10, outcome=Outcome.ACKED, at=second)
    assert not any("in time" in text for text in assess(read(run)).findings)


def test_the_users_own_rules_are_judged_instead(run: HandMadeRun) -> None:
    """On the target's metrics; what cannot be evaluated is a finding."""
    scraped(run, full_from(10))
    run.refused(1, at=45)
    rules = parse_rules(
        "groups: [{name: mine, rules: [{alert: Mine, expr: fill > 0.5}, {alert: Odd, expr: 'topk(1, fill)'}]}]", "mine"
    )

    found = assess(read(run), rules)

    assert [one.rule.name for one in found.rules] == ["Mine", "Odd"]
    assert rule(found, "Mine").own.fired_s is not None
    assert any("Odd was not evaluated" in text for text in found.findings)


def test_a_rule_on_a_metric_that_nobody_publishes_is_a_finding(run: HandMadeRun) -> None:
    """A word mistyped is an alert that stays silent for ever; one on the absence of a metric is meant so, and a recorded one is no typo."""
    scraped(run, [0.1] * 70)
    rules = parse_rules(
        "groups: [{name: mine, rules: [{record: twice, expr: fill * 2}, {alert: Typo, expr: fil > 0.5}, {alert: Good, expr: twice > 2},"
        " {alert: Gone, expr: absent(nothing)}]}]",
        "mine",
    )
    assert assess(read(run), rules).findings == [
        "Typo can never fire: the target published no fil during this run.",
    ]


def test_the_command_says_it_in_lines_and_in_json(run: HandMadeRun, tmp_path: Path) -> None:
    """Exit 1 when there is a finding; a bad rule file is 254 with a sentence."""
    root = run.written()
    shown = CliRunner().invoke(main, [str(root)])
    assert shown.exit_code in (0, 1), shown.output
    assert "Alerts of control on hand-made" in shown.output
    assert msgspec.json.decode(CliRunner().invoke(main, [str(root), "--json"]).output)["first_overflow_at_s"] is None

    bad = tmp_path / "bad.yml"
    bad.write_text("groups: 3")
    refused = CliRunner().invoke(main, [str(root), "--rules", str(bad)])
    assert refused.exit_code == 254
    assert "bad.yml:1: not a Prometheus rule file" in refused.output


def test_the_rules_are_written_for_a_target(run: HandMadeRun, tmp_path: Path) -> None:
    """As a file that Prometheus reads."""
    out = tmp_path / "rules.yml"
    done = CliRunner().invoke(main, [str(run.written()), "--write", str(out)])
    assert done.exit_code == 0, done.output
    assert "left out" in done.output


def test_the_dashboard_asks_what_the_target_has(run: HandMadeRun, tmp_path: Path) -> None:
    """Every query is PromQL over metrics that the target file names; thresholds are the runbook's."""
    target = find_target("reference")[1]
    words = metrics_of(target)
    drawn = dashboard("reference", words, table_for(words | figures_of(target)).groups)
    queries = [one["expr"] for panel in drawn["panels"] for one in panel["targets"]]
    assert len(queries) == 7
    named = set().union(*(Expression.parse(text).metrics() for text in words.values()))
    for query in queries[:-1]:
        assert Expression.parse(query).metrics() <= named
    steps = drawn["panels"][0]["fieldConfig"]["defaults"]["thresholds"]["steps"]
    assert [step["value"] for step in steps] == [None, 0.5, 0.7, 0.9]
    out = tmp_path / "board.json"
    assert CliRunner().invoke(main, [str(run.written()), "--dashboard", str(out)]).exit_code == 0
    assert msgspec.json.decode(out.read_bytes())["title"] == "Event buffer of hand-made"


def test_rules_and_dashboard_name_what_the_reference_collector_publishes() -> None:
    """Every metric of every query and rule is in its exposition once it has committed something."""
    collector = CollectorMetrics(lambda: EMPTY, CrashPoints())
    collector.flushed(FlushResult("c/1/1", "committed", 7, ("f",), 3, 0, 0.5), now_s=1.0)
    families = text_string_to_metric_families(collector.text().decode())
    published = {sample.name for family in families for sample in family.samples}

    target = find_target("reference")[1]
    words = metrics_of(target)
    groups = table_for(words | figures_of(target)).groups
    panels = dashboard("reference", words, groups)["panels"]
    queries = [one["expr"] for panel in panels for one in panel["targets"] if not one["expr"].startswith("ALERTS{")]

    assert len(queries) == 6
    for query in queries:
        assert Expression.parse(query).metrics() <= published, query
    for rule_ in (one for group in groups for one in group.rules):
        assert rule_.expression is not None
        assert rule_.expression.metrics() <= published, rule_.name


def test_a_target_may_be_named(tmp_path: Path) -> None:
    """As every other command takes it; an unknown one is told with those there are."""
    out = tmp_path / "rules.yml"

    assert CliRunner().invoke(main, ["--write", str(out), "--target", "reference"]).exit_code == 0
    assert "collector_buffer_fill_ratio" in out.read_text()
    unknown = CliRunner().invoke(main, ["--write", str(out), "--target", "nope"])
    assert unknown.exit_code == 254
    assert "there is no target 'nope'; there are naive, reference" in unknown.output
