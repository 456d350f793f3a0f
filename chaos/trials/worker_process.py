"""A worker process (`chaos.trials.worker`) as its parent sees it."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from chaos.errors import ChaosError
from chaos.trials.messages import TOLD, Broken, End, Order, Phase, Ready, Told, line
from chaos.trials.outcome import Outcome, Trial
from chaos.warden_client import PACKAGE_ROOT


@dataclass(frozen=True)
class Workplace:
    """What every worker is started with; see `icequake run` for the meaning of each."""

    stack: str
    runs: Path
    seed: int

    def argv(self) -> list[str]:
        """The command line of a worker."""
        return [
            sys.executable, "-m", "chaos.trials.worker",
            "--stack", self.stack, "--runs", str(self.runs.resolve()), "--seed", str(self.seed),
        ]  # fmt: skip


class Worker:
    """One worker process. Starting returns at once; `wait_ready` waits for its stack."""

    def __init__(self, argv: Sequence[str]) -> None:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `end`
        self._process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, cwd=PACKAGE_ROOT,
            start_new_session=True,  # a Ctrl-C reaches the parent, which tells its workers
        )  # fmt: skip
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._orders, self._answers = self._process.stdin, self._process.stdout

    def wait_ready(self) -> None:
        """Wait until its stack is up. Raises ChaosError."""
        told = self._read()
        if not isinstance(told, Ready):
            raise ChaosError(told.sentence if isinstance(told, Broken) else self.obituary())

    def do(self, trial: Trial, on_phase: Callable[[Phase], None]) -> Outcome | None:
        """Have *trial* done; None when the worker ended before there was an outcome."""
        with suppress(OSError):  # then its answers have ended too
            self._tell(Order(trial))
        while (told := self._read()) is not None:
            if isinstance(told, Outcome):
                return told
            if isinstance(told, Phase):
                on_phase(told)
        return None

    def interrupt(self) -> None:
        """Have it heal the trial that goes on, and end."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)

    def kill(self) -> None:
        """End it at once; its warden heals and ends everything that it started."""
        self._process.kill()

    def end(self) -> None:
        """Have it end its stack, and wait."""
        with suppress(OSError):
            self._tell(End())
        with suppress(OSError):
            self._orders.close()
        self._process.wait()
        self._answers.close()
        self._log.close()

    def obituary(self) -> str:
        """Say what an ended worker ended with, and its last words."""
        status = self._process.wait()
        self._log.seek(0)
        words = self._log.read().decode(errors="replace").strip().splitlines()
        return f"a worker ended with status {status}: {words[-1] if words else 'it said nothing'}"

    def _tell(self, message: Order | End) -> None:
        self._orders.write(line(message))
        self._orders.flush()

    def _read(self) -> Told | None:
        raw = self._answers.readline()
        return TOLD.decode(raw) if raw.endswith(b"\n") else None
