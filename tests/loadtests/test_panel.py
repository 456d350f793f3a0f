"""The icequake tab's routes in a real Locust: what passes to the session, and what other pages cannot do."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chaos.control import ControlServer
from loadtests.control_client import TOKEN_VARIABLE, URL_VARIABLE
from tests.chaos.test_control import FakeOperations
from tests.loadtests.test_web_ui import Ui, web_ui

pytestmark = pytest.mark.integration


class Session(FakeOperations):
    """A session whose last run may still be settling."""

    settling = False

    def state(self, since_s: float) -> dict[str, Any]:
        return {"session": {"settling": self.settling}, "run": None, "history": []}


@pytest.fixture(scope="module")
def session() -> Session:
    return Session()


@pytest.fixture(scope="module")
def ui(session: Session, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ui]:
    with ControlServer(session) as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv(URL_VARIABLE, server.url)
        patch.setenv(TOKEN_VARIABLE, server.token)
        path: Path = tmp_path_factory.mktemp("panel")
        with web_ui(path, code=0) as running:
            running.token = server.token  # type: ignore[attr-defined]
            yield running


def ask(ui: Ui, method: str, path: str, body: str | None = None, **headers: str) -> tuple[int, str, dict[str, str]]:
    connection = http.client.HTTPConnection("127.0.0.1", ui.port, timeout=20)
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, body, given)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text, dict(answer.headers)


JSON = {"Content_Type": "application/json"}


def test_the_page_has_the_panel_and_never_the_token(ui: Ui) -> None:
    """Script and style are part of Locust's page; the token is in none of them."""
    pages = [ask(ui, "GET", path) for path in ("/", "/icequake/panel.js", "/icequake/panel.css", "/icequake/state")]
    assert [status for status, _, _ in pages] == [200] * 4
    assert "./icequake/panel.js" in pages[0][1]
    assert all(ui.token not in text for _, text, _ in pages)  # type: ignore[attr-defined]
    assert all("Access-Control-Allow-Origin" not in headers for _, _, headers in pages)


def test_an_action_reaches_the_session_and_a_refusal_comes_back(ui: Ui, session: Session) -> None:
    """Done or refused, the page is told what the session said."""
    session.done.clear()
    assert json.loads(ask(ui, "POST", "/icequake/inject", '{"fault": "slow-r2"}', **JSON)[1]) == {"step": 3}
    status, text, _ = ask(ui, "POST", "/icequake/heal", "{}", **JSON)
    assert (status, json.loads(text)["error"]["sentence"]) == (409, "the run is over.")
    assert session.done == [("inject", {"fault": "slow-r2"}), ("heal", {})]


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/icequake/halt", {**JSON, "Origin": "http://evil.example"}),
        ("/icequake/halt", {**JSON, "Origin": "null"}),
        ("/icequake/halt", {**JSON, "Sec_Fetch_Site": "cross-site"}),
        ("/icequake/halt", {**JSON, "Host": "evil.example"}),
        ("/icequake/halt", {"Content_Type": "text/plain"}),
        ("/icequake/begin", JSON),
        ("/swarm", {"Origin": "http://evil.example"}),
        ("/stop", {"Origin": "http://evil.example"}),
    ],
)
def test_other_pages_can_do_nothing(ui: Ui, session: Session, path: str, headers: dict[str, str]) -> None:
    """A foreign origin, a rebound name, a plain form, an action that is Locust's own: refused, and nothing happens."""
    session.done.clear()
    assert ask(ui, "POST", path, "{}", **headers)[0] in (400, 403, 404)
    assert session.done == []


def test_start_waits_for_the_verdict_of_the_last_run(ui: Ui, session: Session) -> None:
    """While a run settles, Locust's form shows why it does not start."""
    session.settling = True
    try:
        answer = json.loads(ask(ui, "POST", "/swarm", "user_count=1&spawn_rate=1")[1])
    finally:
        session.settling = False
    assert answer["success"] is False
    assert "settling" in answer["message"]


def test_a_report_gets_an_origin_of_its_own(ui: Ui) -> None:
    """It shows what a target wrote, so it may not use this server."""
    status, text, headers = ask(ui, "GET", "/icequake/runs/ab12cd34/report")
    assert (status, text) == (200, "<p>report</p>")
    assert headers["Content-Security-Policy"].startswith("sandbox")
