"""Print anomalies one by one, from an event down to object, flush and snapshot.

    python -m reports.explain RUN lost|duplicated|altered|unexpected|resurrected|late|pending|stuck|unknown [--limit N]

Works from the run directory alone. Text from the outside is printed with control characters escaped.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import click

from loadtests.records.errors import RecordError
from loadtests.records.identity import source_of
from reports.anomalies import WHERE, ascription, cause_of_copies, identifier
from reports.errors import ReportError
from reports.event_checks import fate_of_missing
from reports.judge import RANGES_KEPT, compare
from reports.obligations import Attempt, attempts_of
from reports.observed import ObservedFile
from reports.reconcile import Range, Reconciliation, each_event
from reports.run_argument import find_run, run_argument
from reports.runrecords import RunRecords, read_run
from reports.unusable import usable
from reports.visible import visible

SETS = {
    "lost": ("missing",),
    "stuck": ("missing",),
    "pending": ("missing",),
    "duplicated": ("duplicated",),
    "altered": ("altered",),
    "unexpected": ("unexpected",),
    "resurrected": ("resurrected",),
    "late": ("late",),
    "unknown": ("recovered", "not_landed"),
}
"""What can be asked for, and the sets of a reconciliation that answer it."""


def explain(records: RunRecords, result: Reconciliation, what: str) -> Iterator[str]:
    """Yield a paragraph for each event in question, and for rows whose id is no event at all."""
    if what in ("lost", "stuck", "pending") and fate_of_missing(records, result) != what:
        return
    for name in SETS[what]:
        for one, sequence in each_event(result.sets[name].ranges):
            yield "\n".join(_event(records, name, one, sequence))
    if what == "unexpected":
        yield from _strays(records)


def _event(records: RunRecords, name: str, one: Range, sequence: int) -> Iterator[str]:
    source = source_of(records.info.run_id, one.producer)
    yield f"{identifier(records, one.producer, sequence)}  {source}  sequence {sequence}"
    attempts = attempts_of(records.ledgers, one.producer, sequence)
    for attempt in attempts:
        yield f"  attempt   {_attempt(records, attempt)}"
    if not attempts:
        yield "  attempt   none: it was never sent"
    yield f"  stage     {one.stage.name.lower()}: {WHERE[one.stage]}" + (
        f", {one.copies} rows" if one.copies > 1 else ""
    )
    files = [records.by_number[n] for n in one.files]
    for file in files:
        yield from _file(file)
    if name == "duplicated":
        yield f"  cause     {cause_of_copies(files) or 'unknown'}"
    if name == "altered":
        yield from _content(files, one.producer, sequence)
    yield f"  fault     {ascription(records, one, name) or 'none near'}"


def _attempt(records: RunRecords, attempt: Attempt) -> str:
    sent = f"{attempt.attempt} ({attempt.kind}) sent {_clock(records, attempt.sent_ns)}"
    if attempt.done_ns is None:
        return f"{sent}, no answer recorded: {attempt.outcome}"
    took_ms = (attempt.done_ns - attempt.sent_ns) / 1e6
    status = attempt.status if attempt.status and attempt.status > 0 else f"no HTTP status ({attempt.status})"
    return f"{sent}, answered after {took_ms:.1f} ms: {status}, {attempt.outcome}"


def _clock(records: RunRecords, mono_ns: int) -> str:
    unix_ns = records.unix_ns(mono_ns)
    return time.strftime("%H:%M:%S", time.gmtime(unix_ns // 10**9)) + f".{unix_ns // 10**6 % 1000:03}"


def _file(file: ObservedFile) -> Iterator[str]:
    yield f"  object    {visible(file.path)}" + (
        f" (referenced {file.references} times)" if file.references > 1 else ""
    )
    yield f"  flush     {visible(', '.join(file.flush_ids)) or 'not known'}"
    committed = ""
    if file.unix_ms is not None:
        committed = f", committed {time.strftime('%H:%M:%S', time.gmtime(file.unix_ms / 1e3))}.{file.unix_ms % 1000:03}"
    yield f"  snapshot  {', '.join(map(str, file.snapshot_ids)) or 'none'}{committed}"


def _content(files: list[ObservedFile], producer: int, sequence: int) -> Iterator[str]:
    for example in (e for file in files for e in file.altered_examples):
        if (example["producer"], example["sequence"]) == (producer, sequence):
            yield f"  stored    {visible(str(example['stored']))}"
            yield f"  sent      {visible(str(example['sent']))}"


def _strays(records: RunRecords) -> Iterator[str]:
    for file in records.observed.files:
        if file.stage == "scan":
            for example in file.stray_examples:
                head = f"{visible(str(example['id']))}  {visible(str(example['source']))}  not an id of this run"
                yield "\n".join([head, *_file(file)])


@click.command()
@run_argument
@click.argument("what", type=click.Choice(list(SETS)))
@click.option(
    "--limit", type=click.IntRange(min=1), default=20, show_default=True, help="Print at most so many events."
)
def main(run: str, runs: Path, what: str, limit: int) -> None:
    """Print the events of RUN that are WHAT, one by one. RUN: a run directory, `last`, a name or a run id below --runs."""
    try:
        with usable(run):
            records = read_run(find_run(runs, run))
            result = compare(records, keep=max(limit, RANGES_KEPT))
            paragraphs = list(islice(explain(records, result, what), limit + 1))
    except (ReportError, RecordError) as error:
        click.echo(f"explain: {error}", err=True)
        sys.exit(254)
    for paragraph in paragraphs[:limit]:
        click.echo(paragraph)
    if not paragraphs:
        click.echo(f"No event of this run is {what}.")
    elif len(paragraphs) > limit:
        total = sum(result.sets[name].events for name in SETS[what])
        click.echo(f"... {limit:,} of {total:,}; --limit shows more.")


if __name__ == "__main__":
    main()
