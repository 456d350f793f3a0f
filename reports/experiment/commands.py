"""`icequake experiment`: capacity, survival, sweep, ab."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click
from rich.console import Console

from chaos.commands.session import RUNS, new_seed, session
from chaos.display import Display
from chaos.errors import BadInput
from chaos.target import find_target
from loadtests.records.errors import RecordError
from reports.errors import ReportError
from reports.experiment.ab import alternate
from reports.experiment.answers import Answer, ab_answer, capacity_answer, survival_answer, sweep_answer
from reports.experiment.capacity import find_capacity
from reports.experiment.lab import Lab, Outcome, Point
from reports.experiment.survival import Buffer, measure_survival
from reports.experiment.sweep import Goals, recommend, sweep
from reports.experiment.write import write_answer

F = TypeVar("F", bound=Callable[..., Any])
FLUSH_AT = 0.5
HOTTEST_SHARE = 1 / 3
"""The default mix has three event types in equal shares."""


def lab_options(command: F) -> F:
    """Add what every experiment takes."""
    for option in (
        click.option("--seed", type=click.IntRange(0), default=None, help="Repeat an experiment (default: random)."),
        click.option("--runs", type=click.Path(path_type=Path, file_okay=False), default=RUNS, show_default=True, help="Where run directories, and experiments/, are kept."),
        click.option("--stack", default="seaweedfs", show_default=True, help="As for `icequake run`."),
        click.option("--env", "env", multiple=True, metavar="NAME=VALUE", help="Environment of the target in every run."),
        click.option("--target", default="reference", show_default=True, help="A target's name, or its .yaml file."),
    ):  # fmt: skip
        command = option(command)
    return command


@click.group(name="experiment")
def experiment() -> None:
    """Questions that take several runs on one warm stack.

    Exit codes: 0 answered, and nothing was lost; 1 something was, or a claim did not hold; 2 not answered; 254 bad arguments; 255
    icequake itself failed. The answer is kept below RUNS/experiments as JSON, Markdown and HTML.
    """


@contextmanager
def _lab(
    name: str, question: str, *, target: str, stack: str, runs: Path, seed: int | None, env: dict[str, str]
) -> Iterator[Lab]:
    console = Console(stderr=True, highlight=False)
    chosen = new_seed() if seed is None else seed
    find_target(target)

    def say(outcome: Outcome) -> None:
        console.print(progress_line(outcome), soft_wrap=True)

    with session(stack, runs=runs, seed=chosen, display=Display(console)) as running:
        yield Lab(
            running, name=name, question=question, target=target, runs=runs, seed=chosen, env=env, argv=("icequake", *sys.argv[1:]),
            say=say,
        )  # fmt: skip


def progress_line(outcome: Outcome) -> str:
    """Say in one line what a run came to."""
    said = [f"{outcome.point.events_per_s:>9,.0f} events/s  {outcome.verdict:<12}"]
    said += ["generator behind"] if outcome.behind else []
    said += [f"{outcome.wrong:,} wrong"] if outcome.wrong else []
    said += [f"{outcome.refused_requests:,} requests refused"] if outcome.refused_requests else []
    said += [f"{outcome.late:,} late"] if outcome.late else []
    said += [f"fullest buffer {outcome.max_fill:.0%}"] if outcome.max_fill is not None else []
    changed = " ".join(f"{k}={v}" for k, v in outcome.point.env.items())
    return "  ".join([*said, *([changed] if changed else []), f"run {outcome.run_id}"])


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


def numbers_of(text: str) -> list[float]:
    """Turn `200,400` into numbers.

    Raises:
        BadInput: one of them is none, or not above zero.
    """
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError as error:
        raise BadInput(f"{text!r} is not a list of numbers such as 200,400.") from error
    if any(value < 0 for value in values):
        raise BadInput(f"{text!r}: numbers must not be negative.")
    return values


@experiment.command(name="capacity")
@lab_options
@click.option(
    "--start",
    type=click.FloatRange(1),
    default=500.0,
    show_default=True,
    help="The first rate, events/s; then it doubles.",
)
@click.option("--highest", type=click.FloatRange(1), default=100_000.0, show_default=True, help="Go no higher.")
@click.option("--for", "for_s", type=click.FloatRange(2, 3600), default=10.0, show_default=True, help="Seconds of traffic a run, after three of warm-up.")  # fmt: skip
@click.option(
    "--precision", type=click.FloatRange(0.01, 0.5), default=0.1, show_default=True, help="When bisection stops."
)
@click.option("--repeats", type=click.IntRange(1, 10), default=3, show_default=True, help="Searches, for the interval.")
def capacity(target: str, env: tuple[str, ...], stack: str, runs: Path, seed: int | None, start: float, highest: float, for_s: float, precision: float, repeats: int) -> None:  # fmt: skip
    """Find the highest rate at which nothing is lost, doubled, altered, refused, late or unanswered."""
    question = "What is the highest rate at which nothing is lost, doubled, altered, refused, late or unanswered?"
    with (
        _answering(),
        _lab("capacity", question, target=target, stack=stack, runs=runs, seed=seed, env=pairs_of(env)) as lab,
    ):
        found = find_capacity(lab.run, start=start, highest=highest, precision=precision, repeats=repeats, for_s=for_s)
    _end(capacity_answer(found), runs)


@experiment.command(name="survival")
@lab_options
@click.option("--rates", default="200,600", show_default=True, help="Rates to measure, events/s.")
@click.option(
    "--at", "at_rate", type=click.FloatRange(1), default=None, help="The rate to answer for (default: the first)."
)
@click.option("--outage", "outage_s", type=click.FloatRange(1), default=600.0, show_default=True, help="The outage to size the buffer for, seconds.")  # fmt: skip
@click.option("--fault", default="catalog-down", show_default=True, help="What an outage is.")
@click.option("--size", type=click.IntRange(10), default=2000, show_default=True, help="ICEBERG_BUFFER_SIZE.")
@click.option(
    "--timeout-ms", type=click.IntRange(100), default=1000, show_default=True, help="ICEBERG_BUFFER_TIMEOUT_MS."
)
def survival(target: str, env: tuple[str, ...], stack: str, runs: Path, seed: int | None, rates: str, at_rate: float | None, outage_s: float, fault: str, size: int, timeout_ms: int) -> None:  # fmt: skip
    """Predict and measure how long an outage the buffer holds."""
    chosen = numbers_of(rates)
    buffer = Buffer(size, FLUSH_AT, timeout_ms / 1000, HOTTEST_SHARE)
    settings = {**pairs_of(env), "ICEBERG_BUFFER_SIZE": str(size), "ICEBERG_BUFFER_TIMEOUT_MS": str(timeout_ms)}
    question = f"How long an outage ({fault}) does the buffer hold?"
    with (
        _answering(),
        _lab("survival", question, target=target, stack=stack, runs=runs, seed=seed, env=settings) as lab,
    ):
        found = measure_survival(lab.run, buffer, chosen, fault=fault)
    _end(survival_answer(found, at_rate or chosen[0], outage_s), runs)


@experiment.command(name="sweep")
@lab_options
@click.option("--sizes", default="500,2000", show_default=True, help="ICEBERG_BUFFER_SIZE.")
@click.option("--timeouts-ms", default="500,2000,8000", show_default=True, help="ICEBERG_BUFFER_TIMEOUT_MS.")
@click.option("--r2-latencies-ms", default="0,300", show_default=True, help="Latency added to R2.")
@click.option("--events-per-s", type=click.FloatRange(1), default=200.0, show_default=True)
@click.option(
    "--for", "for_s", type=click.FloatRange(4, 3600), default=12.0, show_default=True, help="Seconds of traffic a run."
)
@click.option("--freshness", "freshness_s", type=click.FloatRange(0.1), default=None, help="Goal: visible within so many seconds (p99).")  # fmt: skip
@click.option(
    "--files-per-minute", type=click.FloatRange(0.1), default=None, help="Goal: at most so many data files a minute."
)
@click.option(
    "--outage", "outage_s", type=click.FloatRange(1), default=None, help="Goal: hold an outage of so many seconds."
)
@click.option("--verify/--no-verify", default=True, show_default=True, help="Run the recommendation.")
def sweep_command(target: str, env: tuple[str, ...], stack: str, runs: Path, seed: int | None, sizes: str, timeouts_ms: str, r2_latencies_ms: str, events_per_s: float, for_s: float, freshness_s: float | None, files_per_minute: float | None, outage_s: float | None, verify: bool) -> None:  # fmt: skip
    """Measure buffer size x flush timeout x R2 latency, and recommend a setting for stated goals."""
    goals = Goals(freshness_s, files_per_minute, outage_s)
    grid = [[int(n) for n in numbers_of(text)] for text in (sizes, timeouts_ms, r2_latencies_ms)]
    question = "What do buffer size and flush timeout cost?"
    with (
        _answering(),
        _lab("sweep", question, target=target, stack=stack, runs=runs, seed=seed, env=pairs_of(env)) as lab,
    ):
        cells = sweep(lab.run, *grid, events_per_s=events_per_s, for_s=for_s)
        advice = recommend(cells, goals, events_per_s=events_per_s, hottest_share=HOTTEST_SHARE)
        verified = None
        if advice is not None and verify:
            verified = lab.run(Point(events_per_s, for_s=for_s, env=advice.setting.env(), repeat=1, batch=20))
    _end(sweep_answer(cells, goals, advice, verified), runs)


@experiment.command(name="ab")
@lab_options
@click.option("--a", "a_env", multiple=True, metavar="NAME=VALUE", help="What A sets.")
@click.option("--b", "b_env", multiple=True, metavar="NAME=VALUE", help="What B sets.")
@click.option("--pairs", type=click.IntRange(1, 50), default=6, show_default=True, help="Six are the fewest that give an interval.")  # fmt: skip
@click.option("--events-per-s", type=click.FloatRange(1), default=400.0, show_default=True)
@click.option(
    "--for", "for_s", type=click.FloatRange(2, 3600), default=10.0, show_default=True, help="Seconds of traffic a run."
)
def ab(target: str, env: tuple[str, ...], stack: str, runs: Path, seed: int | None, a_env: tuple[str, ...], b_env: tuple[str, ...], pairs: int, events_per_s: float, for_s: float) -> None:  # fmt: skip
    """Compare two configurations in turn, the difference with its noise."""
    a, b = (Point(events_per_s, for_s=for_s, env=pairs_of(texts), batch=20) for texts in (a_env, b_env))
    if a.env == b.env:
        raise BadInput("A and B are the same: give --a and --b what each sets, such as --b ICEBERG_BUFFER_SIZE=5000.")
    question = "How do two configurations differ?"
    with _answering(), _lab("ab", question, target=target, stack=stack, runs=runs, seed=seed, env=pairs_of(env)) as lab:
        found = alternate(lab.run, a, b, pairs)
    _end(ab_answer(found, a.env, b.env), runs)


@contextmanager
def _answering() -> Iterator[None]:
    try:
        yield
    except (ReportError, RecordError) as error:
        _fail(error)


def _end(answer: Answer, runs: Path) -> NoReturn:
    try:
        paths = write_answer(answer, runs / "experiments", ("icequake", *sys.argv[1:]))
    except OSError as error:
        _fail(error)
    click.echo(answer.text())
    click.echo(f"kept in {paths[0].parent}")
    sys.exit(answer.exit_code)


def _fail(error: Exception) -> NoReturn:
    click.echo(f"experiment: {error}", err=True)
    sys.exit(getattr(error, "exit_code", 255))
