"""What every experiment command does around its question: options in, a lab on a warm stack, an answer kept and printed."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click
import yaml
from rich.console import Console

from chaos.commands.session import RUNS, new_seed, session
from chaos.display import Display
from chaos.errors import BadInput, ChaosError
from chaos.faults import catalogue
from chaos.target import find_target
from loadtests.records.errors import RecordError
from reports.errors import ReportError
from reports.experiment.answers import Answer, unfinished_answer
from reports.experiment.lab import Lab, Outcome, Point
from reports.experiment.progress import RunProgress, begin_line, end_line
from reports.experiment.stop import Stopped, stoppable
from reports.experiment.write import write_answer

F = TypeVar("F", bound=Callable[..., Any])
FAILED = 255


@dataclass(frozen=True)
class Options:
    """What every experiment takes; see `lab_options`."""

    target: str
    env: Mapping[str, str]
    stack: str
    runs: Path
    seed: int


def lab_options(command: F) -> F:
    """Add what every experiment takes; the command gets it as one `Options`."""

    @functools.wraps(command)
    def gathered(*, target: str, env: tuple[str, ...], stack: str, runs: Path, seed: int | None, **more: Any) -> Any:
        options = Options(target, pairs_of(env), stack, runs, new_seed() if seed is None else seed)
        return command(options, **more)

    wrapped: Any = gathered
    for option in (
        click.option("--seed", type=click.IntRange(0), default=None, help="Repeat an experiment (default: random)."),
        click.option("--runs", type=click.Path(path_type=Path, file_okay=False), default=RUNS, show_default=True, help="Where run directories, and experiments/, are kept."),
        click.option("--stack", default="seaweedfs", show_default=True, help="As for `icequake run`."),
        click.option("--env", "env", multiple=True, metavar="NAME=VALUE", help="Environment of the target in every run."),
        click.option("--target", default="reference", show_default=True, help="A target's name, or its .yaml file."),
    ):  # fmt: skip
        wrapped = option(wrapped)
    return wrapped  # type: ignore[no-any-return]


def ask(
    name: str, question: str, options: Options, measure: Callable[[Lab], Answer], *, total: int | None = None
) -> NoReturn:
    """Measure on a warm stack, keep the answer and print it, and end with its exit code.

    Ctrl-C, SIGTERM and `icequake halt` end it with what was measured so far and exit code 2; so does a failure of icequake, with 255.

    Args:
        total: How many runs there will be, as far as that is known.
    """
    find_target(options.target)
    outcomes: list[Outcome] = []
    answer: Answer | None = None
    error: Exception | None = None
    try:
        with stoppable(), session(options.stack, runs=options.runs, seed=options.seed, display=_display()) as running:
            lab = _lab(running, name, question, options, outcomes)
            lab.total = total
            answer = measure(lab)
    except (Stopped, KeyboardInterrupt) as why:
        answer = answer or unfinished_answer(name, f"stopped ({str(why) or 'Ctrl-C'})", outcomes)
    except (ChaosError, ReportError, RecordError) as failure:
        error = failure
        answer = unfinished_answer(name, f"icequake failed: {failure}", outcomes, FAILED) if outcomes else None
    if answer is not None:
        _keep(replace(answer, outcomes=outcomes), options.runs)
    if error is not None:
        click.echo(f"icequake: {error}", err=True)
        sys.exit(getattr(error, "exit_code", FAILED))
    assert answer is not None
    sys.exit(answer.exit_code)


def _display() -> Display:
    return Display(Console(stderr=True, highlight=False))


def _lab(running: Any, name: str, question: str, options: Options, outcomes: list[Outcome]) -> Lab:
    console = Console(stderr=True, highlight=False)

    def begins(point: Point, number: int, total: int | None) -> None:
        console.print(begin_line(point, number, total), soft_wrap=True, markup=False)

    def ended(outcome: Outcome) -> None:
        console.print(end_line(outcome), soft_wrap=True, markup=False)

    return Lab(
        running, name=name, question=question, target=options.target, runs=options.runs, seed=options.seed, env=options.env,
        argv=("icequake", *sys.argv[1:]), watch=lambda: RunProgress(console), begins=begins, ended=ended, outcomes=outcomes,
    )  # fmt: skip


def _keep(answer: Answer, runs: Path) -> None:
    click.echo(answer.text())
    try:
        paths = write_answer(answer, runs / "experiments", ("icequake", *sys.argv[1:]))
    except OSError as error:
        click.echo(f"icequake: the answer could not be kept below {runs / 'experiments'} ({error}).", err=True)
        sys.exit(FAILED)
    click.echo(f"kept in {paths[0].parent}")


# --- what is given on the command line


def pairs_of(texts: tuple[str, ...]) -> dict[str, str]:
    """Turn NAME=VALUE pairs into a mapping.

    Raises:
        BadInput: one has no `=`.
    """
    split = [text.partition("=") for text in texts]
    wrong = next((name for name, equals, _ in split if not equals or not name), None)
    if wrong is not None:
        raise BadInput(f"{wrong!r} is not NAME=VALUE, such as ICEBERG_BUFFER_SIZE=5000.")
    return {name: value for name, _, value in split}


def numbers_of(text: str, *, above: float | None = None) -> list[float]:
    """Turn `200,400` into numbers.

    Raises:
        BadInput: one of them is none, or below zero, or not above *above*.
    """
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError as error:
        raise BadInput(f"{text!r} is not a list of numbers such as 200,400.") from error
    if not all(0 <= value < float("inf") for value in values):
        raise BadInput(f"{text!r}: numbers must not be negative.")
    if above is not None and not all(value > above for value in values):
        raise BadInput(f"{text!r}: numbers must be above {above:g}.")
    return values


def fault_of(name: str | None, parameters: tuple[str, ...]) -> dict[str, Any] | None:
    """Turn `--fault NAME --with KEY=VALUE` into a step without its times; None without a fault.

    Raises:
        BadInput: there is no such fault, a parameter is not KEY=VALUE, or there are parameters of no fault.
    """
    if name is None:
        if parameters:
            raise BadInput("--with changes a fault, and there is none: give --fault too, such as --fault slow-r2.")
        return None
    if name not in catalogue():
        raise BadInput(f"there is no fault {name!r}; `icequake list faults` shows what there is.")
    return {"fault": name, "with": {key: yaml.safe_load(value) for key, value in pairs_of(parameters).items()}}
