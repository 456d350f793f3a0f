"""What a machine, a bad client or the owner can do: it takes effect, it is counted, and it ends; else its step is void."""

from __future__ import annotations

import random
import shlex
import shutil
import socket
import sqlite3
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from chaos.errors import HealFailed, NotPossible
from chaos.faults.clients import BadClients
from chaos.faults.env import Env
from chaos.faults.hook import OwnersHook
from chaos.faults.host import LockedDatabase, SyscallError
from chaos.journal import open_entries
from chaos.warden_client import Child, Warden
from loadtests.records.target import Hook
from tests.chaos.fakes import FakeSeen
from tests.chaos.processes import python, until

WRITES = """
import os, time
fd = os.open(PATH, os.O_RDWR | os.O_CREAT)
while True:
    try:
        os.pwrite(fd, b"x", 0)
        os.fdatasync(fd)
        print("good", flush=True)
    except OSError as error:
        print(error.errno, flush=True)
    time.sleep(0.01)
"""
FULL = SyscallError(calls=["pwrite64"], error="ENOSPC", files="*.sqlite3*")


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Env]:
    (tmp_path / "data").mkdir()
    (tmp_path / "logs").mkdir()
    with Warden(lease_s=60) as warden:
        warden.use_journal(tmp_path / "journal.jsonl", "run1")
        seen = cast(Any, FakeSeen(on_path=5, disturbed=2))
        anything = cast(Any, SimpleNamespace())
        target = cast(Any, SimpleNamespace(pid=None, ready=lambda: True))
        yield Env(anything, warden, target, seen, random.Random(7), data_dir=tmp_path / "data", here=tmp_path)


def writer(place: Env, tmp_path: Path) -> Child:
    path = place.data_dir / "buffer.sqlite3"
    child = place.warden.spawn(
        "target", python(WRITES.replace("PATH", repr(str(path)))), log=tmp_path / "logs" / "writer"
    )
    until(lambda: "good" in child.log_tail())
    cast(Any, place.target).pid = child.pid
    return child


@pytest.mark.integration
@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
def test_system_calls_fail_while_the_fault_is_on_and_no_longer(place: Env, tmp_path: Path) -> None:
    """A running process gets the error on its own files, and writes again afterwards."""
    child = writer(place, tmp_path)
    try:
        injection = FULL.inject(place, "step0-full")
    except NotPossible as error:
        pytest.skip(str(error))
    until(lambda: child.log_tail().endswith("28\n"))
    assert not injection.finished()
    injection.heal()
    until(lambda: child.log_tail().endswith("good\n"))

    effect = injection.effect()
    assert (effect.reason, effect.measured["error"]) == (None, "ENOSPC")
    assert effect.affected >= 1


@pytest.mark.integration
@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
def test_a_target_that_is_not_ready_afterwards_is_started_again(place: Env, tmp_path: Path) -> None:
    """As a supervisor would: one that failed for good says so, and loses nothing by it."""
    writer(place, tmp_path)
    log: list[str] = []
    target = cast(Any, place.target)
    target.ready, target.stop, target.come_back = (
        (lambda: False),
        (lambda _: log.append("stop")),
        lambda: log.append("start"),
    )
    try:
        injection = FULL.inject(place, "step0-full")
    except NotPossible as error:
        pytest.skip(str(error))
    injection.heal()

    assert log == ["stop", "start"]
    assert injection.effect().measured["restarted"] is True


@pytest.mark.parametrize("pid", [None, 1])
def test_a_target_without_such_files_is_left_alone(
    place: Env, pid: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is nothing that could fail, and the sentence says so."""
    monkeypatch.setattr(shutil, "which", lambda _: "/bin/strace")
    cast(Any, place.target).pid = pid
    with pytest.raises(NotPossible, match="does not run, or has no file"):
        FULL.inject(place, "a")


def test_a_machine_without_strace_is_said(place: Env, monkeypatch: pytest.MonkeyPatch) -> None:
    """Void, with a sentence."""
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(NotPossible, match="no strace on this machine"):
        FULL.inject(place, "a")


@pytest.mark.integration
def test_a_locked_database_takes_no_writes_until_it_is_healed(place: Env) -> None:
    """The lock is real, and gone with its holder."""
    with sqlite3.connect(place.data_dir / "buffer.sqlite3") as database:
        database.execute("CREATE TABLE t (n)")
    database.close()

    def write() -> None:
        mine = sqlite3.connect(place.data_dir / "buffer.sqlite3", timeout=0)
        try:
            mine.execute("BEGIN IMMEDIATE")
        finally:
            mine.close()

    injection = LockedDatabase().inject(place, "a")
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        write()
    injection.heal()
    write()
    assert (injection.effect().affected, injection.effect().reason) == (5, None)


def test_without_a_database_there_is_nothing_to_lock(place: Env) -> None:
    """Void, with the pattern that found nothing."""
    with pytest.raises(NotPossible, match=r"no file \*\.sqlite3"):
        LockedDatabase().inject(place, "a")


@pytest.fixture
def door() -> Iterator[tuple[str, list[bytes]]]:
    """A server that takes every connection, and keeps what the first sent; it closes those that end."""
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:

        def serve() -> None:
            while True:
                try:
                    client, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=hear, args=(client,), daemon=True).start()

        def hear(client: socket.socket) -> None:
            with client:
                while data := client.recv(4096):
                    heard.append(data)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", heard
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.mark.integration
@pytest.mark.parametrize(("do", "cut"), [("slow-loris", 0), ("half-closed", 5), ("idle", 0)])
def test_bad_clients_connect_and_are_counted(place: Env, door: tuple[str, list[bytes]], do: Any, cut: int) -> None:
    """All of them get in; this server cuts only those that closed their side; at the end none is left."""
    env = replace(place, stack=cast(Any, SimpleNamespace(addresses=SimpleNamespace(ingest_faulted=door[0]))))
    injection = BadClients(do=do, connections=5).inject(env, "a")
    if cut:
        until(lambda: injection.finished() or injection.effect().measured["cut"] == cut)
    injection.finished()
    if do == "slow-loris":
        until(lambda: len(door[1]) >= 5)
    injection.heal()

    effect = injection.effect()
    assert (effect.measured["connections"], effect.measured["cut"]) == (5, cut)
    assert (effect.affected, effect.reason) == (5, None)


def test_bad_clients_that_nobody_lets_in_are_void(place: Env) -> None:
    """Nothing listens there."""
    env = replace(
        place, stack=cast(Any, SimpleNamespace(addresses=SimpleNamespace(ingest_faulted="http://127.0.0.1:1")))
    )
    injection = BadClients(do="idle", connections=4).inject(env, "a")
    injection.heal()
    assert injection.effect().reason == "only 0 of 4 connections were accepted"


def hook(tmp_path: Path, **changes: str) -> dict[str, Hook]:
    """A permission that is a file: `inject` removes it, `heal` brings it back, `probe` looks for it."""
    (tmp_path / "permission").touch()
    run = shlex.join([sys.executable, "-S", "-c"])
    commands = {
        "inject": f"{run} 'import os; os.remove(\"permission\")'",
        "heal": f'{run} \'open("permission", "a").close()\'',
        "probe": f"{run} 'import os, sys; sys.exit(not os.path.exists(\"permission\"))'",
    }
    return {"permission": Hook(**{**commands, **changes})}


@pytest.mark.integration
def test_an_owners_hook_is_journaled_run_probed_and_undone(place: Env, tmp_path: Path) -> None:
    """In the directory of the target file; the probe decides whether it took effect."""
    env = replace(place, hooks=hook(tmp_path))
    injection = OwnersHook(hook="permission").inject(env, "a")
    assert not (tmp_path / "permission").exists()
    assert [entry["kind"] for entry in open_entries(tmp_path / "journal.jsonl").values() if "argv" in entry].count(
        "command"
    ) == 1
    injection.heal()
    assert (tmp_path / "permission").exists()
    effect = injection.effect()
    assert (effect.affected, effect.reason) == (15, None)


@pytest.mark.integration
@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"inject": "true"}, "the probe of hook permission was content while it was on"),
        ({"inject": "false"}, "`inject` of hook permission ended with status 1"),
        ({"inject": "/no/such/program"}, "`inject` of hook permission ended with status 255"),
        ({"probe": "false"}, "the probe of hook permission fails already"),
    ],
)
def test_a_hook_that_shows_no_effect_is_void(place: Env, tmp_path: Path, changes: dict[str, str], reason: str) -> None:
    """It is undone all the same."""
    env = replace(place, hooks=hook(tmp_path, **changes))
    try:
        injection = OwnersHook(hook="permission").inject(env, "a")
        injection.heal()
        said = injection.effect().reason or ""
    except NotPossible as error:
        said = str(error)
    assert said.startswith(reason)
    assert (tmp_path / "permission").exists()


@pytest.mark.integration
def test_a_hook_whose_heal_does_not_heal_is_an_error(place: Env, tmp_path: Path) -> None:
    """The probe goes on failing; the person learns that it has to be done by hand."""
    env = replace(place, hooks=hook(tmp_path, heal="true"))
    injection = OwnersHook(hook="permission", heals_within_s=0).inject(env, "a")
    with pytest.raises(HealFailed, match="still fails 0 s after `heal`"):
        injection.heal()


@pytest.mark.integration
def test_a_hook_may_name_the_process_of_the_target(place: Env, tmp_path: Path) -> None:
    """Of a target that icequake runs; with any other the step is void."""
    hooks = hook(tmp_path, inject="sh -c 'rm permission; echo {pid} > told'")
    target = cast(Any, SimpleNamespace(pid=4711))
    OwnersHook(hook="permission").inject(replace(place, hooks=hooks, target=target), "a").heal()
    assert (tmp_path / "told").read_text() == "4711\n"
    with pytest.raises(NotPossible, match="which icequake does not run"):
        OwnersHook(hook="permission").inject(replace(place, hooks=hooks, target=None), "b")


def test_a_hook_that_the_target_file_lacks_is_void(place: Env) -> None:
    """With the names that it has."""
    with pytest.raises(NotPossible, match="no hook 'moon'; it has none"):
        OwnersHook(hook="moon").inject(place, "a")
