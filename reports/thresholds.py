"""Thresholds that a scenario declares: each is a check of its own, and one without data is INCONCLUSIVE.

thresholds:
  latency_p99_ms: "<= 250"                       # a figure of icequake history
  flush.freshness_p99_s: "< 10"                  # or a dotted path into the verdict's sections
  totals.unknown: "<= 20"                        # or into its totals
  capacity.cost.cpu_us_per_event: "< 300"
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from reports.history.entry import FIGURES, number_at
from reports.verdict import Check, Verdict

_TEXT = re.compile(r"\s*(?P<op><=|>=|<|>|==)\s*(?P<value>-?\d+(?:\.\d+)?)\s*")
_OPERATORS: Mapping[str, Callable[[float, float], bool]] = {
    "<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt, "==": operator.eq,
}  # fmt: skip


def threshold_checks(scenario: Path, sections: Mapping[str, Any]) -> list[Check]:
    """Hold the run's figures against the thresholds of its scenario (the file in the run directory).

    Args:
        sections: Those of the verdict, and its totals by that name.
    """
    return [_check(name, str(text), sections) for name, text in _declared(scenario).items()]


def _declared(scenario: Path) -> dict[str, Any]:
    """Return what the scenario declares; nothing where it cannot be read, since a verdict must not fail for that."""
    try:
        plain = yaml.safe_load(scenario.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return {}
    found = plain.get("thresholds") if isinstance(plain, dict) else None
    return found if isinstance(found, dict) else {}


def _check(name: str, text: str, sections: Mapping[str, Any]) -> Check:
    path = ".".join(_path(name))
    evidence = [f"verdict.json: {path if path.startswith('totals.') else f'sections.{path}'}"]
    value, match = figure_named(name, sections), _TEXT.fullmatch(text)
    if match is None:
        return Check(
            id=f"threshold.{name}",
            verdict=Verdict.INCONCLUSIVE,
            claim=f"{text!r} is not a threshold such as '<= 250'",
            evidence=evidence,
        )
    if value is None:
        claim = f"{name} {text.strip()} was declared, but {name} was not measured"
        return Check(id=f"threshold.{name}", verdict=Verdict.INCONCLUSIVE, claim=claim, evidence=evidence)
    holds = _OPERATORS[match["op"]](value, float(match["value"]))
    claim = f"{name} is {value:g}, and had to be {text.strip()}"
    return Check(
        id=f"threshold.{name}", verdict=Verdict.PASS if holds else Verdict.FAIL, claim=claim, evidence=evidence
    )


def _path(name: str) -> tuple[str, ...]:
    known = next((figure.path for figure in FIGURES if figure.name == name), None)
    return known or tuple(name.split("."))


def figure_named(name: str, sections: Mapping[str, Any]) -> float | None:
    """Return a number by the name of a followed figure or by its dotted path; None when there is none there."""
    return number_at(sections, _path(name))
