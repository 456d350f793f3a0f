"""What every table must do: the fake of the tests, pyiceberg on local files, and SeaweedFS's real catalog."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pyiceberg.catalog.sql import SqlCatalog

from collector.clock import SystemClock
from collector.commit import IcebergTable, rest_table
from collector.config import CatalogConfig, MaintenanceConfig, S3Config
from collector.encode import to_rows
from collector.errors import CommitUnknown, StoreUnavailable
from collector.store import FileRef, Progress
from collector.table import Table, snapshot_id_of
from tests.collector.keep_support import DirectoryTable, events

Open = Callable[[], Table]


def _weed() -> str | None:
    beside = Path(sys.executable).with_name("weed")
    return str(beside) if beside.exists() else shutil.which("weed")


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


@pytest.fixture(scope="module")
def seaweedfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """A SeaweedFS server; gives the addresses of its catalog and of its object store."""
    weed = _weed()
    if weed is None:
        pytest.skip("no weed binary on this platform")
    root = tmp_path_factory.mktemp("weed")
    identity = {
        "name": "admin",
        "credentials": [{"accessKey": "k", "secretKey": "s"}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    (root / "s3.json").write_text(json.dumps({"identities": [identity]}))
    names = ["master", "volume", "filer", "admin"]
    ports = _free_ports(2 * len(names) + 4)
    options = [f"-{name}.port={ports.pop()}" for name in names] + [f"-{name}.port.grpc={ports.pop()}" for name in names]
    s3, s3_grpc, catalog, lance = ports
    command = [weed, "mini", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-dir={root}", "-tableBucket=analytics"]
    command += [f"-s3.config={root}/s3.json", "-webdav=false", "-admin.ui=false", *options]
    command += [f"-s3.port={s3}", f"-s3.port.grpc={s3_grpc}", f"-s3.port.iceberg={catalog}", f"-s3.port.lance={lance}"]
    with (root / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=root)
    try:
        addresses = f"http://127.0.0.1:{catalog}", f"http://127.0.0.1:{s3}"
        _wait_until_ready(addresses, process)
        yield addresses
    finally:
        process.kill()
        process.wait()


def _wait_until_ready(addresses: tuple[str, str], process: subprocess.Popen[bytes]) -> None:
    """Ready means that a table can be made: the catalog answers before its bucket exists."""
    table = _seaweed_table(addresses, "probe.ready")
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        try:
            table.refresh()
        except StoreUnavailable:
            time.sleep(0.1)  # waiting for another process, not for our own
        else:
            table.close()
            return
    pytest.fail("SeaweedFS did not become ready")


def _seaweed_table(addresses: tuple[str, str], name: str) -> IcebergTable:
    uri, endpoint = addresses
    config = CatalogConfig(uri=uri, table_identifier=name, warehouse="s3://analytics", credential="k:s")
    s3 = S3Config(endpoint=endpoint, access_key_id="k", secret_access_key="s")
    return rest_table(config, s3, clock=SystemClock())


@pytest.fixture(params=["directory", "sql", pytest.param("seaweedfs", marks=pytest.mark.integration)])
def open_table(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """A way to open the same table again and again, as different collectors would."""
    if request.param == "directory":
        yield lambda: DirectoryTable(tmp_path / "table")
    elif request.param == "sql":
        (tmp_path / "warehouse").mkdir()
        catalog = SqlCatalog("local", uri=f"sqlite:///{tmp_path}/catalog.db", warehouse=f"file://{tmp_path}/warehouse")
        yield lambda: IcebergTable(lambda: catalog, "ns.events")
        catalog.close()
    else:
        addresses = request.getfixturevalue("seaweedfs")
        name = f"ns_{uuid.uuid4().hex[:8]}.events"
        opened: list[IcebergTable] = []

        def open_() -> Table:
            opened.append(_seaweed_table(addresses, name))
            return opened[-1]

        yield open_
        for table in opened:
            table.close()


def flush(seq: int, collector: str = "c") -> Progress:
    return Progress(f"{collector}/1/{seq}", collector, 1, seq, 0.0, 0)


def write(table: Table, progress: Progress, first: int = 0, count: int = 5) -> tuple[FileRef, ...]:
    return (table.write(progress, 0, to_rows(events(first, count)).table),)


def test_a_flush_lands_with_its_own_snapshot_and_watermark(open_table: Open) -> None:
    """The head is the flush's snapshot, its sequence is the collector's watermark, and it is known to have landed."""
    table = open_table()
    before = table.refresh()
    assert (before.head, before.ancestors, before.watermarks) == (None, frozenset(), {})
    progress = flush(1)
    assert not before.landed(progress)
    intent = table.prepare(progress, write(table, progress), 0)
    assert (intent.parent, intent.table_uuid) == (None, before.uuid)
    table.commit(progress, intent)
    after = open_table().refresh()
    assert after.head == snapshot_id_of(progress.flush_id)
    assert after.watermarks == {"c": 1}
    assert after.landed(progress)
    assert not after.landed(flush(2))
    assert not after.landed(flush(1, "d"))


def test_the_events_of_an_hour_are_read(tmp_path: Path) -> None:
    """Of every type, by source and id; an hour without rows, and a table that was not there, have none."""
    (tmp_path / "warehouse").mkdir()
    catalog = SqlCatalog("local", uri=f"sqlite:///{tmp_path}/catalog.db", warehouse=f"file://{tmp_path}/warehouse")
    table = IcebergTable(lambda: catalog, "ns.events")
    stored = [*events(0, 2), *events(2, 2, type_="it's"), *events(4, 2, hour=1)]
    hour = stored[0].time_us // 3_600_000_000
    empty = table.keys(hour)
    progress = flush(1)
    files = (table.write(progress, 0, to_rows(stored[:2]).table), table.write(progress, 1, to_rows(stored[2:4]).table),
             table.write(progress, 2, to_rows(stored[4:]).table))  # fmt: skip
    table.commit(progress, table.prepare(progress, files, 0))

    assert empty == table.keys(hour - 1) == table.keys(hour + 2) == []
    assert sorted(table.keys(hour)) == [(one.source, one.id) for one in stored[:4]]
    assert sorted(table.keys(hour + 1)) == [(one.source, one.id) for one in stored[4:]]
    catalog.close()


def test_the_same_request_lands_once(open_table: Open) -> None:
    """Sent again, also by another process, the identical request is refused."""
    table = open_table()
    table.refresh()
    progress = flush(1)
    intent = table.prepare(progress, write(table, progress), 0)
    table.commit(progress, intent)
    for again in (table, open_table()):
        again.refresh()
        with pytest.raises(CommitUnknown):
            again.commit(progress, intent)
    assert len(open_table().refresh().ancestors) == 1


def test_a_flush_built_again_on_a_later_head_is_refused_once_it_has_landed(open_table: Open) -> None:
    """The snapshot id belongs to the flush: even a careless rebase cannot land it twice."""
    table = open_table()
    table.refresh()
    progress, later = flush(1), flush(2)
    files = write(table, progress)
    table.commit(progress, table.prepare(progress, files, 0))
    table.commit(later, table.prepare(later, write(table, later, 50), 0))
    other = open_table()
    other.refresh()
    files = write(other, progress)
    with pytest.raises(CommitUnknown):
        other.commit(progress, other.prepare(progress, files, 1))
    assert len(open_table().refresh().ancestors) == 2


def test_a_conflict_is_refused_and_lands_after_a_refresh(open_table: Open) -> None:
    """Of two collectors on one head the second has to read the table again."""
    one, two = open_table(), open_table()
    one.refresh()
    two.refresh()
    first, second = flush(1, "c"), flush(1, "d")
    one.commit(first, one.prepare(first, write(one, first), 0))
    files = write(two, second, 50)
    with pytest.raises(CommitUnknown):
        two.commit(second, two.prepare(second, files, 0))
    assert not two.refresh().landed(second)
    assert two.has(files)
    two.commit(second, two.prepare(second, files, 1))
    assert open_table().refresh().watermarks == {"c": 1, "d": 1}


def test_a_new_process_has_to_write_its_files_again(open_table: Open) -> None:
    """What another process wrote cannot be prepared, but it can be written again under the same name."""
    table, progress = open_table(), flush(1)
    table.refresh()
    files = write(table, progress)
    again = open_table()
    again.refresh()
    assert not again.has(files)
    assert write(again, progress) == files
    again.commit(progress, again.prepare(progress, files, 0))


def test_expired_flushes_are_still_known_to_have_landed(open_table: Open) -> None:
    """Expiry shortens the ancestry and leaves the watermark."""
    table = open_table()
    table.refresh()
    for seq in range(1, 6):
        table.commit(flush(seq), table.prepare(flush(seq), write(table, flush(seq), seq * 10), 0))
    expired = table.expire(MaintenanceConfig(snapshots_max=2, snapshot_min_age_s=0), 1e11)
    view = open_table().refresh()
    assert (expired, len(view.ancestors)) == (4, 1)
    assert all(view.landed(flush(seq)) for seq in range(1, 6))
    assert not view.landed(flush(6))
