"""The generator under Locust's own web UI, spoken to as a browser would."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlencode

import pytest

from loadtests.records.ledger import Outcome, read_ledgers
from loadtests.records.rundir import RunDir
from tests.loadtests.servers import ACCEPTED, Served, always, free_port, serving
from tests.mutants_traffic import MUTANTS

pytestmark = pytest.mark.integration
ROOT = Path(__file__).parents[2]


class Ui:
    def __init__(self, port: int, runs: Path, process: subprocess.Popen) -> None:
        self.port = port
        self.runs_dir = runs
        self.process = process

    def ask(self, method: str, path: str, form: dict[str, object] | None = None) -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        connection.request(method, path, urlencode(form) if form else None, headers)
        response = connection.getresponse()
        body = response.read()
        connection.close()
        assert response.status == 200, body
        return body

    def start(self, host: str, **form: object) -> None:
        self.ask("POST", "/swarm", {"user_count": 5, "spawn_rate": 5, "host": host, **form})

    def stop(self) -> None:
        self.ask("POST", "/stop")

    def state(self) -> str:
        return str(json.loads(self.ask("GET", "/stats/requests"))["state"])

    def runs(self) -> list[RunDir]:
        """In the order in which they began; two of one second differ in their random ids only."""
        opened = [RunDir.open(path) for path in self.runs_dir.glob("2*")]
        return sorted(opened, key=lambda run: run.info.started_mono_ns)


def wait_for(condition: Callable[[], bool], what: str) -> None:
    """Poll a real process, boundedly."""
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.05)


def answers(port: int) -> bool:
    try:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        connection.request("GET", "/stats/requests")
        connection.getresponse().read()
        connection.close()
        return True
    except OSError:
        connection.close()
        return False


@contextmanager
def web_ui(tmp_path: Path, *, code: int) -> Iterator[Ui]:
    """A Locust process with its UI on loopback; ended with SIGTERM, it must exit with *code*."""
    port, runs, log = free_port(), tmp_path / "runs", tmp_path / "locust.log"
    argv = [sys.executable, "-m", "locust", "-f", "loadtests/locustfile.py", "--web-host", "127.0.0.1"]
    argv += ["--web-port", str(port), "--runs", str(runs)]
    with log.open("wb") as stream:
        process = subprocess.Popen(argv, cwd=ROOT, stdout=stream, stderr=stream, stdin=subprocess.DEVNULL)
        try:
            wait_for(lambda: answers(port), "the web UI")
            yield Ui(port, runs, process)
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=30) == code, log.read_text()
        finally:
            if process.poll() is None:
                os.kill(process.pid, signal.SIGKILL)
                process.wait()


def test_each_start_is_a_run_of_its_own_with_the_forms_values(tmp_path: Path):
    """Start, stop, start again with another traffic: two run directories, each complete when Stop has answered."""
    with serving(always(ACCEPTED)) as server, web_ui(tmp_path, code=0) as ui:
        for index, traffic in enumerate(("steady", "hot-type")):
            before = len(server.requests)
            ui.start(server.url, traffic=traffic, rate_per_user=20, batch=10)
            wait_for(lambda before=before: len(server.requests) > before + 50, "requests")
            ui.stop()

            run = ui.runs()[index]
            assert run.info.phase == "done"
            (ledger,) = read_ledgers(run.ledger)
            acked = int((ledger.records["outcome"] == Outcome.ACKED).sum())
            assert acked == len(server.requests) - before
            assert set(ledger.records["count"]) == {10}
        first, second = ui.runs()

    assert first.info.run_id != second.info.run_id
    assert second.info.mix["page.view"] == 90


def test_a_host_that_is_no_url_ends_the_test_with_a_sentence_and_the_ui_lives_on(tmp_path: Path):
    """A wrong form stops that test only; a right one starts the next. The exit code remembers it."""
    with serving(always(ACCEPTED)) as server, web_ui(tmp_path, code=254) as ui:
        ui.start("nonsense")
        wait_for(lambda: ui.state() == "stopped", "the end of the test")
        assert "give a URL such as" in (tmp_path / "locust.log").read_text()
        ui.start(server.url, rate_per_user=20)
        wait_for(lambda: len(server.requests) > 10, "requests")
        ui.stop()


def collecting(mutant: str) -> Callable[[Served, socket.socket], bool]:
    """A server that answers as one of the collectors for unusual traffic does."""
    collector = MUTANTS[mutant](SimpleNamespace(buffer=[], lock=threading.Lock()))

    def script(served: Served, connection: socket.socket) -> bool:
        status = collector.take(served.body, None)
        connection.sendall(b"HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n" % status)
        return True

    return script


@pytest.mark.parametrize(("mutant", "breaches"), [("careful", 0), ("swallows", 1)])
def test_refusals_by_contract_have_rows_of_their_own_and_paint_no_failure(tmp_path: Path, mutant: str, breaches: int):
    """An invalid event that is refused is a row `refused 400`; one that is acknowledged stands among the failures."""
    with serving(collecting(mutant)) as server, web_ui(tmp_path, code=0) as ui:
        ui.start(server.url, traffic="poison", rate_per_user=30, batch=5)
        wait_for(lambda: len(server.requests) > 150, "requests")
        ui.stop()
        # Locust answers from a cache for two seconds.
        wait_for(lambda: len(json.loads(ui.ask("GET", "/stats/requests"))["stats"]) >= 3, "the tables")
        stats = json.loads(ui.ask("GET", "/stats/requests"))

    rows = {(row["method"], row["name"]): row for row in stats["stats"]}
    assert rows["POST", "events"]["num_failures"] == 0
    if breaches:
        assert rows["breach", "202"]["num_failures"] > 0
        assert {"acknowledged" in error["error"] for error in stats["errors"]} == {True}
    else:
        assert rows["refused", "400"]["num_requests"] > 0
        assert rows["refused", "400"]["num_failures"] == 0
        assert stats["errors"] == []
