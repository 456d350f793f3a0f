"""One server of the stack: how it is started, and how one knows that it is ready."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import requests

from chaos.errors import NotReady, PortTaken
from chaos.warden_client import Child, Warden

READY_WITHIN_S = 30.0
_PAUSE_S = 0.02
_TAKEN = re.compile(r"address already in use|is not available on|port .{0,40}(taken|in use)", re.IGNORECASE)


@dataclass(frozen=True)
class Service:
    """A server process.

    ``ready`` answers at once; ``remove`` are files it leaves outside the stack's directory; ``grace_s`` is how long it gets
    to end by itself when the stack is stopped.
    """

    name: str
    argv: Sequence[str | Path]
    ready: Callable[[], bool]
    env: Mapping[str, str] | None = None
    cwd: Path | None = None
    remove: Sequence[Path] = ()
    grace_s: float = 2.0

    def spawn(self, warden: Warden, logs: Path) -> Child:
        """Start it as a child of the warden, without waiting."""
        log = logs / f"{self.name}.log"
        return warden.spawn(self.name, self.argv, env=self.env, cwd=self.cwd, log=log, remove=self.remove)

    def answers_within(self, seconds: float) -> bool:
        """Tell whether it serves, at the latest after *seconds*."""
        ends = time.monotonic() + seconds
        while not (ready := self.ready()) and time.monotonic() < ends:
            time.sleep(_PAUSE_S)
        return ready

    def wait_ready(self, child: Child, within_s: float = READY_WITHIN_S) -> None:
        """Wait until it serves; raises PortTaken or NotReady, with what it wrote last."""
        started = time.monotonic()
        while time.monotonic() < started + within_s:
            if (status := child.poll()) is not None:
                raise _ended(self.name, status, time.monotonic() - started, child.log_tail())
            if self.ready():
                return
            time.sleep(_PAUSE_S)
        raise NotReady(self.name, within_s, child.log_tail())


def _ended(name: str, status: int, seconds: float, tail: str) -> NotReady | PortTaken:
    if _TAKEN.search(tail):
        return PortTaken(f"{name} found a port taken by another program: {tail.strip().splitlines()[-1][:300]}")
    return NotReady(name, seconds, tail, f"ended with status {status} before it was ready")


def http(
    method: str,
    url: str,
    *,
    body: str | bytes | None = None,
    headers: Mapping[str, str] | None = None,
    timeout_s: float = 1.0,
) -> requests.Response | None:
    """Ask once, past any proxy of the environment; None when nobody answers in time."""
    with requests.Session() as session:
        session.trust_env = False
        try:
            return session.request(method, url, data=body, headers=headers, timeout=timeout_s)
        except requests.RequestException:
            return None
