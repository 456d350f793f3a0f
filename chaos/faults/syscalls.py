"""What strace wrote down of a process's files: each call with its data, when it began and when it was over.

Read are logs of `strace -f -y -xx -e trace=...` with the calls of `TRACED`; a call that another thread's interrupted is put together
again. A call of another name is left out; whoever needs all of them compares the result with the file (`chaos.faults.durable`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

TRACED = ("pwrite64", "write", "ftruncate", "openat", "fdatasync", "fsync", "sync", "syncfs")

_BYTES = r'"((?:\\x[0-9a-f]{2})*)"(\.\.\.)?'
_FD = r"\d+<((?:\\x[0-9a-f]{2})*)>(?:\(deleted\))?"
_LINE = re.compile(r"(\d+) +(.*)", re.DOTALL)
_CALL = re.compile(r"([a-z0-9_]+)\((.*)", re.DOTALL)
_RESUMED = re.compile(r"<\.\.\. ([a-z0-9_]+) resumed>(.*)", re.DOTALL)
_UNFINISHED = " <unfinished ...>"
_RESULT = re.compile(r"\) += (-?\d+)(?:<((?:\\x[0-9a-f]{2})*)>)?[^)]*$")
_WRITE = re.compile(rf"{_FD}, {_BYTES}, \d+(?:, (\d+))?")
_SIZE = re.compile(rf"{_FD}, (\d+)")
_ONE = re.compile(_FD)


@dataclass(frozen=True)
class Call:
    """One call on a file.

    Attributes:
        name: As in `TRACED`.
        path: The file; empty for `sync` and `syncfs`, which speak of all.
        begin, end: Line numbers of the log; *end* is None for a call that was never over.
        data: What was written, as far as it was.
        at: Offset of a `pwrite64`, size of an `ftruncate`; None for a `write`, which goes on where the last one ended.
        flags: Of an `openat`.
    """

    name: str
    path: str
    begin: int
    end: int | None
    data: bytes = b""
    at: int | None = None
    flags: str = ""


def read_calls(lines: Iterable[str]) -> Iterator[Call]:
    """Yield the calls that succeeded, or were never over, in the order in which they ended; those come last."""
    open_calls: dict[str, tuple[int, str, str]] = {}
    for number, text in enumerate(lines):
        line = _LINE.fullmatch(text.rstrip("\n"))
        if line is None:
            continue
        thread, rest = line[1], line[2]
        resumed, call = _RESUMED.fullmatch(rest), _CALL.fullmatch(rest)
        if resumed is not None and thread in open_calls:
            begin, name, begun = open_calls.pop(thread)
            yield from _call(name, begun + resumed[2], begin, number)
        elif call is not None and rest.endswith(_UNFINISHED):
            open_calls[thread] = (number, call[1], call[2].removesuffix(_UNFINISHED))
        elif call is not None:
            yield from _call(call[1], call[2], number, number)
    for begin, name, begun in open_calls.values():
        yield from _call(name, begun, begin, None)


def _call(name: str, words: str, begin: int, end: int | None) -> Iterator[Call]:
    result = _RESULT.search(words) if end is not None else None
    if name not in TRACED or (end is not None and (result is None or int(result[1]) < 0)):
        return
    if name in ("sync", "syncfs"):
        yield Call(name, "", begin, end)
    elif name == "openat":
        if result is not None and result[2]:
            yield Call(name, _text(result[2]), begin, end, flags=words)
    elif name in ("write", "pwrite64"):
        if (write := _WRITE.match(words)) is not None:
            written = int(result[1]) if result is not None else None
            at = int(write[4]) if write[4] else None
            yield Call(name, _text(write[1]), begin, end, _bytes(write[2])[:written], at)
    elif name == "ftruncate":
        if (size := _SIZE.match(words)) is not None:
            yield Call(name, _text(size[1]), begin, end, at=int(size[2]))
    elif (one := _ONE.match(words)) is not None:
        yield Call(name, _text(one[1]), begin, end)


def _bytes(escaped: str) -> bytes:
    return bytes.fromhex(escaped.replace("\\x", ""))


def _text(escaped: str) -> str:
    return _bytes(escaped).decode(errors="surrogateescape")
