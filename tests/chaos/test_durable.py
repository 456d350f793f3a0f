"""What of a file is left when the power goes: what a disk and its cache would have left."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chaos.faults.durable import cut_power, half_of_them
from chaos.faults.syscalls import Call, read_calls

A = "/data/a"


class Machine:
    """A file in a cache and on a disk; nothing but a sync brings it from the one to the other."""

    def __init__(self, data: bytes) -> None:
        self.cache, self.disk = bytearray(data), bytes(data)

    def do(self, name: str, data: bytes, at: int) -> None:
        if name == "fdatasync":
            self.disk = bytes(self.cache)
        elif name == "ftruncate":
            self.cache = self.cache[:at] + bytes(max(0, at - len(self.cache)))
        else:
            place = len(self.cache) if name == "write" else at
            self.cache.extend(bytes(max(0, place - len(self.cache))))
            self.cache[place : place + len(data)] = data


DEEDS = st.lists(
    st.tuples(
        st.sampled_from(["write", "pwrite64", "ftruncate", "fdatasync"]),
        st.binary(min_size=1, max_size=8),
        st.integers(0, 30),
    ),
    min_size=1,
    max_size=20,
)


@given(st.binary(max_size=20), DEEDS)
@settings(deadline=None)
def test_what_is_left_is_what_the_disk_has(before: bytes, deeds: list[tuple[str, bytes, int]]) -> None:
    """Whatever is written, cut and synced in whatever order, with the cache as what everybody saw; all of it, if all survives."""
    machine, calls = Machine(before), []
    for number, (name, data, at) in enumerate(deeds):
        machine.do(name, data, at)
        written = name in ("write", "pwrite64")
        calls.append(
            Call(name, A, number, number, data if written else b"", at if name in ("pwrite64", "ftruncate") else None)
        )

    left = cut_power({A: before}, calls).get(A)
    lucky = cut_power({A: before}, calls, survives=lambda: True).get(A)

    assert (left.data if left else before) == machine.disk
    assert (left.whole[0] if left else before) == bytes(machine.cache)
    assert (lucky.data if lucky else before) == bytes(machine.cache)


def one(*calls: Call, **more: Any) -> bytes:
    return cut_power({A: b"...."}, calls, **more)[A].data


def test_a_write_that_was_not_over_when_a_sync_began_is_not_synced() -> None:
    """The sync may have passed it by."""
    write, sync = Call("pwrite64", A, 1, 3, b"x", 0), Call("fdatasync", A, 2, 4)

    assert one(write, sync) == b"...."
    assert one(write, Call("fdatasync", A, 4, 5)) == b"x..."


def test_a_sync_that_was_never_over_counts_for_nothing() -> None:
    """Nobody was told that it succeeded."""
    assert one(Call("pwrite64", A, 1, 1, b"x", 0), Call("fsync", A, 2, None)) == b"...."


def test_a_sync_of_another_file_is_none_and_one_of_everything_is_one() -> None:
    """`syncfs` and `sync` speak of all files; a descriptor may be one for which every write is a sync."""
    write = Call("pwrite64", A, 1, 1, b"x", 0)

    assert one(write, Call("fsync", "/data/b", 2, 3)) == b"...."
    assert one(write, Call("syncfs", "", 2, 3)) == b"x..."
    assert one(write, synced_paths=[A]) == b"x..."
    assert one(Call("openat", A, 0, 0, flags="O_WRONLY|O_DSYNC"), write) == b"x..."


def test_a_write_in_the_middle_of_which_the_process_died_may_have_been_made() -> None:
    """Both are told, so that the file can be compared with them."""
    left = cut_power({A: b"...."}, [Call("pwrite64", A, 1, None, b"x", 0)])[A]

    assert left.whole == (b"....", b"x...")
    assert (left.data, left.writes, left.lost) == (b"....", 1, 1)


def test_half_of_what_was_not_synced_may_survive() -> None:
    """In any order, drawn from the seed; what was synced survives always."""
    calls = [Call("pwrite64", A, 0, 0, b"s", 0), Call("fdatasync", A, 1, 1)]
    calls += [Call("pwrite64", A, 2 + n, 2 + n, b"x", 1 + n) for n in range(64)]
    left = cut_power({A: bytes(65)}, calls, survives=half_of_them(random.Random(7)))[A]

    assert left.data[:1] == b"s"
    assert 10 < left.lost < 54
    assert left.data.count(b"x") == 64 - left.lost
    assert left == cut_power({A: bytes(65)}, calls, survives=half_of_them(random.Random(7)))[A]


def hexed(text: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in text.encode())


FD = f"4<{hexed(A)}>"
LOG = f"""\
12 --- stopped by SIGSTOP ---
12 openat(AT_FDCWD<{hexed("/data")}>, "{hexed("a")}", O_WRONLY|O_CREAT|O_TRUNC|O_CLOEXEC, 0600) = {FD}
12 pwrite64({FD}, "{hexed("abcd")}", 4, 32) = 4
13 pwrite64({FD}, "{hexed("ef")}", 2, 36 <unfinished ...>
12 fdatasync({FD} <unfinished ...>
13 <... pwrite64 resumed>)           = 2
13 write({FD}, "{hexed("gh")}", 2) = 1
12 <... fdatasync resumed>)          = 0
12 ftruncate({FD}, 100)              = 0
12 pwrite64({FD}, "{hexed("no")}", 2, 0) = -1 ENOSPC (No space left on device)
14 fsync({FD}) = -1 EIO (Input/output error)
12 syncfs({FD}) = 0
13 pwrite64({FD}, "{hexed("ij")}", 2, 40 <unfinished ...>
12 +++ killed by SIGKILL +++
12 pwri"""


def test_the_log_of_strace_is_read_as_calls() -> None:
    """With their data as far as it was written, interrupted ones put together, those that failed left out, a torn line too."""
    openat, *rest = read_calls(LOG.splitlines(keepends=True))

    assert (openat.name, openat.path, "O_TRUNC" in openat.flags) == ("openat", A, True)
    assert rest == [
        Call("pwrite64", A, 2, 2, b"abcd", 32),
        Call("pwrite64", A, 3, 5, b"ef", 36),
        Call("write", A, 6, 6, b"g"),
        Call("fdatasync", A, 4, 7),
        Call("ftruncate", A, 8, 8, at=100),
        Call("syncfs", "", 11, 11),
        Call("pwrite64", A, 12, None, b"ij", 40),
    ]


def test_nothing_is_left_of_a_log_that_nobody_synced() -> None:
    """Of the same log without its syncs."""
    calls = [call for call in read_calls(LOG.splitlines()) if "sync" not in call.name]

    assert cut_power({}, calls)[A].data == b""


@pytest.mark.parametrize("text", ["", "garbage", "12 exit_group(0) = ?", "x pwrite64(1, 2) = 3"])
def test_a_log_without_a_call_of_ours_is_empty(text: str) -> None:
    """Whatever strace says else."""
    assert not list(read_calls([text]))
