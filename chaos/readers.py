"""The processes that read the table and judge: auditor, final read, judge, report. They never use a faulted path."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from chaos.errors import ChaosError
from chaos.stack import Addresses
from chaos.warden_client import PACKAGE_ROOT, Child, Warden
from loadtests.records.rundir import RunDir


class Readers:
    """Starts them for one run, with what they need to read the stack."""

    def __init__(self, run: RunDir, addresses: Addresses) -> None:
        self._run = run
        self._environment = reader_environment(addresses)

    def start_auditor(self, warden: Warden) -> Child:
        """Start the auditor, which follows the table until it is stopped."""
        log = self._run.logs / "auditor.log"
        return warden.spawn("auditor", self._argv("reports.auditor"), env=self._environment, cwd=PACKAGE_ROOT, log=log)

    def judge(self) -> int:
        """Read the table afresh, judge, and write the report; return the verdict's exit code (0, 1 or 2).

        Raises:
            ChaosError: one of them failed; its log is in the run directory.
        """
        self._stage("reports.observe", good=(0,))
        code = self._stage("reports.judge", good=(0, 1, 2))
        self.render()
        return code

    def render(self) -> None:
        """Write the report of the judged run. Raises ChaosError."""
        self._stage("reports.render", good=(0,))

    def _argv(self, module: str) -> list[str]:
        return [sys.executable, "-m", module, str(self._run.root.resolve())]

    def _stage(self, module: str, *, good: tuple[int, ...]) -> int:
        log = self._run.logs / f"{module.rpartition('.')[2]}.log"
        with log.open("ab") as output:
            code = subprocess.run(
                self._argv(module), cwd=PACKAGE_ROOT, stdout=output, stderr=output, env=self._environment, check=False
            ).returncode
        if code not in good:
            lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            raise ChaosError(f"{module} ended with status {code}: {lines[-1] if lines else 'it said nothing'}")
        return code


def reader_environment(addresses: Addresses) -> dict[str, str]:
    """Return the environment of a process that reads the stack's tables directly."""
    secrets = {
        "ICEQUAKE_S3_ACCESS_KEY": addresses.access_key,
        "ICEQUAKE_S3_SECRET_KEY": addresses.secret_key,
        "ICEQUAKE_CATALOG_CREDENTIAL": addresses.credential,
        "ICEQUAKE_CATALOG_TOKEN": addresses.catalog_token,
    }
    inherited = {name: value for name, value in os.environ.items() if name not in secrets}
    return inherited | {name: value for name, value in secrets.items() if value}


class WarmJudge:
    """A process that judges run after run (`reports.judging`); it ends with this block, and with this process.

    Args:
        addresses: Of the stack whose tables it reads.
        log: Where its own complaints go.
    """

    def __init__(self, addresses: Addresses, log: Path) -> None:
        with log.open("ab") as complaints:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "reports.judging"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=complaints, text=True,
                cwd=PACKAGE_ROOT, env=reader_environment(addresses),
                start_new_session=True,  # a Ctrl-C is for the run, which is judged all the same
            )  # fmt: skip

    def judge(self, run: RunDir) -> int:
        """Read the table afresh and judge; return the verdict's exit code (0, 1 or 2). Raises ChaosError."""
        requests, answers = self._process.stdin, self._process.stdout
        assert requests is not None
        assert answers is not None
        try:
            requests.write(f"{run.root.resolve()}\n")
            requests.flush()
            line = answers.readline()
        except OSError as error:
            raise ChaosError(f"the judge cannot be reached ({error}).") from error
        if not line:
            raise ChaosError(f"the judge ended with status {self._process.wait()}.")
        answer = json.loads(line)
        if "error" in answer:
            raise ChaosError(answer["error"])
        return int(answer["code"])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._process.kill()
        with suppress(BrokenPipeError), self._process:  # closes the pipes and waits
            pass
