"""May this be done to that target? Asked before anything is started."""

from __future__ import annotations

from urllib.parse import urlsplit

from chaos.errors import NotAllowed
from chaos.scenario import Plan
from loadtests.records.target import Target

LOOPBACK = ("127.0.0.1", "localhost", "::1")
HARMLESS = "nothing"
DRILL = "drill"


def refuse(plan: Plan, target: Target) -> None:
    """Raise NotAllowed, in a sentence, when the target does not permit a step of the scenario.

    `allow_faults` of the target file names faults or mechanisms. Where it is missing, everything is permitted on this machine
    and nothing elsewhere.
    """
    allowed = target.allow_faults
    if allowed is None and urlsplit(target.ingest.url).hostname in LOOPBACK:
        return
    for step in plan.steps:
        names = {step.spec.name, step.spec.mechanism}
        if HARMLESS not in names and not names & set(allowed or ()):
            raise NotAllowed(
                f"steps[{step.index}]: the target {target.name} does not permit the fault {step.spec.name}; when it is yours "
                f"to break, list {step.spec.name!r} or its mechanism {step.spec.mechanism!r} under `allow_faults` in its file."
            )
    for one in plan.drills:
        if not {one.drill.name, DRILL} & set(allowed or ()):
            raise NotAllowed(
                f"steps[{one.index}]: the target {target.name} does not permit the drill {one.drill.name}; when it is yours, list "
                f"{one.drill.name!r}, or {DRILL!r} for all of them, under `allow_faults` in its file."
            )
