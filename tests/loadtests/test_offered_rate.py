"""Users, spawn rate, shapes and processes of Locust all mean one thing: the offered rate."""

from collections import Counter
from itertools import groupby
from pathlib import Path

import pytest

from loadtests.records.ledger import Kind, Record, read_ledgers
from loadtests.records.rundir import RunDir
from tests.loadtests.servers import ACCEPTED, always, serving
from tests.loadtests.test_locust import finish, last_run, locust, two_workers

pytestmark = pytest.mark.integration
WINDOW_NS = 100_000_000
"""One gap of a user who offers ten requests a second: each user has one arrival in each such window."""

SHAPE = """
from locust import LoadTestShape


class Steps(LoadTestShape):
    def tick(self):
        for until_s, users in ((1.8, 4), (3.8, 12), (5.8, 6)):
            if self.get_run_time() < until_s:
                return users, 100
        return None
"""


def offered_per_window(run: RunDir) -> list[int]:
    """How many requests were due in each window, sent or not: by the schedule, not by the clock of a busy machine."""
    due: Counter[int] = Counter()
    for ledger in read_ledgers(run.ledger):
        records = ledger.records
        first = (records["record"] == Record.ATTEMPT) & (records["attempt"] == 1)
        due.update((records["intended_ns"][first | (records["kind"] == Kind.NOT_SENT)] // WINDOW_NS).tolist())
    return [due[window] for window in range(min(due), max(due) + 1)][1:-1]


def holds_in_turn(counts: list[int], rates: list[int], *, windows: int = 4) -> bool:
    """Whether these rates were held one after the other, and never more; what two workers do not begin at once lies between them."""
    held = iter([count for count, run in groupby(counts) if len(list(run)) >= windows])
    return all(rate in held for rate in rates) and max(counts) == max(rates)


def test_users_are_a_rate_and_the_spawn_rate_is_its_slope(tmp_path: Path):
    """Three users join each second: the rate climbs by steps of three, in requests, however many events one holds."""
    with serving(always(ACCEPTED)) as server:
        finish(locust(server.url, tmp_path, "-u", "9", "-r", "3", "-t", "4s", "--rate-per-user", "10", "--batch", "40"))

    counts = offered_per_window(last_run(tmp_path))
    assert holds_in_turn(counts, [3, 6, 9]), counts
    assert {len(served.ids) for served in server.requests} == {40}


@pytest.mark.parametrize("processes", [1, 2])
def test_a_shape_is_a_rate_however_many_processes_offer_it(tmp_path: Path, processes: int):
    """A LoadTestShape of the user's own, beside our locustfile, raises and lowers the rate of all workers together."""
    (tmp_path / "steps.py").write_text(SHAPE)
    files = f"loadtests/locustfile.py,{tmp_path / 'steps.py'}"
    workers = two_workers() if processes == 2 else []
    with serving(always(ACCEPTED)) as server:
        finish(locust(server.url, tmp_path, "-f", files, "--rate-per-user", "10", "--batch", "1", *workers))

    run = last_run(tmp_path)
    assert len(read_ledgers(run.ledger)) == processes
    counts = offered_per_window(run)
    assert holds_in_turn(counts, [4, 12, 6]), counts
