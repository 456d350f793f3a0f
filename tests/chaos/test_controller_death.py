"""Whatever happens to the controller in mid-fault: no process, no fault is left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from chaos.faults import MECHANISMS, catalogue
from chaos.gateway_client import GatewayClient
from chaos.target import find_target
from chaos.undo import process_identity

pytestmark = pytest.mark.integration

ROOT = Path(__file__).resolve().parents[2]
START_S = 180.0
ICEQUAKE = [sys.executable, "-c", "from chaos.cli import main; main()"]
SLOW = ["--set", "traffic.for_s=40", "--set", "steps.0.for_s=30", "--set", "baseline_s=1", "--set", "steps.0.at_s=0"]


def until(holds: Callable[[], Any], seconds: float, what: str) -> Any:
    """Poll a condition against its deadline; a deadline is a bound, not a measured speed."""
    deadline = time.monotonic() + seconds
    poll = threading.Event()
    while not (value := holds()):
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        poll.wait(0.02)
    return value


def start(*arguments: str, runs: Path) -> subprocess.Popen[bytes]:
    # Relative, as people (and the default) name it.
    return subprocess.Popen(
        [*ICEQUAKE, *arguments, "--runs", os.path.relpath(runs, ROOT)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def entries(runs: Path) -> list[dict[str, Any]]:
    return [
        json.loads(line)
        for path in runs.glob("2*/timeline.jsonl")  # not by `last` once more
        for line in path.read_text().splitlines()
        if line.endswith("}")
    ]


def said(runs: Path, state: str) -> list[dict[str, Any]]:
    return [entry for entry in entries(runs) if entry.get("event") == "step" and entry.get("state") == state]


def on(runs: Path) -> int:
    return len(said(runs, "injected")) - len(said(runs, "healed")) - len(said(runs, "void"))


def impossible(runs: Path) -> list[str]:
    reasons = [str(entry["reason"]) for entry in said(runs, "void")]
    return [reason for reason in reasons if reason.startswith("not possible here")]


def injected(runs: Path) -> bool:
    return bool(said(runs, "injected"))


def descendants(pid: int) -> dict[int, str]:
    """Every process below *pid*, with its identity (a reused pid has another)."""
    parents: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents[int(path.parent.name)] = int(fields[1])
    found: dict[int, str] = {}
    frontier = {pid}
    while frontier:
        frontier = {child for child, parent in parents.items() if parent in frontier and child not in found}
        found |= {child: process_identity(child) or "" for child in frontier}
    return found


def alive(processes: dict[int, str]) -> list[int]:
    return [pid for pid, identity in processes.items() if identity and process_identity(pid) == identity]


@pytest.fixture
def in_mid_fault(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """A run with slow R2 on, every server and process started by itself."""
    controller = start("run", "slow-r2", *SLOW, runs=tmp_path)
    try:
        until(lambda: injected(tmp_path) or controller.poll() is not None, START_S, "the fault is on")
        assert controller.poll() is None
        yield controller, tmp_path
    finally:
        if controller.poll() is None:
            controller.kill()
        controller.communicate()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    ("number", "bound_s"),
    [(signal.SIGKILL, 2.0), (signal.SIGSTOP, 5.0 + 2.0)],
    ids=["kill -9", "kill -STOP, within the lease"],
)
def test_a_dead_or_hung_controller_leaves_no_process(
    in_mid_fault: tuple[subprocess.Popen[bytes], Path], number: signal.Signals, bound_s: float
) -> None:
    """The warden notices by its pipe or its lease, heals, and ends all that was started."""
    controller, _ = in_mid_fault
    processes = descendants(controller.pid)
    assert len(processes) >= 6

    os.kill(controller.pid, number)

    until(lambda: not alive(processes), bound_s, f"all of {len(processes)} processes gone")


AT_ONCE = """\
name: at-once
question: What is left of all of this when the controller is killed?
traffic: {events_per_s: 100, batch: 20, for_s: 80}
baseline_s: 1
env: {ICEBERG_BUFFER_TIMEOUT_MS: "300"}
steps:
  - {fault: manifest-list-deleted, after: "3rd commit POST", for_s: 60}
  - {fault: slow-r2, after: "3rd commit POST", for_s: 60}
  - {fault: catalog-down, after: "3rd commit POST", for_s: 60}
  - {fault: ingest-flapping, after: "3rd commit POST", for_s: 60}
  - {fault: catalog-503, after: "3rd commit POST", for_s: 60}
  - {fault: catalog-hang, after: "3rd commit POST", for_s: 60}
  - {fault: buffer-locked, after: "3rd commit POST", for_s: 60}
  - {fault: slow-loris, after: "3rd commit POST", for_s: 60}
  - {fault: owners-hook, after: "3rd commit POST", for_s: 60}
"""
SENTINEL = "a fault of the owner"


def a_target_with_a_hook(directory: Path) -> Path:
    """The reference collector, whose owner breaks something by making a file and mends it by removing that."""
    _, target = find_target("reference")
    document = msgspec.to_builtins(target)
    left = directory / SENTINEL
    document["hooks"] = {"fault": {"inject": f"touch '{left}'", "heal": f"rm '{left}'", "probe": f"test ! -e '{left}'"}}
    path = directory / "hooked.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


class Up:
    """What is still injected into the stack that `icequake up` keeps running."""

    def __init__(self, state: Path) -> None:
        at = json.loads(state.read_text())["addresses"]
        self._api, self._gateway = at["toxiproxy_api"], GatewayClient(at["gateway_control"], at["gateway_token"])

    def toxics(self) -> int:
        return sum(len(proxy["toxics"]) for proxy in self._proxies())

    def faults(self) -> int:
        closed = sum(not proxy["enabled"] for proxy in self._proxies())
        return self.toxics() + closed + len(self._gateway.rules())

    def _proxies(self) -> list[dict[str, Any]]:
        with urllib.request.urlopen(f"{self._api}/proxies", timeout=5) as answer:
            return list(json.load(answer).values())


def test_a_killed_controller_leaves_no_fault_on_a_stack_that_stays_up(tmp_path: Path) -> None:
    """`icequake up` keeps its servers when a run that uses them is killed in mid-fault; every other trace is gone within 2 s.

    Except for damage to objects, which takes an object store to mend: `icequake heal` and the next run put it back.
    """
    (tmp_path / "at-once.yaml").write_text(AT_ONCE)
    target = a_target_with_a_hook(tmp_path)
    runs = tmp_path / "runs"
    keeper = start("up", runs=runs)
    controller: subprocess.Popen[bytes] | None = None
    try:
        state = runs / ".stack.json"
        until(lambda: state.is_file() or keeper.poll() is not None, START_S, "the stack is up")
        up = Up(state)
        arguments = ("run", str(tmp_path / "at-once.yaml"), "--target", str(target), "--stack", "up")
        controller = start(*arguments, runs=runs)
        wanted = AT_ONCE.count("fault:")
        until(lambda: on(runs) >= wanted or controller.poll() is not None, START_S, "the faults are on")
        assert controller.poll() is None, [entry for entry in entries(runs) if entry.get("event") == "step"]
        assert (up.toxics(), (tmp_path / SENTINEL).exists()) == (1, True)
        processes = descendants(controller.pid)

        controller.kill()

        until(lambda: not alive(processes), 2.0, f"all of {len(processes)} processes gone")
        until(lambda: up.faults() == 0, 2.0, "toxics, closed proxies and rules gone")
        until(lambda: not (tmp_path / SENTINEL).exists(), 2.0, "the owner's fault mended")
        said = subprocess.run([*ICEQUAKE, "heal", "--runs", str(runs)], cwd=ROOT, capture_output=True, text=True)
        assert (said.returncode, said.stdout.count("healed: object")) == (0, 1), said
        again = subprocess.run([*ICEQUAKE, "heal", "--runs", str(runs)], cwd=ROOT, capture_output=True, text=True)
        assert again.stdout.startswith("nothing to heal")
    finally:
        if controller is not None:
            controller.kill()
            controller.communicate()
        keeper.terminate()
        keeper.communicate(timeout=30)


SERVERS = ("warden", "storage", "toxiproxy", "gateway", "target", "locust", "auditor")
"""What a run has going; a fault that kills one of them may have left it dead when the controller is killed."""
KILLERS = {
    "buffer-torn",
    "crash-loop",
    "crash-put-after",
    "gateway-killed",
    "kill-collector",
    "power-cut",
    "storage-killed",
    "toxiproxy-killed",
}


TOGETHER = (
    "freeze-collector silent-clients r2-black-hole catalog-hang",
    "freeze-storage freeze-toxiproxy",
    "freeze-gateway buffer-locked",
    "kill-collector storage-killed",
    "crash-loop gateway-killed",
    "crash-put-after",
    "second-collector",  # it holds the buffer that one which died would start with
    "toxiproxy-killed",
    "disk-full data-file-cut",
    "clock-ahead",
    "foreign-maintenance",
    "nothing concurrent-flush",
    "buffer-torn",
    "power-cut",
)


def test_the_controller_is_killed_during_each_mechanism() -> None:
    """By the two tests beside this one; a new mechanism has to be added to them."""
    at_once = [step["fault"] for step in yaml.safe_load(AT_ONCE)["steps"]]
    tried = {catalogue()[name].mechanism for name in (*at_once, *" ".join(TOGETHER).split())}
    assert tried == set(MECHANISMS)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("faults", TOGETHER)
def test_a_controller_that_is_killed_during_any_fault_leaves_no_process(tmp_path: Path, faults: str) -> None:
    """On a stack of its own: the stopped, the traced, the dead and the twice started alike, and `icequake heal` finds nothing."""
    names = faults.split()
    steps = "".join(f"  - {{fault: {name}, at_s: 1, for_s: 60}}\n" for name in names)
    (tmp_path / "some.yaml").write_text(
        "name: some\nquestion: What is left?\ntraffic: {events_per_s: 100, batch: 20, for_s: 80}\nbaseline_s: 4\n"
        f'env: {{ICEBERG_BUFFER_TIMEOUT_MS: "300"}}\nsteps:\n{steps}'
    )
    runs = tmp_path / "runs"
    controller = start("run", str(tmp_path / "some.yaml"), runs=runs)
    try:
        until(
            lambda: len(said(runs, "injected")) == len(names) or impossible(runs) or controller.poll() is not None,
            START_S,
            "the faults are on",
        )
        if reasons := impossible(runs):
            pytest.skip(reasons[0])
        assert controller.poll() is None, entries(runs)
        processes = descendants(controller.pid)
        assert len(processes) >= len(SERVERS) - len(KILLERS & set(names))

        controller.kill()

        until(lambda: not alive(processes), 2.0, f"all of {len(processes)} processes gone")
        heal = subprocess.run([*ICEQUAKE, "heal", "--runs", str(runs)], cwd=ROOT, capture_output=True, text=True)
        assert heal.returncode == 0, heal
    finally:
        controller.kill()
        controller.communicate()


def test_ctrl_c_heals_writes_what_is_known_and_is_inconclusive(
    in_mid_fault: tuple[subprocess.Popen[bytes], Path],
) -> None:
    """An interrupted run has a verdict, a report and exit code 2, and nothing is left running."""
    controller, runs = in_mid_fault
    processes = descendants(controller.pid)

    controller.send_signal(signal.SIGINT)
    output, _ = controller.communicate(timeout=120)

    assert controller.returncode == 2, output.decode()
    verdict = json.loads(next(runs.glob("2*/verdict.json")).read_text())
    assert verdict["verdict"] == "INCONCLUSIVE"
    assert next(runs.glob("2*/report.html")).stat().st_size > 0
    assert any(entry.get("state") in ("healed", "void") for entry in entries(runs))
    assert not alive(processes)
