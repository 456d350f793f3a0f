"""`icequake halt`: heal everything that a run has injected, now, from another terminal."""

from __future__ import annotations

from pathlib import Path

import click

from chaos import halt as halting
from chaos.commands.session import RUNS
from loadtests.records.rundir import RunDir


@click.command()
@click.argument("run", default="last")
@click.option("--runs", type=click.Path(path_type=Path), default=RUNS, show_default=True, help="Where run directories are kept.")  # fmt: skip
def halt(run: str, runs: Path) -> int:
    """Let RUN (default: the last one begun) heal every fault and end; it is judged, and cannot PASS.

    Ends with 0 when everything is healed, which takes five seconds at most, else with 255.
    """
    directory = RunDir.find(runs, run)
    if directory.info.phase in halting.DONE:
        click.echo(f"{directory.info.run_id} is over: nothing is injected.")
        return 0
    halting.ask(directory)
    took_s = halting.wait_healed(directory.root)
    click.echo(
        f"{directory.info.run_id}: everything is healed, after {took_s:.1f} s; its report follows in its own terminal."
    )
    return 0
