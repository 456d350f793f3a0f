"""Watching a live target, and asking what stands around it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping

from chaos.commands.session import RUNS
from chaos.commands.table_access import access
from chaos.drills.desk import AdminClient, DrillFailed
from chaos.errors import BadInput
from chaos.sampler import scrape
from loadtests.records.recorded import content_of
from loadtests.records.target import Target
from loadtests.records.target_config import TargetConfig
from reports.diagnosis.live import Live, Usual
from reports.diagnosis.probes import Probes, ask_door, ask_table
from reports.diagnosis.watched import watch
from reports.inflow import offered_rate
from reports.runrecords import RunRecords
from reports.sections.volume import volume_of


def look(
    target: Target,
    target_name: str,
    seconds: float,
    usual: Usual | None,
    *,
    say: Callable[[str], object],
    environ: Mapping[str, str] = os.environ,
    clock: Callable[[], float] = time.time,
    sleep: Callable[[float], object] = time.sleep,
) -> Live:
    """Watch *target* for *seconds*, then ask its configuration, the catalog, the object store and its door.

    Raises:
        BadInput: the target file names no metrics endpoint, or its URLs have places that only a run fills in.
    """
    if target.metrics is None:
        raise BadInput(f"target {target.name} names no metrics.url: there is nothing to watch.")
    url = target.metrics.url
    if "{" in url + target.ingest.url:
        raise BadInput(
            f"the URLs of target {target.name} have places that a run fills in; give the target file of a collector that is up "
            "(of a run that goes on: its target.yaml)."
        )
    say(f"watching {target.name} for {seconds:g} s")
    watched = watch(lambda: scrape(url), seconds, clock=clock, sleep=sleep)
    config, notes = _configuration(target, environ)
    return Live(target, watched, _probes(target, target_name, notes, environ), usual, config, notes)


def _configuration(target: Target, environ: Mapping[str, str]) -> tuple[TargetConfig | None, list[str]]:
    if target.admin is None:
        return None, ["its configuration was not asked: the target file names no admin listener"]
    token = environ.get(target.admin.token_env)
    if not token:
        return None, [f"its configuration was not asked: {target.admin.token_env} is not set"]
    try:
        answer = AdminClient(target.admin.url, token).read("config")
        return TargetConfig(variables=dict(answer["variables"]), defaults=dict(answer.get("defaults") or {})), []
    except (DrillFailed, LookupError, TypeError, ValueError) as error:
        return None, [f"its configuration could not be asked: {error}"]


def _probes(target: Target, target_name: str, notes: list[str], environ: Mapping[str, str]) -> Probes:
    door = ask_door(target.ingest.url)
    try:
        at = access(target=target_name, pairs=(), table=None, run_name=None, stack=None, runs=RUNS, environ=environ)
    except BadInput as error:
        notes.append(f"catalog and store were not asked: {error}")
        return Probes(door=door)
    catalog, store = ask_table(at.properties, at.identifier)
    return Probes(catalog, store, door)


def usual_of(records: RunRecords) -> Usual | None:
    """Return what a run's baseline says of usual traffic; the whole run's where it has none; None when nothing was due."""
    volume = volume_of(records)
    if volume is None:
        rate = offered_rate(records)
        return None if not rate else Usual(rate, _shares(records))
    counts = volume.counts[:, : volume.usual_until].sum(axis=1)
    total = int(counts.sum())
    if not total:
        return None
    shares = {name: int(count) / total for name, count in zip(volume.names, counts, strict=True)}
    return Usual(total / volume.usual_until, shares)


def _shares(records: RunRecords) -> dict[str, float]:
    mix = records.info.mix or dict.fromkeys(content_of(records.info, records.ledgers).names, 1.0)
    return {name: weight / sum(mix.values()) for name, weight in mix.items()}
