"""The power goes: a real process, watched by the real strace, has on its disk what it had synced; else the step is void."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from chaos.errors import NotPossible
from chaos.faults.env import Env
from chaos.faults.power import PowerCut, PowerInjection
from chaos.warden_client import Warden
from tests.chaos.fakes import FakeSeen
from tests.chaos.processes import python, until

needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")

BEGIN = """
import mmap, os, threading, time
log = os.open(PATH, os.O_RDWR | os.O_CREAT, 0o600)
os.pwrite(log, b"....", 0)
print("begun", flush=True)
def wait_for(name):
    while not os.path.exists(NEXT + name):
        time.sleep(0.01)
wait_for("go")
"""
SYNCS = """
os.pwrite(log, b"synced", 4)
os.fdatasync(log)
os.pwrite(log, b"not synced", 10)
print("written", flush=True)
wait_for("never")
"""
WRITES_ONLY = """
os.pwrite(log, b"not synced", 4)
print("written", flush=True)
wait_for("never")
"""
MAPS = """
os.ftruncate(log, 4096)
os.fdatasync(log)
mmap.mmap(log, 4096)[0:4] = b"mmap"
print("written", flush=True)
wait_for("never")
"""


class Target:
    """A target process as the harness has it."""

    def __init__(self, warden: Warden, code: str, log: Path) -> None:
        self._warden, self._code, self._log = warden, code, log
        self.starts = 0
        self.start()

    def start(self) -> None:
        self.starts += 1
        self.child = self._warden.spawn("target", python(self._code), log=self._log)
        until(lambda: "begun" in self.child.log_tail())

    come_back = start

    @property
    def pid(self) -> int | None:
        return self.child.pid if self.child.poll() is None else None

    def kill(self) -> int | None:
        return self.child.kill()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Callable[[str], Env]]:
    (tmp_path / "data").mkdir()
    (tmp_path / "logs").mkdir()
    with Warden(lease_s=60) as warden:
        warden.use_journal(tmp_path / "journal.jsonl", "run1")

        def env(code: str) -> Env:
            words = f"PATH, NEXT = {str(tmp_path / 'data' / 'log')!r}, {str(tmp_path)!r} + '/'\n"
            target = cast(Any, Target(warden, words + BEGIN + code, tmp_path / "logs" / "target"))
            seen, anything = cast(Any, FakeSeen(disturbed=2)), cast(Any, SimpleNamespace())
            return Env(anything, warden, target, seen, random.Random(7), data_dir=tmp_path / "data", here=tmp_path)

        yield env


def injected(env: Env, tmp_path: Path, spec: PowerCut) -> PowerInjection:
    """The fault is on, and the target has written what it is going to write."""
    try:
        injection = spec.inject(env, "step0-power")
    except NotPossible as error:
        pytest.skip(str(error))
    (tmp_path / "go").touch()
    until(lambda: "written" in cast(Any, env.target).child.log_tail())
    return injection


def after_the_cut(env: Env, tmp_path: Path) -> PowerInjection:
    injection = injected(env, tmp_path, PowerCut(after_s=0.01, down_s=0))
    until(injection.finished)
    return injection


@pytest.mark.integration
@needs_strace
def test_what_was_synced_is_left_and_nothing_else(place: Callable[[str], Env], tmp_path: Path) -> None:
    """And the target is started on it."""
    env = place(SYNCS)
    injection = after_the_cut(env, tmp_path)
    left = (tmp_path / "data" / "log").read_bytes()
    injection.heal()

    effect = injection.effect()
    assert left == b"....synced"
    assert (effect.affected, effect.reason) == (2, None)
    assert effect.measured == {
        "status": -9, "writes": 2, "lost_writes": 1, "files": {"log": {"writes": 2, "lost": 1}}
    }  # fmt: skip
    assert cast(Any, env.target).starts == 2


@pytest.mark.integration
@needs_strace
def test_a_target_that_never_syncs_has_what_it_had_before(place: Callable[[str], Env], tmp_path: Path) -> None:
    """What it wrote before it was watched, the harness synced itself."""
    injection = after_the_cut(place(WRITES_ONLY), tmp_path)

    assert (tmp_path / "data" / "log").read_bytes() == b"...."
    assert injection.effect().measured["lost_writes"] == 1


@pytest.mark.integration
@needs_strace
def test_writes_that_cannot_be_seen_make_the_step_void(place: Callable[[str], Env], tmp_path: Path) -> None:
    """Through shared memory, say: the file is left as it is, since nobody knows what of it was synced."""
    injection = after_the_cut(place(MAPS), tmp_path)

    assert (tmp_path / "data" / "log").read_bytes()[:4] == b"mmap"
    assert "recorded of log does not add up" in (injection.effect().reason or "")


@pytest.mark.integration
@needs_strace
def test_the_power_may_stay(place: Callable[[str], Env], tmp_path: Path) -> None:
    """A step that ends before leaves a target that goes on, watched by nobody, and is void."""
    env = place(SYNCS)
    injection = injected(env, tmp_path, PowerCut(after_s=600))
    injection.heal()

    assert injection.effect().reason == "the step ended before the power was to go"
    assert (cast(Any, env.target).starts, cast(Any, env.target).pid is not None) == (1, True)


def test_a_machine_without_strace_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Void, with a sentence."""
    monkeypatch.setattr(shutil, "which", lambda _: None)
    anything = cast(Any, SimpleNamespace(pid=1))
    with pytest.raises(NotPossible, match="no strace on this machine"):
        PowerCut().inject(Env(anything, anything, anything, anything, random.Random(7)), "a")
