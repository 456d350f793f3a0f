"""`icequake catalogue`: every named fault, one short run each, on one warm stack."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from chaos.commands.session import RUNS, Session, new_seed, session
from chaos.display import Display
from chaos.errors import BadInput, ChaosError
from chaos.faults import FaultSpec, catalogue
from chaos.guard import refuse
from chaos.runner import Request, Runner
from chaos.scenario import load_plan
from chaos.target import find_target

WORDS = {0: "PASS", 1: "FAIL", 2: "INCONCLUSIVE"}


@click.command(name="catalogue")
@click.argument("faults", nargs=-1)
@click.option("--tier", type=click.Choice(["quick", "nightly"]), default="quick", show_default=True, help="nightly: the long ones too.")  # fmt: skip
@click.option("--target", default="reference", show_default=True, help="A target's name, or its .yaml file.")
@click.option("--stack", default="seaweedfs", show_default=True, help="As for `icequake run`.")
@click.option("--runs", type=click.Path(path_type=Path, file_okay=False), default=RUNS, show_default=True, help="Where run directories are kept.")  # fmt: skip
@click.option("--seed", type=click.IntRange(0), default=None, help="As for `icequake run`.")
def catalogue_command(faults: tuple[str, ...], tier: str, target: str, stack: str, runs: Path, seed: int | None) -> int:
    """Try FAULTS (default: all of the tier) against a target, one micro-scenario each.

    Ends with the worst verdict: 0 all PASS, 1 one FAIL, 2 one INCONCLUSIVE; 255 icequake itself failed.
    """
    chosen = _chosen(faults, tier)
    seed = new_seed() if seed is None else seed
    worst = 0
    with session(stack, runs=runs, seed=seed, display=Display(Console())) as running:
        for spec in chosen:
            code, line = _try(spec, target, running, runs, seed)
            click.echo(f"{spec.name:<24} {spec.mechanism:<8} {line}")
            worst = _worse(worst, code)
    click.echo(f"{len(chosen)} faults tried on {target}, seed {seed}: {WORDS.get(worst, 'icequake failed')}")
    return worst


def _chosen(names: tuple[str, ...], tier: str) -> list[FaultSpec]:
    known = catalogue()
    unknown = [name for name in names if name not in known]
    if unknown:
        raise BadInput(f"there is no fault {unknown[0]!r}; `icequake list faults` shows what there is.")
    if names:
        return [known[name] for name in names]
    tiers = ("quick", "nightly") if tier == "nightly" else ("quick",)
    return [spec for spec in known.values() if spec.micro.tier in tiers]


def _worse(one: int, other: int) -> int:
    order = (0, 2, 1, 255)
    return max(one, other, key=order.index)


def _try(spec: FaultSpec, target: str, running: Session, runs: Path, seed: int) -> tuple[int, str]:
    with tempfile.TemporaryDirectory(prefix="icequake-") as scratch:
        scenario = Path(scratch) / f"try-{spec.name}.yaml"
        scenario.write_text(spec.micro.scenario(spec.name, spec.about), encoding="utf-8")
        path, loaded = find_target(target)
        plan = load_plan(scenario)
        refuse(plan, loaded)
        request = Request(plan, path, loaded, runs, seed, tuple(sys.argv))
    display = Display(Console(stderr=True), quiet=True)
    try:
        result = Runner(request, stack=running.stack, warden=running.warden, display=display).execute()
    except ChaosError as error:
        return 255, f"icequake failed: {error}"
    verdict: dict[str, Any] = json.loads(result.run.verdict.read_text(encoding="utf-8"))
    blamed = [check["id"] for check in verdict["checks"] if check["verdict"] == verdict["verdict"] != "PASS"]
    return result.exit_code, f"{verdict['verdict']:<13}{', '.join(blamed):<28} {result.run.info.run_id}"
