"""`icequake gameday`: the same bad day for two targets. Detection is the product, so a PASS alone would prove nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click
from rich.console import Console

from chaos.commands.run import make_request, show
from chaos.commands.session import new_seed, run_options, session
from chaos.display import Display
from chaos.runner import Runner

EXPECTED = {"reference": 0, "naive": 1}
WORDS = {0: "PASS", 1: "FAIL", 2: "INCONCLUSIVE"}


@click.command()
@click.option("--scenario", default="quick", show_default=True, help="The scenario both targets go through.")
@run_options
def gameday(scenario: str, stack: str, runs: Path, seed: int | None, overrides: tuple[str, ...]) -> int:
    """Run one scenario against the reference collector, which must PASS, and a naive one, which must FAIL.

    Ends with 0 when both verdicts are the expected ones, else with 1.
    """
    seed = new_seed() if seed is None else seed
    display = Display(Console())
    requests = {
        name: replace(
            make_request(scenario, name, runs=runs, seed=seed, overrides=list(overrides)), expect=WORDS[expected]
        )
        for name, expected in EXPECTED.items()
    }
    codes: dict[str, int] = {}
    with session(stack, runs=runs, seed=seed, display=display) as running:
        for name, request in requests.items():
            display = Display(Console())
            display.say(f"\n== {request.plan.scenario.name} on {name}, seed {seed}")
            with display:
                result = Runner(request, stack=running.stack, warden=running.warden, display=display).execute()
            show(result)
            codes[name] = result.exit_code
            if result.run.info.stopped is not None:
                break
    return _conclude(codes)


def _conclude(codes: dict[str, int]) -> int:
    click.echo()
    for name, expected in EXPECTED.items():
        got = WORDS.get(codes.get(name, -1), "not run")
        mark = "as expected" if codes.get(name) == expected else f"expected {WORDS[expected]}"
        click.echo(f"{name:<10} {got:<13} {mark}")
    right = codes == EXPECTED
    click.echo("Both verdicts are right." if right else "A verdict is not the expected one: read the reports above.")
    return 0 if right else 1
