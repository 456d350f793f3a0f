"""The process under test: started, killed and started again on the same ports and the same data."""

from __future__ import annotations

import http.client
import os
import secrets
import signal
import sys
import time
import urllib.error
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import msgspec

from chaos.errors import BadTarget, NotReady
from chaos.loopback import open_url
from chaos.stack import Addresses, Ports
from chaos.warden_client import PACKAGE_ROOT, Child, Warden
from loadtests.records.errors import RecordError
from loadtests.records.target import CrashPoints, Process, Target, load_target

TARGETS = Path(__file__).parent / "targets"
POLL_S = 0.05
SECRETIVE = ("AWS_", "S3_", "CATALOG_", "ICEQUAKE_S3_", "ICEQUAKE_CATALOG_")
NOTHING: Mapping[str, str] = {}


@dataclass(frozen=True)
class Placed:
    """A target file with the ports of this run filled in.

    Attributes:
        target: Every `{port}`, `{admin_port}`, `{python}` and `{here}` replaced.
        port, admin_port: What the process is told to listen on.
        admin_token: What it is told to ask of whoever uses its admin listener.
    """

    target: Target
    port: int
    admin_port: int
    admin_token: str = field(default_factory=lambda: secrets.token_hex(20), repr=False)


def target_names() -> list[str]:
    """Return the names of the targets that come with icequake."""
    return sorted(path.stem for path in TARGETS.glob("*.yaml"))


def find_target(name: str) -> tuple[Path, Target]:
    """Read a target given by name or by path. Raises BadTarget with file, line and what to do."""
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        path = TARGETS / f"{name}.yaml"
        if not path.is_file():
            raise BadTarget(
                f"there is no target {name!r}; there are {', '.join(target_names())}, or give a .yaml file."
            )
    try:
        return path, load_target(path)
    except RecordError as error:
        raise BadTarget(str(error)) from error


_handed: deque[int] = deque(maxlen=100)


def free_port() -> int:
    """Return a loopback port that is free now, is of no stack, and that no outgoing connection can take meanwhile.

    The last hundred are not handed out again: their servers may be starting still.
    """
    ports = Ports()
    try:
        port = ports.take()
        while port in _handed:
            port = ports.take()
    finally:
        ports.close()
    _handed.append(port)
    return port


def place(path: Path, target: Target) -> Placed:
    """Fill in the ports of one run."""
    port, admin_port = free_port(), free_port()
    words = {
        "{port}": str(port),
        "{admin_port}": str(admin_port),
        "{python}": sys.executable,
        "{here}": str(path.resolve().parent),
    }
    plain = _filled(msgspec.to_builtins(target), words)
    return Placed(msgspec.convert(plain, Target), port, admin_port)


def _filled(node: Any, words: Mapping[str, str]) -> Any:
    if isinstance(node, str):
        for word, value in words.items():
            node = node.replace(word, value)
        return node
    if isinstance(node, list):
        return [_filled(item, words) for item in node]
    if isinstance(node, dict):
        return {key: _filled(value, words) for key, value in node.items()}
    return node


class TargetProcess:
    """A target that the harness runs.

    Args:
        process: How to start it.
        warden: Its parent.
        env: Its whole environment.
        log: Where its output goes.
        on_ready: Told the process id whenever it has come up, the first time and again.
        on_absent: Told why, in a sentence, whenever it did not come back after a fault.
    """

    def __init__(
        self,
        process: Process,
        *,
        warden: Warden,
        env: Mapping[str, str],
        log: Path,
        on_ready: Callable[[int], None] = lambda _: None,
        on_absent: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._process, self._warden, self._log = process, warden, log
        self._on_ready, self._on_absent = on_ready, on_absent
        self._env = {**env, **process.env}
        self._child: Child | None = None

    @property
    def pid(self) -> int | None:
        """The process id while there is one."""
        return self._child.pid if self._child is not None and self._child.poll() is None else None

    @property
    def status(self) -> int | None:
        """Its exit status; None while it runs, or before its first start."""
        return self._child.poll() if self._child is not None else None

    @property
    def crash_points(self) -> CrashPoints | None:
        """How it is told to die at a named point; None when it cannot be told."""
        return self._process.crash_points

    def start(self, *, env: Mapping[str, str] = NOTHING, arguments: Sequence[str] = ()) -> None:
        """Start it, with more *env* and *arguments*, and wait until its `ready` URL answers 2xx.

        Raises NotReady, ProcessFailed.
        """
        command = [*self._process.command, *arguments]
        child = self._warden.spawn("target", command, env={**self._env, **env}, log=self._log)
        self._child = child
        deadline = time.monotonic() + self._process.ready_s
        while not answers(self._process.ready):
            if child.poll() is not None:
                why = f"ended with status {child.poll()} before it was ready"
                raise NotReady("the target", self._process.ready_s, child.log_tail(), why)
            if time.monotonic() > deadline:
                raise NotReady("the target", self._process.ready_s, child.log_tail())
            time.sleep(POLL_S)
        self._on_ready(child.pid)

    def come_back(self, *, env: Mapping[str, str] = NOTHING, arguments: Sequence[str] = ()) -> None:
        """Start it again; one that does not come up is the verdict's to judge, and no failure of icequake. Raises ProcessFailed.

        One that was killed before it was ready is no such case: that was done to it.
        """
        try:
            self.start(env=env, arguments=arguments)
        except NotReady as error:
            if self.status != -signal.SIGKILL:
                self._on_absent(str(error))

    def ready(self) -> bool:
        """Tell whether it runs and says that it is ready."""
        return self.pid is not None and answers(self._process.ready)

    def clock_offset_s(self) -> float | None:
        """Return how far the `Date` of its answers is ahead of our clock, to a second or two; None without an answer that has one."""
        try:
            with open_url(self._process.ready, timeout=2.0) as answer:
                headers = answer.headers
        except urllib.error.HTTPError as error:
            headers = error.headers
        except (OSError, http.client.HTTPException):
            return None
        try:
            return parsedate_to_datetime(headers["Date"]).timestamp() - time.time()
        except (TypeError, ValueError):
            return None

    def twin(self) -> Twin:
        """Start a second one on the same data, on ports of its own, without waiting. Raises ProcessFailed."""
        ports = {"LISTEN_PORT": str(free_port()), "ADMIN_PORT": str(free_port())}
        words = {self._env["LISTEN_PORT"]: ports["LISTEN_PORT"], self._env["ADMIN_PORT"]: ports["ADMIN_PORT"]}
        log = self._log.with_name("target-second.log")
        child = self._warden.spawn("target-second", self._process.command, env={**self._env, **ports}, log=log)
        return Twin(child, _filled(self._process.ready, words))

    def kill(self) -> int | None:
        """SIGKILL its process group; return its exit status (-9 when that was what ended it)."""
        assert self._child is not None
        return self._child.kill()

    def stop(self, grace_s: float = 30.0) -> int | None:
        """SIGTERM, then SIGKILL after *grace_s*; return its exit status."""
        return self._child.stop(grace_s) if self._child is not None else None


@dataclass(frozen=True)
class Twin:
    """A second process of a target; *ready_url* is where it would serve."""

    child: Child
    ready_url: str

    @property
    def status(self) -> int | None:
        """Its exit status; None while it runs."""
        return self.child.poll()

    def ready(self) -> bool:
        """Tell whether it serves."""
        return self.child.poll() is None and answers(self.ready_url, timeout_s=0.5)

    def end(self) -> None:
        """Kill it."""
        self.child.kill()


def answers(url: str, timeout_s: float = 2.0) -> bool:
    """Tell whether *url* answers 2xx now."""
    try:
        with open_url(url, timeout=timeout_s):
            return True
    except (OSError, http.client.HTTPException, ValueError):
        return False


def target_environment(placed: Placed, addresses: Addresses, table: str, run: Path) -> dict[str, str]:
    """Return the environment a target is started with: its ports, and the faulted paths to storage and catalog.

    Nothing is inherited that looks like a cloud credential of the person who runs this.

    Args:
        table: Identifier of the table it is to fill, `namespace.name`.
        run: The run directory; the target's own data goes below it.
    """
    data = run / "target-data"
    data.mkdir(mode=0o700, exist_ok=True)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(SECRETIVE)}
    capacity = placed.target.contract.capacity_events
    key, secret = addresses.keys(direct=False)
    oauth = {
        "CATALOG_CREDENTIAL": addresses.credential,
        "CATALOG_OAUTH2_URI": f"{addresses.catalog_faulted}/v1/oauth/tokens",
    }
    return {
        **inherited,
        **({"ICEBERG_BUFFER_SIZE": str(capacity)} if capacity is not None else {}),
        "LISTEN_HOST": "127.0.0.1",
        "LISTEN_PORT": str(placed.port),
        "ADMIN_HOST": "127.0.0.1",
        "ADMIN_PORT": str(placed.admin_port),
        "ADMIN_TOKEN": placed.admin_token,
        "DATA_DIR": str(data.resolve()),
        "S3_ENDPOINT": addresses.s3_faulted,
        "S3_REGION": addresses.region,
        "AWS_ACCESS_KEY_ID": key,
        "AWS_SECRET_ACCESS_KEY": secret,
        "CATALOG_URI": addresses.catalog_faulted,
        "CATALOG_WAREHOUSE": addresses.warehouse,
        **({"CATALOG_TOKEN": addresses.catalog_token} if addresses.catalog_token else oauth),
        "TABLE_IDENTIFIER": table,
        "PYTHONPATH": str(PACKAGE_ROOT),
    }
