"""`icequake drill`: a recovery procedure, done and checked while traffic flows."""

from __future__ import annotations

import sys
from pathlib import Path

import click
from rich.console import Console

import chaos.drills
from chaos.commands.run import show
from chaos.commands.session import new_seed, run_options, session
from chaos.display import Display
from chaos.drills import MODULES, find_drill
from chaos.errors import BadInput
from chaos.runner import Request
from chaos.scenario import load_plan
from chaos.target import find_target

TRAFFIC = Path(chaos.drills.__file__).parent / "traffic.yaml"


@click.command()
@click.argument("name", required=False)
@click.option("--target", default="reference", show_default=True, help="A target's name, or its .yaml file.")
@click.option("--print", "only_print", is_flag=True, help="Print the procedure and do nothing.")
@run_options
def drill(
    name: str | None,
    target: str,
    only_print: bool,
    stack: str,
    runs: Path,
    seed: int | None,
    overrides: tuple[str, ...],
) -> int:
    """Do the drill NAME against a collector under traffic, time it, and judge the run; without NAME list all drills.

    A post-condition that does not hold makes the run FAIL (check drill.NAME). Exit codes are those of `icequake run`.
    """
    if name is None:
        for one in MODULES:
            click.echo(f"{one:<22} {find_drill(one).about}")
        return 0
    found = find_drill(name)
    if only_print:
        click.echo(found.text)
        return 0
    from chaos.drills.run import DrillRunner, check_target  # Iceberg takes a second to import

    plan = load_plan(TRAFFIC, [f"name=drill-{name}", *overrides])
    if plan.steps:
        raise BadInput("a drill has no steps; `icequake run` injects faults.")
    path, loaded = find_target(target)
    check_target(loaded)
    seed = new_seed() if seed is None else seed
    request = Request(plan, path, loaded, runs, seed, tuple(sys.argv))
    display = Display(Console())
    with session(stack, runs=runs, seed=seed, display=display) as running, display:
        result = DrillRunner(request, found, stack=running.stack, warden=running.warden, display=display).execute()
    show(result)
    return result.exit_code
