"""Every named fault can be built; every mechanism journals before it injects, verifies its healing, and proves its effect."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import msgspec
import pytest

from chaos.errors import ControlHung
from chaos.faults import CATALOGUE, MECHANISMS, FaultSpec, catalogue
from chaos.faults.http import GatewayRule
from chaos.faults.nothing import Nothing
from chaos.faults.process import KillProcess
from chaos.faults.toxic import PROBE_PATH, Toxic
from chaos.requests_seen import PROBE_PREFIX
from tests.chaos.fakes import FakePipeline, FakeSeen, env

RULE: dict[str, Any] = {"match": {"object": "commit"}, "action": {"do": "applied", "then": {"answer": "drop"}}}


@pytest.mark.parametrize("name", sorted(catalogue()))
def test_every_named_fault_can_be_built(name: str) -> None:
    """It says what breaks, and its parameters fit its mechanism."""
    spec = catalogue()[name]
    assert spec.name == name
    assert spec.about
    assert isinstance(spec.build(), MECHANISMS[spec.mechanism])


def test_the_first_faults_are_there() -> None:
    """Scenarios rely on these names."""
    assert {"nothing", "slow-r2", "commit-answer-lost", "kill-collector"} <= set(catalogue())
    assert CATALOGUE.is_file()


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        ("slow-r2", {"latency_ms": 0}, "Expected `int` >= 1"),
        ("slow-r2", {"path": "moon"}, "Invalid enum value 'moon'"),
        ("slow-r2", {"latency": 1}, "unknown field `latency`"),
        ("nothing", {"x": 1}, "unknown field `x`"),
        ("kill-collector", {"down_s": -1}, "Expected `float` >= 0"),
        ("commit-answer-lost", {"times": 0}, "Expected `int` >= 1"),
        ("commit-answer-lost", {"match": {"nth": 1, "first": 2}}, "match has more than one of nth, every and first"),
    ],
)
def test_wrong_parameters_are_refused(name: str, params: dict[str, Any], message: str) -> None:
    """Before a run, with the name of what is wrong."""
    with pytest.raises((ValueError, msgspec.ValidationError), match=message):
        catalogue()[name].with_params(params)


def test_an_unknown_mechanism_is_refused_with_the_known_ones() -> None:
    """A mistake in the catalogue itself."""
    with pytest.raises(ValueError, match=r"no mechanism 'magic'; there are nothing, toxic, http, process, crash"):
        FaultSpec(about="x", mechanism="magic", stages=[]).build()


def test_probes_are_told_apart_from_requests() -> None:
    """What a toxic sends to measure itself must not count as a request of the target."""
    assert PROBE_PATH.startswith(PROBE_PREFIX)


@pytest.mark.parametrize(
    ("mechanism", "foreign"),
    [
        (Nothing(), None),
        (Toxic(path="ingest", latency_ms=1), None),
        (Toxic(path="r2", latency_ms=1), "its way to r2 does not lead through us"),
        (GatewayRule(**RULE), "its requests do not pass our gateway"),
        (KillProcess(), "the harness cannot kill and restart it"),
    ],
)
def test_what_cannot_be_done_to_a_foreign_target_is_said(mechanism: Any, foreign: str | None) -> None:
    """A target that the harness does not start: a reason. One that it starts: everything goes."""
    assert mechanism.problem(starts_target=True) is None
    problem = mechanism.problem(starts_target=False)
    assert problem is None if foreign is None else foreign in problem


def test_nothing_does_nothing() -> None:
    """The control experiment is no failure for lack of effect."""
    pipeline = FakePipeline()
    injection = Nothing().inject(env(pipeline), "step0-nothing")
    assert injection.finished() is False
    injection.heal()
    assert (injection.effect().reason, pipeline.log) == (None, [])


def test_a_rule_is_journaled_before_it_is_put_and_forgotten_after_it_is_gone() -> None:
    """A harness that dies at any moment leaves a journal that undoes what may have been done."""
    pipeline = FakePipeline(counters={"applied": 1, "passed": 4})
    injection = GatewayRule(**RULE, times=1).inject(env(pipeline), "step0-lost")
    injection.heal()
    assert pipeline.log == ["journal step0-lost", "put step0-lost", "delete step0-lost", "undo done"]
    effect = injection.effect()
    assert (effect.affected, effect.escaped, effect.reason) == (1, 4, None)


def test_a_rule_ends_when_it_was_applied_as_often_as_it_should_be() -> None:
    """And without such a number, never by itself."""
    pipeline = FakePipeline(counters={"applied": 1})
    twice = GatewayRule(**RULE, times=2).inject(env(pipeline), "a")
    always = GatewayRule(**RULE).inject(env(pipeline), "b")
    assert (twice.finished(), always.finished()) == (False, False)
    pipeline.counters = {"applied": 2}
    assert (twice.finished(), always.finished()) == (True, False)


def test_a_rule_that_nothing_matched_is_void() -> None:
    """No counters, no proof."""
    injection = GatewayRule(**RULE).inject(env(FakePipeline()), "a")
    injection.heal()
    assert injection.effect().reason == "no request matched it while it was on"


def test_a_rule_that_stays_is_not_healed() -> None:
    """Deleting is not believed; the list is. The journal keeps the entry."""
    pipeline = FakePipeline()
    pipeline.forgets_nothing = True
    injection = GatewayRule(**RULE).inject(env(pipeline), "a")
    with pytest.raises(ControlHung, match="still lists rule a after it was deleted"):
        injection.heal()
    assert "undo done" not in pipeline.log


def test_a_kill_is_healed_by_a_start_and_proved_by_what_clients_lost() -> None:
    """SIGKILL, down for its time, started again on the same data."""
    pipeline = FakePipeline()
    injection = KillProcess(down_s=0).inject(env(pipeline, FakeSeen(disturbed=3)), "a")
    assert injection.finished() is True
    injection.heal()
    assert pipeline.log == ["kill", "start"]
    effect = injection.effect()
    assert (effect.affected, effect.reason, effect.measured["status"]) == (3, None, -9)


def test_a_dead_target_stays_dead_for_its_time() -> None:
    """It is not restarted early."""
    assert KillProcess(down_s=3600).inject(env(), "a").finished() is False


@pytest.mark.parametrize(
    ("status", "disturbed", "reason"),
    [
        (-9, 0, "no request of a client met a dead target"),
        (1, 5, "the target had ended by itself with status 1 before"),
    ],
)
def test_a_kill_that_proves_nothing_is_void(status: int, disturbed: int, reason: str) -> None:
    """Nobody noticed, or it was not our signal that ended it."""
    pipeline = FakePipeline()
    pipeline.exit_status = status
    injection = KillProcess(down_s=0).inject(env(pipeline, FakeSeen(disturbed=disturbed)), "a")
    injection.heal()
    assert (injection.effect().reason or "").startswith(reason)


@pytest.fixture
def base() -> Iterator[str]:
    """A server that answers every probe at once."""

    class Prompt(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(404)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Prompt)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.integration
def test_a_toxic_counts_the_requests_on_its_path(base: str) -> None:
    """Added with its parameters, removed by name, and measured before, during and after."""
    pipeline = FakePipeline(base=base)
    toxic = Toxic(path="r2", latency_ms=10, jitter_ms=10, stream="upstream")
    injection = toxic.inject(env(pipeline, FakeSeen(on_path=7)), "step0-slow")
    assert injection.finished() is False
    injection.heal()
    assert pipeline.log == ["add r2 latency {'latency': 10, 'jitter': 10} upstream step0-slow", "remove r2 step0-slow"]
    effect = injection.effect()
    assert (effect.affected, effect.reason) == (7, None)
    assert all(effect.measured[f"probe_ms_{when}"] is not None for when in ("before", "during", "after"))


@pytest.mark.integration
def test_a_toxic_that_no_probe_felt_is_void(base: str) -> None:
    """Requests passed, but not slowly: whatever Toxiproxy says, it did not take effect."""
    injection = Toxic(path="r2", latency_ms=60_000).inject(env(FakePipeline(base=base), FakeSeen(on_path=7)), "a")
    injection.heal()
    effect = injection.effect()
    assert (effect.affected, effect.escaped) == (0, 7)
    assert "at least 48000 ms were planned" in (effect.reason or "")


@pytest.mark.integration
def test_a_toxic_that_met_no_request_is_void(base: str) -> None:
    """The path was slow, and nobody was on it."""
    injection = Toxic(path="catalog", latency_ms=1, jitter_ms=1).inject(env(FakePipeline(base=base), FakeSeen()), "a")
    injection.heal()
    assert injection.effect().reason == "the target sent nothing on path catalog while it was on"


@pytest.mark.integration
def test_a_probe_without_an_answer_is_no_measurement() -> None:
    """Nothing listens there: slower than any plan, and not an error of the harness."""
    injection = Toxic(path="ingest", latency_ms=500).inject(env(FakePipeline(), FakeSeen(on_path=1)), "a")
    injection.heal()
    assert injection.effect().measured["probe_ms_during"] is None
