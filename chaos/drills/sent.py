"""What a run's clients sent and were answered so far, by event: from its ledgers."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from loadtests.records.identity import Identity, source_of
from loadtests.records.ledger import Outcome, Record, read_ledgers
from loadtests.records.rundir import RunDir

Key = tuple[str, str]
"""CloudEvents `source` and `id`."""


class Sent:
    """The events of one run; each question reads the ledgers anew."""

    def __init__(self, run: RunDir) -> None:
        self._directory, self._run_id = run.ledger, run.info.run_id
        self._identity = Identity(run.info.seed, run.info.run_id)

    def acked_before(self, moment_s: float) -> set[Key]:
        """Return the events that were acknowledged before a moment of the monotonic clock."""
        return self._keys(
            done[(done["outcome"] == Outcome.ACKED) & (done["done_ns"] < moment_s * 1e9)]
            for done in self._records(Record.DONE)
        )

    def again_since(self, moment_s: float) -> set[Key]:
        """Return the events that were sent since a moment although they had been sent before."""
        return self._keys(
            tried[(tried["attempt"] > 1) & (tried["sent_ns"] >= moment_s * 1e9)]
            for tried in self._records(Record.ATTEMPT)
        )

    def _records(self, kind: Record) -> Iterator[npt.NDArray[np.void]]:
        for ledger in read_ledgers(self._directory):
            yield ledger.records[ledger.records["record"] == kind]

    def _keys(self, selected: Iterator[npt.NDArray[np.void]]) -> set[Key]:
        spans = {
            (int(one["producer"]), int(one["first"]), int(one["count"])) for records in selected for one in records
        }
        return {
            (source_of(self._run_id, producer), minted.decode())
            for producer, first, count in spans
            for minted in self._identity.ids(producer, first, count).tolist()
        }
