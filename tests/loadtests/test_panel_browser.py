"""The icequake tab in a real browser, in front of a session that is a stand-in: what it draws, what its buttons ask for."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from chaos.control import ControlServer
from chaos.errors import NotNow
from loadtests.control_client import TOKEN_VARIABLE, URL_VARIABLE
from tests.live_session import ROOT, Panel, chromium
from tests.loadtests.runs import make_run
from tests.loadtests.servers import ACCEPTED, always, serving
from tests.loadtests.test_web_ui import wait_for, web_ui

pytestmark = pytest.mark.integration
EVIL = "<img src=x onerror=\"document.title='owned'\">"


def state(**changes: Any) -> dict[str, Any]:
    """What a session shows in the middle of a run, with a name in every place that would be markup if it were let."""
    alert = {"name": EVIL, "about": EVIL, "state": "firing", "since_s": 3.0, "fired": 1}
    step = {"step": 4, "fault": EVIL, "state": "injected", "injected_s": 2.0, "requests_affected": 7, "reason": EVIL}
    check = {"check": EVIL, "ok": False, "detail": EVIL}
    whole: dict[str, Any] = {
        "session": {"target": EVIL, "stack": EVIL, "message": None, "settling": False, "can_flush": True},
        "run": {
            "id": "ab12cd34", "directory": EVIL, "scenario": EVIL, "target": EVIL, "seed": 7, "phase": "inject",
            "elapsed_s": 9.0, "traffic_ended": False, "stopped": None, "failure": None,
        },
        "contract": {"freshness_s": 60.0, "capacity_events": 2000},
        "counts": {"attempted": 1300, "acked": 1234, "refused": 5, "unknown": 6, "not_sent": 7, "unwanted": 8, "sent": 1430},
        "table": {"visible": 1200, "pending": 34, "lost": 3, "duplicated": 0, "acked": 1234, "at_s": 8.5, "error": None},
        "freshness_s": 4.5,
        "buffer": {
            "fill_ratio": 0.93, "events": 1, "answers": True,
            "partitions": [{"name": EVIL, "fill_ratio": 0.93}, {"name": "quiet", "fill_ratio": 0.2}],
        },
        "flushes": {"committed": 3, "failed": 1, "undecided": 0},
        "faults": [EVIL],
        "steps": [step],
        "drills": [{"step": 5, "drill": EVIL, "state": "failed", "began_s": 1.0, "reason": EVIL, "checks": [check]}],
        "alerts": [alert],
        "entries": [
            {"t_s": 1.0, "event": "operator", "action": "mark", "text": EVIL},
            {"t_s": 2.0, "event": "process", "name": EVIL, "state": EVIL},
            {"t_s": 3.0, "event": "note", "text": EVIL},
        ],
        "history": [{"t_s": float(t), "fill_ratio": t / 10, "freshness_s": t / 2} for t in range(10)],
        "verdict": None,
    }  # fmt: skip
    return {**whole, **changes}


class Session:
    """A session that says what it is told to, and remembers what it was asked for."""

    def __init__(self, run: Path, url: str) -> None:
        self.now, self._begun = state(), {"run_dir": str(run), "url": url}
        self.done: list[tuple[str, dict[str, Any]]] = []

    def state(self, since_s: float) -> dict[str, Any]:
        return {**self.now, "history": [point for point in self.now["history"] if point["t_s"] > since_s]}

    def faults(self) -> list[dict[str, Any]]:
        params = {"latency_ms": 500, "path": "r2", "list": [1]}
        return [
            {"name": "slow-r2", "about": EVIL, "mechanism": "x", "with": params, "schema": {}, "problem": None},
            {"name": EVIL, "about": EVIL, "mechanism": "x", "with": {}, "schema": {}, "problem": EVIL},
        ]

    def drills(self) -> list[dict[str, Any]]:
        return [{"name": "flush", "about": EVIL, "text": EVIL, "with": {"n": 2}, "schema": {}, "problem": None}]

    def report(self, run_id: str) -> bytes:
        return b"<title>the report</title>"

    def act(self, action: str, arguments: dict[str, Any]) -> dict[str, Any]:
        self.done.append((action, arguments))
        if action == "begin":
            return self._begun
        if action == "halt":
            raise NotNow(EVIL)
        return {"step": 8, "flushes": [{"events": 3, "outcome": EVIL}], "buffered_events": 2}


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Session, str]]:
    root = tmp_path_factory.mktemp("panel")
    with serving(always(ACCEPTED)) as server, pytest.MonkeyPatch.context() as patch:
        run = make_run(root)
        run.info.seed = 1  # the form's
        run.save()
        fake = Session(run.root, server.url)
        with ControlServer(fake) as control:
            patch.setenv(URL_VARIABLE, control.url)
            patch.setenv(TOKEN_VARIABLE, control.token)
            with web_ui(root, code=0) as ui:
                yield fake, f"http://127.0.0.1:{ui.port}/"


@pytest.fixture(scope="module")
def early(session: tuple[Session, str]) -> Iterator[Panel]:
    """A window that shows Locust's form since before the first Start."""
    _, url = session
    with chromium() as browser:
        made = Panel(browser, url)
        made.page.get_by_role("button", name="Start").wait_for()
        made.page.wait_for_load_state("networkidle")  # it has asked for the state, and asks no more
        yield made
        assert made.errors == []


@pytest.fixture(scope="module")
def panel(session: tuple[Session, str], early: Panel) -> Panel:
    fake, url = session
    made = Panel(early.page.context.browser, url, viewport={"width": 390, "height": 844}, color_scheme="dark")
    made.start(host="http://127.0.0.1:1/")
    fake.done.clear()
    return made


@pytest.fixture(scope="module", autouse=True)
def no_script_failed(panel: Panel) -> Iterator[None]:
    yield
    assert panel.errors == []


@pytest.mark.usefixtures("panel")
def test_a_window_that_shows_the_form_follows_a_start_in_another(early: Panel) -> None:
    """Its Start would change the load of a run that it does not show."""
    early.open()
    early.wait(lambda: early.number("acked") == 1234, "the numbers of the run")


def test_whatever_is_shown_goes_in_as_text(panel: Panel) -> None:
    """Names, reasons, marks and procedures that are markup stay words; the numbers are the session's."""
    assert panel.text.count(EVIL) >= 12
    assert panel.page.locator("#icequake img").count() == 0
    assert panel.page.title() != "owned"
    numbers = {
        "acked": 1234,
        "visible": 1200,
        "pending": 34,
        "refused": 5,
        "unknown": 6,
        "not sent": 7,
        "flushes failed": 1,
    }
    numbers |= {"unwanted": 8, "sent per event": 1.1, "lost so far": 3}
    assert {name: panel.number(name) for name in numbers} == numbers
    assert panel.text.count("of 1,234 acked at 8.5 s") == 2
    assert "93 %" in panel.text
    assert panel.alert(EVIL) == "firing"


def test_a_narrow_screen_needs_no_sideways_scrolling_and_the_theme_is_locusts(panel: Panel) -> None:
    """390 pixels wide, dark."""
    assert panel.page.evaluate("document.documentElement.scrollWidth") <= 390
    assert panel.page.get_attribute("#icequake", "data-theme") == "dark"


def done(session: Session, wanted: int) -> bool:
    return len(session.done) >= wanted


def test_every_button_asks_for_what_it_says(session: tuple[Session, str], panel: Panel) -> None:
    """With the parameters of its form, typed as the catalogue types them."""
    fake, _ = session
    fake.done.clear()
    assert panel.inject("slow-r2", for_s=12, latency_ms=900, path="catalog") == 8
    panel.heal(4)
    panel.drill("flush")
    for wanted, button in enumerate(("flush", "heal all", "paged", "mitigated"), start=4):
        panel.press(button)
        panel.wait(partial(done, fake, wanted), button)
    assert fake.done == [
        ("inject", {"fault": "slow-r2", "with": {"latency_ms": 900, "path": "catalog", "list": [1]}, "for_s": 12}),
        ("heal", {"step": 4}),
        ("drill", {"drill": "flush", "with": {"n": 2}}),
        ("flush", {}),
        ("heal", {}),
        ("mark", {"text": "paged"}),
        ("mark", {"text": "mitigated"}),
    ]


def test_a_refusal_is_shown_and_what_is_no_json_is_not_sent(session: tuple[Session, str], panel: Panel) -> None:
    """The sentence of the session, or one about the field."""
    fake, _ = session
    panel.press("halt")
    panel.wait(lambda: EVIL in panel.said, "the refusal")
    fake.done.clear()
    panel.page.fill("#icequake form textarea[name=list]", "[1")
    panel.press("inject")
    panel.wait(lambda: "list is not JSON" in panel.said, "the sentence")
    assert fake.done == []


def test_of_a_hundred_faults_the_last_are_shown_and_every_one_that_is_on(
    session: tuple[Session, str], panel: Panel
) -> None:
    """One that was injected long ago can still be healed; an hour of points is drawn in the width there is."""
    fake, _ = session
    steps = [{"step": n, "fault": "slow-r2", "state": "healed", "injected_s": n, "healed_s": n + 1} for n in range(100)]
    steps[3] = {"step": 3, "fault": "catalog-down", "state": "injected", "injected_s": 3.0, "requests_affected": 9}
    history = [{"t_s": float(t), "fill_ratio": t % 10 / 10, "freshness_s": t % 60} for t in range(3600)]
    fake.now = state(steps=steps, history=history, faults=["catalog-down"])
    panel.page.reload()
    panel.open()
    panel.wait(lambda: "#3 catalog-down · injected" in panel.text, "the fault that is on")
    assert panel.page.locator("#icequake .lane:not(.axis)").count() == 13
    assert "1199 s are shown" in panel.text
    panel.heal(3)
    panel.wait(lambda: ("heal", {"step": 3}) in fake.done, "the request")
    fake.now = state()


def test_stop_shows_settling_and_then_the_verdict_with_its_report(session: tuple[Session, str], panel: Panel) -> None:
    """Buttons that make no sense any more are off; the report opens in a window of its own."""
    fake, _ = session
    run = {**fake.now["run"], "phase": "settle", "traffic_ended": True}
    fake.now = state(run=run, session={**fake.now["session"], "settling": True}, faults=[])
    panel.wait(lambda: panel.banner.startswith("settling"), "settling")
    assert panel.page.locator("#icequake").get_by_role("button", name="inject", exact=True).is_disabled()
    totals = {
        "acked": 1250, "refused": 405, "unknown": 6, "unwanted": 8, "distinct": 1205, "pending": 0, "stuck": 44, "lost": 1,
        "duplicated": 2,
    }  # fmt: skip
    verdict = {"verdict": "FAIL", "first_screen": [f"FAIL  {EVIL}"], "totals": totals, "checks": []}
    fake.now = state(run={**run, "phase": "done"}, verdict=verdict, faults=[])
    assert panel.verdict().startswith(f"FAIL  {EVIL}")
    assert panel.report().title() == "the report"
    judged = {"acked": 1250, "visible": 1205, "pending": 44, "lost": 1, "duplicated": 2, "refused": 405}
    assert {name: panel.number(name) for name in judged} == judged
    assert "was firing since 3.0 s" in panel.text, "alerts stand as they were at the end"


def test_a_session_that_is_gone_is_said_to_be_gone(session: tuple[Session, str], panel: Panel) -> None:
    """The numbers of before are pale, and when it answers again, the page goes on by itself."""
    fake, _ = session
    good, fake.now = fake.now, {}
    panel.wait(
        lambda: panel.banner.startswith("Connection lost") and "fault of icequake" in panel.banner, "the sentence"
    )
    assert panel.page.get_attribute("#icequake", "class") == "lost"
    fake.now = good
    panel.wait(lambda: panel.banner.startswith("FAIL"), "the verdict again")
    assert panel.page.get_attribute("#icequake", "class") == ""


@contextmanager
def wire(port: int) -> Iterator[None]:
    """Another way to *port*, at another address of this machine; it is cut at the end."""
    argv = [sys.executable, "-m", "tests.forward", "127.0.0.2", "127.0.0.1", str(port)]
    process = subprocess.Popen(argv, cwd=ROOT, stdin=subprocess.DEVNULL)
    try:
        wait_for(lambda: listens("127.0.0.2", port), "the forwarder")
        yield
    finally:
        process.kill()
        process.wait()


def listens(address: str, port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((address, port)) == 0


def test_a_broken_connection_is_said_and_mended(session: tuple[Session, str], panel: Panel) -> None:
    """A window that is cut off says so and keeps trying; what happened meanwhile is there when it is back."""
    fake, url = session
    port = int(url.rstrip("/").rpartition(":")[2])
    with wire(port):
        far = Panel(panel.page.context.browser, f"http://127.0.0.2:{port}/")
        far.open()
        far.wait(lambda: far.number("acked") == 1250, "the number of before")
    far.wait(lambda: far.banner.startswith("Connection lost"), "the loss")
    fake.now["verdict"]["totals"]["acked"] = 4321
    with wire(port):
        far.wait(lambda: far.number("acked") == 4321, "the number of now")
        assert "FAIL" in far.banner
        assert far.errors == []
        far.page.context.close()


def test_another_window_and_a_reload_each_have_the_whole_history(session: tuple[Session, str], panel: Panel) -> None:
    """Both are told of one state at once, with all points of the charts; a tab that is not on show holds no connection."""
    _, url = session
    other = Panel(panel.page.context.browser, url)
    other.open()
    panel.page.reload()
    panel.open()
    for window in (panel, other):
        window.wait(lambda window=window: "8 s are shown" in window.text, "the history")  # type: ignore[misc]
    assert other.number("acked") == panel.number("acked")
    assert other.errors == []
    other.page.get_by_role("tab", name="Charts").click()
    with other.page.expect_request("**/icequake/events"):
        other.open()
    other.page.context.close()
