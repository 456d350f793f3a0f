"""Operators who flush at the same time: it takes effect, it is counted, and it ends; else its step is void."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from chaos.errors import ChaosError, NotPossible
from chaos.faults import flushes
from chaos.faults.env import Env
from chaos.faults.flushes import ConcurrentFlushes

PATIENCE_S = 30.0


def place(flush: Callable[[], object] | None) -> Env:
    anything = cast(Any, SimpleNamespace())
    return Env(anything, anything, None, anything, random.Random(7), flush=flush)


class Together:
    """A listener that answers nobody until so many have asked."""

    def __init__(self, at_once: int) -> None:
        self._barrier = threading.Barrier(at_once)
        self.met = threading.Event()

    def __call__(self) -> object:
        self._barrier.wait(PATIENCE_S)
        self.met.set()
        return {}


def test_flushes_are_asked_for_at_the_same_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them are under way before the first is answered; each answer counts."""
    monkeypatch.setattr(flushes, "LAST_ANSWERS_S", PATIENCE_S)
    listener = Together(5)
    injection = ConcurrentFlushes(at_once=5, every_s=60).inject(place(listener), "step-0")

    assert listener.met.wait(PATIENCE_S)
    assert not injection.finished()
    injection.heal()
    effect = injection.effect()
    assert (effect.affected, effect.reason) == (5, None)
    assert effect.measured == {"answered": 5, "failed": 0, "most_at_once": 5}


def test_a_target_that_refuses_every_flush_makes_the_step_void(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing was flushed at the same time as anything."""
    monkeypatch.setattr(flushes, "LAST_ANSWERS_S", PATIENCE_S)
    asked = threading.Event()

    def refuse() -> object:
        asked.set()
        raise ChaosError("no.")

    injection = ConcurrentFlushes(at_once=2, every_s=60).inject(place(refuse), "step-0")
    assert asked.wait(PATIENCE_S)
    injection.heal()

    assert injection.effect().reason == "no flush was answered with a success"


def test_without_an_admin_listener_nobody_can_ask() -> None:
    """The step is void, with a sentence."""
    with pytest.raises(NotPossible, match="no `admin` listener"):
        ConcurrentFlushes().inject(place(None), "step-0")
