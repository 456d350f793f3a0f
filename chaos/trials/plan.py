"""The micro-scenario of a fault as a plan that can be run."""

from __future__ import annotations

import tempfile
from pathlib import Path

from chaos.faults import FaultSpec
from chaos.scenario import Plan, load_plan


def plan_for(spec: FaultSpec, *, planted: bool = False) -> Plan:
    """Return the micro-scenario of *spec*, checked as any scenario file is. Raises BadScenario.

    Args:
        planted: It is for a target with a planted bug.
    """
    with tempfile.TemporaryDirectory(prefix="icequake-") as directory:
        path = Path(directory) / f"try-{spec.name}.yaml"
        path.write_text(spec.micro.scenario(spec.name, spec.about, planted=planted), encoding="utf-8")
        return load_plan(path)
