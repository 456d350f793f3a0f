"""A fault tried on one target, on a stack of the test's own choice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from chaos.commands.session import Session
from chaos.display import Display
from chaos.faults import catalogue
from chaos.request import Request
from chaos.runner import Runner
from chaos.target import find_target
from chaos.trials.plan import plan_for
from tests.mutants import target


def mutant(directory: Path, name: str) -> Path:
    """The target file of a collector with a planted bug."""
    path = directory / f"{name}.yaml"
    path.write_text(yaml.safe_dump(target(name)))
    return path


def tried(stack: Session, directory: Path, fault: str, against: Path | str, *, planted: bool = False) -> dict[str, Any]:
    """The verdict of the fault's micro-scenario."""
    path, loaded = find_target(str(against))
    request = Request(plan_for(catalogue()[fault], planted=planted), path, loaded, directory / "runs", 7, ("test",))
    display = Display(Console(stderr=True), quiet=True)
    result = Runner(request, stack=stack.stack, warden=stack.warden, display=display).execute()
    verdict: dict[str, Any] = json.loads(result.run.verdict.read_text())
    return verdict
