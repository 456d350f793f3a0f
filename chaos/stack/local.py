"""A running stack: one set of servers that serves many runs, one after the other.

Each run has a namespace of its own in the catalog; :meth:`Stack.reset` in between leaves no fault behind.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Self

from chaos.errors import BadState, ChaosError, ControlHung, HealFailed, NotPossible, PortTaken, StackInUse
from chaos.gateway_client import GatewayClient
from chaos.stack.plan import Addresses, BackendFactory, Plan, make_plan, write_private
from chaos.stack.ports import Ports
from chaos.stack.toxiproxy import Api, Route, Toxics
from chaos.warden_client import Child, Warden

SCHEMA = "icequake.stack/1.0"
_ATTEMPTS = 3
FAULTED_BY = ("toxiproxy", "gateway")
HUNG_S = 4.0
"""A server that has not answered for so long, though nothing is injected, is taken for hung."""


class Stack:
    """Storage, catalog, gateway and Toxiproxy, serving; made by :func:`chaos.stack.start` or :func:`attach`.

    ``note`` may be set: it is told, in a sentence, about everything that had to be restarted.
    """

    def __init__(self, plan: Plan, warden: Warden, directory: Path, *, owned: bool) -> None:
        self.name = plan.name
        self.addresses = plan.addresses
        self.directory = directory
        self.owned = owned
        self.children: dict[str, Child] = {}
        """The server processes by name; empty for an attached stack, whose processes belong to another warden."""
        self.note: Callable[[str], None] = lambda _: None
        self.gateway = GatewayClient(plan.addresses.gateway_control, plan.addresses.gateway_token)
        self.toxics = Toxics(
            Api(plan.addresses.toxiproxy_api),
            warden,
            plan.routes,
            restart=(lambda: self._respawn("toxiproxy")) if owned else None,
            note=lambda text: self.note(text),
        )
        self._plan = plan
        self._measured: dict[str, bool] = {}
        self._meant_down: set[str] = set()
        self._warden = warden
        self._run: tuple[str, int, Path | None] | None = None
        self._ports: Ports | None = None
        self._claim: int | None = None

    @property
    def logs(self) -> Path:
        """The directory with one log per server."""
        return self.directory / "logs"

    # -- one run after the other

    def point_ingest_at(self, port: int) -> None:
        """Let the ingest path lead to this loopback port from now on."""
        self.toxics.lead_to("ingest", f"127.0.0.1:{port}")

    def set_gateway_log(self, path: Path | None, *, run_id: str = "", seed: int = 0) -> None:
        """Let the gateway write its log to ``path`` (None: nowhere) and draw from ``seed`` from now on."""
        self.gateway.begin_run(run_id, seed, path)
        self._run = (run_id, seed, path)

    def reset(self) -> None:
        """Remove every toxic and gateway rule and see that they are gone; ingest leads nowhere afterwards.

        Raises HealFailed when a fault could not be removed.
        """
        try:
            self.toxics.remove_all()
            for rule in self.gateway.rules():
                self.gateway.delete_rule(rule)
            left = self.gateway.rules()
        except ControlHung as error:
            raise HealFailed(f"the stack could not be cleaned: {error}") from error
        if left:
            raise HealFailed(f"the gateway still has the rules {', '.join(left)} after they were deleted")
        self.toxics.lead_to("ingest", self._plan.routes["ingest"].upstream)

    def pyiceberg_properties(self, direct: bool) -> dict[str, str]:
        """Make the properties of ``pyiceberg.catalog.load_catalog``; judges read ``direct``, targets the faulted path.

        They hold secrets.
        """
        return self.addresses.pyiceberg_properties(direct=direct)

    def capabilities(self) -> dict[str, bool]:
        """Tell what this storage can show: as stated, and as :meth:`measure` found it last; what needs more is void."""
        return {**self._plan.capabilities, **self._measured}

    def measure(self) -> dict[str, bool]:
        """Try what this storage can show, and keep it for :meth:`capabilities`.

        Raises ChaosError when it does not even keep a table.
        """
        # it takes a second to import, and not every user of a stack measures it
        from chaos.stack.probe import FAILURES, probe

        try:
            files = self.directory if "storage" in self._plan.roles else None
            self._measured = probe(self.pyiceberg_properties(direct=True), files)
        except FAILURES as error:
            raise ChaosError(f"the {self.name} stack does not keep a table: {error}") from error
        other = [name for name, able in self._measured.items() if self._plan.capabilities.get(name, able) is not able]
        if other:
            self.note(f"the {self.name} stack is not as it was known: see {', '.join(other)} in the report")
        return self.capabilities()

    # -- processes

    def server(self, role: str) -> str:
        """Return the name of the server that plays *role* (``storage``, ``catalog``); other names stand for themselves."""
        return self._plan.roles.get(role, role)

    def start(self) -> Self:
        """Start all servers at once and wait until each serves; raises NotReady, PortTaken, ProcessFailed.

        After an error the caller still has to :meth:`stop`.
        """
        self.logs.mkdir(parents=True, exist_ok=True)
        for name, service in self._plan.services.items():
            self.children[name] = service.spawn(self._warden, self.logs)
        for name, service in self._plan.services.items():
            service.wait_ready(self.children[name])
        self.toxics.create_proxies()
        return self

    def stop(self) -> None:
        """End every server, all at the same time; an attached stack is only reset and released."""
        if not self.owned:
            self._release()
            return
        for child in self.children.values():
            child.terminate()
        for name, child in self.children.items():
            child.stop(self._plan.services[name].grace_s)
        if self._ports is not None:
            self._ports.close()

    def dead(self) -> dict[str, int]:
        """Tell which servers have ended, and with which status."""
        return {name: status for name, child in self.children.items() if (status := child.poll()) is not None}

    def kill(self, name: str) -> None:
        """Kill a server (SIGKILL), given by role or name, as a fault would; :meth:`restart` brings it back."""
        child = self._child(self.server(name))
        self._meant_down.add(self.server(name))
        child.kill()

    def restart(self, name: str) -> None:
        """Bring a server back on its ports with its data, killing it first when it lives.

        Toxiproxy gets its proxies and toxics back. The gateway gets its log back, and no rules: they ended with it.
        """
        name = self.server(name)
        self._respawn(name)
        if name == "toxiproxy":
            self.toxics.restore()
        if name == "gateway" and self._run is not None:
            self.gateway.begin_run(*self._run)

    def lost(self) -> dict[str, int]:
        """Tell which servers have ended though nobody here killed them, and with which status."""
        return {name: status for name, status in self.dead().items() if name not in self._meant_down}

    def revive(self) -> list[str]:
        """Start again what has ended, or what faults go through and does not answer, when no fault is on any more.

        Returns what was done, in sentences.

        Raises NotReady when a server does not come back.
        """
        revived = []
        for name, child in list(self.children.items()):
            status = child.poll()
            if status is None and (name not in FAULTED_BY or self._plan.services[name].answers_within(HUNG_S)):
                continue
            why = "did not answer any more" if status is None else f"had ended with status {status}"
            self.restart(name)
            revived.append(f"{name} {why} and was started again")
        return revived

    def replace(self, name: str) -> None:
        """Start a server anew that hangs, and say so."""
        self.note(f"{name} did not answer any more and was started again")
        self.restart(name)

    def _respawn(self, name: str) -> None:
        child = self._child(name)
        self._meant_down.add(name)
        child.kill()
        service = self._plan.services[name]
        self.children[name] = service.spawn(self._warden, self.logs)
        service.wait_ready(self.children[name])
        self._meant_down.discard(name)

    def _child(self, name: str) -> Child:
        if not self.owned:
            raise ChaosError(f"{name} was started by `icequake up`, so this run cannot kill or restart it")
        if name not in self.children:
            raise NotPossible(f"the {self.name} stack has no server {name}; it has {', '.join(self.children)}")
        return self.children[name]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()

    # -- shared between processes

    def save_state(self, path: Path) -> None:
        """Write what :func:`attach` needs; the file holds secrets and only its owner may read it."""
        routes = {name: asdict(route) for name, route in self._plan.routes.items()}
        state = {"schema": SCHEMA, "name": self.name, "addresses": asdict(self.addresses), "routes": routes}
        able = {"capabilities": self.capabilities(), "roles": self._plan.roles}
        write_private(path, {**state, **able, "directory": str(self.directory)})

    def _release(self) -> None:
        if self._claim is not None:
            try:
                self.reset()
            finally:
                os.close(self._claim)
                self._claim = None


def start(make_backend: BackendFactory, warden: Warden, directory: Path, *, seed: int = 0) -> Stack:
    """Start a stack that keeps everything below ``directory``; it ends with the warden, or with ``stop``.

    Ports that another program took in the meantime are replaced, three times at most. Raises ToolMissing, NotReady,
    PortTaken, ProcessFailed; nothing is left running then.
    """
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            return _start_once(make_backend, warden, directory / f"try{attempt}" if attempt > 1 else directory, seed)
        except PortTaken:
            if attempt == _ATTEMPTS:
                raise
    raise AssertionError("unreachable")


def _start_once(make_backend: BackendFactory, warden: Warden, directory: Path, seed: int) -> Stack:
    directory.mkdir(parents=True, exist_ok=True)
    ports = Ports()
    try:
        stack = Stack(make_plan(make_backend, directory, ports, seed=seed), warden, directory, owned=True)
    except BaseException:
        ports.close()
        raise
    stack._ports = ports
    try:
        return stack.start()
    except BaseException:
        stack.stop()
        raise


def attach(path: Path, warden: Warden) -> Stack:
    """Use a stack that another process keeps up, alone until ``stop``.

    Raises BadState when there is none, StackInUse while another run has it.
    """
    plan, directory = _load_state(path)
    claim = _claim(path)
    stack = Stack(plan, warden, directory, owned=False)
    stack._claim = claim
    try:
        stack.reset()
    except ChaosError as error:
        os.close(claim)
        raise BadState(f"the stack described in {path} does not answer: run `icequake up` again ({error})") from error
    return stack


def saved_capabilities(path: Path) -> dict[str, bool]:
    """Return what the stack described in *path* can show, as measured when it was started; raises BadState."""
    plan, _ = _load_state(path)
    return plan.capabilities


def _load_state(path: Path) -> tuple[Plan, Path]:
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
        name, _, version = str(state["schema"]).partition("/")
        if (name, version.split(".")[0]) != ("icequake.stack", "1"):
            raise BadState(f"{path} was written by another version of icequake ({state['schema']}): run `icequake up`")
        routes = {key: Route(**route) for key, route in state["routes"].items()}
        able, roles = dict(state["capabilities"]), dict(state["roles"])
        plan = Plan(state["name"], Addresses(**state["addresses"]), routes, {}, able, roles)
        return plan, Path(state["directory"])
    except OSError as error:
        raise BadState(f"no stack is up ({path}: {error.strerror}): run `icequake up` first") from error
    except (ValueError, KeyError, TypeError) as error:
        raise BadState(f"{path} does not describe a stack ({error}): run `icequake up` again") from error


def _claim(path: Path) -> int:
    """Hold the state file's lock; the kernel gives it back when this process dies."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(handle)
        raise StackInUse(
            f"another run uses the stack described in {path}: wait for it, or start one of your own"
        ) from error
    return handle
