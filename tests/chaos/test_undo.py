import os
import signal
import subprocess
from pathlib import Path

import pytest

from chaos import undo
from tests.chaos.processes import WAIT_FOREVER, gone, python, recorder, stopped, until


def test_http_sends_what_the_entry_says() -> None:
    """An http entry sends its method, headers and body, and takes 204 as undone."""
    with recorder(204) as server:
        entry = {"kind": "http", "method": "PATCH", "url": f"{server.url}/x", "headers": {"X-A": "b"}, "body": "{}"}
        assert undo.play(entry, 5).ok
    method, path, headers, body = server.seen[0]
    assert (method, path, headers["X-A"], body) == ("PATCH", "/x", "b", b"{}")


@pytest.mark.parametrize(("status", "ok"), [(200, True), (404, True), (403, False), (500, False)])
def test_http_status_decides(status: int, ok: bool) -> None:
    """Gone (404) is as good as deleted; a refusal or a server error is not."""
    with recorder(status) as server:
        assert undo.play({"kind": "http", "method": "DELETE", "url": server.url}, 5).ok is ok


@pytest.mark.parametrize("gone_ok", [True, False])
def test_http_nobody_listens(gone_ok: bool) -> None:
    """When nothing listens, only an entry that says so counts as undone."""
    with recorder() as server:
        url = server.url
    assert undo.play({"kind": "http", "method": "DELETE", "url": url, "gone_ok": gone_ok}, 5).ok is gone_ok


def test_http_ignores_the_environments_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy named in the environment is not asked."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    with recorder() as server:
        assert undo.play({"kind": "http", "method": "DELETE", "url": server.url}, 5).ok


def test_deadline_holds() -> None:
    """A server that never answers costs the deadline and no more."""
    with recorder(hang=True) as server:
        outcome = undo.play({"kind": "http", "method": "DELETE", "url": server.url}, 0.05)
    assert not outcome.ok


def test_signal_resumes_the_very_process() -> None:
    """A signal entry resumes the process it was written for."""
    with subprocess.Popen(python(WAIT_FOREVER)) as process:
        identity = undo.process_identity(process.pid)
        process.send_signal(signal.SIGSTOP)
        until(lambda: stopped(process.pid))
        assert undo.play({"kind": "signal", "pid": process.pid, "identity": identity, "signal": "CONT"}, 5).ok
        until(lambda: not stopped(process.pid))
        process.kill()


def test_signal_spares_a_reused_pid() -> None:
    """A process that merely has the same pid is left alone."""
    with subprocess.Popen(python(WAIT_FOREVER)) as process:
        entry = {"kind": "signal", "pid": process.pid, "identity": "another boot:1", "signal": "KILL"}
        assert undo.play(entry, 5).detail == "the process is gone"
        assert not gone(process.pid, 0.05)
        process.kill()


def test_identity_of_the_dead_is_none() -> None:
    """A process that has ended has no identity, reaped or not."""
    process = subprocess.Popen(python(""))
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert undo.process_identity(process.pid) is None
    process.wait()
    assert undo.process_identity(process.pid) is None


def test_file_removed_and_put_back_twice(tmp_path: Path) -> None:
    """File entries may be played twice."""
    ballast, kept, place = tmp_path / "ballast", tmp_path / "kept", tmp_path / "place"
    ballast.write_text("x")
    kept.write_text("original")
    place.write_text("broken")
    for _ in range(2):
        assert undo.play({"kind": "file", "path": str(ballast)}, 5).ok
        assert undo.play({"kind": "file", "path": str(place), "restore_from": str(kept)}, 5).ok
    assert not ballast.exists()
    assert place.read_text() == "original"


def test_command_exit_code_decides() -> None:
    """A command that fails leaves the entry open, with what it complained about."""
    assert undo.play({"kind": "command", "argv": python("")}, 20).ok
    outcome = undo.play({"kind": "command", "argv": python("raise SystemExit('no grant')")}, 20)
    assert not outcome.ok
    assert "no grant" in outcome.detail


@pytest.mark.parametrize(
    ("entry", "word"),
    [
        ({"kind": "spell"}, "spell"),
        ({"kind": "http", "method": "GET"}, "url"),
        ({"kind": "http", "method": "GET", "url": "file:///etc/passwd"}, "http"),
        ({"kind": "signal", "pid": 1, "identity": "x", "signal": "HUG"}, "HUG"),
    ],
)
def test_entries_that_could_not_be_played_are_refused(entry: dict[str, object], word: str) -> None:
    """An entry that cannot be played later is refused in one sentence, and harmless if played."""
    with pytest.raises(ValueError, match=word):
        undo.check(entry)
    assert not undo.play(entry, 5).ok
