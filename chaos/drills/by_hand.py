"""A drill in a live session, followed from another terminal: its steps as they come, and what they come to."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

State = dict[str, Any]
"""What the session shows; see `chaos.live_run.LiveRunner.state`."""
UNDER_WAY = ("armed", "begun")


@dataclass(frozen=True)
class Outcome:
    """What became of a drill.

    Attributes:
        exit_code: 0 every post-condition holds, 1 one does not or the procedure could not be done, 2 it proves nothing,
            255 icequake itself failed in it.
    """

    exit_code: int
    sentence: str


def follow(states: Iterable[State], run_id: str, step: int, say: Callable[[dict[str, Any]], None]) -> Outcome:
    """Read *states* until the drill of *step* has ended.

    Args:
        states: The newest last; they end when the session does.
        run_id: The drill's run; a state of another run says nothing about it.
        say: Given each new line of the drill, as the timeline has it.
    """
    told, last = 0, ""
    for state in states:
        drill = _drill_of(state, run_id, step)
        if drill is None:
            continue
        if last == "" and drill["state"] != "armed":
            say({"event": "drill", "drill": drill["drill"], "state": "begun"})
        for check in drill["checks"][told:]:
            say({"event": "drill", "drill": drill["drill"], "milestone": check["check"], **check})
        told = len(drill["checks"])
        if drill["state"] not in UNDER_WAY:
            say({"event": "drill", **{key: value for key, value in drill.items() if key != "checks"}})
            return outcome_of(drill)
        last = "" if drill["state"] == "armed" else drill["state"]
    return Outcome(2, "the session ended, or no longer shows this run, before the drill came to its end.")


def outcome_of(drill: dict[str, Any]) -> Outcome:
    """Judge a drill that has ended, as the run's verdict does."""
    checks = [check for check in drill["checks"] if check["state"] == "checked"]
    broken = [check["check"] for check in checks if not check["ok"]]
    reason = str(drill.get("reason", "")).rstrip(".")
    match drill["state"]:
        case "done" if broken:
            return Outcome(1, f"{len(broken)} of {len(checks)} post-conditions do not hold: {', '.join(broken)}.")
        case "done" if checks:
            return Outcome(0, f"all {len(checks)} post-conditions hold, after {drill['seconds']:.1f} s.")
        case "done":
            return Outcome(2, "it checked nothing.")
        case "failed":
            return Outcome(1, f"it could not be done: {reason}.")
        case "broken":
            return Outcome(255, f"icequake failed in it: {reason}.")
    return Outcome(2, f"it was not done to its end: {reason}.")


def _drill_of(state: State, run_id: str, step: int) -> dict[str, Any] | None:
    run = state.get("run")
    if run is None or run["id"] != run_id:
        return None
    return next((drill for drill in state["drills"] if drill["step"] == step), None)
