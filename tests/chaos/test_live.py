"""A whole live session in a real browser: start, inject by hand, stop, read the verdict, end."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from chaos.errors import BadInput
from chaos.live import LoadForm, live_plan, with_mode
from chaos.scenario import find_scenario, load_plan
from chaos.target import find_target
from loadtests.records.rundir import RunDir
from loadtests.records.timeline import read_timeline

ROOT = Path(__file__).parents[2]
CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
FORM = {"events_per_s": 200.0, "batch": 10, "profile": "steady", "seed": 3, "mode": "batch"}


def form(**changes: Any) -> LoadForm:
    return LoadForm(**{**FORM, **changes})


def test_the_forms_load_becomes_the_scenarios_traffic() -> None:
    """What is recorded is what was asked for, and can be read as a scenario again."""
    plan = live_plan(load_plan(find_scenario("live")), form())
    assert (plan.scenario.traffic.events_per_s, plan.scenario.traffic.batch) == (200, 10)
    assert "events_per_s: 200" in plan.text


def test_a_load_or_mode_that_cannot_be_is_one_sentence() -> None:
    """No batch, no events and no such mode are refused before anything is started."""
    plan = load_plan(find_scenario("live"))
    for wrong in ({"batch": 0}, {"events_per_s": 0.0}):
        with pytest.raises(BadInput, match="cannot be sent"):
            live_plan(plan, form(**wrong))
    with pytest.raises(BadInput, match="no mode"):
        with_mode(find_target("reference")[1], "telepathy")


@pytest.mark.integration
@pytest.mark.slow
def test_a_session_in_a_browser_from_start_to_verdict(tmp_path: Path) -> None:
    """Start, inject, mark, Stop during the fault: it is healed, settles, and the page shows the verdict and its report."""
    if CHROMIUM is None and not os.environ.get("CI"):
        pytest.skip("no Chromium on PATH (apt-get install chromium)")
    sync_api = pytest.importorskip("playwright.sync_api")
    runs = tmp_path / "runs"
    argv = [sys.executable, "-c", "from chaos.cli import main; main()", "live", "--runs", str(runs), "--seed", "5"]
    process = subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        assert process.stdout is not None
        url = next(line.strip() for line in process.stdout if line.strip().startswith("http://127.0.0.1"))
        with sync_api.sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            page = browser.new_page()
            errors: list[str] = []
            page.on("pageerror", lambda error: errors.append(str(error)))
            page.goto(url)
            page.get_by_role("button", name="Start").click()
            page.get_by_role("tab", name="icequake").click(timeout=60_000)
            page.wait_for_selector("#icequake button[type=submit]:not([disabled])", timeout=60_000)
            page.fill("#icequake input[name=latency_ms]", "300")
            page.get_by_role("button", name="inject").click()
            page.fill("#icequake [aria-label=mark]", "<img src=x>")
            page.get_by_role("button", name="mark", exact=True).click()
            page.wait_for_selector("#icequake .lane button", timeout=60_000)
            page.wait_for_function(
                "() => Number(document.querySelectorAll('#icequake .card b')[2].textContent.replace(/,/g, '')) > 6000",
                timeout=60_000,
            )
            page.reload()
            page.get_by_role("tab", name="icequake").click()
            page.wait_for_selector("#icequake .lane button", timeout=60_000)
            assert page.locator("#icequake img").count() == 0
            page.get_by_role("button", name="Stop").click()
            page.wait_for_selector("#icequake .banner a", timeout=180_000)
            assert page.inner_text("#icequake .banner").startswith("PASS  live on reference")
            with page.expect_popup() as opened:
                page.click("#icequake .banner a")
            opened.value.wait_for_load_state()
            assert "PASS" in opened.value.title()
            assert errors == []
            browser.close()
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.wait(60)
        if process.stdout is not None:
            process.stdout.close()

    run = RunDir.find(runs, "last")
    assert json.loads(run.verdict.read_text())["verdict"] == "PASS"
    actions = [entry["action"] for entry in read_timeline(run.timeline) if entry["event"] == "operator"]
    assert actions == ["inject", "mark"]
