"""`icequake runbook print`: the corrected runbook of a target, with measured figures, which itself has nothing wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from chaos.cli import icequake
from chaos.runbook.document import parse_runbook
from chaos.runbook.figures import figures_of, runs_of
from chaos.runbook.printing import print_runbook
from chaos.runbook.rules import check_runbook
from chaos.target import find_target
from loadtests.records.target import Admin, Ingest, Table, Target

CAPACITY = {
    "offered_events_per_s": 200.0,
    "refused_events": 0,
    "overflow_without_flush": [{"offered_events_per_s": 200.0, "full_after_s": 30.0}],
    "longest": {"fault": "slow-r2", "held_s": 61.0, "needs_capacity_events": None},
}
RULE = {
    "alert": "Full",
    "severity": "page",
    "expr": "max(a|b) > 0.9",
    "for_s": 300.0,
    "in_time_below_events_per_s": 0.65,
}


def judged(runs: Path, name: str, target: str = "mine", **sections: Any) -> Path:
    root = runs / name
    root.mkdir(parents=True)
    drill = {"id": "drill.scale-buffer", "verdict": "PASS", "counts": {"took_ms": 2500, "detected_ms": 400}}
    document = {
        "target": target,
        "run_id": name[-1] * 8,
        "started_unix_ns": 1_790_000_000_000_000_000,
        "sections": {"capacity": CAPACITY, "flush": {"freshness_p99_s": 4.5}, **sections},
        "totals": {"rows_read": 100},
        "checks": [drill, {"id": "run.acked", "verdict": "PASS"}],
    }
    (root / "verdict.json").write_text(json.dumps(document))
    return root


def test_the_printed_runbook_has_nothing_wrong(tmp_path: Path) -> None:
    """With and without figures, with an admin listener that has an address and one that has not."""
    judged(tmp_path, "20260101-a", alerts={"rules": [RULE]})
    admin = Admin(url="http://127.0.0.1:8788/admin", token_env="ADMIN_TOKEN")  # a variable's name
    table = Table(catalog={"uri": "http://127.0.0.1:1"}, identifier="a.b")
    mine = Target(name="mine", ingest=Ingest(url="http://127.0.0.1:1/"), admin=admin, table=table)
    for target in (mine, find_target("reference")[1], find_target("naive")[1]):
        for figures in (figures_of([]), figures_of(runs_of(tmp_path, "mine"))):
            report = check_runbook(parse_runbook(print_runbook(target, target.name, figures)))
            assert (report.findings, report.unchecked) == ([], {})
            assert report.commands > 10


def test_figures_are_filled_in_with_the_run_they_are_from(tmp_path: Path) -> None:
    """The newest run that says it counts; other targets do not."""
    judged(tmp_path, "20260101-a", alerts={"rules": [RULE]})
    judged(tmp_path, "20260102-b", flush={"freshness_p99_s": 3.5, "caught_up_s": 7.0})
    judged(tmp_path, "20260103-c", target="other", flush={"freshness_p99_s": 99.0})
    figures = figures_of(runs_of(tmp_path, "mine"))

    assert figures.runs == 2
    assert figures.visible_s is not None
    assert (figures.visible_s.value, figures.visible_s.run_id) == (3.5, "bbbbbbbb")
    assert figures.held is not None
    assert (figures.held.value, figures.held.about) == (61.0, "slow-r2")
    printed = print_runbook(find_target("reference")[1], "reference", figures)
    for part in (
        "| 3.5 s | bbbbbbbb |",
        "| 200 events/s | 30 s |",
        "0.65 events/s net inflow",
        r"`max(a\|b) > 0.9`",
        "PASS, 2.5 s, detected after 0.4 s (run bbbbbbbb)",
        "Not drilled yet: `icequake drill repair-the-table --target reference`",
    ):
        assert part in printed, part


def test_without_runs_it_says_what_would_measure(tmp_path: Path) -> None:
    """No figure is invented; a verdict that cannot be read is no run."""
    (tmp_path / "20260101-x").mkdir()
    (tmp_path / "20260101-x" / "verdict.json").write_text("{")
    result = CliRunner().invoke(icequake, ["runbook", "print", "--runs", str(tmp_path)], standalone_mode=False)

    assert result.exit_code == 0
    assert "from 0 judged runs" in result.output
    assert "not measured yet" in result.output
    assert "`icequake run catalog-outage --target reference` measures it" in result.output
