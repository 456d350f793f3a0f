"""`icequake drill`: a recovery procedure, done and checked while traffic flows."""

from __future__ import annotations

import sys
from pathlib import Path

import click
from click.core import ParameterSource
from rich.console import Console

import chaos.drills
from chaos.commands.live_drill import drill_live, list_live
from chaos.commands.run import show
from chaos.commands.session import new_seed, run_options, session
from chaos.display import Display
from chaos.drills import MODULES, find_drill
from chaos.errors import BadInput, BadTarget
from chaos.guard import refuse
from chaos.request import Request
from chaos.scenario import Plan, load_plan
from chaos.target import find_target

TRAFFIC = Path(chaos.drills.__file__).parent / "traffic.yaml"
OF_THE_SESSION = ("target", "stack", "seed", "overrides")
"""What a live session has already."""


@click.command()
@click.argument("name", required=False)
@click.option("--target", default="reference", show_default=True, help="A target's name, or its .yaml file.")
@click.option("--print", "only_print", is_flag=True, help="Print the procedure and do nothing.")
@click.option("--with", "params", multiple=True, metavar="KEY=VALUE", help="Change a parameter of the drill, such as after=8000.")  # fmt: skip
@click.option("--live", "live", is_flag=True, help="In the `icequake live` that runs already, instead of in a run of its own.")  # fmt: skip
@run_options
@click.pass_context
def drill(
    context: click.Context,
    name: str | None,
    target: str,
    only_print: bool,
    live: bool,
    params: tuple[str, ...],
    stack: str,
    runs: Path,
    seed: int | None,
    overrides: tuple[str, ...],
) -> int:
    """Do the drill NAME against a collector under traffic, time it, and judge the run; without NAME list all drills.

    A post-condition that does not hold makes the run FAIL (check drill.NAME). Exit codes are those of `icequake run`; with --live
    they tell of the drill alone (2: it was not done, or not to its end), and the verdict comes when the session's run is stopped.
    """
    if live:
        _check_live(context)
    if live and name is None:
        return list_live(runs)
    if name is None:
        for one in MODULES:
            click.echo(f"{one:<22} {find_drill(one).about}")
        return 0
    found = find_drill(name)
    if only_print:
        click.echo(found.text)
        return 0
    if live:
        return drill_live(name, params, runs)
    plan = drill_plan(name, params, overrides)
    path, loaded = find_target(target)
    if problem := found.problem(loaded):
        raise BadTarget(f"{problem}.")
    refuse(plan, loaded)
    from chaos.drills.run import DrillRunner

    seed = new_seed() if seed is None else seed
    request = Request(plan, path, loaded, runs, seed, tuple(sys.argv))
    display = Display(Console())
    with session(stack, runs=runs, seed=seed, display=display) as running, display:
        result = DrillRunner(request, stack=running.stack, warden=running.warden, display=display).execute()
    show(result)
    return result.exit_code


def drill_plan(name: str, params: tuple[str, ...], overrides: tuple[str, ...]) -> Plan:
    """Return the scenario of one drill: its traffic, and the drill as the only step. Raises BadInput."""
    given = [f"steps.0.with.{pair}" for pair in params]
    plan = load_plan(TRAFFIC, [f"name=drill-{name}", f"steps=[{{drill: {name}, at_s: 0}}]", *given, *overrides])
    if plan.steps or [one.drill.name for one in plan.drills] != [name]:
        raise BadInput("a drill has no other steps; a scenario (`icequake run`) has faults and drills.")
    return plan


def _check_live(context: click.Context) -> None:
    given = [name for name in OF_THE_SESSION if context.get_parameter_source(name) is not ParameterSource.DEFAULT]
    if given:
        options = ", ".join(f"--{'set' if name == 'overrides' else name}" for name in given)
        raise BadInput(f"{options}: the session that --live means has its own; leave it out.")
