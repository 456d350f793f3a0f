"""Each kind of toxic is felt by its probe while it is on, on connections old and new, and is gone afterwards."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from chaos.faults.env import Effect, Env
from chaos.faults.probe import Probe, Reading
from chaos.faults.toxic import Toxic
from chaos.faults.toxic_kinds import KINDS
from chaos.setup import SetupError, find_toxiproxy
from chaos.stack.plan import toxiproxy_service
from chaos.stack.ports import Ports
from chaos.stack.toxiproxy import Api, Route, Toxics
from chaos.warden_client import Warden
from tests.chaos.fakes import FakePipeline, FakeSeen
from tests.chaos.fakes import env as fake_env
from tests.chaos.processes import until

BODY = b"x" * 2000


@dataclass
class Way:
    """A real Toxiproxy in front of a keep-alive server."""

    env: Env
    toxics: Toxics
    base: str

    def ask(self) -> bool:
        probe = Probe(self.base)
        whole = probe.ask().whole
        probe.close()
        return whole

    def put(self, **params: Any) -> Effect:
        injection = Toxic(path="r2", **params).inject(self.env, "step0-toxic")
        injection.finished()
        injection.heal()
        return injection.effect()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(404)
        self.send_header("Content-Length", str(len(BODY)))
        self.end_headers()
        self.wfile.write(BODY)

    def handle(self) -> None:
        try:
            super().handle()
        except OSError:
            return  # the path was cut on purpose

    def log_message(self, format: str, *args: Any) -> None: ...


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Way]:
    try:
        find_toxiproxy()
    except SetupError as error:
        pytest.skip(str(error))
    logs: Path = tmp_path_factory.mktemp("toxiproxy")
    upstream = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    upstream.daemon_threads = True
    thread = threading.Thread(target=upstream.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    ports = Ports()
    with Warden(lease_s=60) as warden:
        url = f"http://127.0.0.1:{ports.take()}"
        service = toxiproxy_service(url)
        service.wait_ready(service.spawn(warden, logs))
        route = Route("r2", f"127.0.0.1:{ports.take()}", f"127.0.0.1:{upstream.server_port}")
        toxics = Toxics(Api(url), warden, {"r2": route})
        toxics.create_proxies()
        base = f"http://{route.listen}"
        stack = SimpleNamespace(
            toxics=toxics, addresses=SimpleNamespace(s3_faulted=base, catalog_faulted="", ingest_faulted="")
        )
        env = cast(Env, SimpleNamespace(stack=stack, seen=FakeSeen(on_path=4, disturbed=2)))
        yield Way(env, toxics, base)
    ports.close()
    upstream.shutdown()
    thread.join()
    upstream.server_close()


@pytest.mark.integration
@pytest.mark.parametrize(
    "params",
    [
        {"kind": "latency", "latency_ms": 100, "jitter_ms": 10},
        {"kind": "latency", "latency_ms": 100, "stream": "upstream"},
        {"kind": "bandwidth", "rate_kb_s": 10},
        {"kind": "bandwidth", "rate_kb_s": 10, "stream": "upstream"},
        {"kind": "timeout"},
        {"kind": "timeout", "timeout_ms": 100, "stream": "upstream"},
        {"kind": "reset_peer"},
        {"kind": "slow_close", "delay_ms": 300},
        {"kind": "slicer", "size_bytes": 100, "delay_ms": 20},
        {"kind": "limit_data", "size_bytes": 300},
        {"kind": "limit_data", "size_bytes": 20_000, "stream": "upstream"},
        {"kind": "down"},
        {"kind": "flapping", "down_ms": 600_000, "up_ms": 1},
    ],
    ids=lambda params: "-".join(str(value) for value in params.values()),
)
def test_every_kind_is_felt_and_goes(path: Way, params: dict[str, Any]) -> None:
    """The probe feels it while it is on; afterwards the path is as it was and Toxiproxy lists nothing."""
    effect = path.put(**params)

    assert effect.reason is None, effect
    assert effect.affected > 0
    assert effect.measured["probe_ms_before"] is not None
    assert effect.measured["probe_ms_after"] is not None
    if KINDS[params["kind"]].blocks:
        assert (effect.measured["answered_during"], effect.measured["answered_after"]) == (False, True)
    if params["kind"] in ("timeout", "reset_peer", "down", "flapping"):
        assert effect.measured["answered_live"] is False, "a connection from before is hit as well"
    assert path.toxics.active == []
    assert path.ask()


@pytest.mark.integration
def test_flapping_opens_the_path_again_in_turn(path: Way) -> None:
    """Down first; when its time is over, up."""
    injection = Toxic(path="r2", kind="flapping", down_ms=1, up_ms=600_000).inject(path.env, "step0-flap")
    until(lambda: injection.finished() or path.ask())
    injection.heal()

    assert injection.effect().measured["cuts"] == 1


@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        ({"kind": "magic"}, "there is no toxic of kind 'magic'"),
        ({"kind": "latency"}, "needs latency_ms"),
        ({"kind": "down", "latency_ms": 5}, "does not take latency_ms"),
        ({"kind": "slicer", "delay_ms": 5}, "needs size_bytes"),
        ({"kind": "flapping", "down_ms": 5}, "needs up_ms"),
    ],
)
def test_parameters_that_do_not_fit_the_kind_are_refused(params: dict[str, Any], sentence: str) -> None:
    """Before anything runs, by name."""
    with pytest.raises((ValueError, msgspec.ValidationError), match=sentence):
        msgspec.convert({"path": "r2", **params}, Toxic)


BEFORE = Reading(1.0, True, 100, 2000, 0.1)


@pytest.mark.parametrize(
    ("kind", "params", "during"),
    [
        ("latency", {"latency_ms": 500}, Reading(20.0, True, 100, 2000)),
        ("bandwidth", {"rate_kb_s": 10}, Reading(20.0, True, 100, 2000)),
        ("timeout", {}, Reading(20.0, True, 100, 2000)),
        ("reset_peer", {}, Reading(20.0, True, 100, 2000)),
        ("down", {}, Reading(20.0, True, 100, 2000)),
        ("limit_data", {"size_bytes": 300}, Reading(20.0, True, 100, 2000)),
        ("slow_close", {"delay_ms": 500}, Reading(20.0, True, 100, 2000, 3.0)),
        ("slicer", {"size_bytes": 100, "delay_ms": 20}, Reading(20.0, True, 100, 2000)),
    ],
)
def test_a_toxic_that_changes_nothing_is_found_out(kind: str, params: dict[str, int], during: Reading) -> None:
    """The probe's reading is as before, so the toxic did not take effect whatever Toxiproxy says."""
    assert KINDS[kind].felt(params, "downstream", BEFORE, during) is not None


class Switch(FakePipeline):
    def disable(self, proxy: str) -> None: ...

    def enable(self, proxy: str) -> None: ...


def test_a_cut_ingest_path_counts_the_clients_that_got_no_answer() -> None:
    """On ingest the ledger knows who was hit and who was not."""
    toxic = Toxic(path="ingest", kind="down")
    injection = toxic.inject(fake_env(Switch(), FakeSeen(on_path=9, disturbed=4)), "step0-down")
    injection.heal()
    effect = injection.effect()

    assert (effect.affected, effect.escaped, effect.reason) == (4, 5, None)
