"""`icequake catalogue`: every named fault for a few seconds, on the reference collector and on one with a planted bug."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import click
from rich.console import Console

from chaos.commands.session import RUNS, new_seed
from chaos.errors import BadInput
from chaos.faults import FaultSpec, catalogue
from chaos.faults.kills import kills
from chaos.guard import refuse
from chaos.stack import STACKS
from chaos.target import find_target
from chaos.trials.campaign import Campaign
from chaos.trials.files import write_report
from chaos.trials.marks import WIDTH
from chaos.trials.matrix import REFERENCE, Matrix, make_matrix
from chaos.trials.mutants import FILE, Mutants
from chaos.trials.outcome import Kept, Outcome, Trial
from chaos.trials.plan import plan_for
from chaos.trials.terminal import show
from chaos.trials.worker_process import Workplace

JOBS = 3
STACK = "seaweedfs"
NO_MUTANTS = "The collectors with planted bugs come with a checkout of icequake and are not here"
TIERS = {"quick": ("quick",), "nightly": ("quick", "nightly")}


@click.command(name="catalogue")
@click.argument("faults", nargs=-1)
@click.option(
    "--tier", type=click.Choice(list(TIERS)), default=None, help="quick (the default), or nightly: all of them."
)
@click.option(
    "--target",
    default=REFERENCE,
    show_default=True,
    help="A target's name, or its .yaml file; another than the reference is tried without mutants.",
)
@click.option(
    "--mutants",
    "mutants_file",
    type=click.Path(path_type=Path, dir_okay=False),
    default=None,
    help="The file of collectors with a planted bug (default: the checkout's).",
)
@click.option(
    "--mutant",
    "more",
    multiple=True,
    metavar="NAME",
    help="Try this planted bug too, under every chosen fault; may be repeated.",
)
@click.option("--no-mutants", is_flag=True, help="Try the target only.")
@click.option("--jobs", type=click.IntRange(1, 16), default=JOBS, show_default=True, help="Stacks side by side.")
@click.option(
    "--report",
    type=click.Path(path_type=Path, file_okay=False),
    default=None,
    help="Write catalogue.json, .md and .html there.",
)
@click.option(
    "--show", "only_show", is_flag=True, help="Try nothing: print what has been tried so far, and what has not."
)
@click.option(
    "--stack",
    default=None,
    help="As for `icequake run`; by default seaweedfs, and moto for faults that take effect only there.",
)
@click.option(
    "--runs",
    type=click.Path(path_type=Path, file_okay=False),
    default=RUNS,
    show_default=True,
    help="Where run directories are kept.",
)
@click.option("--seed", type=click.IntRange(0), default=None, help="As for `icequake run`.")
def catalogue_command(
    faults: tuple[str, ...], tier: str | None, target: str, mutants_file: Path | None, more: tuple[str, ...],
    no_mutants: bool, jobs: int, report: Path | None, only_show: bool, stack: str | None, runs: Path, seed: int | None,
) -> int:  # fmt: skip
    """Try FAULTS (default: all of the tier), one micro-scenario each, and print what they killed.

    Under each fault the reference collector must PASS, and a collector with one planted bug must FAIL by the check that names the bug.

    Ends with the worst of all: 0 as it should be, 1 a FAIL or a planted bug that survived, 2 a fault without effect or a verdict
    INCONCLUSIVE, 254 bad arguments or files, 255 icequake itself failed. Ctrl-C heals everything and ends with 2.
    """  # fmt: skip
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)
    chosen = _chosen(faults, tier or ("all" if only_show else "quick"))
    if only_show:
        _print(console, _matrix(chosen, Kept(runs).read(), target), report)
        return 0
    if stack is not None:
        _check_stack(stack)
    with tempfile.TemporaryDirectory(prefix="icequake-") as directory:
        mutants = None if no_mutants or target != REFERENCE else _mutants(mutants_file, Path(directory), console)
        trials = list(_trials(chosen, target, mutants, more))
        workplace = Workplace(stack or STACK, runs, new_seed() if seed is None else seed)
        done = Campaign(console, workplace, jobs=1 if stack == "up" else jobs)
        for where, some in _by_stack(trials, stack):
            done.run(some, where)
            if done.stopped:
                break
    _print(console, _matrix(chosen, done.outcomes, target), report)
    return done.close(trials)


def _chosen(names: tuple[str, ...], tier: str) -> list[FaultSpec]:
    known = catalogue()
    unknown = [name for name in names if name not in known]
    if unknown:
        raise BadInput(f"there is no fault {unknown[0]!r}; `icequake list faults` shows what there is.")
    if names:
        return [known[name] for name in dict.fromkeys(names)]
    return [spec for spec in known.values() if tier == "all" or spec.micro.tier in TIERS[tier]]


def _by_stack(trials: Sequence[Trial], stack: str | None) -> Iterator[tuple[str, list[Trial]]]:
    """Yield the trials of each stack: the one that was asked for, else the one on which their fault takes effect."""
    groups: dict[str, list[Trial]] = {STACK: []}
    for trial in trials:
        where = stack or catalogue()[trial.fault].micro.stack or STACK
        groups.setdefault(where, []).append(trial)
    yield from ((where, some) for where, some in groups.items() if some)


def _check_stack(stack: str) -> None:
    if stack != "up" and stack not in STACKS:
        raise BadInput(f"there is no stack {stack!r}; there are {', '.join(STACKS)}, and `up` for a running one.")


def _mutants(path: Path | None, directory: Path, console: Console) -> Mutants | None:
    if path is None and not FILE.is_file():
        console.print(f"{NO_MUTANTS}; only the reference is tried.", soft_wrap=True)
        return None
    return Mutants(path or FILE, directory)


def _trials(chosen: Sequence[FaultSpec], target: str, mutants: Mutants | None, more: Sequence[str]) -> Iterator[Trial]:
    """Yield every trial, the longest faults first so that none is left over at the end; everything is checked before."""
    path, loaded = find_target(target)
    where = str(path.resolve()) if path.is_file() else target
    for spec in sorted(chosen, key=lambda spec: -spec.micro.for_s):
        refuse(plan_for(spec), loaded)
        yield Trial(fault=spec.name, target=loaded.name, path=where)
        if mutants is not None:
            kill = kills()[spec.name]
            for name in dict.fromkeys((kill.mutant, *more)):
                check = kill.check if name == kill.mutant else None
                yield Trial(fault=spec.name, target=name, path=str(mutants.target(name)), planted=True, check=check)


def _matrix(chosen: Sequence[FaultSpec], outcomes: Sequence[Outcome], target: str) -> Matrix:
    return make_matrix(chosen, kills(), outcomes, target=find_target(target)[1].name)


def _print(console: Console, matrix: Matrix, report: Path | None) -> None:
    show(matrix, console)
    if report is not None:
        try:
            for path in write_report(matrix, report):
                console.print(f"Report    {path}", highlight=False, soft_wrap=True)
        except OSError as error:
            raise BadInput(f"the report cannot be written: {error}.") from error
