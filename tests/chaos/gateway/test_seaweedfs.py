"""Stock pyiceberg and pyarrow through a real gateway process to a real S3 server and a real REST catalog."""

from __future__ import annotations

import http.client
import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import requests
from pyarrow import fs
from pyiceberg.catalog import Catalog, load_catalog
from pyiceberg.exceptions import CommitFailedException, ServiceUnavailableError
from pyiceberg.table import Table

from tests.chaos.gateway.fakes import TOKEN

pytestmark = pytest.mark.integration

SCHEMA = pa.schema([("id", pa.string()), ("n", pa.int64())])
PORTS = ("master.port", "volume.port", "filer.port", "s3.port")
IDENTITY = {
    "name": "admin",
    "credentials": [{"accessKey": "key", "secretKey": "secret"}],
    "actions": ["Admin", "Read", "Write", "List", "Tagging"],
}


def rows(first: int, count: int) -> pa.Table:
    return pa.table(
        {"id": [f"{n:08d}" for n in range(first, first + count)], "n": list(range(first, first + count))}, SCHEMA
    )


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


@dataclass
class Weed:
    s3: str
    catalog: str


@dataclass
class Faulted:
    """A namespace of its own, seen through the gateway and directly."""

    gateway: dict[str, Any]
    weed: Weed
    log_path: Path
    namespace: str
    through: Catalog = field(init=False)
    direct: Catalog = field(init=False)

    def __post_init__(self) -> None:
        listeners = self.gateway["listeners"]
        self.through = catalog(f"http://{listeners['r2']}", f"http://{listeners['catalog']}")
        self.direct = catalog(self.weed.s3, self.weed.catalog)

    def table(self) -> Table:
        self.direct.create_namespace(self.namespace)
        self.direct.create_table(f"{self.namespace}.events", SCHEMA)
        return self.through.load_table(f"{self.namespace}.events")

    def landed(self) -> list[int]:
        """Return what is really in the table, read round the gateway."""
        column = self.direct.load_table(f"{self.namespace}.events").scan().to_arrow()["n"]
        return sorted(column.to_pylist())

    def control(self, verb: str, path: str, document: Any = None) -> Any:
        connection = http.client.HTTPConnection(self.gateway["control"], timeout=10)
        body = None if document is None else json.dumps(document)
        connection.request(verb, path, body, {"Authorization": f"Bearer {TOKEN}"})
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        assert answer.status < 300, content
        return json.loads(content) if content else None

    def put(self, rule_id: str, action: dict[str, Any], **match: Any) -> None:
        self.control("PUT", f"/rules/{rule_id}", {"match": match, "action": action})

    def lines(self, **wanted: Any) -> list[dict[str, Any]]:
        lines = map(json.loads, self.log_path.read_text().splitlines())
        return [line for line in lines if all(line.get(name) == value for name, value in wanted.items())]


def catalog(s3: str, uri: str) -> Catalog:
    properties = {
        "type": "rest",
        "uri": uri,
        "warehouse": "s3://analytics",
        "credential": "key:secret",
        "oauth2-server-uri": f"{uri}/v1/oauth/tokens",
        "s3.endpoint": s3,
        "s3.access-key-id": "key",
        "s3.secret-access-key": "secret",
        "s3.region": "us-east-1",
    }
    return load_catalog("test", **properties)


@pytest.fixture(scope="module")
def weed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Weed]:
    binary = shutil.which("weed", path=str(Path(sys.executable).parent)) or shutil.which("weed")
    if binary is None:
        pytest.skip("SeaweedFS's weed is not installed on this platform.")
    directory = tmp_path_factory.mktemp("weed")
    identities = directory / "s3.json"
    identities.write_text(json.dumps({"identities": [IDENTITY]}))
    ports = free_ports(2 * len(PORTS) + 2)
    flags = [f"-{name}{grpc}={ports.pop()}" for name in PORTS[:-1] for grpc in ("", ".grpc")]
    s3, s3_grpc, iceberg, lance = (ports.pop() for _ in range(4))
    flags += [f"-s3.port={s3}", f"-s3.port.grpc={s3_grpc}", f"-s3.port.iceberg={iceberg}", f"-s3.port.lance={lance}"]
    argv = [
        binary, "mini", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-dir={directory}", "-tableBucket=analytics",
        f"-s3.config={identities}", "-webdav=false", "-admin.ui=false", *flags,
    ]  # fmt: skip
    with (directory / "weed.log").open("wb") as log, subprocess.Popen(argv, stdout=log, stderr=log) as process:
        try:
            ready = Weed(f"http://127.0.0.1:{s3}", f"http://127.0.0.1:{iceberg}")
            wait_for(ready, process)
            yield ready
        finally:
            process.kill()


def wait_for(weed: Weed, process: subprocess.Popen[bytes]) -> None:
    """Wait until the catalog answers and knows the bucket."""
    give_up_s = time.monotonic() + 30
    while process.poll() is None and time.monotonic() < give_up_s:
        try:
            catalog(weed.s3, weed.catalog).list_namespaces()
        except Exception:
            continue
        return
    pytest.fail("SeaweedFS did not become ready.")


@pytest.fixture(scope="module")
def gateway(weed: Weed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    path = tmp_path_factory.mktemp("gateway") / "gateway.json"
    ports = free_ports(1)
    config = {
        "listeners": [
            {"name": "r2", "listen": f"127.0.0.1:{ports[0]}", "upstream": weed.s3},
            {"name": "catalog", "listen": "127.0.0.1:0", "upstream": weed.catalog},
        ],
        "control": "127.0.0.1:0",
        "token": TOKEN,
        "rewrite_s3_endpoint": f"http://127.0.0.1:{ports[0]}",
    }
    path.touch(0o600)
    path.write_text(json.dumps(config))
    argv = [sys.executable, "-m", "chaos.gateway", "--config", str(path)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            yield json.loads(process.stdout.readline())
        finally:
            process.terminate()


@pytest.fixture
def faulted(gateway: dict[str, Any], weed: Weed, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Faulted]:
    log_path = tmp_path / "gateway.jsonl"
    lab = Faulted(gateway, weed, log_path, f"t{abs(hash(request.node.name)):x}")
    lab.control("POST", "/log", {"path": str(log_path)})
    yield lab
    lab.control("DELETE", "/rules")
    lab.control("POST", "/log", {"path": None})


def test_append_goes_through_with_every_object_named(faulted: Faulted) -> None:
    """Signatures stay valid, rows arrive, and each of the append's requests has its kind in the log."""
    table = faulted.table()
    table.append(rows(0, 100))
    table.append(rows(100, 100))

    assert list(range(200)) == faulted.landed()
    written = [line["object"] for line in faulted.lines(upstream="r2") if line["verb"] == "PUT"]
    assert sorted(written[:3]) + sorted(written[3:]) == ["data-file", "manifest", "manifest-list"] * 2
    assert len(faulted.lines(object="commit", status=200)) == 2
    assert len(faulted.lines(object="load-table")) == 1
    assert [line for line in faulted.lines() if line.get("outcome", "passed") != "passed"] == []


def test_large_object_survives_in_parts(faulted: Faulted) -> None:
    """A multipart upload with trailing checksums, 25 MiB in parts of 10, comes back byte for byte; R2's rules do not mind."""
    faulted.put("r2", {"do": "r2-limits"}, upstream="r2")
    faulted.table()
    host = faulted.gateway["listeners"]["r2"]
    s3 = fs.S3FileSystem(
        endpoint_override=host, access_key="key", secret_key="secret", scheme="http", region="us-east-1"
    )
    content = bytes(range(256)) * 4 * 1024 * 25
    with s3.open_output_stream(f"analytics/{faulted.namespace}/events/data/large.parquet") as stream:
        stream.write(content)
    with s3.open_input_stream(f"analytics/{faulted.namespace}/events/data/large.parquet") as stream:
        assert content == stream.read()

    assert len([line for line in faulted.lines(object="data-file", status=200) if "partNumber" in line["path"]]) == 3


def test_lost_commit_answer_is_a_connection_error_and_a_landed_commit(faulted: Faulted) -> None:
    """The writer sees a broken connection; the rows are in the table."""
    table = faulted.table()
    faulted.put("lost", {"do": "applied", "then": {"answer": "drop"}}, object="commit", nth=1)
    with pytest.raises(requests.exceptions.ConnectionError):
        table.append(rows(0, 10))

    assert list(range(10)) == faulted.landed()
    line = faulted.lines(object="commit")[0]
    assert line["outcome"] == "answer-dropped"
    assert line["upstream_status"] == 200
    assert faulted.control("GET", "/counters")["rules"]["lost"] == {"matched": 1, "applied": 1, "passed": 0}


def test_refused_commit_does_not_land(faulted: Faulted) -> None:
    """A 503 that was not applied leaves the table as it was, and the next append works."""
    table = faulted.table()
    told = {"answer": "status", "status": 503, "retry_after_s": 1}
    faulted.put("down", {"do": "refuse", "answer": told}, object="commit", first=1)
    with pytest.raises(ServiceUnavailableError):
        table.append(rows(0, 10))
    assert faulted.landed() == []
    faulted.through.load_table(f"{faulted.namespace}.events").append(rows(10, 5))

    assert list(range(10, 15)) == faulted.landed()


def test_lost_permission_stops_the_append_at_its_object(faulted: Faulted) -> None:
    """403 on manifest lists only: data file and manifest are written, the commit never comes."""
    table = faulted.table()
    told = {"answer": "status", "status": 403}
    faulted.put("acl", {"do": "refuse", "answer": told}, upstream="r2", object="manifest-list", verb=["PUT", "POST"])
    with pytest.raises(OSError, match="ACCESS_DENIED"):
        table.append(rows(0, 10))

    assert faulted.lines(object="commit") == []
    assert faulted.lines(object="manifest", status=200)


def test_applied_conflict_with_a_stale_read_destroys_a_table_of_stock_pyiceberg(faulted: Faulted) -> None:
    """Commit applied, answered 409, refresh stale: the retry deletes the manifest list that the table now needs."""
    table = faulted.table()
    table.append(rows(0, 10))
    conflict = {"do": "applied", "then": {"answer": "status", "status": 409}}
    faulted.put("conflict", conflict, object="commit", first=1)
    faulted.put("stale", {"do": "stale", "reads": 1}, object="load-table")
    table.append(rows(10, 10))

    with pytest.raises(FileNotFoundError):
        faulted.landed()
    assert faulted.lines(outcome="stale")


def test_zombie_commit_doubles_the_rows_of_a_writer_that_checks_and_retries(faulted: Faulted) -> None:
    """Told 504, checked, not there, written again; only then the first commit lands, and stock pyiceberg keeps both."""
    table = faulted.table()
    zombie = {"do": "zombie", "answer": {"answer": "status", "status": 503}, "until": "next-arrives"}
    faulted.put("zombie", zombie, object="commit", first=1)
    with pytest.raises(ServiceUnavailableError):
        table.append(rows(0, 10))
    again = faulted.through.load_table(f"{faulted.namespace}.events")
    assert again.current_snapshot() is None
    again.append(rows(0, 10))

    assert sorted(list(range(10)) * 2) == faulted.landed()
    assert faulted.lines(released=True)[0]["upstream_status"] == 200


def test_commit_sent_twice_is_a_conflict_with_itself(faulted: Faulted) -> None:
    """A proxy that repeats the POST: the second copy is refused, the writer finds its own snapshot, the rows are there once."""
    table = faulted.table()
    faulted.put("twice", {"do": "applied", "times": 2, "then": {"answer": "real"}}, object="commit", first=1)
    try:
        table.append(rows(0, 10))
    except CommitFailedException:
        pytest.fail("The refreshed table has the snapshot, so the commit counts as landed.")

    assert list(range(10)) == faulted.landed()
    assert faulted.lines(outcome="twice")[0]["upstream_status"] == 409


def test_second_write_to_a_key_is_answered_as_r2_does(faulted: Faulted) -> None:
    """pyarrow does not retry a 429: the write fails at once, as it does on R2."""
    faulted.table()
    faulted.put("r2", {"do": "r2-limits", "write_interval_s": 60}, upstream="r2")
    io = faulted.through.load_table(f"{faulted.namespace}.events").io
    location = f"s3://analytics/{faulted.namespace}/events/data/twice.parquet"
    with io.new_output(location).create(overwrite=True) as stream:
        stream.write(b"first")

    with pytest.raises(OSError, match="HTTP status 429"), io.new_output(location).create(overwrite=True) as stream:
        stream.write(b"second")
    with io.new_input(location).open() as stored:
        assert stored.read() == b"first"
