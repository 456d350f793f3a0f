"""Stand-ins for what a fault meets in a run, and a clock that only waiting moves."""

from __future__ import annotations

import random
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from chaos.faults import FaultSpec
from chaos.faults.env import Effect, Env
from chaos.scenario import Step
from chaos.trigger import Trigger
from loadtests.records.jsonl import JsonlWriter
from loadtests.records.rundir import RunDir, RunInfo
from loadtests.records.target import Ingest, Target

PATIENCE_S = 20.0
"""Only a failing test waits this long."""


def make_run(tmp_path: Path) -> RunDir:
    info = RunInfo(run_id="ab12cd34", scenario="test", target="test", seed=7)
    target = Target(name="test", ingest=Ingest(url="http://127.0.0.1:1/events"))
    return RunDir.create(tmp_path / "runs", info, scenario_text="name: test\n", target=target)


class VirtualTime:
    """Each thread has its own time, which begins at *origin_ns* and moves only when the thread waits."""

    def __init__(self, origin_ns: int = 0) -> None:
        self.origin_ns = origin_ns
        self._local = threading.local()

    def now_ns(self) -> int:
        return int(getattr(self._local, "ns", self.origin_ns))

    def wait(self, event: threading.Event, seconds: float) -> bool:
        self._local.ns = self.now_ns() + round(seconds * 1e9)
        return event.is_set()


def until_stopped(event: threading.Event, seconds: float) -> bool:
    """Wait as a step waits that only `stop` ends."""
    return event.wait(PATIENCE_S)


class FakeFault:
    """Stands for a catalogue entry, its mechanism and its injection; remembers what was done to it, and when."""

    def __init__(
        self,
        name: str = "fake",
        *,
        effect: Effect | None = None,
        clock: Callable[[], int] = lambda: 0,
        finished: Callable[[], bool] = lambda: False,
        fails: dict[str, Exception] | None = None,
        measure: Callable[[], object] = lambda: None,
    ) -> None:
        self.name, self.params, self._measure = name, {"strength": 3}, measure
        self._effect = effect or Effect(2, 1, None, {"probe": 5})
        self._clock, self._finished, self._fails = clock, finished, fails or {}
        self.done: list[tuple[str, int]] = []
        self.on = threading.Event()
        self.drawn = 0.0

    def _do(self, what: str) -> None:
        self.done.append((what, self._clock()))
        if what in self._fails:
            raise self._fails[what]

    def build(self) -> FakeFault:
        return self

    def inject(self, env: Env, name: str) -> FakeFault:
        self.drawn = env.rng.random()
        self._do("inject")
        self._measure()
        self.on.set()
        return self

    def finished(self) -> bool:
        if "finished" in self._fails:
            raise self._fails["finished"]
        return self._finished()

    def heal(self) -> None:
        self._do("heal")

    def effect(self) -> Effect:
        self._do("effect")
        return self._effect

    @property
    def actions(self) -> list[str]:
        return [what for what, _ in self.done]


def step(
    index: int, fault: FakeFault, *, at_s: float | None = 0.0, for_s: float = 0.0, trigger: Trigger | None = None
) -> Step:
    return Step(index, cast(FaultSpec, fault), at_s, trigger, for_s)


class FakeSeen:
    """Answers for gateway log and ledgers."""

    def __init__(self, *, on_path: int = 0, disturbed: int = 0, triggered: bool = False) -> None:
        self._on_path, self._disturbed, self._triggered = on_path, disturbed, triggered

    def on_path(self, upstream: str, since_ns: int, until_ns: int) -> int:
        return self._on_path

    def disturbed(self, since_ns: int, until_ns: int) -> int:
        return self._disturbed

    def wait_for(self, trigger: Trigger, since_ns: int, stop: threading.Event) -> bool:
        return self._triggered or not stop.wait(PATIENCE_S)


class FakeUndo:
    def __init__(self, log: list[str]) -> None:
        self._log = log

    def done(self) -> None:
        self._log.append("undo done")


class FakePipeline:
    """Stack, gateway, toxics, warden and target in one; every call is one word in `log`, in order."""

    def __init__(self, *, counters: dict[str, int] | None = None, base: str = "http://127.0.0.1:1") -> None:
        self.log: list[str] = []
        self.counters = counters or {}
        self.listed: dict[str, Any] = {}
        self.forgets_nothing = False
        self.owned = False  # as a stack that `icequake up` keeps
        self.exit_status = -9
        self.headers = {"Authorization": "Bearer secret"}
        self.ingest_faulted = self.s3_faulted = self.catalog_faulted = base

    # the stack is its own gateway, toxics and addresses
    @property
    def gateway(self) -> FakePipeline:
        return self

    @property
    def toxics(self) -> FakePipeline:
        return self

    @property
    def addresses(self) -> FakePipeline:
        return self

    def undo_entry(self, rule_id: str) -> dict[str, Any]:
        return {"kind": "http", "url": rule_id}

    def undo(self, entry: dict[str, Any], *, secrets: dict[str, str] | None = None) -> FakeUndo:
        self.log.append(f"journal {entry['url']}")
        return FakeUndo(self.log)

    def put_rule(self, rule_id: str, rule: dict[str, Any]) -> None:
        self.log.append(f"put {rule_id}")
        self.listed[rule_id] = rule

    def delete_rule(self, rule_id: str) -> None:
        self.log.append(f"delete {rule_id}")
        if not self.forgets_nothing:
            self.listed.pop(rule_id, None)

    def rules(self) -> dict[str, Any]:
        return self.listed

    def rule_counters(self, rule_id: str) -> dict[str, int]:
        return self.counters

    def add(self, proxy: str, kind: str, attributes: dict[str, int], *, stream: str, name: str) -> None:
        self.log.append(f"add {proxy} {kind} {attributes} {stream} {name}")

    def remove(self, proxy: str, name: str) -> None:
        self.log.append(f"remove {proxy} {name}")

    def kill(self) -> int:
        self.log.append("kill")
        return self.exit_status

    def start(self) -> None:
        self.log.append("start")

    come_back = start


def env(pipeline: FakePipeline | None = None, seen: FakeSeen | None = None, *, seed: str = "7") -> Env:
    anything = cast(Any, pipeline or FakePipeline())
    return Env(anything, anything, anything, cast(Any, seen or FakeSeen()), random.Random(seed))


def gateway_log(run: RunDir, *lines: dict[str, Any]) -> None:
    """Write lines as the gateway does; what a line does not say is that of an ordinary commit."""
    with JsonlWriter(run.gateway_log, "gateway", run.info.run_id) as writer:
        for number, line in enumerate(lines):
            usual = {
                "t_ns": 0,
                "n": number,
                "upstream": "catalog",
                "verb": "POST",
                "path": "/x",
                "object": "commit",
                "ms": 0,
            }
            writer.append({**usual, **line})


@dataclass
class Replying:
    """A loopback server that answers one request after the other, and what it was asked."""

    url: str
    requests: list[bytes] = field(default_factory=list)


def ok(body: str = "", status: str = "200 OK") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body.encode())}\r\nConnection: close\r\n\r\n{body}".encode()


@contextmanager
def replying(reply: Callable[[bytes], bytes | None]) -> Iterator[Replying]:
    """Answer every request with the bytes that *reply* makes of it; None: no answer until the client gives up."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = Replying(f"http://127.0.0.1:{listener.getsockname()[1]}")

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    _answer(connection, server, reply)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(PATIENCE_S)


def _answer(connection: socket.socket, server: Replying, reply: Callable[[bytes], bytes | None]) -> None:
    with connection.makefile("rb") as stream:
        head, length = b"", 0
        while (line := stream.readline()) not in (b"\r\n", b""):
            head += line
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        request = head + b"\r\n" + stream.read(length)
        server.requests.append(request)
        answer = reply(request)
        if answer is None:
            stream.read(1)  # returns when the client closes
        else:
            connection.sendall(answer)
