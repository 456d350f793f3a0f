"""The same quantities as icequake itself knows them: acknowledged and not yet visible, from ledgers, gateway log and table.

Fill is per event type: events acknowledged and not yet seen in the table, over the contract's capacity. Where a type has
events of two hours at once they are counted together, so at an hour's turn the truth may be up to twice too high.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import numpy as np
import numpy.typing as npt

from chaos.alerting.samples import Samples, labels_of
from chaos.alerting.words import TRUTH
from loadtests.records.errors import MissingRecord
from loadtests.records.jsonl import read_jsonl
from loadtests.records.recorded import content_of
from reports.inflow import capacity_of
from reports.obligations import ACKED, NEVER
from reports.reconcile import FileKeys
from reports.runrecords import RunRecords

I64 = npt.NDArray[np.int64]

STEP_S = 1.0
"""The truth has a sample a second."""


def truth_samples(records: RunRecords) -> Samples:
    """Return the true fill, pending events, oldest age, failed commits and last commit of a run, a sample a second."""
    samples = Samples()
    start_ns = records.window.baseline_start_ns or records.info.started_mono_ns
    grid = np.arange(start_ns, records.end_ns + 1, int(STEP_S * 1e9), dtype=np.int64)
    pending = pending_by_type(records, grid)
    _add_pending(samples, records, grid, pending, content_of(records.info, records.ledgers).names)
    _add_commits(samples, records, grid)
    _add_ages(samples, records)
    return samples


def pending_by_type(records: RunRecords, grid: I64) -> npt.NDArray[np.int64]:
    """Return events acknowledged and not yet visible, one row a type and one column an instant of *grid*."""
    content = content_of(records.info, records.ledgers)
    change = np.zeros((len(content.names), len(grid) + 1), dtype=np.int64)
    for producer, owed in records.history.producers.items():
        for first, count in owed.windows():
            kinds = content.types(producer, np.arange(first, first + count, dtype=np.uint64))
            acked = owed.spread(owed.acked_ns, first, count)
            counted = (owed.spread(owed.flags, first, count) & ACKED) != 0
            seen = _seen_ns(records, producer, first, count)
            _count(change, kinds, grid, acked, counted, +1)
            _count(change, kinds, grid, np.maximum(seen, acked), counted & (seen != NEVER), -1)
    return np.cumsum(change[:, :-1], axis=1)


def _count(
    change: npt.NDArray[np.int64],
    kinds: npt.NDArray[np.uint8],
    grid: I64,
    t_ns: I64,
    chosen: npt.NDArray[np.bool_],
    sign: int,
) -> None:
    places = np.searchsorted(grid, t_ns[chosen])
    np.add.at(change, (kinds[chosen], places), sign)


def _seen_ns(records: RunRecords, producer: int, first: int, count: int) -> I64:
    """Return when each event was first seen in the table; NEVER for those that were not."""
    seen = np.full(count, NEVER, dtype=np.int64)
    for file in _with(records.files, producer, first, count):
        at_ns = file.seen.seen_ns if file.seen is not None else records.observed.read_mono_ns
        mask = file.found[producer].keys.mask(first, count)
        seen[mask] = np.minimum(seen[mask], at_ns)
    return seen


def _with(files: list[FileKeys], producer: int, first: int, count: int) -> Iterator[FileKeys]:
    for file in files:
        found = file.found.get(producer)
        if file.references and found is not None and found.keys.first < first + count and found.keys.last >= first:
            yield file


def _add_pending(
    samples: Samples, records: RunRecords, grid: I64, pending: npt.NDArray[np.int64], names: tuple[str, ...]
) -> None:
    capacity, shared = capacity_of(records), records.target.contract.buffers == "shared"
    used = [index for index in range(len(names)) if pending[index].any()]
    for column, t_ns in enumerate(grid):
        at_s = records.unix_ns(int(t_ns)) / 1e9
        samples.add(at_s, TRUTH["buffered"], float(pending[:, column].sum()))
        for index in used if capacity else ():
            labels = labels_of({"type": names[index]})
            samples.add(at_s, TRUTH["fill"], float(pending[index, column]) / float(capacity or 1), labels)
        if capacity and shared and used:
            samples.add(at_s, TRUTH["fill"], float(pending[:, column].sum()) / capacity, labels_of({}))


def _add_commits(samples: Samples, records: RunRecords, grid: I64) -> None:
    """Commits by their answers at the gateway; a run without one has neither series."""
    if not records.commits:
        return
    ended = np.array([line["t_ns"] + int((line.get("ms") or 0) * 1e6) for line in records.commits], dtype=np.int64)
    good = np.array(
        [line.get("outcome") == "passed" and 200 <= (line.get("status") or 0) < 300 for line in records.commits]
    )
    succeeded, failed = np.sort(ended[good]), np.sort(ended[~good])
    for t_ns in grid:
        at_s = records.unix_ns(int(t_ns)) / 1e9
        samples.add(at_s, TRUTH["flushes_failed"], float(np.searchsorted(failed, t_ns, side="right")))
        before = int(np.searchsorted(succeeded, t_ns, side="right"))
        if before:
            samples.add(at_s, TRUTH["last_commit_s"], records.unix_ns(int(succeeded[before - 1])) / 1e9)


def _add_ages(samples: Samples, records: RunRecords) -> None:
    with suppress(MissingRecord):  # a run without auditor
        for line in read_jsonl(records.run.visible, "visible"):
            if isinstance(line.get("freshness_s"), int | float):
                samples.add(records.unix_ns(line["t_ns"]) / 1e9, TRUTH["oldest_age_s"], float(line["freshness_s"]))
