"""What tests of several generator processes share: starting Locust, and what a server got beside what ledgers say."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from loadtests.records.identity import Identity, parse_source
from loadtests.records.rundir import RunDir
from reports.obligations import History
from tests.loadtests.servers import Served

ROOT = Path(__file__).parents[2]


def locust(*args: str, **env: str) -> subprocess.Popen[str]:
    argv = [sys.executable, "-m", "locust", "-f", "loadtests/locustfile.py", *args]
    return subprocess.Popen(
        argv, cwd=ROOT, env={**os.environ, **env}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def wait_for(holds: Callable[[], bool], what: str) -> None:
    end, never = time.monotonic() + 40, threading.Event()
    while not holds():
        assert time.monotonic() < end, f"waited in vain for {what}"
        never.wait(0.05)


def received(run: RunDir, requests: list[Served]) -> set[tuple[int, int]]:
    """Producer and sequence of every event that the server got."""
    identity, found = Identity(run.info.seed, run.info.run_id), set()
    for request in requests:
        events = json.loads(request.body)
        for event in events:
            parsed = parse_source(event["source"])
            assert parsed is not None
            (sequence,) = identity.invert(parsed[1], np.array([event["id"].encode()], dtype="S16"))
            found.add((parsed[1], int(sequence)))
    return found


def having(history: History, bit: int) -> set[tuple[int, int]]:
    """Producer and sequence of every event of the ledgers with a flag."""
    return {
        (owed.producer, first + int(at))
        for owed in history.producers.values()
        for first, count in [(owed.first, owed.last + 1 - owed.first)]
        for at in np.flatnonzero(owed.spread(owed.flags, first, count) & bit)
    }
