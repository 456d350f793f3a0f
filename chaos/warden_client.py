"""The controller's side of the warden: spawn processes, promise to undo faults, stay alive.

Threads: one reads the warden's answers, one renews the lease. Every method may be called from any thread.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from chaos import undo
from chaos.errors import ProcessFailed, WardenGone
from chaos.warden import DEFAULT_LEASE_S

PACKAGE_ROOT = Path(__file__).resolve().parent.parent
"""The directory that holds our packages: the working directory for ``python -m chaos...``."""

_ANSWER_DEADLINE_S = 30.0


class Child:
    """One process of the run, a child of the warden.

    ``pid`` is also the number of its session and process group.
    """

    def __init__(self, warden: Warden, name: str, pid: int, log: Path) -> None:
        self.name = name
        self.pid = pid
        self.log = log
        self._warden = warden
        self._ended = threading.Event()
        self._status: int | None = None

    def __repr__(self) -> str:
        return f"Child({self.name!r}, pid={self.pid}, status={self._status})"

    def poll(self) -> int | None:
        """Tell the exit status (negative: the signal that ended it), or None while it runs."""
        return self._status

    def wait(self, timeout_s: float | None = None) -> int | None:
        """Wait until it ends; None when it has not within ``timeout_s``."""
        self._ended.wait(timeout_s)
        return self._status

    def signal(self, number: signal.Signals, *, group: bool = False) -> None:
        """Send a signal to it, or to its whole process group; nothing happens when it has ended."""
        self._warden.request("signal", pid=self.pid, signal=int(number), group=group)

    def terminate(self) -> None:
        """Ask it to end (SIGTERM), also when it is stopped; does not wait."""
        self.signal(signal.SIGTERM)
        self.signal(signal.SIGCONT)

    def stop(self, grace_s: float = 10.0) -> int | None:
        """End it with SIGTERM, and with SIGKILL (its group too) when ``grace_s`` is over; returns the exit status."""
        if self._status is None:
            self.terminate()
            if self.wait(grace_s) is None:
                self.kill()
        return self._status

    def kill(self, timeout_s: float = 10.0) -> int | None:
        """End it and its process group with SIGKILL and wait until it is gone; returns the exit status."""
        self.signal(signal.SIGKILL, group=True)
        return self.wait(timeout_s)

    def log_tail(self, size: int = 2000) -> str:
        """Read the last ``size`` bytes of what it wrote."""
        with contextlib.suppress(OSError), self.log.open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - size))
            return log.read().decode(errors="replace")
        return ""

    def ended(self, status: int) -> None:
        """Note that it is gone (called by the warden's reader)."""
        self._status = status
        self._ended.set()


class Undo:
    """The promise to undo one fault, on disk from the moment this object exists.

    As a context manager it plays the entry when the block is left, unless :meth:`done` was called.
    """

    def __init__(self, warden: Warden, entry_id: str) -> None:
        self._warden = warden
        self._id = entry_id
        self._done = False

    def done(self) -> None:
        """Say that the fault was removed by other means, and that this was verified."""
        self._warden.request("undo_done", id=self._id)
        self._done = True

    def play(self, deadline_s: float = 5.0) -> undo.Outcome:
        """Undo now; an entry that fails stays open."""
        if self._done:
            return undo.Outcome(True, "undone before")
        answer = self._warden.request("undo_play", id=self._id, deadline_s=deadline_s)
        self._done = answer["ok"]
        return undo.Outcome(answer["ok"], answer["detail"])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.play()


class Warden:
    """Starts a warden process and speaks to it; everything it started ends with this block.

    ``lease_s`` is how long this process may hang before the warden heals and ends everything. ``log`` receives the
    warden's own complaints. Should the warden end first, requests raise :class:`~chaos.errors.WardenGone`.
    """

    def __init__(self, *, lease_s: float = DEFAULT_LEASE_S, log: Path | None = None) -> None:
        self._lease_s = lease_s
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._pending: dict[int, tuple[Future[dict[str, Any]], tuple[str, Path] | None]] = {}
        self._children: dict[int, Child] = {}
        self._gone = False
        self._closing = threading.Event()
        self._process = _start(log)
        self._reader = threading.Thread(target=self._read, name="warden-reader", daemon=True)
        self._keeper = threading.Thread(target=self._keep_lease, name="warden-lease", daemon=True)
        self._reader.start()
        self.request("lease", ttl_s=lease_s)
        self._keeper.start()

    @property
    def pid(self) -> int:
        """The warden's process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the warden still serves this process."""
        return not self._gone

    def spawn(
        self,
        name: str,
        argv: Sequence[str | os.PathLike[str]],
        *,
        log: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        remove: Sequence[Path] = (),
    ) -> Child:
        """Start a process as the warden's child, its output appended to ``log``.

        ``env`` is its whole environment (default: this process's). ``remove`` are files that it leaves behind; the warden
        deletes them whenever and however it ends. Raises :class:`~chaos.errors.ProcessFailed` when the
        program cannot be started.
        """
        request = {
            "argv": [os.fspath(part) for part in argv],
            "env": dict(os.environ if env is None else env),
            "cwd": str((cwd or Path()).absolute()),  # the warden's own directory is another
            "log": str(log.absolute()),
            "remove": [str(path.absolute()) for path in remove],
        }
        try:
            answer = self._ask("spawn", request, child=(name, log))
        except _Refused as refused:
            raise ProcessFailed(f"{name} could not be started: {refused}") from refused
        return self._children[answer["pid"]]

    def undo(self, entry: undo.Entry, *, secrets: Mapping[str, str] | None = None) -> Undo:
        """Promise to undo a fault that is about to be injected; on disk when this returns.

        ``secrets`` are HTTP headers that the warden keeps in memory and never writes down. Raises
        :class:`~chaos.errors.ProcessFailed` when the journal cannot be written (then do not inject).
        """
        answer = self.request("undo_add", entry=dict(entry), secrets=dict(secrets or {}))
        return Undo(self, answer["id"])

    def heal_all(self, deadline_s: float = 1.0) -> list[dict[str, Any]]:
        """Undo everything that is still open, newest first; each with ``kind``, ``what``, ``ok`` and ``detail``."""
        healed: list[dict[str, Any]] = self.request("undo_all", deadline_s=deadline_s)["healed"]
        return healed

    def use_journal(self, path: Path, run: str) -> None:
        """Write undo entries to this file from now on; those already open stay where they are."""
        self.request("journal", path=str(path.absolute()), run=run)

    def request(self, op: str, **fields: Any) -> dict[str, Any]:
        """Ask the warden (see :mod:`chaos.warden`); raises WardenGone, or ProcessFailed when it says no."""
        try:
            return self._ask(op, fields)
        except _Refused as refused:
            raise ProcessFailed(f"the warden refused to {op.replace('_', ' ')}: {refused}") from refused

    def close(self, grace_s: float = 5.0) -> None:
        """Heal what is open, end every child within ``grace_s`` and the warden itself."""
        if self._closing.is_set():
            return
        self._closing.set()
        with contextlib.suppress(WardenGone):
            self.request("end", grace_s=grace_s)
        try:
            self._process.wait(grace_s + _ANSWER_DEADLINE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()  # its children have the kernel's promise to die with it
            self._process.wait()
        self._reader.join()
        self._keeper.join()
        for pipe in (self._requests, self._answers):
            with contextlib.suppress(OSError):
                pipe.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    # -- the pipe

    @property
    def _requests(self) -> IO[bytes]:
        assert self._process.stdin is not None
        return self._process.stdin

    @property
    def _answers(self) -> IO[bytes]:
        assert self._process.stdout is not None
        return self._process.stdout

    def _ask(self, op: str, fields: dict[str, Any], child: tuple[str, Path] | None = None) -> dict[str, Any]:
        future: Future[dict[str, Any]] = Future()
        with self._lock:
            if self._gone:
                raise self._gone_error()
            number = next(self._numbers)
            self._pending[number] = (future, child)
            line = json.dumps({"n": number, "op": op, **fields}).encode() + b"\n"
            try:
                self._requests.write(line)
                self._requests.flush()
            except OSError as error:
                raise self._gone_error() from error
        try:
            return future.result(_ANSWER_DEADLINE_S)
        except FutureTimeout as error:
            raise WardenGone(f"the warden (pid {self.pid}) did not answer within {_ANSWER_DEADLINE_S:g} s") from error

    def _read(self) -> None:
        for line in self._answers:
            message = json.loads(line)
            if message.get("event") == "exit":
                self._children[message["pid"]].ended(message["status"])
            else:
                self._resolve(message)
        with self._lock:
            self._gone = True
            waiting = list(self._pending.values())
            self._pending.clear()
        for future, _ in waiting:
            future.set_exception(self._gone_error())
        for child in self._children.values():
            if child.poll() is None:
                child.ended(-signal.SIGKILL)

    def _resolve(self, answer: dict[str, Any]) -> None:
        future, child = self._pending.pop(answer["re"])
        if "error" in answer:
            future.set_exception(_Refused(answer["error"]))
            return
        if child is not None:  # here, before the next line is read: that may say it has ended
            self._children[answer["pid"]] = Child(self, child[0], answer["pid"], child[1])
        future.set_result(answer)

    def _keep_lease(self) -> None:
        while not self._closing.wait(self._lease_s / 5):
            try:
                self.request("lease", ttl_s=self._lease_s)
            except (WardenGone, ProcessFailed):
                return

    def _gone_error(self) -> WardenGone:
        return WardenGone(
            f"the warden (pid {self.pid}) is gone: it was ended, or saw no sign of life from this process for"
            f" {self._lease_s:g} s; everything it started was ended and every fault healed"
        )


class _Refused(Exception):
    """The warden answered with an error."""


def _start(log: Path | None) -> subprocess.Popen[bytes]:
    path = os.pathsep.join(filter(None, (str(PACKAGE_ROOT), os.environ.get("PYTHONPATH"))))
    with log.open("ab") if log else open(os.devnull, "ab") as complaints:  # noqa: PTH123 - a device, not a path of ours
        return subprocess.Popen(
            [sys.executable, "-m", "chaos.warden"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=complaints,
            cwd=PACKAGE_ROOT,
            env={**os.environ, "PYTHONPATH": path},
            start_new_session=True,  # a Ctrl-C or a closed terminal reaches us, not it
        )
