"""`icequake series RUN`: every series of a run as one table, for a spreadsheet, a notebook or another tool.

Columns: `at_s` (seconds since the run began), `unix_s`, `name`, `labels`, `value`. Beside what was recorded it has what the report draws:
arrivals by answer and latency percentiles (`icequake:...`), and the truth that alerts are held against (`icequake_...`).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import click
import pandas as pd

from chaos.alerting.samples import Labels
from loadtests.records.errors import RecordError
from loadtests.records.series import read_series
from reports.alerts.truth import truth_samples
from reports.curves import Curve
from reports.errors import BadRequest, ReportError
from reports.run_argument import find_run, run_argument
from reports.runrecords import RunRecords, read_run
from reports.story import read_story
from reports.unusable import usable

COLUMNS = ["at_s", "unix_s", "name", "labels", "value"]


def series_table(records: RunRecords) -> pd.DataFrame:
    """Return every sample, sorted by time and name."""
    parts = [_recorded(records), *_curves(records), *_truth(records)]
    table = pd.concat([part for part in parts if not part.empty] or [pd.DataFrame(columns=COLUMNS)], ignore_index=True)
    return table.sort_values(["at_s", "name", "labels"], kind="stable", ignore_index=True)[COLUMNS]


def _recorded(records: RunRecords) -> pd.DataFrame:
    if not records.run.series.is_dir():
        return pd.DataFrame(columns=COLUMNS)
    table = read_series(records.run.series)
    at_s = (table["t_ns"].to_numpy() - records.info.started_mono_ns) / 1e9
    return _frame(
        records,
        at_s,
        table["value"].to_numpy(),
        [str(n) for n in table["name"].to_pylist()],
        table["labels"].to_pylist(),
    )


def _frame(
    records: RunRecords, at_s: object, values: object, name: str | list[str], labels: str | list[str] = ""
) -> pd.DataFrame:
    frame = pd.DataFrame({"at_s": at_s, "value": values})
    frame["unix_s"] = frame["at_s"] + records.info.started_unix_ns / 1e9
    frame["name"], frame["labels"] = name, labels
    return frame


def _curves(records: RunRecords) -> Iterator[pd.DataFrame]:
    story = read_story(records.run)
    known = {name: curve for name, curve in story.curves.items() if isinstance(curve, Curve) and not curve.empty}
    for name, curve in known.items():
        yield _frame(records, curve.t_s, curve.value, f"icequake:{name}")


def _truth(records: RunRecords) -> Iterator[pd.DataFrame]:
    began_s = records.info.started_unix_ns / 1e9
    for name, series in truth_samples(records).all():
        yield _frame(records, [t - began_s for t in series.t_s], series.values, name, _text(series.labels))


def _text(labels: Labels) -> str:
    return ",".join(f"{key}={value}" for key, value in sorted(labels))


@click.command(name="series")
@run_argument
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
def main(run: str, runs: Path, file: Path) -> None:
    """Write every series of RUN into FILE: .csv or .parquet."""
    try:
        if file.suffix not in (".csv", ".parquet"):
            raise BadRequest(f"{file}: the name must end in .csv or .parquet.")
        with usable(run):
            table = series_table(read_run(find_run(runs, run), observed=False))
        table.to_csv(file, index=False) if file.suffix == ".csv" else table.to_parquet(file, index=False)
    except ReportError as error:
        _fail(str(error), error.exit_code)
    except (RecordError, OSError) as error:
        _fail(str(error), 254)
    click.echo(f"{file}: {len(table):,} samples of {table['name'].nunique():,} series")


def _fail(sentence: str, exit_code: int) -> NoReturn:
    click.echo(f"series: {sentence}", err=True)
    sys.exit(exit_code)


if __name__ == "__main__":
    main()
