"""Types that several threads decode to."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import msgspec

from loadtests.records.structs import prepare

ROOT = Path(__file__).parents[2]
MET_HALF_KNOWN = """
import resource
import msgspec
from loadtests.records.structs import prepare

resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

class Mark: pass

def meanwhile():  # msgspec asks what `Inner` is made of when it knows half of `Outer`: another thread may run now
    global met
    if not met:
        met = True
        msgspec.convert({"second": {}}, Outer)
    return int

met = %s
class Inner(msgspec.Struct):
    number: "meanwhile()" = 0
class Outer(msgspec.Struct):
    first: Inner | None = None
    second: Inner | None = None

msgspec.convert({"second": {"number": 1}}, Outer)
print("well")
"""


def python(text: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", text], cwd=ROOT, check=False, capture_output=True, text=True)


def test_msgspec_still_crashes_on_a_type_that_it_knows_half() -> None:
    """When this fails, `prepare` is no longer needed: what it prevents does not happen any more."""
    assert python(MET_HALF_KNOWN % "False").returncode == -signal.SIGSEGV
    assert python(MET_HALF_KNOWN % "True").stdout == "well\n"


_asked: list[int] = []


def asked() -> type[int]:
    """Return what a field is made of, and note that somebody wanted to know."""
    _asked.append(1)
    return int


def test_what_is_prepared_is_not_learned_again() -> None:
    """A type is learned as a whole by `prepare`, so its first use by a thread finds nothing left to learn."""

    class Counted(msgspec.Struct):
        number: asked() = 0  # type: ignore[valid-type]

    prepare()
    assert _asked == [1]
    assert msgspec.convert({"number": 3}, Counted).number == 3
    assert _asked == [1]


def test_what_cannot_be_decoded_is_left_alone() -> None:
    """A type that msgspec refuses does not keep others from being ready."""

    class Odd(msgspec.Struct):
        either: dict[str, int] | dict[int, str]

    class Even(msgspec.Struct):
        number: asked() = 0  # type: ignore[valid-type]

    _asked.clear()
    prepare()
    assert _asked == [1]
    assert Odd({}) and Even()
