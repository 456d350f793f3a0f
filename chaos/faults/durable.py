"""What of a file is on the disk when the power goes: everything that was over before a sync began that succeeded, and no more.

What was written after that may be lost, whole or in part, in any order; POSIX promises nothing of it. The worst case is that all of
it is lost. Not modelled: a write that reaches the disk in part, and a new name that is lost because its directory was not synced.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from chaos.faults.syscalls import Call

SYNCED_WRITES = ("O_SYNC", "O_DSYNC")


@dataclass(frozen=True)
class AfterPowerCut:
    """One file.

    Attributes:
        data: What is on the disk.
        whole: What it was for everybody who read it before the power went: without, and with, what was not over then.
        writes: Changes that were recorded.
        lost: Those of them that are gone.
    """

    data: bytes
    whole: tuple[bytes, bytes]
    writes: int
    lost: int


def cut_power(
    before: Mapping[str, bytes],
    calls: Iterable[Call],
    *,
    survives: Callable[[], bool] = lambda: False,
    synced_paths: Iterable[str] = (),
) -> dict[str, AfterPowerCut]:
    """Return every file that *calls* changed.

    Args:
        before: Files when recording began, all of it on the disk.
        survives: Asked for each change that no sync covers, whether it reached the disk all the same.
        synced_paths: Files that are open in a mode in which each write is synced (O_SYNC, O_DSYNC).
    """
    known, always = list(calls), set(synced_paths)
    always |= {call.path for call in known if call.name == "openat" and any(f in call.flags for f in SYNCED_WRITES)}
    changes: dict[str, list[Call]] = {}
    horizons: dict[str, int] = {}
    for call in known:
        if call.name in ("write", "pwrite64", "ftruncate") or (call.name == "openat" and "O_TRUNC" in call.flags):
            changes.setdefault(call.path, []).append(call)
        elif call.name != "openat" and call.end is not None:
            horizons[call.path] = max(horizons.get(call.path, -1), call.begin)
    everywhere = horizons.get("", -1)
    cut: dict[str, AfterPowerCut] = {}
    for path, made in changes.items():
        horizon = max(horizons.get(path, -1), everywhere)
        old, over = before.get(path, b""), [c for c in made if c.end is not None]
        kept = [path in always or (c.end is not None and c.end < horizon) or survives() for c in made]
        cut[path] = AfterPowerCut(
            data=_changed(old, made, kept),
            whole=(_changed(old, over, [True] * len(over)), _changed(old, made, [True] * len(made))),
            writes=len(made),
            lost=kept.count(False),
        )
    return cut


def half_of_them(rng: random.Random) -> Callable[[], bool]:
    """Let each unsynced change survive by the toss of a coin."""
    return lambda: rng.random() < 0.5


def _changed(data: bytes, changes: list[Call], kept: list[bool]) -> bytes:
    """Make the changes that are kept; a `write` goes to where the file ended for whoever wrote it, kept or not."""
    disk, end = bytearray(data), len(data)
    for change, keep in zip(changes, kept, strict=True):
        if change.name in ("ftruncate", "openat"):
            size = change.at or 0
            end = size
            if keep:
                del disk[size:]
                disk.extend(bytes(size - len(disk)))
            continue
        at = end if change.at is None else change.at
        end = max(end, at + len(change.data))
        if keep:
            disk.extend(bytes(max(0, at - len(disk))))
            disk[at : at + len(change.data)] = change.data
    return bytes(disk)
