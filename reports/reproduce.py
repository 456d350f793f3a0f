"""The command that repeats a run: as it was asked for, with the seed it had and everything else that was given."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from itertools import pairwise

from loadtests.records.rundir import RunInfo

WHOLE = ("run", "drill", "live")
"""Commands that are about one run, or one session of runs."""
GENERATED = ("experiment",)
"""Commands whose runs have a scenario that is in no file but the run directory's own."""
DEFAULT_STACK = "seaweedfs"
_FLAGS_LEFT_OUT = ("--json",)
_LEFT_OUT = ("--seed", "--target", "--stack", "--runs")
"""Options that are said anew, or do not change what is done."""


def reproduce_line(info: RunInfo) -> str:
    """Return a command that repeats this run.

    Of a live session that is the session, in which a person does the rest. A command of several runs is replaced by one for this
    run alone; where the scenario was made up for it, that is the `scenario.yaml` of the run directory.
    """
    words = [*_asked(info), "--seed", str(info.seed)]
    target = _option(info.argv, "--target")
    if target or words[0] != "catalogue":  # which of itself tries the reference, and the planted bugs of the fault
        words += ["--target", target or info.target]
    if info.stack not in ("", DEFAULT_STACK):
        words += ["--stack", info.stack]
    return shlex.join(["icequake", *words])


def _asked(info: RunInfo) -> list[str]:
    command = info.argv[1] if len(info.argv) > 1 else ""
    if command in (*WHOLE, "catalogue"):
        return list(_kept(info.argv[1:]))
    if command in GENERATED:
        return ["run", "scenario.yaml"]
    changes = info.night.set if info.night is not None else _options(info.argv, "--set")
    drill = info.scenario.removeprefix("drill-")
    words = ["run", info.scenario] if drill == info.scenario else ["drill", drill]
    return words + [word for change in changes for word in ("--set", change)]


def _kept(words: Sequence[str]) -> Iterator[str]:
    left = iter(words)
    for word in left:
        if word in _LEFT_OUT:
            next(left, None)
        elif word not in _FLAGS_LEFT_OUT and word.partition("=")[0] not in _LEFT_OUT:
            yield word


def _option(argv: Sequence[str], name: str) -> str | None:
    return next(_options(argv, name), None)


def _options(argv: Sequence[str], name: str) -> Iterator[str]:
    for word, following in pairwise([*argv, ""]):
        if word == name and following:
            yield following
        elif word.startswith(f"{name}="):
            yield word.partition("=")[2]
