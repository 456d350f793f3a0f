"""Every call to the gateway ends within its deadline, in an answer or in a sentence."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from chaos.errors import BadScenario, ControlHung, ServerGone
from chaos.gateway_client import GatewayClient
from chaos.target import free_port
from tests.chaos.fakes import Replying, ok, replying

pytestmark = pytest.mark.integration


@contextmanager
def talking(reply: Callable[[bytes], bytes | None]) -> Iterator[tuple[GatewayClient, Replying]]:
    with replying(reply) as server:
        yield GatewayClient(server.url, "s3cret", deadline_s=20), server


def asked(server: Replying) -> list[tuple[str, Any]]:
    """The first line and the JSON body of every request."""
    split = [request.partition(b"\r\n\r\n") for request in server.requests]
    return [(head.partition(b" HTTP")[0].decode(), json.loads(body) if body else None) for head, _, body in split]


def test_calls_carry_the_token() -> None:
    """The control interface is for its owner only."""
    with talking(lambda _: ok("{}")) as (client, server):
        client.rules()
    assert b"authorization: bearer s3cret" in server.requests[0].lower()


def test_a_rule_is_put_and_deleted() -> None:
    """By its id; deleting one that is gone is as good as deleting it."""
    rule = {"match": {}, "action": {"do": "hold"}}
    with talking(lambda request: ok(status="404 Not Found") if request.startswith(b"DELETE") else ok("{}")) as (
        client,
        server,
    ):
        client.put_rule("step0", rule)
        client.delete_rule("step0")
    assert asked(server) == [("PUT /rules/step0", rule), ("DELETE /rules/step0", None)]


def test_rules_and_counters_are_read() -> None:
    """A rule without counters has none; a gateway without rules has none."""
    answer = json.dumps({"rules": {"step0": {"matched": 2, "applied": 1, "passed": 1}}, "totals": {}})
    with talking(lambda _: ok(answer)) as (client, _):
        assert client.rule_counters("step0")["applied"] == 1
        assert client.rule_counters("other") == {}
    with talking(lambda _: ok("")) as (client, _):
        assert client.rules() == {}


def test_a_run_begins_with_its_seed_and_its_log(tmp_path: Path) -> None:
    """In that order, so that the header of the log names the run; the path is absolute; None ends the log."""
    with talking(lambda _: ok("{}")) as (client, server):
        client.begin_run("ab12cd34", 7, tmp_path / "gateway.jsonl")
        client.begin_run("", 0, None)
    assert asked(server)[:2] == [
        ("PUT /run", {"run_id": "ab12cd34", "seed": 7}),
        ("POST /log", {"path": str((tmp_path / "gateway.jsonl").resolve())}),
    ]
    assert asked(server)[3] == ("POST /log", {"path": None})


def test_the_undo_of_a_rule_holds_no_secret() -> None:
    """The journal is kept in the run directory; the token travels apart."""
    entry = GatewayClient("http://127.0.0.1:1", "s3cret").undo_entry("step0")
    assert (entry["method"], entry["url"]) == ("DELETE", "http://127.0.0.1:1/rules/step0")
    assert 404 in entry["ok"]
    assert "s3cret" not in json.dumps(entry)


def test_a_refused_rule_is_the_scenarios_fault() -> None:
    """Exit code 254, with the gateway's own sentence."""
    with (
        talking(lambda _: ok('{"error": "match.object is unknown"}', status="400 Bad Request")) as (client, _),
        pytest.raises(BadScenario, match=r"^the gateway refuses the rule: match\.object is unknown$"),
    ):
        client.put_rule("step0", {})


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (ok('{"error": "no such token"}', status="401 Unauthorized"), r"answered 401 to GET /rules: no such token$"),
        (ok("oops", status="500 Broken"), r"answered 500 to GET /rules: oops$"),
        (ok(status="404 Not Found"), r"answered 404 to GET /rules: $"),
        (ok("not JSON"), r"answer to GET /rules is not a JSON object: not JSON$"),
        (ok("[1]"), r"answer to GET /rules is not a JSON object: \[1\]$"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", r"did not answer GET /rules within 20 s"),
        (b"", r"did not answer GET /rules within 20 s"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{", r"did not answer GET /rules within 20 s"),
    ],
)
def test_any_other_answer_is_one_sentence(answer: bytes, sentence: str) -> None:
    """An error, another protocol, an answer cut short: the harness failed, and says how."""
    with talking(lambda _: answer) as (client, _), pytest.raises(ControlHung, match=sentence) as caught:
        client.rules()
    assert (caught.value.exit_code, "\n" in str(caught.value)) == (255, False)


def test_a_gateway_that_hangs_is_given_up() -> None:
    """After the deadline, not after the run."""
    with replying(lambda _: None) as server:
        client = GatewayClient(server.url, "t", deadline_s=0.05)
        with pytest.raises(ControlHung, match=r"did not answer GET /counters within 0\.05 s \(.*timed out.*\)\.$"):
            client.rule_counters("step0")


def test_a_gateway_that_is_gone_is_one_sentence() -> None:
    """Nobody listens, so its rules are gone too."""
    with pytest.raises(ServerGone, match=r"^the gateway has ended: nothing listens at http://127\.0\.0\.1:\d+\.$"):
        GatewayClient(f"http://127.0.0.1:{free_port()}", "t").delete_rule("a")
