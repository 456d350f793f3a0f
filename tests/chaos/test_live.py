"""What Locust's form says becomes the scenario of a live run."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from chaos.errors import BadInput
from chaos.interrupt import Signalled
from chaos.live import LiveSession, LoadForm, live_plan, with_mode
from chaos.scenario import find_scenario, load_plan
from chaos.target import find_target

FORM = {"events_per_s": 200.0, "batch": 10, "profile": "steady", "seed": 3, "mode": "batch"}


def form(**changes: Any) -> LoadForm:
    return LoadForm(**{**FORM, **changes})


def test_the_forms_load_becomes_the_scenarios_traffic() -> None:
    """What is recorded is what was asked for, and can be read as a scenario again."""
    plan = live_plan(load_plan(find_scenario("live")), form())
    assert (plan.scenario.traffic.events_per_s, plan.scenario.traffic.batch) == (200, 10)
    assert "events_per_s: 200" in plan.text


def test_a_load_or_mode_that_cannot_be_is_one_sentence() -> None:
    """No batch, no events and no such mode are refused before anything is started."""
    plan = load_plan(find_scenario("live"))
    for wrong in ({"batch": 0}, {"events_per_s": 0.0}):
        with pytest.raises(BadInput, match="cannot be sent"):
            live_plan(plan, form(**wrong))
    with pytest.raises(BadInput, match="no mode"):
        with_mode(find_target("reference")[1], "telepathy")


def test_ctrl_c_between_start_and_the_run_ends_both() -> None:
    """The session hears it before the run does; a run that nobody can stop any more must not begin."""
    ui = SimpleNamespace(check=lambda: None)
    session = LiveSession(
        cast(Any, None), stack=cast(Any, None), warden=cast(Any, None), display=cast(Any, None), ui=cast(Any, ui)
    )
    session._check()
    session.serve(lambda: True)

    with pytest.raises(Signalled, match="is to end"):
        session._check()
