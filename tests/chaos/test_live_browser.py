"""Live sessions in a real browser: what an engineer does on a bad day, and that the page never shows a wrong number.

Each test is one session of `icequake live` with its stack; see `tests.live_session` for what a machine needs.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from loadtests.records.rundir import RunDir
from loadtests.records.timeline import read_timeline
from tests.live_session import ROOT, Live, Panel, chromium, live

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as started:
        yield started


def operator(run: RunDir) -> list[str]:
    return [str(entry["action"]) for entry in read_timeline(run.timeline) if entry["event"] == "operator"]


def steps(run: RunDir) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for entry in read_timeline(run.timeline):
        if entry["event"] == "step":
            found.setdefault(str(entry["fault"]), []).append(str(entry["state"]))
    return found


def verdict_of(run: RunDir) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(run.verdict.read_text(encoding="utf-8"))
    return document


def finished(session: Live, panel: Panel) -> None:
    assert panel.errors == []
    assert session.end() == 0


def test_slow_r2_is_seen_to_fill_the_buffer_and_healing_to_drain_it(browser: Any, tmp_path: Path) -> None:
    """Start, raise the load, inject, see fill climb and freshness fall behind, heal, see it drain, drill, stop, PASS."""
    with live(tmp_path / "runs", "--seed", "5") as session:
        panel = Panel(browser, session.url)
        panel.start()
        panel.edit(userCount=40)
        step = panel.inject("slow-r2", for_s=None, latency_ms=6000)
        panel.wait(lambda: panel.alert("BufferAlmostFull") == "pending", "90 %")
        panel.wait(lambda: panel.alert("BufferFullSoon") == "firing", "the page that a buffer fills")
        panel.wait(lambda: panel.number("pending") > 2000, "pending events")
        assert panel.number("freshness") > 1
        panel.press("paged")
        panel.heal(step)
        panel.press("mitigated")
        panel.wait(lambda: panel.alert("BufferAlmostFull") == "ok", "the buffer to drain")
        panel.wait(lambda: panel.number("pending") < 2000, "the table to catch up")
        panel.drill("flush-and-verify")
        panel.wait(lambda: "flush-and-verify · done" in panel.text, "the drill")
        assert "NOT ok" not in panel.text
        panel.stop()
        assert panel.verdict().startswith("PASS  live on reference")
        assert panel.number("acked") == panel.number("visible")
        assert "PASS" in panel.report().title()
        finished(session, panel)
    run = RunDir.find(tmp_path / "runs", "last")
    assert operator(run) == ["inject", "mark", "heal", "mark", "drill"]
    assert verdict_of(run)["totals"]["lost"] == 0


def test_the_naive_target_fails_and_the_lost_events_are_found_from_the_report(browser: Any, tmp_path: Path) -> None:
    """Killed with a full buffer in memory: FAIL on the tab, and the report behind its link names what is lost."""
    with live(tmp_path / "runs", "--seed", "5", "--target", "naive") as session:
        panel = Panel(browser, session.url)
        panel.start()
        panel.inject("kill-collector", for_s=4)
        panel.wait(lambda: "kill-collector · healed" in panel.text, "the target to be back")
        panel.stop()
        said = panel.verdict()
        assert said.startswith("FAIL  live on naive")
        assert "lost" in said
        report = panel.report()
        assert "FAIL" in report.title()
        report.get_by_role("link", name="Anomalies").first.click()
        located = report.inner_text("#anomalies")
        assert "lost" in located
        assert "kill-collector" in located
        finished(session, panel)
    run = RunDir.find(tmp_path / "runs", "last")
    lost_check = next(check for check in verdict_of(run)["checks"] if check["id"] == "events.lost")
    assert lost_check["verdict"] == "FAIL"
    assert lost_check["examples"]


def test_a_bad_day(browser: Any, tmp_path: Path) -> None:
    """Two windows, a reload, load changed during a fault, the collector killed and back, the catalog down, Stop meanwhile.

    Both windows show the same; what is on at Stop is healed first; nothing is lost, and the next Start is a run of its own,
    which `icequake halt` ends from another terminal.
    """
    runs = tmp_path / "runs"
    with live(runs, "--seed", "5") as session:
        panel = Panel(browser, session.url)
        panel.start()
        other = Panel(browser, session.url)
        other.open()

        panel.inject("kill-collector", for_s=3)
        other.edit(userCount=35)
        panel.page.reload()
        panel.open()
        panel.wait(lambda: "kill-collector · healed" in panel.text, "the collector to be back")
        acked = panel.number("acked")
        panel.wait(lambda: panel.number("acked") > acked + 1000, "events to be accepted again")

        other.inject("catalog-down", for_s=20)
        panel.wait(lambda: "faults on: catalog-down" in panel.banner, "the other window's fault")
        panel.wait(lambda: "catalog-down · healed" in panel.text, "the catalog to be back")
        panel.wait(lambda: panel.number("pending") < 4000, "the table to catch up")

        panel.inject("slow-r2", for_s=None, latency_ms=300)
        panel.wait(lambda: "slow-r2 · injected" in panel.text, "the fault")
        panel.wait(lambda: "requests" in other.text, "requests")
        other.page.wait_for_timeout(3000)
        panel.stop()
        assert panel.verdict().startswith("PASS"), panel.banner
        other.wait(lambda: other.banner.startswith("PASS"), "the verdict in the other window")
        numbers = ("acked", "visible", "pending", "duplicated", "refused", "unknown")
        assert [panel.number(name) for name in numbers] == [other.number(name) for name in numbers]
        first = RunDir.find(runs, "last")
        assert steps(first)["slow-r2"][-1] in ("healed", "void")

        panel.again()
        second = RunDir.find(runs, "last")
        assert second.root != first.root
        panel.inject("slow-r2", for_s=None)
        halt = [sys.executable, "-c", "from chaos.cli import main; main()", "halt", "--runs", str(runs)]
        assert (
            "everything is healed" in subprocess.run(halt, cwd=ROOT, capture_output=True, text=True, check=True).stdout
        )
        assert panel.verdict().startswith("INCONCLUSIVE")

        panel.again()
        panel.press("halt")
        panel.wait(lambda: panel.banner.startswith("INCONCLUSIVE"), "the verdict", 120_000)
        assert other.errors == []
        finished(session, panel)
    assert len(list(runs.glob("2*"))) == 3
    assert operator(RunDir.find(runs, "last")) == ["halt"]


def test_everything_can_be_done_with_the_keyboard_on_a_narrow_screen(browser: Any, tmp_path: Path) -> None:
    """Tab and Enter only, 390 pixels wide, dark: no sideways scrolling, focus is always visible, and it ends in PASS."""
    with live(tmp_path / "runs", "--seed", "5") as session:
        panel = Panel(browser, session.url, viewport={"width": 390, "height": 844}, color_scheme="dark")
        panel.page.locator("input[name=userCount]").focus()
        panel.page.keyboard.press("Enter")
        panel.page.get_by_role("tab", name="icequake").focus()
        panel.page.keyboard.press("Enter")
        panel.ready()
        assert panel.page.evaluate("document.documentElement.scrollWidth") <= 390
        panel.tab_to("fault")
        panel.page.keyboard.type("slow-r2")
        panel.tab_to("inject")
        panel.page.keyboard.press("Enter")
        panel.wait(lambda: "injected as step" in panel.said, "the fault")
        panel.wait(lambda: "slow-r2 · injected" in panel.text, "the fault in its lane")
        panel.page.wait_for_timeout(3000)
        panel.tab_to("heal")
        assert panel.page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        panel.page.keyboard.press("Enter")
        panel.wait(lambda: "slow-r2 · healed" in panel.text or "slow-r2 · void" in panel.text, "the heal")
        panel.tab_to("paged")
        panel.page.keyboard.press("Space")
        panel.wait(lambda: "mark: paged" in panel.text, "the mark")
        panel.page.evaluate("fetch('./stop', {method: 'POST'})")  # on a narrow screen Locust's Stop is in its menu
        assert panel.verdict()
        assert panel.page.evaluate("document.documentElement.scrollWidth") <= 390
        finished(session, panel)
    assert operator(RunDir.find(tmp_path / "runs", "last")) == ["inject", "heal", "mark"]


def test_a_worker_is_lost_and_the_session_goes_on_honestly(browser: Any, tmp_path: Path) -> None:
    """One of two generator processes is killed: the tab says so, its last events are unknown, the other takes over the load."""
    with live(tmp_path / "runs", "--seed", "5", "--processes", "2") as session:
        panel = Panel(browser, session.url)
        panel.start()
        run = RunDir.find(tmp_path / "runs", "last")
        victim = workers_of(session.process.pid)[0]
        os.kill(victim, signal.SIGKILL)
        panel.wait(lambda: " lost" in panel.text, "the loss on the tab")
        acked = panel.number("acked")
        panel.wait(lambda: panel.number("acked") > acked + 1500, "the other worker to go on")
        panel.stop()
        assert panel.verdict().startswith("PASS"), panel.banner
        finished(session, panel)
    states = [
        (str(entry["name"]), entry["state"]) for entry in read_timeline(run.timeline) if entry["event"] == "process"
    ]
    assert sorted(state for name, state in states if name.startswith("locust-")) == ["joined", "joined", "lost"]


def workers_of(pid: int) -> list[int]:
    """Return the processes that Locust forked, of the session whose process is *pid*."""
    found, parents = [], {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
            parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError):
            continue
        if b"locust" in words and b"--processes" in words:
            found.append(int(entry.name))
    masters = [one for one in found if descends(one, pid, parents)]
    return [one for one in masters if parents[one] in masters]


def descends(one: int, pid: int, parents: dict[int, int]) -> bool:
    while one in parents and one != pid:
        one = parents[one]
    return one == pid
