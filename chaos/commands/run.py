"""`icequake run`: one scenario against one target, to a verdict."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import click
from rich.console import Console

from chaos.commands.session import invitation, new_seed, run_options, session, worker_options
from chaos.display import Display
from chaos.errors import ChaosError
from chaos.generator import Workers
from chaos.guard import refuse
from chaos.request import Request, Result
from chaos.runner import Runner
from chaos.scenario import find_scenario, load_plan, threshold_override
from chaos.target import find_target


@click.command()
@click.argument("scenario")
@click.option("--target", default="reference", show_default=True, help="A target's name, or its .yaml file.")
@run_options
@worker_options
@click.option("--threshold", "thresholds", multiple=True, metavar="'FIGURE <= NUMBER'", help="What a figure must be, such as 'latency_p99_ms <= 250' or 'flush.caught_up_s < 30': a check of its own.")  # fmt: skip
@click.option(
    "--json", "as_json", is_flag=True, help="Print the verdict as JSON, and nothing else, on standard output."
)
def run(
    scenario: str,
    target: str,
    stack: str,
    runs: Path,
    seed: int | None,
    overrides: tuple[str, ...],
    processes: int,
    join: int | None,
    thresholds: tuple[str, ...],
    as_json: bool,
) -> int:
    """Run SCENARIO (a name or a .yaml file) and judge it.

    Ends with 0 PASS, 1 FAIL, 2 INCONCLUSIVE, 254 bad arguments or files, 255 icequake itself failed. Ctrl-C heals every
    fault, writes what is known, and ends INCONCLUSIVE.
    """
    display = Display(Console(stderr=as_json), quiet=as_json)
    try:
        changes = [*overrides, *(threshold_override(text) for text in thresholds)]
        request = make_request(scenario, target, runs=runs, seed=seed, overrides=changes)
        request = replace(request, workers=Workers(processes, join))
        with session(stack, runs=runs, seed=request.seed, display=display) as running, display:
            if (how := invitation(request.workers, running.stack.addresses.ingest_faulted)) is not None:
                display.say(how)
            result = Runner(request, stack=running.stack, warden=running.warden, display=display).execute()
    except ChaosError as error:
        if as_json:
            click.echo(json.dumps({"error": {"code": error.code, "sentence": error.sentence}}))
        raise
    show(result, as_json=as_json)
    return result.exit_code


def make_request(scenario: str, target: str, *, runs: Path, seed: int | None, overrides: list[str]) -> Request:
    """Read and check everything before anything is started. Raises BadScenario, BadTarget or NotAllowed."""
    plan = load_plan(find_scenario(scenario), overrides)
    path, loaded = find_target(target)
    refuse(plan, loaded)
    return Request(plan, path, loaded, runs, new_seed() if seed is None else seed, tuple(sys.argv))


def show(result: Result, *, as_json: bool = False) -> None:
    """Print the first screen, or the whole verdict as JSON."""
    if as_json:
        click.echo(result.run.verdict.read_text(encoding="utf-8"), nl=False)
        return
    click.echo()
    click.echo(result.run.summary.read_text(encoding="utf-8").rstrip())
    click.echo(f"Report    {result.run.report_html}")
