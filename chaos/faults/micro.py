"""The smallest scenario that shows one fault: a few seconds of it, on a stack that is up already."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import yaml
from msgspec import Meta, Struct, field

from loadtests.records.target import Hook

Seconds = Annotated[float, Meta(gt=0, le=600)]


class Micro(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename={"params": "with"}):
    """What the micro-scenario of a fault needs beyond the ordinary.

    Attributes:
        tier: `quick` faults are tried often; `nightly` ones take longer, or need what not every machine has.
        stack: The only stack on which it takes effect; None: any.
        for_s: How long the fault lasts.
        settle_s: How long the target may take afterwards.
        planted_settle_s: The same for a target with a planted bug: what that lost never comes, so its trial takes all this time.
        traffic: What differs from 200 events/s in requests of 20.
        env: Environment of the target, beside a flush every half second.
        params: Parameters that make the fault short.
        hooks: Owner's commands for a target file that has none of that name.
        beside: Faults that are on at the same time, because they make the target do what this one is about.
    """

    tier: Literal["quick", "nightly"] = "quick"
    stack: Literal["seaweedfs", "moto"] | None = None
    for_s: Seconds = 3
    settle_s: Seconds = 20
    planted_settle_s: Seconds = 6
    traffic: dict[str, Any] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)
    params: dict[str, Any] = field(default_factory=dict)
    hooks: dict[str, Hook] = field(default_factory=dict)
    beside: list[str] = field(default_factory=list)

    def scenario(self, fault: str, about: str, *, planted: bool = False) -> str:
        """Return the scenario as YAML; traffic outlasts the fault by a second.

        Args:
            planted: It is for a target with a planted bug, which has its own time to settle.
        """
        when = {"at_s": 0.5, "for_s": self.for_s}
        step: dict[str, Any] = {"fault": fault, **when}
        if self.params:
            step["with"] = self.params
        return yaml.safe_dump(
            {
                "name": f"try-{fault}",
                "question": f"Is every acknowledged event in the table exactly once although {about}?",
                "traffic": {"events_per_s": 200, "batch": 20, "for_s": self.for_s + 1.5, **self.traffic},
                "baseline_s": 1.5,
                "settle_s": self.planted_settle_s if planted else self.settle_s,
                "env": {"ICEBERG_BUFFER_TIMEOUT_MS": "500", **self.env},
                "steps": [step, *({"fault": other, **when} for other in self.beside)],
            },
            sort_keys=False,
        )
