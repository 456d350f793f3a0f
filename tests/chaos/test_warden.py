import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from chaos.errors import ProcessFailed, WardenGone
from chaos.journal import open_entries
from chaos.warden_client import PACKAGE_ROOT, Warden
from tests.chaos.processes import (
    DEAF,
    PATIENCE_S,
    PROMPT_S,
    WAIT_FOREVER,
    RawWarden,
    all_gone,
    first_line,
    gone,
    python,
    recorder,
    stopped,
    until,
)

ORPHAN = """
import os, signal
if os.fork() == 0:
    os.setsid()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print(os.getpid(), flush=True)
signal.pause()
"""
LEAVES_A_WORKER = """
import os, signal
read, write = os.pipe()
if os.fork() == 0:
    print(os.getpid(), flush=True)
    os.write(write, b"x")
    signal.pause()
os.read(read, 1)
"""
CONTROLLER = """
import sys
from pathlib import Path
from chaos.warden_client import Warden
home = Path(sys.argv[1])
warden = Warden(lease_s=float(sys.argv[2]))
warden.use_journal(home / "journal.jsonl", "run1")
child = warden.spawn("child", [sys.executable, "-S", "-c", (home / "orphan.py").read_text()], log=home / "child.log")
warden.undo({"kind": "file", "path": str(home / "fault")})
(home / "fault").touch()
print(warden.pid, child.pid, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def raw() -> Iterator[RawWarden]:
    warden = RawWarden()
    yield warden
    warden.close()


@pytest.fixture
def warden(tmp_path: Path) -> Iterator[Warden]:
    with Warden(lease_s=60, log=tmp_path / "warden.log") as warden:
        yield warden
    assert (tmp_path / "warden.log").read_text() == ""


# -- the controller falls silent


def test_eof_ends_every_child(raw: RawWarden, tmp_path: Path) -> None:
    """When the pipe closes, children end and then the warden, promptly."""
    children = [raw.spawn(WAIT_FOREVER, tmp_path / "log") for _ in range(3)]
    raw.fall_silent()
    assert all_gone([*children, raw.process.pid], PROMPT_S)


def test_eof_undoes_newest_first(raw: RawWarden, tmp_path: Path) -> None:
    """Open entries are played in reverse order, those already done are not."""
    notes = tmp_path / "notes"
    ids = [
        raw.ask("undo_add", entry={"kind": "command", "argv": ["sh", "-c", f"echo {n} >> {notes}"]})["id"]
        for n in range(4)
    ]
    raw.ask("undo_done", id=ids[1])
    raw.fall_silent()
    assert raw.process.wait(PATIENCE_S) == 0
    assert notes.read_text().split() == ["3", "2", "0"]


def test_lease_run_out_heals_and_ends(raw: RawWarden, tmp_path: Path) -> None:
    """A controller that keeps the pipe open and says nothing is given up when its lease is over."""
    child = raw.spawn(WAIT_FOREVER, tmp_path / "log")
    (tmp_path / "fault").touch()
    raw.ask("undo_add", entry={"kind": "file", "path": str(tmp_path / "fault")})
    raw.ask("lease", ttl_s=0.2)
    assert all_gone([child, raw.process.pid], 0.2 + PROMPT_S)
    assert not (tmp_path / "fault").exists()


def test_orphaned_grandchildren_are_ended(raw: RawWarden, tmp_path: Path) -> None:
    """A grandchild in a session of its own, whose parent is gone, is found and ended, deaf as it is."""
    child = raw.spawn(ORPHAN, tmp_path / "log")
    grandchild = int(first_line(tmp_path / "log"))
    raw.ask("signal", pid=child, signal=signal.SIGKILL, group=False)
    assert gone(child)
    assert not gone(grandchild, 0.01)
    raw.fall_silent()
    assert all_gone([grandchild, raw.process.pid], PROMPT_S)


def test_deaf_and_stopped_children_are_ended(raw: RawWarden, tmp_path: Path) -> None:
    """Neither ignoring SIGTERM nor being stopped keeps a child alive."""
    deaf, frozen = raw.spawn(DEAF, tmp_path / "deaf"), raw.spawn(WAIT_FOREVER, tmp_path / "frozen")
    first_line(tmp_path / "deaf")
    raw.ask("signal", pid=frozen, signal=signal.SIGSTOP, group=False)
    until(lambda: stopped(frozen))
    raw.fall_silent()
    assert all_gone([deaf, frozen, raw.process.pid], PROMPT_S)


def test_a_hung_undo_neither_blocks_the_others_nor_is_forgotten(raw: RawWarden, tmp_path: Path) -> None:
    """An entry whose server never answers costs its deadline; the rest is undone, and it stays in the journal."""
    raw.ask("journal", path=str(tmp_path / "journal.jsonl"), run="run1")
    (tmp_path / "fault").touch()
    raw.ask("undo_add", entry={"kind": "file", "path": str(tmp_path / "fault")})
    child = raw.spawn(WAIT_FOREVER, tmp_path / "log")
    with recorder(hang=True) as server:
        raw.ask("undo_add", entry={"kind": "http", "method": "DELETE", "url": server.url})
        raw.fall_silent()
        assert gone(child, PROMPT_S)
        assert raw.process.wait(PATIENCE_S) == 0
    assert not (tmp_path / "fault").exists()
    assert [each["kind"] for each in open_entries(tmp_path / "journal.jsonl").values()] == ["http"]


def test_nonsense_on_the_pipe_still_heals(raw: RawWarden, tmp_path: Path) -> None:
    """A request that is not JSON ends the warden, and it heals on its way out."""
    child = raw.spawn(WAIT_FOREVER, tmp_path / "log")
    raw.requests.write(b"nonsense\n")
    raw.requests.flush()
    assert all_gone([child, raw.process.pid], PROMPT_S)


def test_the_terminals_signals_do_not_reach_it(raw: RawWarden, tmp_path: Path) -> None:
    """SIGINT, SIGHUP and SIGTSTP leave the warden serving, and its children can still be interrupted."""
    raw.ask("lease", ttl_s=60)  # it answers, so it has prepared itself
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTSTP):
        raw.process.send_signal(number)
    code = "import signal; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler, flush=True)"
    raw.spawn(code, tmp_path / "log")
    assert first_line(tmp_path / "log") == "True"


@pytest.mark.parametrize(("blow", "lease_s"), [(signal.SIGKILL, 60.0), (signal.SIGSTOP, 1.0)])
@pytest.mark.integration
def test_a_controller_killed_or_frozen_leaves_nothing(tmp_path: Path, blow: signal.Signals, lease_s: float) -> None:
    """After kill -9 (or kill -STOP and the lease) of a real controller no process is left, no fault, no open entry."""
    (tmp_path / "orphan.py").write_text(ORPHAN)
    controller = subprocess.Popen(
        [sys.executable, "-c", CONTROLLER, str(tmp_path), str(lease_s)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(PACKAGE_ROOT)},
    )
    with controller:
        assert controller.stdout
        pids = [int(pid) for pid in controller.stdout.readline().split()]
        pids.append(int(first_line(tmp_path / "child.log")))
        controller.send_signal(blow)
        assert all_gone(pids, lease_s + PROMPT_S if blow is signal.SIGSTOP else PROMPT_S)
        controller.kill()
    assert not (tmp_path / "fault").exists()
    assert open_entries(tmp_path / "journal.jsonl") == {}


# -- children


def test_exit_status_is_told(warden: Warden, tmp_path: Path) -> None:
    """Exit codes and signals are told as subprocess does, and output is in the log."""
    child = warden.spawn("three", python("print('hi', flush=True); raise SystemExit(3)"), log=tmp_path / "log")
    assert child.wait(PATIENCE_S) == 3
    assert child.log_tail() == "hi\n"
    assert warden.spawn("pause", python(WAIT_FOREVER), log=tmp_path / "log").stop() == -signal.SIGTERM


def test_stop_escalates(warden: Warden, tmp_path: Path) -> None:
    """A child that ignores SIGTERM is killed when its grace is over."""
    child = warden.spawn("deaf", python(DEAF), log=tmp_path / "log")
    first_line(tmp_path / "log")
    assert child.stop(grace_s=0.05) == -signal.SIGKILL


def test_stop_reaches_a_frozen_child(warden: Warden, tmp_path: Path) -> None:
    """A stopped child ends on SIGTERM all the same."""
    child = warden.spawn("frozen", python(WAIT_FOREVER), log=tmp_path / "log")
    child.signal(signal.SIGSTOP)
    until(lambda: stopped(child.pid))
    assert child.stop() == -signal.SIGTERM


def test_a_group_ends_with_its_leader(warden: Warden, tmp_path: Path) -> None:
    """Workers that a dead leader leaves behind do not keep its port."""
    child = warden.spawn("leader", python(LEAVES_A_WORKER), log=tmp_path / "log")
    assert child.wait(PATIENCE_S) == 0
    assert gone(int(first_line(tmp_path / "log")))


def test_files_left_behind_are_removed(warden: Warden, tmp_path: Path) -> None:
    """However a child ends, what it would leave behind is deleted."""
    leftover = tmp_path / "socket"
    leftover.touch()
    warden.spawn("x", python(WAIT_FOREVER), log=tmp_path / "log", remove=[leftover]).kill()
    assert not leftover.exists()


def test_paths_are_those_of_who_asks(warden: Warden, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run directory below the present directory is found there, wherever the warden was started."""
    (tmp_path / "here").mkdir()
    (tmp_path / "left").touch()
    monkeypatch.chdir(tmp_path)
    warden.use_journal(Path("journal.jsonl"), "run1")
    child = warden.spawn(
        "child", python("import os; print(os.getcwd())"), log=Path("child.log"), cwd=Path("here"), remove=[Path("left")]
    )
    assert child.wait(PATIENCE_S) == 0
    until(lambda: not (tmp_path / "left").exists())
    assert (tmp_path / "child.log").read_text().strip() == str(tmp_path / "here")
    assert (tmp_path / "journal.jsonl").is_file()


def test_signalling_the_dead_is_fine(warden: Warden, tmp_path: Path) -> None:
    """A signal to a child that has ended goes nowhere, not to a process that got its pid."""
    child = warden.spawn("x", python(""), log=tmp_path / "log")
    assert child.wait(PATIENCE_S) == 0
    child.signal(signal.SIGKILL)
    assert child.kill() == 0


def test_a_missing_program_is_one_sentence(warden: Warden, tmp_path: Path) -> None:
    """A program that cannot be started is named."""
    with pytest.raises(ProcessFailed, match=r"tool could not be started: .*no-such-program"):
        warden.spawn("tool", ["no-such-program"], log=tmp_path / "log")


def test_environment_is_what_was_given(warden: Warden, tmp_path: Path) -> None:
    """A child sees the environment it is given and nothing of ours."""
    child = warden.spawn(
        "env", python("import os; print(sorted(os.environ))"), env={"ONLY": "1"}, cwd=tmp_path, log=tmp_path / "log"
    )
    child.wait(PATIENCE_S)
    assert set(json.loads(child.log_tail().replace("'", '"'))) <= {"ONLY", "LC_CTYPE"}


# -- the warden itself


def test_a_killed_warden_takes_its_children_along(tmp_path: Path) -> None:
    """When the warden is killed, the kernel kills its children, and its client says so."""
    with Warden(lease_s=60) as warden:
        child = warden.spawn("x", python(WAIT_FOREVER), log=tmp_path / "log")
        os.kill(warden.pid, signal.SIGKILL)
        assert child.wait(PATIENCE_S) == -signal.SIGKILL
        assert gone(child.pid)
        assert not warden.alive
        with pytest.raises(WardenGone, match="everything it started was ended"):
            child.signal(signal.SIGTERM)


def test_closing_ends_what_still_runs(tmp_path: Path) -> None:
    """Leaving the block ends children that nobody stopped, and heals what nobody healed."""
    (tmp_path / "fault").touch()
    with Warden() as warden:
        child = warden.spawn("x", python(WAIT_FOREVER), log=tmp_path / "log")
        warden.undo({"kind": "file", "path": str(tmp_path / "fault")})
    assert child.poll() == -signal.SIGTERM
    assert gone(child.pid)
    assert not (tmp_path / "fault").exists()


# -- undo


def test_an_entry_is_on_disk_before_the_promise_is_made(warden: Warden, tmp_path: Path) -> None:
    """Once undo() has returned, the journal has the entry; done() closes it; leaving the block plays it."""
    warden.use_journal(tmp_path / "j", "run1")
    (tmp_path / "fault").touch()
    with warden.undo({"kind": "file", "path": str(tmp_path / "fault")}):
        assert len(open_entries(tmp_path / "j")) == 1
    assert open_entries(tmp_path / "j") == {}
    assert not (tmp_path / "fault").exists()
    promise = warden.undo({"kind": "command", "argv": ["false"]})
    promise.done()
    assert open_entries(tmp_path / "j") == {}
    assert promise.play().detail == "undone before"


def test_secrets_are_used_and_never_written(warden: Warden, tmp_path: Path) -> None:
    """A header given as a secret is sent when undoing, and the journal does not know it."""
    warden.use_journal(tmp_path / "j", "run1")
    with recorder() as server:
        promise = warden.undo(
            {"kind": "http", "method": "DELETE", "url": server.url}, secrets={"Authorization": "Bearer hush"}
        )
        assert promise.play().ok
    assert server.seen[0][2]["Authorization"] == "Bearer hush"
    assert "hush" not in (tmp_path / "j").read_text()


def test_heal_all_reports_each(warden: Warden, tmp_path: Path) -> None:
    """Healing everything tells newest first what was undone and what was not; that stays open."""
    warden.undo({"kind": "file", "path": str(tmp_path / "fault")})
    hopeless = warden.undo({"kind": "command", "argv": ["false"]})
    assert [(each["kind"], each["ok"]) for each in warden.heal_all()] == [("command", False), ("file", True)]
    assert [each["ok"] for each in warden.heal_all()] == [False]
    hopeless.done()


def test_each_run_has_its_own_journal(warden: Warden, tmp_path: Path) -> None:
    """An entry is closed in the journal it was opened in, also when another run has begun."""
    warden.use_journal(tmp_path / "one", "run1")
    first = warden.undo({"kind": "file", "path": str(tmp_path / "x")})
    warden.use_journal(tmp_path / "two", "run2")
    warden.use_journal(tmp_path / "two", "run2")  # again is fine
    warden.undo({"kind": "file", "path": str(tmp_path / "y")}).done()
    assert len(open_entries(tmp_path / "one")) == 1
    first.done()
    assert open_entries(tmp_path / "one") == open_entries(tmp_path / "two") == {}


def test_a_living_child_is_in_the_journal(warden: Warden, tmp_path: Path) -> None:
    """A child is an open entry while it runs, so that heal finds it even if warden and harness were killed at once."""
    warden.use_journal(tmp_path / "j", "run1")
    child = warden.spawn("x", python(WAIT_FOREVER), log=tmp_path / "log")
    assert [each["pid"] for each in open_entries(tmp_path / "j").values()] == [child.pid]
    child.kill()
    assert until(lambda: open_entries(tmp_path / "j") == {})


@pytest.mark.parametrize("entry", [{"kind": "spell"}, {"kind": "http", "method": "GET"}])
def test_an_unplayable_entry_is_refused(warden: Warden, entry: dict[str, str]) -> None:
    """A promise that could not be kept is refused, and the warden goes on."""
    with pytest.raises(ProcessFailed, match="refused to undo add"):
        warden.undo(entry)
    assert warden.alive


def test_a_journal_that_cannot_be_written_is_refused(warden: Warden, tmp_path: Path) -> None:
    """Without a journal on disk there is no promise."""
    with pytest.raises(ProcessFailed, match="No such file or directory"):
        warden.use_journal(tmp_path / "missing" / "j", "run1")
