"""The capacity section as facts and tables: what is nested in the verdict gets a line or a table of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reports.wording import Fact, Grid, elapsed, grid_of, number, value_of

NESTED = ("volume", "latency", "cost", "configuration")


def nested_facts(section: Mapping[str, Any]) -> tuple[list[Fact], list[Grid]]:
    """Return the facts and tables of volume, latency and cost, as far as the verdict has them."""
    facts: list[Fact] = []
    grids: list[Grid] = []
    if (volume := section.get("volume")) is not None:
        facts += _volume(volume)
        grids += (
            [grid_of("Event types that surged", [_surge(row) for row in volume["surges"]])] if volume["surges"] else []
        )
    if (latency := section.get("latency")) is not None:
        facts += [
            Fact(f"{name.capitalize()} latency", _percentiles(latency[name])) for name in ("corrected", "service")
        ]
        grids += [grid_of("Corrected latency by fill", latency["by_fill"])] if latency["by_fill"] else []
    if (cost := section.get("cost")) is not None:
        facts += _cost(cost)
    if (configuration := section.get("configuration")) is not None:
        grids += (
            [grid_of("Configuration that is not default", _changed(configuration))] if configuration["changed"] else []
        )
        facts += [] if configuration["changed"] else [Fact("Configuration", "everything is default")]
    return facts, grids


def _changed(configuration: Mapping[str, Any]) -> list[dict[str, str]]:
    defaults = configuration["defaults"]
    return [
        {"variable": name, "in force": str(value), "default": str(defaults.get(name, "none"))}
        for name, value in configuration["changed"].items()
    ]


def _volume(volume: Mapping[str, Any]) -> list[Fact]:
    spike = volume["spike"]
    said = "none" if spike is None else (
        f"{number(spike['peak_events_per_s'])} events/s instead of {number(spike['usual_events_per_s'])}, "
        f"{elapsed(spike['start_at_s'])} to {elapsed(spike['end_at_s'])}"
    )  # fmt: skip
    return [Fact("Spike in volume", said), Fact("Surging event type", volume["surging_type"] or "no single one")]


def _surge(row: Mapping[str, Any]) -> dict[str, str]:
    return {
        "type": row["what"],
        "from": elapsed(row["start_at_s"]),
        "to": elapsed(row["end_at_s"]),
        "usual": f"{number(row['usual_events_per_s'])} events/s",
        "peak": f"{number(row['peak_events_per_s'])} events/s",
        "share of the growth": f"{row['share']:.0%}",
    }


def _percentiles(found: Mapping[str, float] | None) -> str:
    if found is None:
        return "not measured"
    names = (("p50_ms", "p50"), ("p99_ms", "p99"), ("p99_9_ms", "p99.9"), ("max_ms", "max"))
    return ", ".join(f"{label} {number(found[key])} ms" for key, label in names)


def _cost(cost: Mapping[str, Any]) -> list[Fact]:
    if cost["cpu_us_per_event"] is None:
        return [Fact("CPU per event", "not measured")]
    calibrated = cost["calibrated_cpu_us_per_event"]
    text = f"{number(cost['cpu_us_per_event'])} us"
    text += "" if calibrated is None else f" ({number(calibrated)} us on a machine of standard speed)"
    return [Fact("CPU per event", text), Fact("Most memory", value_of("rss_max_bytes", cost["rss_max_bytes"]))]
