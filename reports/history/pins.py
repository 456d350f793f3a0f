"""Named baselines: the figures of good nights, kept apart so that they outlive their run directories."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

from reports.errors import BadRequest
from reports.history.entry import Entry
from reports.history.trend import NIGHTS_MIN
from reports.verdict import Verdict

FILE = "baselines.json"


class PinnedNight(Struct, frozen=True):
    """One night of a baseline."""

    run_id: str
    started_unix_ns: int
    figures: dict[str, float]


class Baseline(Struct, frozen=True):
    """The nights that runs of one kind are compared with."""

    scenario: str
    target: str
    fingerprint: str
    nights: list[PinnedNight]


def read_baselines(runs: Path) -> dict[str, Baseline]:
    """Return the baselines of a runs directory, by name.

    Raises:
        BadRequest: the file cannot be understood.
    """
    path = runs / FILE
    if not path.exists():
        return {}
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Baseline])
    except (msgspec.DecodeError, OSError) as error:
        raise BadRequest(f"{path} cannot be read: {error}. Remove it, or pin the baseline again.") from error


def pin(runs: Path, name: str, nights: Sequence[Entry]) -> Baseline:
    """Keep the figures of the last nights of one kind as baseline *name*, in place of an older one of that name.

    Raises:
        BadRequest: fewer than seven passed nights of one kind.
    """
    passed = [entry for entry in nights if entry.verdict is Verdict.PASS]
    newest = passed[-1].kind if passed else None
    good = [entry for entry in passed if entry.kind == newest][-20:]
    if len(good) < NIGHTS_MIN:
        raise BadRequest(
            f"a baseline needs {NIGHTS_MIN} passed runs of one scenario, target and machine; there are {len(good)}."
        )
    scenario, target, fingerprint = good[-1].kind
    baseline = Baseline(
        scenario, target, fingerprint, [PinnedNight(e.run_id, e.started_unix_ns, dict(e.figures)) for e in good]
    )
    _write(runs / FILE, read_baselines(runs) | {name: baseline})
    return baseline


def _write(path: Path, baselines: dict[str, Baseline]) -> None:
    draft = path.with_suffix(".part")
    draft.write_bytes(msgspec.json.format(msgspec.json.encode(baselines), indent=2))
    os.replace(draft, path)


def pinned_nights(baselines: dict[str, Baseline]) -> dict[str, list[Entry]]:
    """Return the nights of every baseline by `scenario/target/fingerprint`."""
    return {
        f"{b.scenario}/{b.target}/{b.fingerprint}": [_night(b, night) for night in b.nights] for b in baselines.values()
    }


def _night(baseline: Baseline, night: PinnedNight) -> Entry:
    return Entry(
        root=Path(night.run_id), run_id=night.run_id, scenario=baseline.scenario, target=baseline.target, stack="", seed=0,
        started_unix_ns=night.started_unix_ns, duration_s=0.0, verdict=Verdict.PASS, headline="", fingerprint=baseline.fingerprint,
        figures=night.figures,
    )  # fmt: skip
