"""How a fault is undone: small data that any process can play, even one that knows nothing else of the harness.

An undo entry is a JSON object with a ``kind`` from :data:`KINDS`. It is written down *before* the fault is injected, so
it must be harmless when the fault was never injected, and when it is played twice.

====================  ==================================================================================================
``http``              ``method``, ``url``; optional ``headers``, ``body`` (text), ``ok`` (statuses that count as undone,
                      default 200, 204, 404), ``gone_ok`` (nothing listens there any more: the fault went with it)
``signal``            ``pid``, ``identity`` (of :func:`process_identity`: a reused pid is left alone), ``signal``
                      (``"CONT"``), optional ``group`` (to its process group)
``file``              ``path``; optional ``restore_from``: put that file's bytes back; without it the path is removed
``command``           ``argv``; optional ``cwd``; exit code 0 counts as undone
====================  ==================================================================================================

Standard library only: the warden imports this and must start fast and depend on nothing.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Entry = Mapping[str, Any]


@dataclass(frozen=True)
class Outcome:
    """Whether an entry is undone now, and in a few words how that is known."""

    ok: bool
    detail: str


def process_identity(pid: int) -> str | None:
    """Name this very process, not a later one with the same pid; None when it does not run.

    On Linux: boot id and start time in clock ticks (``/proc/PID/stat`` field 22). Elsewhere: what ``ps`` calls its start.
    """
    if Path("/proc/self/stat").exists():
        stat = _proc_stat(pid)
        if stat is None:
            return None
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}:{stat[19]}"
    shown = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return shown.stdout.strip() or None


def _proc_stat(pid: int) -> list[str] | None:
    """Read the fields of /proc/PID/stat from the third (state) on; None for a missing or dead process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else fields


def _http(entry: Entry, deadline_s: float) -> Outcome:
    body = entry.get("body")
    request = urllib.request.Request(  # noqa: S310 - the scheme is checked where the entry is added
        entry["url"],
        data=body.encode() if body is not None else None,
        headers=dict(entry.get("headers", {})),
        method=entry["method"],
    )
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # never through a proxy from the environment
    try:
        with direct.open(request, timeout=deadline_s) as answer:
            status = answer.status
    except urllib.error.HTTPError as error:
        status = error.code
    except OSError as error:
        reason = getattr(error, "reason", error)
        if entry.get("gone_ok") and isinstance(reason, ConnectionRefusedError):
            return Outcome(True, "nothing listens there any more")
        return Outcome(False, f"{entry['method']} {entry['url']}: {reason}")
    return Outcome(status in entry.get("ok", (200, 204, 404)), f"status {status}")


def _signal(entry: Entry, _deadline_s: float) -> Outcome:
    pid, name = int(entry["pid"]), str(entry["signal"])
    if process_identity(pid) != entry["identity"]:
        return Outcome(True, "the process is gone")
    number = signal.Signals[f"SIG{name}"]
    try:
        if entry.get("group"):
            os.killpg(pid, number)
        else:
            os.kill(pid, number)
    except ProcessLookupError:
        return Outcome(True, "the process is gone")
    return Outcome(True, f"sent SIG{name} to {pid}")


def _file(entry: Entry, _deadline_s: float) -> Outcome:
    path = Path(entry["path"])
    source = entry.get("restore_from")
    if source is None:
        path.unlink(missing_ok=True)
        return Outcome(True, "removed")
    if not Path(source).exists():
        return Outcome(True, "nothing was set aside")
    part = path.with_name(path.name + ".restoring")
    shutil.copyfile(source, part)
    os.replace(part, path)
    return Outcome(True, "put back")


def _command(entry: Entry, deadline_s: float) -> Outcome:
    done = subprocess.run(
        list(entry["argv"]), cwd=entry.get("cwd"), timeout=deadline_s, capture_output=True, text=True, check=False
    )
    return Outcome(done.returncode == 0, f"exit {done.returncode} {done.stderr.strip()[-200:]}".strip())


KINDS: dict[str, tuple[frozenset[str], Callable[[Entry, float], Outcome]]] = {
    "http": (frozenset({"method", "url"}), _http),
    "signal": (frozenset({"pid", "identity", "signal"}), _signal),
    "file": (frozenset({"path"}), _file),
    "command": (frozenset({"argv"}), _command),
}
"""Kind -> (required fields, how it is played). A new kind is one function and one line here."""


def check(entry: Entry) -> None:
    """Refuse an entry that could not be played later: ValueError with one sentence."""
    kind = entry.get("kind")
    if kind not in KINDS:
        raise ValueError(f"undo kind {kind!r} is unknown; one of {', '.join(KINDS)} is needed")
    missing = sorted(KINDS[kind][0] - entry.keys())
    if missing:
        raise ValueError(f"undo entry of kind {kind} lacks {', '.join(missing)}")
    if kind == "http" and not str(entry["url"]).startswith(("http://", "https://")):
        raise ValueError(f"undo entry has the URL {entry['url']!r}, which is neither http nor https")
    if kind == "signal" and f"SIG{entry['signal']}" not in signal.Signals.__members__:
        raise ValueError(f"undo entry names the unknown signal {entry['signal']!r}")


def play(entry: Entry, deadline_s: float) -> Outcome:
    """Undo one entry; never raises and never takes longer than the deadline.

    It runs in a thread of its own because not every call it makes can be given a total deadline.
    """
    answer: list[Outcome] = []

    def run() -> None:
        try:
            check(entry)
            answer.append(KINDS[entry["kind"]][1](entry, deadline_s))
        except Exception as error:  # whatever one entry does, the next must still be played
            answer.append(Outcome(False, f"{type(error).__name__}: {error}"))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(deadline_s)
    return answer[0] if answer else Outcome(False, f"no answer within {deadline_s:g} s")
