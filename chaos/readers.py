"""The processes that read the table and judge: auditor, final read, judge, report. They never use a faulted path."""

from __future__ import annotations

import os
import subprocess
import sys

from chaos.errors import ChaosError
from chaos.stack import Addresses
from chaos.warden_client import PACKAGE_ROOT, Child, Warden
from loadtests.records.rundir import RunDir


class Readers:
    """Starts them for one run, with what they need to read the stack."""

    def __init__(self, run: RunDir, addresses: Addresses) -> None:
        self._run = run
        self._environment = {
            **os.environ,
            "ICEQUAKE_S3_ACCESS_KEY": addresses.access_key,
            "ICEQUAKE_S3_SECRET_KEY": addresses.secret_key,
            "ICEQUAKE_CATALOG_CREDENTIAL": f"{addresses.access_key}:{addresses.secret_key}",
        }

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
        self._stage("reports.render", good=(0,))
        return code

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
