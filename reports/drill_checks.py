"""The check `drill.<name>` of every drill in a run's timeline: was the procedure done, and did all it promises hold?"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from reports.verdict import Check, Verdict


def drill_checks(timeline: Iterable[dict[str, Any]]) -> list[Check]:
    """Return one check a drill, in the order in which they began."""
    drills: dict[str, list[dict[str, Any]]] = {}
    for entry in timeline:
        if entry.get("event") == "drill":
            drills.setdefault(str(entry.get("drill")), []).append(entry)
    return [_check(name, entries) for name, entries in drills.items()]


def _check(name: str, entries: list[dict[str, Any]]) -> Check:
    checked = [entry for entry in entries if entry.get("state") == "checked"]
    broken = [entry for entry in checked if entry.get("ok") is not True]
    counts = {"checked": len(checked), "broken": len(broken)}
    evidence = [
        f"{entry.get('check')}: {'holds' if entry.get('ok') is True else 'DOES NOT HOLD'}, {entry.get('detail')}"
        for entry in checked
    ]
    end = next((entry for entry in entries if entry.get("state") in ("done", "failed")), None)
    if end is not None and isinstance(seconds := end.get("seconds"), (int, float)):
        counts["took_ms"] = round(seconds * 1000)

    def verdict(of: Verdict, claim: str, cause: str | None = None) -> Check:
        return Check(id=f"drill.{name}", verdict=of, claim=claim, counts=counts, evidence=evidence, cause=cause)

    if broken:
        first = broken[0]
        return verdict(
            Verdict.FAIL, f"the drill did not do what it promises: {first.get('check')}", str(first.get("detail"))
        )
    if end is None:
        return verdict(Verdict.INCONCLUSIVE, "the drill did not come to its end")
    if end["state"] == "failed":
        return verdict(Verdict.FAIL, "the drill could not be done", str(end.get("reason")))
    if not checked:
        return verdict(Verdict.INCONCLUSIVE, "the drill checked nothing")
    return verdict(Verdict.PASS, "the drill did what it promises")
