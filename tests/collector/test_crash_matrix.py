"""Kill the collector at every durable step, then again while it recovers: nothing acked is lost, nothing doubled."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from collector.crashpoints import POINTS
from tests.collector.keep_support import DirectoryTable

ROUNDS = 4
RECOVERIES = {
    "clean": [""],
    "catalog down": ["down"],
    "second kill": ["recovery.mid_replay=kill", "settle.after_load=kill", "checkpoint.after_sync=kill"],
}


@pytest.fixture(scope="module")
def server() -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-m", "tests.collector.lives"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    ) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


def _run(server: subprocess.Popen[str], root: Path, first: int, faults: str, count: int) -> int:
    assert server.stdin is not None
    assert server.stdout is not None
    server.stdin.write(json.dumps([str(root), first, faults, count]) + "\n")
    server.stdin.flush()
    return int(server.stdout.readline())


@pytest.mark.parametrize("recovery", RECOVERIES)
@pytest.mark.parametrize("point", POINTS)
def test_nothing_acked_is_lost_or_doubled(
    server: subprocess.Popen[str], tmp_path: Path, point: str, recovery: str
) -> None:
    """After SIGKILL at any point, and whatever happens while it recovers, every acked event is in the table once."""
    nth = "@1" if point.startswith(("recovery", "shutdown", "expire", "settle", "admin.reset")) else "@2"
    assert _run(server, tmp_path, 0, f"{point}=kill{nth}", ROUNDS) == -signal.SIGKILL, "the point was not reached"
    first = 1_000
    for faults in RECOVERIES[recovery]:
        code = _run(server, tmp_path, first, faults, 3 if faults == "down" else 1)
        assert code in (0, -signal.SIGKILL)
        first += 1_000
    assert _run(server, tmp_path, first, "", 1) == 0
    rows = DirectoryTable(tmp_path / "table").rows()
    acked_file = tmp_path / "acked"
    acked = {("urn:s", f"id-{line}") for line in acked_file.read_text().split()}
    assert acked
    assert acked - rows.keys() == set()
    assert {key: count for key, count in rows.items() if count != 1} == {}
