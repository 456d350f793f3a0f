"""Several generator processes from the command line: Locust's arguments, the invitation, and a master that cannot be."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from chaos.cli import run_command
from chaos.commands.session import invitation
from chaos.generator import Generator, Workers
from chaos.scenario import find_scenario, load_plan
from loadtests.records.jsonl import JsonlTail, JsonlWriter
from loadtests.records.target import Ingest
from tests.chaos.fakes import make_run


def test_one_process_has_no_master_and_several_share_one_on_loopback() -> None:
    """Locust would listen on every interface, and on one port for every run."""
    assert Workers().arguments() == []
    arguments = Workers(3).arguments()
    given = dict(zip(arguments[::2], arguments[1::2], strict=False))
    assert (given["--processes"], given["--master-bind-host"]) == ("3", "127.0.0.1")
    assert given["--master-bind-port"] == given["--master-port"] != "5557"
    assert "--enable-rebalancing" in arguments
    assert "6001" in Workers(1, join=6001).arguments()


def test_the_invitation_names_both_ports_of_the_tunnel() -> None:
    """The master's, and the one that events go to; without --join there is none."""
    assert invitation(Workers(4), "http://127.0.0.1:41234") is None
    text = invitation(Workers(1, join=5557), "http://127.0.0.1:41234")
    assert text is not None
    assert "-L 5557:127.0.0.1:5557 -L 41234:127.0.0.1:41234" in text
    assert "icequake worker 127.0.0.1:5557" in text


@pytest.mark.parametrize("master", ["127.0.0.1", ":5557", "127.0.0.1:x"])
def test_a_master_without_host_or_port_is_one_sentence(master: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 254."""
    assert run_command(["worker", master]) == 254
    assert "is not of the form 127.0.0.1:5557" in capsys.readouterr().err


def test_what_a_lost_worker_waited_for_counts_as_unknown(tmp_path: Path) -> None:
    """Until it comes back."""
    run = make_run(tmp_path)
    plan = load_plan(find_scenario("quick"))
    ingest = Ingest(url="http://127.0.0.1:1/events")
    generator = Generator(run, plan.scenario, ingest, ingest.url, None, Workers(2))  # type: ignore[arg-type]
    with JsonlWriter(run.status / "locust-1.jsonl", "status", run.info.run_id) as status:
        status.append({"attempted": 10, "acked": 7, "refused": 0, "unknown": 1, "inflight": 2, "not_sent": 0})
    with JsonlWriter(run.root / "workers.jsonl", "workers", run.info.run_id) as workers:
        assert generator.counts()["unknown"] == 1
        workers.append({"process": "locust-1", "state": "lost"})
        assert [entry["state"] for entry in generator.news()] == ["lost"]
        assert generator.counts()["unknown"] == 3
        workers.append({"process": "locust-1", "state": "back"})
        generator.news()
        assert generator.counts()["unknown"] == 1


def test_counts_never_go_back_whoever_asks_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A drill asks in its own thread: one that read the last line first must not put an older one in its place."""
    run = make_run(tmp_path)
    ingest = Ingest(url="http://127.0.0.1:1/events")
    generator = Generator(run, load_plan(find_scenario("quick")).scenario, ingest, ingest.url, None)  # type: ignore[arg-type]
    (run.status / "locust-0.jsonl").touch()
    begun, overtaken, lines = threading.Event(), threading.Event(), iter([{"acked": 10}, {"acked": 20}])

    def read(_tail: JsonlTail) -> list[dict[str, int]]:
        mine = next(lines)
        if mine["acked"] == 10:
            begun.set()
            overtaken.wait(0.5)  # in vain, where the second must wait for the first
        return [mine]

    monkeypatch.setattr(JsonlTail, "read", read)
    first = threading.Thread(target=generator.counts)
    first.start()
    begun.wait()
    assert generator.counts()["acked"] == 20
    overtaken.set()
    first.join()
    monkeypatch.setattr(JsonlTail, "read", lambda _tail: [])
    assert generator.counts()["acked"] == 20
