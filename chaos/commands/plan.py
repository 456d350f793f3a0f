"""`icequake plan`: what a run would do, what it touches, how long it takes and how to stop it."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console

from chaos.commands.session import RUNS, STATE, session
from chaos.display import Display
from chaos.errors import BadInput
from chaos.guard import refuse
from chaos.scenario import DrillStep, Step, find_scenario, load_plan
from chaos.stack import CAPABILITIES, STACKS, saved_capabilities
from chaos.target import find_target
from loadtests.records.target import Target


@click.command()
@click.argument("scenario")
@click.option("--target", default="reference", show_default=True, help="A target's name, or its .yaml file.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="As for `icequake run`.")
@click.option("--stack", default="seaweedfs", show_default=True, help="As for `icequake run`.")
@click.option("--probe", is_flag=True, help="Start the stack (or use the one that is up) and try what it can show.")
@click.option("--runs", type=click.Path(path_type=Path, file_okay=False), default=RUNS, show_default=True, help="Where the stack that is up is found.")  # fmt: skip
def plan(scenario: str, target: str, overrides: tuple[str, ...], stack: str, probe: bool, runs: Path) -> None:
    """Say what running SCENARIO against a target would do; nothing is started without --probe."""
    if stack != "up" and stack not in STACKS:
        raise BadInput(f"there is no stack {stack!r}; there are {', '.join(STACKS)}, and `up` for a running one.")
    loaded = load_plan(find_scenario(scenario), list(overrides))
    spec, (_, aim) = loaded.scenario, find_target(target)
    refuse(loaded, aim)
    traffic = spec.traffic
    longest = spec.baseline_s + traffic.for_s + 2 * spec.settle_s + 30
    events = round((spec.baseline_s + traffic.for_s) * traffic.events_per_s)
    click.echo(f"{spec.name} on {aim.name}: {spec.question}\n")
    click.echo(
        f"Traffic   {traffic.profile}, {traffic.events_per_s:g} events/s in requests of {traffic.batch}; about {events:,} events"
    )
    click.echo(f"Minutes   {(spec.baseline_s + traffic.for_s) / 60:.1f} of traffic, at most {longest / 60:.1f} in all")
    capabilities, how = _capabilities(stack, runs, probe=probe)
    said = {one.index: _step(one, capabilities, starts_target=aim.process is not None) for one in loaded.steps}
    said |= {one.index: _drill(one, aim) for one in loaded.drills}
    for index, text in sorted(said.items()):
        click.echo(f"Step {index}    {text}")
    click.echo(
        f"Touches   {'a target that icequake starts itself, and nothing else' if aim.process else aim.ingest.url}; a namespace of its own on a local stack"
    )
    click.echo(
        "Worst     the target under test loses what it buffers; nothing outside the run's own namespace is written"
    )
    click.echo(f"Stack     {stack}{how[0]}: {able(capabilities)}{how[1]}")
    click.echo(
        "Stop      Ctrl-C, or `icequake halt` in another terminal, heals every fault and ends INCONCLUSIVE; "
        "after a power cut: icequake heal"
    )


def _capabilities(stack: str, runs: Path, *, probe: bool) -> tuple[dict[str, bool], tuple[str, str]]:
    """Return what the stack can show, and words before and after that say how it is known."""
    if probe:
        with session(stack, runs=runs, seed=0, display=Display(Console(stderr=True), quiet=True)) as running:
            return running.stack.measure(), (", as tried", "")
    if stack in STACKS:
        return CAPABILITIES[stack], ("", " (every run tries it first; --probe does so now)")
    return saved_capabilities(runs / STATE), (", as tried when it was started", "")


def able(capabilities: dict[str, bool]) -> str:
    """Say in words what a stack shows, and what it lacks."""
    if not capabilities:
        return "what it shows is not known before it is tried"
    shows = ", ".join(name for name, able in sorted(capabilities.items()) if able)
    lacks = ", ".join(name for name, able in sorted(capabilities.items()) if not able)
    return f"shows {shows or 'nothing of note'}; lacks {lacks or 'nothing of note'}"


def _when(step: Step | DrillStep) -> str:
    if step.at_s is not None:
        return f"at {step.at_s:g} s"
    if step.trigger is None:
        return f"when {step.condition}"
    return f"at request {step.trigger.nth} of kind {step.trigger.object}"


def _step(step: Step, capabilities: dict[str, bool], *, starts_target: bool) -> str:
    mechanism = step.spec.build()
    problem = mechanism.problem(starts_target=starts_target)
    lacks = [name for name in getattr(mechanism, "needs", ()) if not capabilities.get(name, True)]
    if problem is None and lacks:
        problem = f"the stack lacks {', '.join(lacks)}"
    skipped = f" (will be skipped: {problem}; the run cannot PASS)" if problem else ""
    return f"{_when(step)}, up to {step.for_s:g} s: {step.spec.name}, {step.spec.about}{skipped}"


def _drill(step: DrillStep, aim: Target) -> str:
    problem = step.drill.problem(aim)
    skipped = f" (will be skipped: {problem}; the run cannot PASS)" if problem else ""
    return f"{_when(step)}: drill {step.drill.name}, {step.drill.about}{skipped}"
