import http.client
import json
import signal
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import toxiproxy
import toxiproxy.api

from chaos.errors import BadScenario, ControlHung
from chaos.journal import open_entries
from chaos.setup import SetupError, find_toxiproxy
from chaos.stack.plan import toxiproxy_service
from chaos.stack.ports import Ports
from chaos.stack.toxiproxy import Api, Route, Toxics
from chaos.warden_client import Child, Warden
from tests.chaos.processes import Recorder, recorder, stopped, until

ROUTES = ("r2", "ingest")


@dataclass
class Bench:
    """A real server with two proxies in front of a recorder."""

    api: Api
    toxics: Toxics
    warden: Warden
    server: Child
    routes: dict[str, Route]
    upstream: Recorder
    notes: list[str]
    journal: Path

    def fetch(self, proxy: str) -> None:
        urllib.request.urlopen(f"http://{self.routes[proxy].listen}/", timeout=5).read()

    def freeze(self) -> None:
        self.server.signal(signal.SIGSTOP)
        until(lambda: stopped(self.server.pid))


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    try:
        find_toxiproxy()
    except SetupError as error:
        pytest.skip(str(error))
    ports = Ports()
    with recorder() as upstream, Warden(lease_s=60) as warden:
        warden.use_journal(tmp_path / "journal.jsonl", "run1")
        url = f"http://127.0.0.1:{ports.take()}"
        service = toxiproxy_service(url)
        address = upstream.url.removeprefix("http://")
        routes = {name: Route(name, f"127.0.0.1:{ports.take()}", address) for name in ROUTES}
        server = service.spawn(warden, tmp_path)
        service.wait_ready(server)
        api = Api(url, deadline_s=0.3)
        notes: list[str] = []
        bench = Bench(api, None, warden, server, routes, upstream, notes, tmp_path / "journal.jsonl")  # type: ignore[arg-type]

        def restart() -> None:
            bench.server.kill()
            bench.server = service.spawn(warden, tmp_path)
            service.wait_ready(bench.server)

        bench.toxics = Toxics(api, warden, routes, restart=restart, note=notes.append)
        bench.toxics.create_proxies()
        yield bench
    ports.close()


def test_the_library_still_looks_where_we_put_our_consumer() -> None:
    """toxiproxy-python finds its consumer in module globals; without that no call would have a deadline."""
    assert toxiproxy.proxy.APIConsumer is toxiproxy.api.APIConsumer
    assert toxiproxy.server.APIConsumer is toxiproxy.api.APIConsumer
    with recorder(200) as server, pytest.raises(ControlHung):  # an empty body is no list of proxies
        Api(server.url).toxics_of_all()
    assert server.seen[0][1] == "/proxies"


def test_a_call_ends_at_its_deadline() -> None:
    """An API that accepts a connection and never answers is reported, not waited for."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        api = Api(f"http://127.0.0.1:{silent.getsockname()[1]}", deadline_s=0.05)
        started = time.monotonic()
        with pytest.raises(ControlHung, match=r"did not answer within 0\.05 s"):
            api.names("r2")
        assert time.monotonic() - started < 2
        assert not api.answers()


@pytest.mark.integration
class TestWithARealServer:
    def test_a_toxic_is_journaled_added_and_removed(self, bench: Bench) -> None:
        """A toxic is in the journal while it is on, and on the server; removal clears both."""
        bench.toxics.add("r2", "latency", {"latency": 20}, name="slow")
        assert bench.api.toxics_of_all() == {"r2": {"slow"}, "ingest": set()}
        urls = [entry["url"] for entry in open_entries(bench.journal).values() if entry["kind"] == "http"]
        assert urls == [f"{bench.api.url}/proxies/r2/toxics/slow"]
        bench.fetch("r2")
        bench.toxics.remove("r2", "slow")
        bench.toxics.remove("r2", "slow")  # again is fine
        assert bench.api.names("r2") == set()
        assert not [entry for entry in open_entries(bench.journal).values() if entry["kind"] == "http"]

    def test_it_affects_live_connections(self, bench: Bench) -> None:
        """A toxic added later reaches a connection that is already open."""
        host, _, port = bench.routes["r2"].listen.rpartition(":")
        live = http.client.HTTPConnection(host, int(port), timeout=5)
        live.request("GET", "/")
        live.getresponse().read()
        bench.toxics.add("r2", "timeout", {"timeout": 1})
        with pytest.raises((http.client.RemoteDisconnected, ConnectionResetError)):
            live.request("GET", "/")
            live.getresponse()
        live.close()

    def test_the_warden_can_undo_it_alone(self, bench: Bench) -> None:
        """What the journal holds is enough to remove toxics and to open closed proxies."""
        bench.toxics.add("r2", "latency", {"latency": 20}, name="slow")
        bench.toxics.disable("ingest")
        assert all(each["ok"] for each in bench.warden.heal_all())
        assert bench.api.names("r2") == set()
        assert bench.api.enabled() == {"r2": True, "ingest": True}

    def test_what_the_server_refuses_is_the_scenarios_fault(self, bench: Bench) -> None:
        """An unknown toxic, proxy or a name in use is a bad scenario, and nothing stays behind."""
        with pytest.raises(BadScenario, match=r"toxiproxy refuses: .*invalid toxic type"):
            bench.toxics.add("r2", "gremlin")
        with pytest.raises(BadScenario, match="no proxy 'r3'; the stack has r2, ingest"):
            bench.toxics.add("r3", "latency")
        bench.toxics.add("r2", "latency", name="slow")
        with pytest.raises(BadScenario, match="slow is already on"):
            bench.toxics.add("r2", "latency", name="slow")
        bench.toxics.remove_all()
        assert not [entry for entry in open_entries(bench.journal).values() if entry["kind"] == "http"]

    def test_down_and_up(self, bench: Bench) -> None:
        """A disabled proxy refuses connections until it is enabled."""
        bench.toxics.disable("r2")
        bench.toxics.disable("r2")
        with pytest.raises(urllib.error.URLError):
            bench.fetch("r2")
        bench.toxics.enable("r2")
        bench.fetch("r2")

    def test_leading_elsewhere_keeps_toxics(self, bench: Bench) -> None:
        """A proxy that leads elsewhere keeps what is on it."""
        bench.toxics.add("ingest", "latency", {"latency": 1}, name="slow")
        with recorder() as other:
            bench.toxics.lead_to("ingest", other.url.removeprefix("http://"))
            bench.fetch("ingest")
            assert len(other.seen) == 1
        assert bench.api.names("ingest") == {"slow"}

    def test_removal_survives_a_hung_server(self, bench: Bench) -> None:
        """When the server hangs it is replaced; the toxic is gone, the others are on, the journal agrees."""
        bench.toxics.add("r2", "latency", {"latency": 1}, name="slow")
        bench.toxics.add("r2", "latency", {"latency": 2}, name="stays")
        bench.toxics.disable("ingest")
        frozen = bench.server.pid
        bench.freeze()
        bench.toxics.remove("r2", "slow")
        assert bench.server.pid != frozen
        assert bench.api.names("r2") == {"stays"}
        assert bench.api.enabled()["ingest"] is False
        bench.fetch("r2")
        assert [note.partition("; ")[2] for note in bench.notes] == [
            "making proxy r2 anew",
            "killing toxiproxy and starting another",
        ]
        open_names = [entry["url"] for entry in open_entries(bench.journal).values() if entry["kind"] == "http"]
        assert [url.rpartition("/")[2] for url in open_names] == ["stays", "ingest"]

    def test_removal_is_verified(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        """When the server says that a toxic is removed and still has it, its proxy is made anew."""
        bench.toxics.add("r2", "latency", {"latency": 1}, name="slow")
        monkeypatch.setattr(bench.api, "remove", lambda *_: None)
        bench.toxics.remove("r2", "slow")
        assert bench.api.names("r2") == set()
        assert bench.notes == ["toxiproxy said that toxic slow is removed and still has it; making proxy r2 anew"]

    def test_injection_survives_a_hung_server(self, bench: Bench) -> None:
        """A toxic that could not be added to a hung server is on its successor."""
        bench.freeze()
        bench.toxics.add("r2", "latency", {"latency": 1}, name="slow")
        assert bench.api.names("r2") == {"slow"}

    def test_a_dead_server_is_replaced(self, bench: Bench) -> None:
        """A server that was killed comes back with the next change."""
        bench.server.kill()
        bench.toxics.add("r2", "latency", {"latency": 1}, name="slow")
        assert bench.api.names("r2") == {"slow"}

    def test_without_a_way_to_restart_it_says_so(self, bench: Bench) -> None:
        """On a stack of somebody else a hung server is an error that says what to do, and the promise stays open."""
        toxics = Toxics(bench.api, bench.warden, bench.routes)
        bench.freeze()
        with pytest.raises(ControlHung, match="icequake up"):
            toxics.add("r2", "latency", {"latency": 1}, name="slow")
        assert [entry for entry in open_entries(bench.journal).values() if entry["kind"] == "http"]

    def test_two_servers_do_not_meet(self, bench: Bench, tmp_path: Path) -> None:
        """Calls go to the server they are meant for, though the library knows only one."""
        with recorder(200) as other:
            Api(other.url)
            bench.toxics.add("r2", "latency", {"latency": 1}, name="slow")
            assert other.seen == []
            assert json.dumps(sorted(bench.api.names("r2"))) == '["slow"]'
