"""`icequake experiment`: capacity, survival, sweep, ab."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import click

from chaos.commands.numbers import FiniteRange
from chaos.errors import BadInput
from chaos.faults import catalogue
from chaos.target import find_target
from loadtests.errors import BadTraffic
from loadtests.records.target import Target
from loadtests.traffic import traffic_named
from reports.experiment.ab import alternate
from reports.experiment.answers import Answer, ab_answer, capacity_answer, survival_answer, sweep_answer
from reports.experiment.ask import Options, ask, fault_of, lab_options, numbers_of, pairs_of
from reports.experiment.capacity import Capacity, Trial, find_capacity
from reports.experiment.claim import LONG_S, find_and_verify, verify
from reports.experiment.lab import BATCH, Lab, Point, Run
from reports.experiment.survival import RETRY_CAP_S, Buffer, measure_survival
from reports.experiment.sweep import Cell, Goals, cell_point, recommend, sweep

FLUSH_AT = 0.5


@click.group(name="experiment")
def experiment() -> None:
    """Questions that take several runs on one warm stack.

    Exit codes: 0 answered, and nothing was lost; 1 something was, or a claim did not hold; 2 not answered; 254 bad arguments; 255
    icequake itself failed. The answer is kept below RUNS/experiments as JSON, Markdown and HTML. Ctrl-C heals what is on, keeps what
    was measured, and ends with 2.
    """


@experiment.command(name="capacity")
@lab_options
@click.option(
    "--start",
    type=FiniteRange(1),
    default=500.0,
    show_default=True,
    help="The first rate, events/s; then it doubles.",
)
@click.option("--highest", type=FiniteRange(1), default=100_000.0, show_default=True, help="Go no higher.")
@click.option(
    "--for",
    "for_s",
    type=FiniteRange(2, 3600),
    default=10.0,
    show_default=True,
    help="Seconds of traffic a run at least, after three of warm-up; longer where a buffer fills slowly.",
)
@click.option("--precision", type=FiniteRange(0.01, 0.5), default=0.1, show_default=True, help="When bisection stops.")
@click.option("--repeats", type=click.IntRange(1, 10), default=3, show_default=True, help="Searches, for the interval.")
@click.option("--fault", default=None, help="What is on in every run, such as slow-r2 (default: nothing).")
@click.option(
    "--with",
    "parameters",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change a parameter of the fault, such as latency_ms=100.",
)
@click.option(
    "--traffic", default="steady", show_default=True, help="A name from `icequake list traffic`, or a pair: spike+late."
)
@click.option("--batch", type=click.IntRange(1, 10_000), default=BATCH, show_default=True, help="Events a request.")
@click.option(
    "--verify",
    "verify_it",
    is_flag=True,
    help="Hold the answer to account: 95 % of it must be clean for long, 110 % be refused without loss.",
)
@click.option(
    "--verify-for",
    "verify_s",
    type=FiniteRange(2, 86_400),
    default=LONG_S,
    show_default=True,
    help="Seconds of the run at 95 %; that at 110 % lasts until a buffer would be full, at most as long.",
)
@click.option("--claim", type=FiniteRange(1), default=None, help="Search nothing: verify this rate, events/s.")
def capacity(
    options: Options,
    start: float,
    highest: float,
    for_s: float,
    precision: float,
    repeats: int,
    fault: str | None,
    parameters: tuple[str, ...],
    traffic: str,
    batch: int,
    verify_it: bool,
    verify_s: float,
    claim: float | None,
) -> None:
    """Find the highest rate at which nothing is lost, doubled, altered, refused, late or unanswered."""
    if start > highest:
        raise BadInput(f"--start {start:g} is above --highest {highest:g}.")
    question = "What is the highest rate at which nothing is lost, doubled, altered, refused, late or unanswered?"
    target = find_target(options.target)[1]
    size = _size(options, target)
    trial = Trial(for_s, size, _busiest_share(target, traffic), fault_of(fault, parameters), batch, traffic)

    def search(how: Trial, first: float | None, run: Run) -> Capacity:
        return find_capacity(
            run, how, start=max(1.0, first or start), highest=highest, precision=precision, repeats=repeats
        )

    def measure(lab: Lab) -> Answer:
        if claim is not None:
            return capacity_answer(None, trial, verify(lab.run, trial, claim, for_s=verify_s))
        if not verify_it:
            return capacity_answer(search(trial, None, lab.run), trial)
        done = find_and_verify(lab.run, trial, partial(search, run=lab.run), for_s=verify_s)
        return capacity_answer(done.found, trial, done.verified, done.refuted)

    ask("capacity", question, options, measure, total=None if claim is None else 2)


def _size(options: Options, target: Target) -> int | None:
    """The capacity of one partition buffer that a target runs with; None when nobody says.

    Raises:
        BadInput: what was given is no number.
    """
    given = options.env.get("ICEBERG_BUFFER_SIZE")
    if given is None:
        return target.contract.capacity_events
    if not given.isdecimal() or int(given) < 1:
        raise BadInput(f"ICEBERG_BUFFER_SIZE={given} is not a number of events.")
    return int(given)


def _busiest_share(target: Target, traffic: str = "steady") -> float:
    """The share of all events that the busiest buffer takes: that of the commonest type, where each has a buffer of its own.

    Raises:
        BadInput: there is no such traffic.
    """
    try:
        types = traffic_named(traffic).mix.types
    except BadTraffic as error:
        raise BadInput(str(error)) from error
    return 1.0 if target.contract.buffers == "shared" else max(types.values()) / sum(types.values())


@experiment.command(name="survival")
@lab_options
@click.option("--rates", default="200,600", show_default=True, help="Rates to measure, events/s.")
@click.option("--at", "at_rate", type=FiniteRange(1), default=None, help="The rate to answer for (default: the first).")
@click.option("--outage", "outage_s", type=FiniteRange(1), default=600.0, show_default=True, help="The outage to size the buffer for, seconds.")  # fmt: skip
@click.option("--fault", default="catalog-down", show_default=True, help="What an outage is.")
@click.option("--size", type=click.IntRange(10), default=2000, show_default=True, help="ICEBERG_BUFFER_SIZE.")
@click.option(
    "--timeout-ms", type=click.IntRange(100), default=1000, show_default=True, help="ICEBERG_BUFFER_TIMEOUT_MS."
)
@click.option("--retry-cap", "retry_cap_s", type=FiniteRange(0), default=RETRY_CAP_S, show_default=True, help="The longest that the target waits between two attempts to flush, seconds.")  # fmt: skip
def survival(options: Options, rates: str, at_rate: float | None, outage_s: float, fault: str, size: int, timeout_ms: int, retry_cap_s: float) -> None:  # fmt: skip
    """Predict and measure how long an outage the buffer holds."""
    chosen = numbers_of(rates, above=0)
    if fault not in catalogue():
        raise BadInput(f"there is no fault {fault!r}; `icequake list faults` shows what there is.")
    buffer = Buffer(size, FLUSH_AT, timeout_ms / 1000, _busiest_share(find_target(options.target)[1]))
    settings = {**options.env, "ICEBERG_BUFFER_SIZE": str(size), "ICEBERG_BUFFER_TIMEOUT_MS": str(timeout_ms)}
    question = f"How long an outage ({fault}) does the buffer hold?"

    def measure(lab: Lab) -> Answer:
        found = measure_survival(lab.run, buffer, chosen, fault=fault, retry_cap_s=retry_cap_s)
        return survival_answer(found, at_rate or chosen[0], outage_s)

    ask("survival", question, replace(options, env=settings), measure, total=2 * len(chosen))


@experiment.command(name="sweep")
@lab_options
@click.option("--sizes", default="500,2000", show_default=True, help="ICEBERG_BUFFER_SIZE.")
@click.option("--timeouts-ms", default="500,2000,8000", show_default=True, help="ICEBERG_BUFFER_TIMEOUT_MS.")
@click.option("--r2-latencies-ms", default="0,300", show_default=True, help="Latency added to R2.")
@click.option("--events-per-s", type=FiniteRange(1), default=200.0, show_default=True)
@click.option(
    "--for", "for_s", type=FiniteRange(4, 3600), default=12.0, show_default=True, help="Seconds of traffic a run."
)
@click.option("--freshness", "freshness_s", type=FiniteRange(0.1), default=None, help="Goal: visible within so many seconds (p99).")  # fmt: skip
@click.option(
    "--files-per-minute", type=FiniteRange(0.1), default=None, help="Goal: at most so many data files a minute."
)
@click.option(
    "--outage", "outage_s", type=FiniteRange(1), default=None, help="Goal: hold an outage of so many seconds."
)
@click.option("--verify/--no-verify", "verify_it", default=True, show_default=True, help="Run the recommendation.")
def sweep_command(options: Options, sizes: str, timeouts_ms: str, r2_latencies_ms: str, events_per_s: float, for_s: float, freshness_s: float | None, files_per_minute: float | None, outage_s: float | None, verify_it: bool) -> None:  # fmt: skip
    """Measure buffer size x flush timeout x R2 latency, and recommend a setting for stated goals."""
    goals = Goals(freshness_s, files_per_minute, outage_s)
    sizes_, timeouts_ = ([int(n) for n in numbers_of(text, above=0)] for text in (sizes, timeouts_ms))
    latencies = [int(n) for n in numbers_of(r2_latencies_ms)]
    question = "What do buffer size and flush timeout cost?"

    def measure(lab: Lab) -> Answer:
        cells = sweep(lab.run, sizes_, timeouts_, latencies, events_per_s=events_per_s, for_s=for_s)
        share = _busiest_share(find_target(options.target)[1])
        advice = recommend(cells, goals, events_per_s=events_per_s, hottest_share=share)
        verified = None
        if advice is not None and verify_it:
            point = cell_point(advice.setting, max(latencies), events_per_s=events_per_s, for_s=for_s, repeat=1)
            verified = Cell(advice.setting, max(latencies), lab.run(point))
        return sweep_answer(cells, goals, advice, verified)

    ask("sweep", question, options, measure, total=len(sizes_) * len(timeouts_) * len(latencies) + verify_it)


@experiment.command(name="ab")
@lab_options
@click.option("--a", "a_env", multiple=True, metavar="NAME=VALUE", help="What A sets.")
@click.option("--b", "b_env", multiple=True, metavar="NAME=VALUE", help="What B sets.")
@click.option("--pairs", type=click.IntRange(1, 50), default=6, show_default=True, help="Six are the fewest that give an interval.")  # fmt: skip
@click.option("--events-per-s", type=FiniteRange(1), default=400.0, show_default=True)
@click.option(
    "--for", "for_s", type=FiniteRange(2, 3600), default=10.0, show_default=True, help="Seconds of traffic a run."
)
def ab(options: Options, a_env: tuple[str, ...], b_env: tuple[str, ...], pairs: int, events_per_s: float, for_s: float) -> None:  # fmt: skip
    """Compare two configurations in turn, the difference with its noise."""
    a, b = (Point(events_per_s, for_s=for_s, env=pairs_of(texts), batch=20) for texts in (a_env, b_env))
    if not a.env and not b.env:
        raise BadInput(
            "A and B are the same: give --a and --b what each sets, such as --b ICEBERG_BUFFER_SIZE=5000 (the same twice to see the noise)."
        )
    question = "How do two configurations differ?"
    ask("ab", question, options, lambda lab: ab_answer(alternate(lab.run, a, b, pairs), a.env, b.env), total=2 * pairs)
