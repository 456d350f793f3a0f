import json
from pathlib import Path

import numpy as np
import pytest

from loadtests import probe
from loadtests.records.identity import Identity
from loadtests.records.ledger import Kind, LedgerWriter, Outcome, Record, read_ledgers
from loadtests.records.rundir import RunDir
from tests.loadtests.runs import RUN_ID, make_run
from tests.loadtests.servers import ACCEPTED, Served, always, free_port, serving

BUSY = b"HTTP/1.1 503 Busy\r\nContent-Type: application/problem+json\r\nContent-Length: 0\r\n\r\n"
NOT_OURS = b"HTTP/1.1 503 Busy\r\nContent-Type: text/html\r\nContent-Length: 0\r\n\r\n"


def run_probe(run: RunDir, url: str, capsys, *args: str, code: int = 0) -> dict:
    base = ["--run-dir", str(run.root), "--url", url, "--producer", "900", "--rate", "100000"]
    assert probe.main([*base, *args]) == code
    return json.loads(capsys.readouterr().out) if code == 0 else {}


@pytest.mark.integration
def test_a_probe_sends_its_events_once_and_says_what_was_answered(tmp_path: Path, capsys):
    """Events are minted and ledgered as probes; the last request carries what is left."""
    run = make_run(tmp_path)
    with serving(always(ACCEPTED)) as server:
        result = run_probe(run, server.url, capsys, "--count", "25", "--batch", "10")

    assert result == {
        "producer": 900, "first": 0, "count": 25, "attempted": 25, "acked": 25, "refused": 0, "unknown": 0,
    }  # fmt: skip
    ids = np.array([i.encode() for served in server.requests for i in served.ids], dtype="S16")
    assert Identity(7, RUN_ID).invert(900, ids).tolist() == list(range(25))
    (ledger,) = read_ledgers(run.ledger)
    assert set(ledger.records["kind"]) == {Kind.PROBE}
    assert list(ledger.records["record"]) == [Record.ATTEMPT, Record.DONE] * 3
    assert list(ledger.records["count"]) == [10, 10, 10, 10, 5, 5]


@pytest.mark.integration
def test_a_second_probe_of_one_producer_mints_new_ids(tmp_path: Path, capsys):
    """Sequences go on where the ledgers end."""
    run = make_run(tmp_path)
    with serving(always(ACCEPTED)) as server:
        run_probe(run, server.url, capsys, "--count", "5")
        second = run_probe(run, server.url, capsys, "--count", "5")

    assert second["first"] == 5
    assert len({i for served in server.requests for i in served.ids}) == 10


@pytest.mark.integration
def test_refused_unknown_and_unreachable_are_told_apart(tmp_path: Path, capsys):
    """A marked 503 is refused, an unmarked one unknown, a closed port refused; none is retried."""
    run = make_run(tmp_path)
    with serving(always(BUSY)) as server:
        assert run_probe(run, server.url, capsys, "--count", "2")["refused"] == 2
        assert len(server.requests) == 2
    with serving(always(NOT_OURS)) as server:
        assert run_probe(run, server.url, capsys, "--count", "2")["unknown"] == 2
    assert run_probe(run, f"http://127.0.0.1:{free_port()}", capsys, "--count", "2")["refused"] == 2


@pytest.mark.integration
def test_the_attempt_is_on_disk_when_the_server_reads_the_request(tmp_path: Path, capsys):
    """Ledger first, then the request."""
    run = make_run(tmp_path)
    seen: list[int] = []

    def script(served: Served, connection) -> bool:
        seen.append(int((read_ledgers(run.ledger)[0].records["record"] == Record.ATTEMPT).sum()))
        connection.sendall(ACCEPTED)
        return True

    with serving(script) as server:
        run_probe(run, server.url, capsys, "--count", "3")

    assert seen == [1, 2, 3]


def test_events_leave_at_the_rate(tmp_path: Path):
    """On a clock of its own, the n-th request leaves n batches over the rate after the first."""
    run = make_run(tmp_path)
    now = [1_000_000_000]

    def sleep(seconds: float) -> None:
        now[0] += int(seconds * 1e9)

    ledger = LedgerWriter(run.ledger / "p.ledger", run_id=RUN_ID, process="p")
    made = probe.Probe(
        events=probe.EventFactory(seed=7, run_id=RUN_ID, producer=1, mix=probe.Mix(), batch=5),
        ledger=ledger,
        exchange=lambda _: probe.Answer(202),
        refusals=probe.Refusals(),
        clock=lambda: now[0],
        sleep=sleep,
    )
    result = made.send(first=0, count=20, rate_per_s=10)
    ledger.close()

    records = read_ledgers(run.ledger)[0].records
    sent = records[records["record"] == Record.ATTEMPT]["sent_ns"]
    assert np.diff(sent).tolist() == [500_000_000] * 3
    assert result.acked == 20
    assert set(records[records["record"] == Record.DONE]["outcome"]) == {Outcome.ACKED}


@pytest.mark.parametrize(
    "args", [["--count", "0"], ["--rate", "0"], ["--producer", "70000"], ["--mode", "binary", "--batch", "2"]]
)
def test_wrong_arguments_give_254(tmp_path: Path, capsys, args):
    """What is out of range is said in a sentence."""
    run_probe(make_run(tmp_path), "http://127.0.0.1:1/", capsys, *args, code=254)


def test_a_run_directory_that_is_none_gives_254(tmp_path: Path, capsys):
    """Nothing is sent without a ledger to write to."""
    assert probe.main(["--run-dir", str(tmp_path), "--url", "http://127.0.0.1:1", "--producer", "1"]) == 254
    assert "not a run directory" in capsys.readouterr().err


def test_a_ledger_that_cannot_be_created_gives_255(tmp_path: Path, capsys):
    """A probe that cannot be recorded is not sent."""
    run = make_run(tmp_path)
    (run.ledger / "probe-900-0.ledger").touch()

    run_probe(run, "http://127.0.0.1:1/", capsys, code=255)
