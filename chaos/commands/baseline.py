"""`icequake baseline`: what is usual, recorded from a real log, as traffic that can be replayed."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click
import yaml

from chaos.commands.numbers import FiniteRange
from chaos.errors import BadLog
from loadtests.baseline import Counted, count_log, profiles_of, write_profiles
from loadtests.errors import BadTraffic
from loadtests.traffic import Profiles, Volume

TRAFFIC_FILE = "traffic.yaml"
SCENARIO_FILE = "replay.yaml"
BATCH = 100
BASELINE_S = 5.0
"""The recorded time begins with the baseline."""


@click.group()
def baseline() -> None:
    """Record what is usual from a real log of CloudEvents, and replay it."""


@baseline.command()
@click.argument("log", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Directory to write to.")
@click.option("--speed", default=60.0, show_default=True, type=FiniteRange(min=0.001), help="Of the replay scenario.")
@click.option("--scale", default=1.0, show_default=True, type=FiniteRange(min=1e-9), help="Its volume over the log's.")
@click.option("--since", type=click.DateTime(), help="Leave out events before this time (UTC).")
@click.option("--until", type=click.DateTime(), help="Leave out events from this time on (UTC).")
def record(log: Path, out: Path, speed: float, scale: float, since: datetime | None, until: datetime | None) -> None:
    """Turn LOG (NDJSON, also .gz, or Parquet) into traffic.yaml and a scenario that replays it.

    The log is read once and not kept. traffic.yaml also holds how many events of each type there were in each hour.
    """
    try:
        counted = count_log(log, since=_utc(since), until=_utc(until))
        profiles = profiles_of(counted, about=f"a recorded log, {log.name}")
        out.mkdir(parents=True, exist_ok=True)
        write_profiles(out / TRAFFIC_FILE, profiles)
        (out / SCENARIO_FILE).write_text(_scenario(profiles, speed, scale), encoding="utf-8")
    except BadTraffic as error:
        raise BadLog(str(error)) from error
    except OSError as error:
        raise BadLog(f"the traffic cannot be written to {out}: {error.strerror}.") from error
    _print(counted, profiles, out, speed)


def _utc(time: datetime | None) -> datetime | None:
    return None if time is None else time.replace(tzinfo=UTC)


def _volume(profiles: Profiles) -> Volume:
    assert profiles.volume is not None
    return profiles.volume


def _scenario(profiles: Profiles, speed: float, scale: float) -> str:
    volume = _volume(profiles)
    events_per_s = volume.events_per_s * speed * scale
    hours = len(next(iter(volume.types.values())))
    document = {
        "name": "replay",
        "question": f"Does the pipeline hold what was recorded from {volume.start} on, {speed:g} times as fast?",
        "traffic": {
            "profile": TRAFFIC_FILE,
            "speed": speed,
            "events_per_s": round(events_per_s, 6),
            "batch": max(1, min(BATCH, round(events_per_s / 5))),
            "for_s": round(max(1.0, hours * 3600 / speed - BASELINE_S), 3),
        },
        "baseline_s": BASELINE_S,
        "settle_s": 120,
        "tier": "nightly",
    }
    return yaml.safe_dump(document, sort_keys=False)


def _print(counted: Counted, profiles: Profiles, out: Path, speed: float) -> None:
    volume = _volume(profiles)
    hours = len(next(iter(volume.types.values())))
    click.echo(f"{volume.events:,} events of {len(volume.types)} types in {hours} hours from {volume.start} on")
    if counted.unusable:
        click.echo(f"{counted.unusable:,} lines or rows have no type or no time and were left out")
    for kind, numbers in sorted(volume.types.items(), key=lambda item: -sum(item[1]))[:10]:
        click.echo(f"  {sum(numbers):>12,}  {kind}  (most in an hour: {max(numbers):,})")
    click.echo(f"{out / TRAFFIC_FILE}   curve, mix and volume by type and hour; --traffic takes it")
    click.echo(f"{out / SCENARIO_FILE}   icequake run {out / SCENARIO_FILE} replays it {speed:g} times as fast")
