"""The control API as a client meets it: who may use it, what it refuses, and what it passes on."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from chaos.control import ACTIONS, BODY_BYTES_MAX, ControlServer
from chaos.errors import BadInput, ChaosError, NotNow

pytestmark = pytest.mark.integration
ERRORS = {"mark": BadInput("give a text."), "heal": NotNow("the run is over."), "flush": ChaosError("it hung.")}


class FakeOperations:
    """Remembers what it was asked to do; some actions fail as `ERRORS` says."""

    def __init__(self) -> None:
        self.done: list[tuple[str, dict[str, Any]]] = []
        self.since: list[float] = []
        self.run = "ab12cd34"
        self.problem: Exception | None = None

    def state(self, since_s: float) -> dict[str, Any]:
        self.since.append(since_s)
        if self.problem is not None:
            raise self.problem
        return {"run": {"id": self.run}, "history": [{"t_s": since_s + 1}]}

    def faults(self) -> list[dict[str, Any]]:
        return [{"name": "nothing"}]

    def drills(self) -> list[dict[str, Any]]:
        return [{"name": "flush-and-verify"}]

    def report(self, run_id: str) -> bytes:
        if run_id != "ab12cd34":
            raise NotNow("no report.")
        return b"<p>report</p>"

    def act(self, action: str, arguments: dict[str, Any]) -> dict[str, Any]:
        self.done.append((action, arguments))
        if action in ERRORS:
            raise ERRORS[action]
        return {"step": 3}


class Client:
    def __init__(self, server: ControlServer, operations: FakeOperations) -> None:
        self.server, self.operations = server, operations
        self.port = int(server.url.rpartition(":")[2])

    def ask(self, method: str, path: str, body: str | None = None, **headers: str) -> tuple[int, Any]:
        given = {"Authorization": f"Bearer {self.server.token}", **{k.replace("_", "-"): v for k, v in headers.items()}}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request(method, path, body, {name: value for name, value in given.items() if value})
            answer = connection.getresponse()
            text = answer.read()
        finally:
            connection.close()
        return answer.status, json.loads(text) if "json" in answer.headers["Content-Type"] else text


@pytest.fixture
def client() -> Iterator[Client]:
    operations = FakeOperations()
    with ControlServer(operations) as server:
        yield Client(server, operations)


def test_state_faults_and_report_are_read(client: Client) -> None:
    """Each resource is what the session says; `since` is passed on."""
    assert client.ask("GET", "/state?since=2.5")[1]["history"] == [{"t_s": 3.5}]
    assert client.ask("GET", "/faults") == (200, {"faults": [{"name": "nothing"}]})
    assert client.ask("GET", "/drills") == (200, {"drills": [{"name": "flush-and-verify"}]})
    assert client.ask("GET", "/runs/ab12cd34/report") == (200, b"<p>report</p>")
    assert client.ask("GET", "/runs/other/report")[0] == 409
    assert client.ask("GET", "/state?since=x")[0] == 400
    assert client.ask("GET", "/nowhere")[0] == 404


def test_an_action_is_passed_on_and_its_outcome_answered(client: Client) -> None:
    """The body reaches the session as it was sent."""
    assert client.ask("POST", "/inject", '{"fault": "slow-r2"}') == (200, {"step": 3})
    assert client.ask("POST", "/halt") == (200, {"step": 3})
    assert client.operations.done == [("inject", {"fault": "slow-r2"}), ("halt", {})]


@pytest.mark.parametrize("action", ACTIONS)
def test_every_action_needs_the_token_and_no_foreign_origin(client: Client, action: str) -> None:
    """What changes something is refused to strangers, action by action."""
    assert client.ask("POST", f"/{action}", "{}", Authorization="")[0] == 401
    assert client.ask("POST", f"/{action}", "{}", Origin="http://127.0.0.1:1")[0] == 403
    assert client.operations.done == []


@pytest.mark.parametrize(("action", "status"), [("mark", 400), ("heal", 409), ("flush", 500)])
def test_a_refusal_is_a_sentence_with_its_status(client: Client, action: str, status: int) -> None:
    """400: the request is wrong; 409: not now; 500: the harness failed."""
    got, document = client.ask("POST", f"/{action}", "{}")
    assert (got, document["error"]["sentence"]) == (status, str(ERRORS[action]))


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Authorization": ""}, 401),
        ({"Authorization": "Bearer wrong"}, 401),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Host": "evil.example"}, 403),
    ],
)
def test_strangers_are_refused_and_nothing_is_done(client: Client, headers: dict[str, str], status: int) -> None:
    """No token, a wrong one, another page's origin or a rebound name: not one action reaches the session."""
    assert client.ask("POST", "/halt", "{}", **headers)[0] == status
    assert client.ask("GET", "/state", **headers)[0] == status
    assert (client.operations.done, client.operations.since) == ([], [])


def test_bodies_that_are_no_object_or_too_long_are_refused(client: Client) -> None:
    """A list, broken JSON and a body over the limit change nothing."""
    assert client.ask("POST", "/inject", "[]")[0] == 400
    assert client.ask("POST", "/inject", "{")[0] == 400
    assert client.ask("POST", "/inject", "x" * (BODY_BYTES_MAX + 1))[0] == 413
    assert client.ask("POST", "/shutdown", "{}")[0] == 404
    assert client.operations.done == []


@contextmanager
def events(client: Client) -> Iterator[Callable[[], tuple[str, dict[str, Any]]]]:
    """Open the stream; yields what reads its next event."""
    connection = http.client.HTTPConnection("127.0.0.1", client.port, timeout=30)
    connection.request("GET", "/events", headers={"Authorization": f"Bearer {client.server.token}"})
    answer = connection.getresponse()
    assert answer.headers["Content-Type"] == "text/event-stream"

    def following() -> tuple[str, dict[str, Any]]:
        lines = list(iter(answer.readline, b"\n"))
        kind = lines[0].removeprefix(b"event: ").decode().strip() if len(lines) > 1 else "message"
        return kind, json.loads(lines[-1].removeprefix(b"data: "))

    try:
        yield following
    finally:
        connection.close()


def test_events_tell_the_state_again_and_again(client: Client) -> None:
    """A server-sent event is the state; the next one has only the history since."""
    with events(client) as following:
        assert following()[1]["run"] == {"id": "ab12cd34"}
        following()
    assert client.operations.since[:2] == [0.0, 1.0]


def test_another_run_is_told_with_its_whole_history(client: Client) -> None:
    """A stream goes on over the end of a run: the next one begins at zero."""
    with events(client) as following:
        following()
        client.operations.run = "other"
        while (state := following()[1])["run"]["id"] != "other":
            pass
    assert state["history"] == [{"t_s": 1.0}]


def test_a_stream_says_what_is_wrong_and_goes_on(client: Client) -> None:
    """A state that cannot be told is an event of its own, and the next one may be well again."""
    with events(client) as following:
        following()
        client.operations.problem = NotNow("the disk is gone.")
        while (told := following())[0] != "problem":
            pass
        client.operations.problem = None
        assert told[1]["error"]["sentence"] == "the disk is gone."
        while following()[0] != "message":
            pass


def test_what_an_operator_does_is_told_at_once(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every stream is woken by an action, also by one that failed, and ends with the server."""
    monkeypatch.setattr("chaos.control.EVENT_S", 1000.0)
    with events(client) as one, events(client) as other:
        one(), other()
        client.ask("POST", "/inject", "{}")
        one(), other()
        client.ask("POST", "/heal", "{}")
        one(), other()
    assert len(client.operations.since) == 6
