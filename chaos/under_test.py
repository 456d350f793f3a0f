"""The target of one run: where clients and the harness find it, what it may be asked, its process where that is ours."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from chaos.drills.desk import AdminClient, DrillFailed
from chaos.errors import ChaosError, NotAllowed
from chaos.faults.clock import environment_for
from chaos.faults.env import Flush, Mechanism
from chaos.kept_aside import keep_quarantine
from chaos.stack import Stack
from chaos.target import TargetProcess, place, target_environment
from chaos.warden_client import Warden
from loadtests.records.documents import write_document
from loadtests.records.rundir import RunDir
from loadtests.records.target import Target
from loadtests.records.target_config import write_target_config
from loadtests.records.timeline import Timeline

LOOPBACK = ("127.0.0.1", "localhost", "::1")
SECRET_PROPERTIES = ("s3.access-key-id", "s3.secret-access-key", "credential", "token")


class UnderTest:
    """A target with the ports of this run, on a stack.

    Args:
        path: Its file; `{here}` in it means its directory.

    Attributes:
        target: The target file with everything filled in.
        process: What was started; None before, and where the target is not ours to start.
    """

    def __init__(self, path: Path, target: Target, stack: Stack) -> None:
        self.placed = place(path, target)
        self.target, self.here, self._stack = self.placed.target, path.resolve().parent, stack
        self.process: TargetProcess | None = None

    @property
    def ours(self) -> bool:
        """Whether icequake starts it."""
        return self.target.process is not None

    def table(self, run_id: str) -> str:
        """Return the run's table, `namespace.name`."""
        return self.target.table.identifier or f"run_{run_id}.events"

    # -- the way to it

    def permit(self) -> None:
        """Raise NotAllowed for a store or catalog elsewhere that the target file does not allow."""
        addresses = self._stack.addresses
        for url in (addresses.s3_direct, addresses.catalog_direct):
            host = urlsplit(url).hostname
            if host not in LOOPBACK and host not in self.target.allow:
                raise NotAllowed(
                    f"{url} is not on this machine; list {host!r} under `allow` in the target file when it is yours."
                )

    def through_proxy(self) -> bool:
        """Tell whether clients reach it through Toxiproxy: when it listens on this machine, without TLS.

        Raises:
            NotAllowed: it is elsewhere, and its owner has not said that it may be loaded.
        """
        parts = urlsplit(self.target.ingest.url)
        if parts.hostname in LOOPBACK:
            return parts.scheme == "http"
        if parts.hostname not in self.target.allow:
            raise NotAllowed(
                f"{self.target.ingest.url} is not on this machine; list {parts.hostname!r} under `allow` in the target "
                "file when it is yours to load."
            )
        return False

    def ingest_url(self) -> str:
        """Return where clients send to. Raises NotAllowed."""
        url = self.target.ingest.url
        if not self.through_proxy():
            return url
        return f"{self._stack.addresses.ingest_faulted}{urlsplit(url).path or '/'}"

    def lead_clients_to_it(self) -> None:
        """Point the proxy of the ingest path at it, where there is one. Raises NotAllowed."""
        if self.through_proxy():
            self._stack.point_ingest_at(_port(self.target.ingest.url))

    # -- its process

    def start(
        self, run: RunDir, warden: Warden, timeline: Timeline, env: Mapping[str, str], mechanisms: Iterable[Mechanism]
    ) -> None:
        """Start it where it is ours, and write down what it says of its configuration. Raises ChaosError.

        Args:
            env: The scenario's environment, over the ordinary one.
            mechanisms: What is going to be done to it, some of which has to be prepared in its environment.
        """
        if self.target.process is None:
            return
        table = self.table(run.info.run_id)
        self._write_stack(run, table)
        whole = {
            **target_environment(self.placed, self._stack.addresses, table, run.root),
            **env,
            **environment_for(mechanisms, run.root),
        }

        def ready(pid: int) -> None:
            timeline.write("process", name="target", state="ready", pid=pid)

        def absent(why: str) -> None:
            timeline.write("note", text=f"the target did not come back: {why}")

        self.process = TargetProcess(
            self.target.process, warden=warden, env=whole, log=run.logs / "target.log", on_ready=ready, on_absent=absent
        )
        self.process.start()
        self._keep_configuration(run, timeline)

    def stop(self) -> None:
        """End it, if it was started and runs."""
        if self.process is not None:
            with suppress(ChaosError):
                self.process.stop()
            self.process = None

    def _write_stack(self, run: RunDir, table: str) -> None:
        document = {
            "schema": "icequake.stack/1.0",
            "direct": {"catalog": _without_secrets(self._stack.pyiceberg_properties(direct=True))},
            "table": table,
        }
        write_document(run.stack, document)

    # -- its admin listener

    def flush(self) -> Flush | None:
        """Return what asks it to flush; None where its file names no admin listener."""
        admin = self.target.admin
        if admin is None:
            return None
        token = self.placed.admin_token if self.process is not None else os.environ.get(admin.token_env, "")
        return partial(AdminClient(admin.url, token).post, "flush")

    def keep_quarantine(self, run: RunDir) -> str | None:
        """Write down what it keeps aside, and return what was wrong with that; one without an admin listener keeps nothing."""
        admin = self._admin()
        return None if admin is None else keep_quarantine(admin, run.root, run.info.run_id)

    def _keep_configuration(self, run: RunDir, timeline: Timeline) -> None:
        """Write down the configuration that is in force, where the target tells it."""
        if (admin := self._admin()) is None:
            return
        try:
            answer: Mapping[str, Any] = admin.read("config")
        except (DrillFailed, LookupError, TypeError) as error:
            timeline.write("note", text=f"the target's config could not be read: {error}")
            return
        if isinstance(answer.get("variables"), dict):
            write_target_config(run.root, answer["variables"], answer.get("defaults") or {})

    def _admin(self) -> AdminClient | None:
        admin = self.target.admin
        return None if admin is None or self.process is None else AdminClient(admin.url, self.placed.admin_token)


def _port(url: str) -> int:
    parts = urlsplit(url)
    return parts.port or (443 if parts.scheme == "https" else 80)


def _without_secrets(properties: dict[str, str]) -> dict[str, str]:
    return {key: "***" if key in SECRET_PROPERTIES else value for key, value in properties.items()}
