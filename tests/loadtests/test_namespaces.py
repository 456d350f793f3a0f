"""The recipe for many machines, tried on one: each worker has a network of its own, and a clock of its own where that can be.

Only a tunnel leads out of a worker's network: to the master's port and to the port that events go to, as docs/distributed.md
tells a person to make it with ssh.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pytest

from loadtests.records.ledger import read_ledgers
from loadtests.records.rundir import RunDir
from reports.obligations import ACKED, UNKNOWN, fold
from tests.loadtests.crowd import ROOT, having, locust, received, wait_for
from tests.loadtests.servers import ACCEPTED, always, free_port, serving

pytestmark = [pytest.mark.integration, pytest.mark.slow]
AHEAD_S = 5000


def run(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True, text=True)


def can(*words: str) -> bool:
    return (
        shutil.which(words[0]) is not None and subprocess.run(words, check=False, capture_output=True).returncode == 0
    )


@contextmanager
def network(number: int) -> Iterator[tuple[str, str]]:
    """A network namespace that is joined to this one by a cable; yields its name and this end's address."""
    name, cable = f"icequake-{os.getpid()}-{number}", f"iq{os.getpid() % 100_000}{number}"
    here, there = f"10.231.{number}.1", f"10.231.{number}.2"
    run("ip", "netns", "add", name)
    try:
        run("ip", "link", "add", cable, "type", "veth", "peer", "name", "uplink", "netns", name)
        run("ip", "addr", "add", f"{here}/30", "dev", cable)
        run("ip", "link", "set", cable, "up")
        for words in (
            ["addr", "add", f"{there}/30", "dev", "uplink"],
            ["link", "set", "uplink", "up"],
            ["link", "set", "lo", "up"],
        ):
            run("ip", "-n", name, *words)
        yield name, here
    finally:
        run("ip", "netns", "del", name)


@contextmanager
def process(*words: str) -> Iterator[subprocess.Popen[bytes]]:
    started = subprocess.Popen(
        words, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield started
    finally:
        started.kill()
        started.wait()


@contextmanager
def machine(number: int, ports: list[int], runs: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A worker in a network of its own, at the end of a tunnel for *ports*; the first is the master's."""
    wanted = [str(port) for port in ports]
    forward = (sys.executable, "-m", "tests.forward")
    clock = ["unshare", "--time", "--monotonic", str(AHEAD_S * number), "--fork", "--kill-child"]
    with ExitStack() as stack:
        name, here = stack.enter_context(network(number))
        inside = ("ip", "netns", "exec", name)
        stack.enter_context(process(*forward, here, "127.0.0.1", *wanted))
        stack.enter_context(process(*inside, *forward, "127.0.0.1", here, *wanted))
        worker = [sys.executable, "-c", "from chaos.cli import main; main()", "worker", f"127.0.0.1:{ports[0]}"]
        own_clock = clock if can(*clock, "true") else []
        yield stack.enter_context(process(*inside, *own_clock, *worker, "--runs", str(runs)))


def way_in() -> list[str]:
    """Return the command that enters networks of one's own; without root, as root of a user namespace.

    A machine that allows neither skips, and under CI fails.
    """
    own = ["unshare", "--net", "--mount"]
    for words in (own, [*own, "--user", "--map-root-user"]):
        if can(*words, "ip", "link", "set", "lo", "up"):
            return words
    reason = (
        "network namespaces need util-linux, iproute2, and root or user namespaces; this machine has not all of them"
    )
    if os.environ.get("CI"):
        pytest.fail(f"{reason}, and CI is set")
    pytest.skip(reason)


def test_workers_in_networks_of_their_own_with_one_killed(tmp_path: Path) -> None:
    """Ledgers arrive, times are the master's, sequences are disjoint, and of the killed one nothing is claimed that is not so."""
    done = subprocess.run(
        [*way_in(), sys.executable, "-m", "tests.loadtests.test_namespaces", str(tmp_path)],
        cwd=ROOT, check=False, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def in_a_network_without_others(tmp_path: Path) -> None:
    run("ip", "link", "set", "lo", "up")
    run("mount", "-t", "tmpfs", "names", "/run")  # where `ip netns` keeps its own, which end with this process then
    port, runs = free_port(), tmp_path / "master"
    with ExitStack() as stack:
        server = stack.enter_context(serving(always(ACCEPTED)))
        master = locust(
            "--headless", "--only-summary", "--host", server.url, "--runs", str(runs), "-u", "8", "-r", "8", "-t", "15s",
            "--rate-per-user", "10", "--batch", "3", "--master", "--expect-workers", "2", "--master-bind-host", "127.0.0.1",
            "--master-bind-port", str(port), "--enable-rebalancing",
        )  # fmt: skip
        stack.callback(master.communicate)
        stack.callback(master.kill)
        _, second = (
            stack.enter_context(machine(number, [port, server.port], tmp_path / f"machine-{number}"))
            for number in (1, 2)
        )
        wait_for(lambda: len(server.requests) > 150, "requests")
        second.send_signal(signal.SIGKILL)
        out, _ = master.communicate(timeout=120)
        assert master.returncode == 0, out

    recorded = RunDir.find(runs, "last")
    ledgers = read_ledgers(recorded.ledger)
    history = fold(ledgers)
    got = received(recorded, server.requests)
    assert sorted(history.producers) == [0, 1]
    assert having(history, ACKED) <= got
    assert got <= having(history, ACKED) | having(history, UNKNOWN)
    assert history.total(having=UNKNOWN) > 0
    sent_ns = np.concatenate([ledger.records["sent_ns"] for ledger in ledgers])
    info = recorded.info
    assert info.ended_mono_ns is not None
    assert info.started_mono_ns < sent_ns[sent_ns > 0].min()
    assert sent_ns.max() < info.ended_mono_ns


if __name__ == "__main__":
    in_a_network_without_others(Path(sys.argv[1]))
