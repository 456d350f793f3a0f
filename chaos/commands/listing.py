"""`icequake list`: what there is to run, to break and to read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import click
import yaml

from chaos.commands.session import RUNS
from chaos.faults import catalogue
from chaos.scenario import find_scenario, load_plan, scenario_names
from chaos.stack import STACKS
from chaos.target import find_target, target_names
from loadtests.records.errors import RecordError
from loadtests.records.rundir import RunDir

Rows = Iterator[tuple[str, str]]


def _scenarios(_: Path) -> Rows:
    for name in scenario_names():
        yield name, load_plan(find_scenario(name)).scenario.question


def _faults(_: Path) -> Rows:
    for name, spec in catalogue().items():
        yield name, spec.about


def _targets(_: Path) -> Rows:
    for name in target_names():
        contract = find_target(name)[1].contract
        yield name, f"promises {contract.delivery}, a 2xx means {contract.durability}"


def _traffic(_: Path) -> Rows:
    profiles = yaml.safe_load((Path(__file__).parents[2] / "loadtests" / "profiles.yaml").read_text(encoding="utf-8"))
    for name, profile in profiles["traffic"].items():
        yield name, str(profile["about"])
    yield (
        "CURVE+MIX",
        "any curve with any mix, such as spike+hot-type or diurnal+late; the mixes: " + ", ".join(profiles["mixes"]),
    )


def _stacks(_: Path) -> Rows:
    for name in STACKS:
        yield (
            name,
            "storage and catalog that run elsewhere" if name == "remote" else "local servers, started for the run",
        )
    yield "up", "the one that `icequake up` keeps running"


def _runs(runs: Path) -> Rows:
    for path in sorted(runs.glob("*/run.json"), reverse=True):
        if path.parent.is_symlink():  # `last`
            continue
        try:
            run = RunDir.open(path.parent)
        except RecordError as error:
            yield path.parent.name, str(error)
            continue
        yield run.info.run_id, _summary(run)


def _summary(run: RunDir) -> str:
    if run.summary.is_file():
        return run.summary.read_text(encoding="utf-8").partition("\n")[0]
    return f"{run.info.scenario} on {run.info.target}: not judged (it got as far as {run.info.phase})"


LISTS: dict[str, Callable[[Path], Rows]] = {
    "scenarios": _scenarios,
    "faults": _faults,
    "targets": _targets,
    "traffic": _traffic,
    "stacks": _stacks,
    "runs": _runs,
}


@click.command(name="list")
@click.argument("what", type=click.Choice(list(LISTS)), required=False)
@click.option("--runs", type=click.Path(path_type=Path), default=RUNS, show_default=True, help="Where run directories are kept.")  # fmt: skip
def listing(what: str | None, runs: Path) -> None:
    """List scenarios, faults, targets, traffic, stacks or runs; without a word, everything but runs."""
    for name in [what] if what else [name for name in LISTS if name != "runs"]:
        rows = list(LISTS[name](runs))
        if not what:
            click.secho(name, bold=True)
        width = max((len(key) for key, _ in rows), default=0)
        for key, about in rows:
            click.echo(f"{'' if what else '  '}{key:<{width}}  {about}")
        if not rows:
            click.echo(f"there are no {name} yet.")
