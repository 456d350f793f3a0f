"""How fast events come in: all of them, and those for the busiest buffer; and how many a buffer holds."""

from __future__ import annotations

from typing import Any

import yaml

from loadtests.records.errors import RecordError
from loadtests.records.target_config import TargetConfig, read_target_config
from reports.runrecords import RunRecords

SIZE = "ICEBERG_BUFFER_SIZE"
EQUAL_TYPES = 1 / 3
"""The share of the busiest type where a run does not record its mix: the three types of events in equal parts."""


def offered_rate(records: RunRecords) -> float | None:
    """Events per second that were due, from first sends of normal traffic and given-up arrivals."""
    p = records.history.punctuality
    if len(p.due_ns) < 2:
        return None
    seconds = (int(p.due_ns.max()) - int(p.due_ns.min())) / 1e9
    return round((int(p.events.sum()) + int(p.given_up_events.sum())) / seconds, 1) if seconds > 0 else None


def busiest_inflow(records: RunRecords) -> float | None:
    """Return the events per second into the busiest buffer, on average over the run; None: nothing was due."""
    rate = offered_rate(records)
    return rate * busiest_share(records) if rate else None


def busiest_share(records: RunRecords) -> float:
    """Return the share of all events that the busiest buffer takes: that of the most frequent type, where each has its own."""
    mix = records.info.mix
    if records.target.contract.buffers == "shared":
        return 1.0
    return max(mix.values()) / sum(mix.values()) if mix and sum(mix.values()) else EQUAL_TYPES


def capacity_of(records: RunRecords) -> int | None:
    """Return how many events a buffer held when the run began.

    That is what the target says is in force, else what the scenario set, else what the contract states; None: nobody says.
    """
    stated = records.target.contract.capacity_events
    return capacity_in_force(config_of(records)) or _whole(_set_by_scenario(records)) or stated


def config_of(records: RunRecords) -> TargetConfig | None:
    """Return the configuration that the target said was in force; None when it was not asked, or the record cannot be read."""
    try:
        return read_target_config(records.run.root)
    except RecordError:
        return None


def capacity_in_force(config: TargetConfig | None) -> int | None:
    """Return the events a buffer holds, by the configuration in force; None when it does not say."""
    return None if config is None else _whole(config.variables.get(SIZE))


def _whole(value: Any) -> int | None:
    text = str(value)
    return int(text) if text.isdecimal() and int(text) > 0 else None


def _set_by_scenario(records: RunRecords) -> Any:
    try:
        plain = yaml.safe_load(records.run.scenario.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return None
    env = plain.get("env") if isinstance(plain, dict) else None
    return env.get(SIZE) if isinstance(env, dict) else None
