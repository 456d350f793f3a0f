"""A whole live session for tests and for the pictures in the docs: the command as a process, its page in a real Chromium.

Chromium comes from PATH. A machine without one skips what needs it and says so; under CI it must be there.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
START_S = 90
PATIENCE_MS = 90_000
VERDICT_MS = 240_000


def find_chromium() -> str:
    """Return a Chromium on PATH; without one the test is skipped, under CI it fails."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is not None:
        return found
    reason = "no Chromium on PATH (apt-get install chromium)"
    if os.environ.get("CI"):
        pytest.fail(f"{reason}, and CI is set")
    pytest.skip(reason)


@contextmanager
def chromium() -> Iterator[Any]:
    """Start a browser."""
    path = find_chromium()
    from playwright.sync_api import sync_playwright  # only where there is a browser

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


class Live:
    """`icequake live` as a process.

    Attributes:
        url: Locust's web UI.
        runs: Where its runs are.
        said: Lines that it printed so far.
    """

    def __init__(self, process: subprocess.Popen[str], runs: Path) -> None:
        self.process, self.runs = process, runs
        self.said: list[str] = []
        self._found = threading.Event()
        self.url = ""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said.append(line)
            if line.strip().startswith("http://127.0.0.1") and not self.url:
                self.url = line.strip()
                self._found.set()
        self._found.set()

    def wait_url(self) -> None:
        assert self._found.wait(START_S), "icequake live did not start in time"
        assert self.url, "".join(self.said)

    def end(self) -> int:
        """Ctrl-C; returns the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        status = self.process.wait(60)
        self._reader.join(10)
        return status


@contextmanager
def live(runs: Path, *arguments: str) -> Iterator[Live]:
    """Start `icequake live` and wait for its URL; whatever is left of it at the end is ended."""
    argv = [sys.executable, "-c", "from chaos.cli import main; main()", "live", "--runs", str(runs), *arguments]
    process = subprocess.Popen(
        argv, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True
    )
    session = Live(process, runs)
    try:
        session.wait_url()
        yield session
    except BaseException as error:
        error.add_note(f"icequake live (status {process.poll()}) said:\n" + "".join(session.said[-80:]))
        raise
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.wait(60)
        assert process.stdout is not None
        session._reader.join(10)
        process.stdout.close()


class Panel:
    """The icequake tab in one browser window.

    Attributes:
        page: Playwright's page.
        errors: What the page's scripts threw.
    """

    def __init__(self, browser: Any, url: str, **context: Any) -> None:
        self.page = browser.new_context(**context).new_page()
        self.errors: list[str] = []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.set_default_timeout(PATIENCE_MS)
        self.page.goto(url)

    def start(self, **form: str | int) -> None:
        """Fill Locust's form, press Start, and wait until something can be injected."""
        self._fill(form)
        self.page.get_by_role("button", name="Start").click()
        self.open()
        self.ready()

    def again(self, **form: str | int) -> None:
        """Start another run after the verdict of the last."""
        self.page.get_by_role("button", name="New", exact=True).click()
        self._fill(form)
        self.page.get_by_role("button", name="Start").click()
        self.page.wait_for_selector("#icequake .banner a", state="detached")
        self.ready()

    def edit(self, **form: str | int) -> None:
        """Change the load while it runs."""
        self.page.get_by_role("button", name="Edit", exact=True).click()
        self._fill(form)
        update = self.page.get_by_role("button", name="Update")
        update.click()
        update.wait_for(state="detached")

    def _fill(self, form: dict[str, str | int]) -> None:
        for name, value in form.items():
            self.page.locator(f"input[name={name}]:visible").fill(str(value))

    def ready(self) -> None:
        """Wait until something can be injected."""
        enabled = self.page.locator("#icequake button[type=submit]:not([disabled]):visible")
        self.wait(lambda: enabled.count() > 0, "the end of the baseline")

    def open(self) -> None:
        """Go to the tab."""
        self.page.get_by_role("tab", name="icequake").click()
        self.page.wait_for_selector("#icequake .card")

    def number(self, card: str) -> float:
        """Return the number on a card; -1 where it has none."""
        text = (
            self.page.locator("#icequake .card", has=self.page.get_by_text(card, exact=True)).locator("b").inner_text()
        )
        digits = re.sub(r"[^0-9.]", "", text)
        return float(digits) if digits else -1.0

    def wait(self, holds: Callable[[], bool], what: str, timeout_ms: int = PATIENCE_MS) -> None:
        """Wait until *holds*, looking as often as the page draws."""
        for _ in range(timeout_ms // 200):
            if holds():
                return
            self.page.wait_for_timeout(200)
        raise AssertionError(f"waited in vain for {what}; the page says:\n{self.page.inner_text('body')}")

    def inject(self, fault: str, *, for_s: float | None = 30, **params: float | str) -> int:
        """Inject by the form; returns the step's number when the page has told it."""
        self.page.select_option("#icequake [aria-label=fault]", fault)
        for name, value in params.items():
            self.page.fill(f"#icequake form [name={name}]", str(value))
        self.page.fill("#icequake [aria-label='for seconds']", "" if for_s is None else str(for_s))
        self.page.get_by_role("button", name="inject", exact=True).click()
        self.wait(lambda: "…" not in self.said, "an answer")
        assert "injected as step" in self.said, self.said
        return int(self.said.rpartition(" ")[2])

    def heal(self, step: int) -> None:
        """Heal one step by the button in its lane."""
        self.page.click(f"#icequake [data-step='{step}']")

    def drill(self, name: str) -> None:
        """Begin a drill by the form."""
        self.page.select_option("#icequake [aria-label=drill]", name)
        self.press("do the drill")
        self.wait(lambda: "drill begun" in self.said, "the drill to begin")

    def alert(self, name: str) -> str:
        """Return the state of an alert: ok, pending or firing."""
        row = self.page.locator("#icequake tbody tr", has=self.page.get_by_text(name, exact=True))
        return str(row.locator("td").nth(1).inner_text()).split()[0]

    def tab_to(self, label: str) -> None:
        """Press Tab until the focus is on the control of that name."""
        told = """() => { const e = document.activeElement, own = e && e.closest('#icequake');
            return own ? (e.getAttribute('aria-label') || e.textContent || '').trim() : ''; }"""
        for _ in range(200):
            if self.page.evaluate(told) == label:
                return
            self.page.keyboard.press("Tab")
        raise AssertionError(f"no Tab leads to {label!r}")

    @property
    def text(self) -> str:
        """All that the tab shows."""
        return str(self.page.inner_text("#icequake"))

    def press(self, name: str) -> None:
        """Press a button of the tab."""
        self.page.locator("#icequake").get_by_role("button", name=name, exact=True).click()

    @property
    def said(self) -> str:
        """The page's answer to the last button."""
        return str(self.page.inner_text("#icequake .said"))

    @property
    def banner(self) -> str:
        """The line on top."""
        return str(self.page.inner_text("#icequake .banner"))

    def stop(self) -> None:
        """Press Locust's Stop."""
        self.page.get_by_role("button", name="Stop", exact=True).click()

    def verdict(self) -> str:
        """Wait for the verdict and return what the banner says."""
        self.page.wait_for_selector("#icequake .banner a", timeout=VERDICT_MS)
        return self.banner

    def report(self) -> Any:
        """Open the report by its link; returns its page."""
        with self.page.expect_popup() as opened:
            self.page.click("#icequake .banner a")
        opened.value.wait_for_load_state()
        return opened.value
