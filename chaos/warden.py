"""The warden: parent of every process of a run, and the one that heals and reaps when the harness dies.

``python -m chaos.warden`` is started by :class:`chaos.warden_client.Warden` with a pipe on standard input and output. One
JSON object a line goes each way: requests ``{"n", "op", ...}``, answers ``{"re": n, ...}`` or ``{"re": n, "error"}``, and
pushed ``{"event": "exit", "pid", "status"}`` (as in ``subprocess``: a negative status is a signal).

====================  ==================================================================================================
``spawn``             ``argv``, ``env``, ``cwd``, ``log``, ``remove`` -> ``pid``. The child leads a session of its own;
                      its output goes to the end of ``log``; the files ``remove`` are deleted when it has ended
``signal``            ``pid``, ``signal`` (number), ``group`` -> nothing; a child that has ended is no error
``journal``           ``path``, ``run``: where undo entries are written from now on
``undo_add``          ``entry``, ``secrets`` (merged into ``entry["headers"]`` in memory, never written) -> ``id``, after
                      the entry is on disk
``undo_done``         ``id``: undone by other means
``undo_play``         ``id``, ``deadline_s`` -> ``ok``, ``detail``
``undo_all``          ``deadline_s`` -> ``healed``: every open entry, newest first
``lease``             ``ttl_s``: how long the controller may stay silent from now on
``end``               ``grace_s``: heal, end every child, exit
====================  ==================================================================================================

When the pipe closes (the controller died), the lease runs out (it hangs) or SIGTERM comes, the warden plays every open
undo entry, newest first, then ends all descendants: SIGCONT and SIGTERM, a short grace, SIGKILL. On Linux it is the
sub-reaper, so that orphaned grandchildren are found, and children are killed by the kernel should the warden itself be
killed. A child's process group ends with its leader.

Standard library only, apart from the undo entries and their journal, which are so too.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import secrets
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chaos import undo
from chaos.journal import Journal

DEFAULT_LEASE_S = 5.0
ABANDONED_GRACE_S = 0.3
"""How long children get to end by themselves once the controller is gone; all must be over within 2 s."""
KILL_PATIENCE_S = 2.0
"""How long SIGKILL may take: a process in an uninterruptible call dies late."""
HEAL_BUDGET_S = 0.9
"""What all undo entries together may take before the children are ended; the rest is played after that."""
HEAL_EACH_S = 0.4
HEAL_LATE_S = 5.0

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None

Message = dict[str, Any]


@dataclass
class _Open:
    """An undo entry that is not undone, and the journal that holds it."""

    entry: undo.Entry
    journal: Journal | None


@dataclass
class _Child:
    process: subprocess.Popen[bytes]
    journal: Journal | None
    entry_id: str
    remove: list[str]


@dataclass
class _Outbox:
    """Answers waiting to be written; the pipe is never waited for, a hung controller must not hang the warden."""

    fd: int
    waiting: bytearray = field(default_factory=bytearray)

    def put(self, message: Message) -> None:
        self.waiting += json.dumps(message, separators=(",", ":")).encode() + b"\n"
        self.flush()

    def flush(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self.waiting:
                del self.waiting[: os.write(self.fd, self.waiting)]


class Warden:
    """Serves one controller over a pair of pipes, until it goes away."""

    def __init__(self, requests_fd: int, answers_fd: int) -> None:
        self._in = requests_fd
        self._partial = b""
        self._out = _Outbox(answers_fd)
        self._children: dict[int, _Child] = {}
        self._undos: dict[str, _Open] = {}
        self._journal: Journal | None = None
        self._lease_ends = time.monotonic() + DEFAULT_LEASE_S
        self._grace_s = ABANDONED_GRACE_S
        self._serving = True
        self._selector = selectors.DefaultSelector()
        self._ops: dict[str, Callable[[Message], Message]] = {
            "spawn": self._spawn,
            "signal": self._signal,
            "journal": self._use_journal,
            "undo_add": self._undo_add,
            "undo_done": self._undo_done,
            "undo_play": self._undo_play,
            "undo_all": self._undo_all,
            "lease": self._lease,
            "end": self._end,
        }

    def serve(self) -> None:
        """Answer requests until the controller is gone, hangs or says ``end``; then heal and end everything."""
        wake = _prepare_signals(self._on_terminate)
        for fd in (self._in, self._out.fd):
            os.set_blocking(fd, False)
        self._selector.register(self._in, selectors.EVENT_READ)
        self._selector.register(wake, selectors.EVENT_READ)
        try:
            with contextlib.suppress(BrokenPipeError):
                while self._serving:
                    self._turn(wake)
        finally:
            self._heal(HEAL_EACH_S, HEAL_BUDGET_S)
            self._end_descendants(wake, signal.SIGTERM, self._grace_s)
            self._end_descendants(wake, signal.SIGKILL, KILL_PATIENCE_S)
            self._heal(HEAL_LATE_S, HEAL_LATE_S * len(self._undos))

    def _turn(self, wake: int) -> None:
        self._out.flush()
        patience_s = max(0.0, self._lease_ends - time.monotonic())
        ready = {key.fd for key, _ in self._selector.select(min(patience_s, 0.05 if self._out.waiting else patience_s))}
        if wake in ready:
            _drain(wake)
            self._reap()
        if self._in in ready:
            self._read()
        elif time.monotonic() >= self._lease_ends:
            self._serving = False

    def _on_terminate(self) -> None:
        self._serving = False

    def _read(self) -> None:
        block = os.read(self._in, 1 << 16)
        self._serving = self._serving and bool(block)
        *lines, self._partial = (self._partial + block).split(b"\n")
        for line in lines:
            self._answer(json.loads(line))

    def _answer(self, request: Message) -> None:
        try:
            answer = self._ops[request["op"]](request)
        except (OSError, ValueError, KeyError, subprocess.SubprocessError) as error:
            answer = {"error": str(error) if isinstance(error, (OSError, ValueError)) else repr(error)}
        if "n" in request:
            self._out.put({"re": request["n"], **answer})

    # -- children

    def _spawn(self, request: Message) -> Message:
        log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            process = subprocess.Popen(
                request["argv"],
                env=request["env"],
                cwd=request["cwd"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=_die_with(os.getpid()),  # safe: this process has one thread when it spawns
            )
        finally:
            os.close(log)
        self._children[process.pid] = _Child(process, self._journal, self._note_child(process.pid), request["remove"])
        return {"pid": process.pid}

    def _note_child(self, pid: int) -> str:
        """Journal the child, so that ``heal`` finds what even the kernel did not end with a killed warden."""
        entry_id = _new_id()
        if self._journal is not None:
            identity = undo.process_identity(pid) or "ended"
            entry = {"kind": "signal", "pid": pid, "identity": identity, "signal": "KILL", "group": True}
            self._journal.add(entry_id, entry, durable=False)  # processes do not survive a power cut
        return entry_id

    def _signal(self, request: Message) -> Message:
        pid = request["pid"]
        if pid in self._children:  # not reaped, so the pid is still this child's
            with contextlib.suppress(ProcessLookupError):
                (os.killpg if request["group"] else os.kill)(pid, request["signal"])
        return {}

    def _reap(self) -> None:
        for pid, status in _ended():
            child = self._children.pop(pid, None)
            if child is None:
                continue  # an orphan that fell to us
            child.process.returncode = status
            for path in child.remove:
                with contextlib.suppress(OSError):
                    Path(path).unlink(missing_ok=True)
            if child.journal is not None:
                self._mark_done(child.journal, child.entry_id, f"ended with {status}")
            with contextlib.suppress(BrokenPipeError):  # the controller is gone while its children are being ended
                self._out.put({"event": "exit", "pid": pid, "status": status})

    def _end_descendants(self, wake: int, number: signal.Signals, patience_s: float) -> None:
        """Tell every descendant once, also those that appear meanwhile; return when none is left or patience is."""
        ends = time.monotonic() + patience_s
        told: set[int] = set()
        while (living := _descendants(set(self._children))) and time.monotonic() < ends:
            for pid in living - told:
                for each in (number, signal.SIGCONT):  # a stopped process cannot end politely
                    with contextlib.suppress(ProcessLookupError, PermissionError):
                        os.kill(pid, each)
            told |= living
            _pause(wake, 0.02)
            self._reap()

    # -- undo

    def _use_journal(self, request: Message) -> Message:
        path = Path(request["path"])
        if self._journal is None or self._journal.path != path:
            earlier, self._journal = self._journal, Journal(path, request["run"])
            self._retire(earlier)
        return {}

    def _undo_add(self, request: Message) -> Message:
        entry = request["entry"]
        undo.check(entry)
        entry_id = _new_id()
        if self._journal is not None:
            self._journal.add(entry_id, entry)
        if request.get("secrets"):
            entry = {**entry, "headers": {**entry.get("headers", {}), **request["secrets"]}}
        self._undos[entry_id] = _Open(entry, self._journal)
        return {"id": entry_id}

    def _undo_done(self, request: Message) -> Message:
        self._close(request["id"], "by the harness")
        return {}

    def _undo_play(self, request: Message) -> Message:
        opened = self._undos.get(request["id"])
        if opened is None:
            return {"ok": True, "detail": "undone before"}
        outcome = undo.play(opened.entry, request["deadline_s"])
        if outcome.ok:
            self._close(request["id"], outcome.detail)
        return {"ok": outcome.ok, "detail": outcome.detail}

    def _undo_all(self, request: Message) -> Message:
        healed = []
        for entry_id in reversed(list(self._undos)):
            entry = self._undos[entry_id].entry
            shown = {"kind": entry["kind"], "what": entry.get("url") or entry.get("path") or entry.get("pid")}
            healed.append(shown | self._undo_play({"id": entry_id, "deadline_s": request["deadline_s"]}))
        return {"healed": healed}

    def _heal(self, each_s: float, budget_s: float) -> None:
        ends = time.monotonic() + budget_s
        for entry_id in reversed(list(self._undos)):
            left_s = ends - time.monotonic()
            if left_s > 0:
                self._undo_play({"id": entry_id, "deadline_s": min(each_s, left_s)})

    def _close(self, entry_id: str, detail: str) -> None:
        opened = self._undos.pop(entry_id, None)
        if opened is not None and opened.journal is not None:
            self._mark_done(opened.journal, entry_id, detail)

    def _mark_done(self, journal: Journal, entry_id: str, detail: str) -> None:
        with contextlib.suppress(OSError):  # a full disk; playing the entry again later is harmless
            journal.done(entry_id, detail)
        self._retire(journal)

    def _retire(self, journal: Journal | None) -> None:
        """Close a journal that is no longer written to: a warm stack serves hundreds of runs."""
        users = [each.journal for each in self._undos.values()] + [each.journal for each in self._children.values()]
        if journal is not None and journal is not self._journal and journal not in users:
            journal.close()

    # -- the controller's life

    def _lease(self, request: Message) -> Message:
        self._lease_ends = time.monotonic() + request["ttl_s"]
        return {}

    def _end(self, request: Message) -> Message:
        self._grace_s = request["grace_s"]
        self._serving = False
        return {}


def _new_id() -> str:
    return secrets.token_hex(6)


def _prepare_signals(on_terminate: Callable[[], None]) -> int:
    """Handle SIGTERM, sleep through the rest; returns a descriptor that is readable after any signal.

    Handlers rather than SIG_IGN, which the children would inherit.
    """
    read_fd, write_fd = os.pipe()
    for fd in (read_fd, write_fd):
        os.set_blocking(fd, False)
    signal.set_wakeup_fd(write_fd, warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGHUP, signal.SIGTSTP):
        signal.signal(number, lambda *_: None)
    signal.signal(signal.SIGTERM, lambda *_: on_terminate())
    return read_fd


def _drain(fd: int) -> None:
    with contextlib.suppress(BlockingIOError):
        while os.read(fd, 4096):
            pass


def _die_with(warden_pid: int) -> Callable[[], None]:
    def in_child() -> None:
        if _LIBC is not None:
            _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != warden_pid:  # it died before the call above
                os._exit(1)

    return in_child


def _ended() -> Iterable[tuple[int, int]]:
    """Reap every child that has ended; what is left of a group whose leader ended is killed first.

    Looking before reaping keeps the pid, and with it the group's number, from being given to a stranger meanwhile.
    """
    with contextlib.suppress(ChildProcessError):
        while True:
            if hasattr(os, "waitid"):
                seen = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
                if seen is None:
                    return
                _kill_group(seen.si_pid)
                pid, status = os.waitpid(seen.si_pid, 0)
            else:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                _kill_group(pid)
            yield pid, os.waitstatus_to_exitcode(status)


def _kill_group(leader: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


def _pause(wake: int, seconds: float) -> None:
    with selectors.DefaultSelector() as selector:
        selector.register(wake, selectors.EVENT_READ)
        if selector.select(seconds):
            _drain(wake)


def _descendants(children: set[int]) -> set[int]:
    """Find every living process below this one; without /proc only the children themselves are known."""
    proc = Path("/proc")
    if not (proc / "self/stat").exists():
        return children
    parent: dict[int, int] = {}
    for stat in proc.glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, ppid = stat.read_text(errors="replace").rpartition(")")[2].split()[:2]
            if state not in "ZX":
                parent[int(stat.parent.name)] = int(ppid)
    found = {pid for pid, above in parent.items() if above == os.getpid()}
    while more := {pid for pid, above in parent.items() if above in found} - found:
        found |= more
    return found


def main() -> None:
    """Serve the controller on standard input and output."""
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1)
    requests_fd, answers_fd = os.dup(0), os.dup(1)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1):
        os.dup2(nowhere, fd)  # nothing may write between the answers
    Warden(requests_fd, answers_fd).serve()


if __name__ == "__main__":
    main()
