"""What a run is asked for, and what comes of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from chaos.generator import ALONE, Workers
from chaos.scenario import Plan
from loadtests.records.rundir import NightPart, RunDir
from loadtests.records.target import Target


@dataclass(frozen=True)
class Request:
    """What to run.

    Attributes:
        target_path: Where the target file is; `{here}` in it means its directory.
        argv: The command line, for the record and to reproduce it.
        workers: Which processes send.
        expect: The verdict it must have, when whoever started it said so.
        night: Which part of a night it is.
    """

    plan: Plan
    target_path: Path
    target: Target
    runs: Path
    seed: int
    argv: tuple[str, ...]
    workers: Workers = ALONE
    expect: str | None = None
    night: NightPart | None = None


@dataclass(frozen=True)
class Result:
    """A finished run and the exit code of its verdict (0 PASS, 1 FAIL, 2 INCONCLUSIVE)."""

    run: RunDir
    exit_code: int
