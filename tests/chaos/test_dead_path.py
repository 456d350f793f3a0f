"""What a dead path did is told from records; what left no record is said to be not counted, never guessed."""

from __future__ import annotations

import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from chaos.errors import ChaosError, ControlHung, NotPossible, ServerGone
from chaos.faults.dead_path import on_dead_path
from chaos.faults.env import Env, Injection
from chaos.faults.http import GatewayRule
from chaos.faults.nothing import Nothing
from chaos.faults.probe import PATHS
from chaos.faults.server import KillServer, paths_of
from chaos.requests_seen import RequestsSeen
from chaos.stack.moto import Moto
from chaos.stack.seaweedfs import SeaweedFS
from tests.chaos.fakes import FakePipeline, FakeSeen, gateway_log, make_run
from tests.chaos.fakes import env as fake_env

MS = 1_000_000


@pytest.mark.parametrize(
    ("lines", "affected", "void"),
    [
        ([{"t_ns": 950 * MS, "ms": 100}, {"t_ns": 500 * MS, "ms": 10}], 1, False),  # one was open when it began
        ([{"t_ns": 500 * MS, "ms": 10}, {"t_ns": 600 * MS, "ms": 10}], None, False),  # then silence
        ([{"t_ns": 2500 * MS, "ms": 10}], 0, True),  # nobody asked before it was over
        ([], 0, True),
    ],
    ids=["open", "silence", "later only", "nothing"],
)
def test_only_recorded_requests_are_counted(
    tmp_path: Path, lines: list[dict[str, Any]], affected: int | None, void: bool
) -> None:
    """A dead path from 1 s to 2 s: what was open is counted, silence after use is not, and a target that asks nothing is void."""
    run = make_run(tmp_path)
    gateway_log(run, *lines)
    effect = on_dead_path(RequestsSeen(run), ["catalog"], 1000 * MS, 2000 * MS, {"probe": 1})

    assert (effect.affected, effect.reason is not None) == (affected, void)
    assert effect.measured["probe"] == 1
    assert effect.measured["requests_before"] == sum(line["t_ns"] < 1000 * MS for line in lines)


def stack(backend: Any, **more: Any) -> Any:
    return SimpleNamespace(
        name=backend.name,
        owned=True,
        server=lambda role: backend.roles.get(role, role),
        capabilities=lambda: backend.capabilities,
        **more,
    )


@pytest.mark.parametrize(
    ("backend", "who", "paths"),
    [
        (SeaweedFS, "storage", ["r2", "catalog"]),
        (SeaweedFS, "catalog", ["r2", "catalog"]),
        (Moto, "storage", ["r2"]),
        (Moto, "catalog", ["catalog"]),
        (Moto, "gateway", ["r2", "catalog"]),
    ],
)
def test_a_server_takes_its_own_paths_with_it(backend: Any, who: str, paths: list[str]) -> None:
    """One process that plays two roles takes both."""
    assert paths_of(stack(backend), who) == paths


def test_a_storage_that_is_memory_is_not_killed() -> None:
    """All acknowledged events would go with it, which would say nothing about the target."""
    env = Env(stack(Moto), cast(Any, None), cast(Any, None), cast(Any, FakeSeen()), random.Random(7))
    with pytest.raises(NotPossible, match="the storage of the moto stack is memory"):
        KillServer(who="storage").inject(env, "a")


def test_what_a_rule_did_before_its_gateway_died_is_not_forgotten() -> None:
    """The new gateway has no counters of it."""
    pipeline = FakePipeline(counters={"applied": 3, "passed": 1})
    action = {"do": "refuse", "answer": {"answer": "status", "status": 503}}
    injection = GatewayRule(match={"upstream": "r2"}, action=action).inject(fake_env(pipeline), "a")
    assert not injection.finished()
    pipeline.counters = {}
    pipeline.listed = {}

    assert (injection.effect().affected, injection.effect().escaped) == (3, 1)


def test_nothing_measures_every_path() -> None:
    """It is what the measurements of other faults are compared with, so it takes the same way."""
    injection = Nothing().inject(fake_env(seen=FakeSeen(on_path=4)), "a")
    injection.heal()
    effect = injection.effect()

    assert (effect.affected, effect.escaped, effect.reason) == (0, 12, None)
    probes = {f"probe_ms_{path}_{when}" for path in PATHS for when in ("before", "during", "after")}
    assert probes <= effect.measured.keys()


class Troubled(FakePipeline):
    """A gateway that fails when a rule is to be deleted."""

    def __init__(self, error: ChaosError, *, owned: bool = True) -> None:
        super().__init__(counters={"applied": 3})
        self._error, self.owned = error, owned

    def delete_rule(self, rule_id: str) -> None:
        raise self._error

    def replace(self, name: str) -> None:
        self.log.append(f"replace {name}")


def a_rule(pipeline: FakePipeline) -> Injection:
    action = {"do": "refuse", "answer": {"answer": "status", "status": 503}}
    return GatewayRule(match={"upstream": "r2"}, action=action).inject(fake_env(pipeline), "a")


@pytest.mark.parametrize(
    ("error", "log"),
    [
        (ServerGone("nothing listens"), ["undo done"]),
        (ControlHung("no answer"), ["replace gateway", "undo done"]),
    ],
)
def test_a_rule_ends_with_its_gateway(error: ChaosError, log: list[str]) -> None:
    """One that has ended took its rules along; one that hangs is replaced. What had been counted stands."""
    pipeline = Troubled(error)
    injection = a_rule(pipeline)
    injection.finished()
    injection.heal()

    assert pipeline.log[-len(log) :] == log
    assert injection.effect().affected == 3


def test_a_hung_gateway_of_somebody_else_is_a_failure() -> None:
    """`icequake up` keeps it, so its rules cannot be shown to be gone."""
    injection = a_rule(Troubled(ControlHung("no answer"), owned=False))
    with pytest.raises(ControlHung, match="no answer"):
        injection.heal()
