import os
import signal
import stat
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path

import pyarrow as pa
import pytest
import requests
from pyiceberg.catalog import load_catalog
from pyiceberg.table import Table

from chaos.errors import BadState, ChaosError, NotReady, PortTaken, StackInUse, ToolMissing
from chaos.journal import open_entries
from chaos.setup import SetupError, find_toxiproxy
from chaos.stack import STACKS, Stack, attach, start
from chaos.stack.plan import CatalogAccess, Credentials
from chaos.stack.ports import Ports
from chaos.stack.seaweedfs import find_weed
from chaos.stack.service import Service, http
from chaos.warden_client import PACKAGE_ROOT, Warden
from tests.chaos.processes import PATIENCE_S, PROMPT_S, WAIT_FOREVER, all_gone, gone, python, recorder, stopped, until

ROWS = pa.table({"id": ["a", "b", "c"]})
CONTROLLER = """
import sys
from pathlib import Path
from chaos.stack import STACKS, start
from chaos.warden_client import Warden
home = Path(sys.argv[1])
warden = Warden()
warden.use_journal(home / "journal.jsonl", "run1")
stack = start(STACKS["seaweedfs"], warden, home / "stack")
stack.toxics.add("r2", "latency", {"latency": 100}, name="slow")
print(warden.pid, *(child.pid for child in stack.children.values()), flush=True)
sys.stdin.read()
"""


def needs_servers() -> None:
    try:
        find_weed(), find_toxiproxy()
    except (SetupError, ToolMissing) as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("stack")


@pytest.fixture(scope="module")
def warden(home: Path) -> Iterator[Warden]:
    with Warden(lease_s=60, log=home / "warden.log") as warden:
        yield warden


@pytest.fixture(scope="module")
def warm(warden: Warden, home: Path) -> Iterator[Stack]:
    needs_servers()
    with start(STACKS["seaweedfs"], warden, home / "stack") as stack:
        yield stack
    assert stack.dead().keys() == stack.children.keys()


@pytest.fixture
def stack(warm: Stack) -> Iterator[Stack]:
    """The warm stack, clean before and after."""
    yield warm
    warm.reset()


def new_table(stack: Stack, direct: bool) -> Table:
    catalog = load_catalog("test", **stack.pyiceberg_properties(direct))
    namespace = f"run_{uuid.uuid4().hex[:8]}"
    catalog.create_namespace(namespace)
    return catalog.create_table(f"{namespace}.events", ROWS.schema)


def reread(stack: Stack, table: Table) -> int:
    """Count the rows that a fresh reader sees past every faulted path."""
    catalog = load_catalog("reader", **stack.pyiceberg_properties(direct=True))
    return len(catalog.load_table(table.name()).scan().to_arrow())


@pytest.mark.integration
class TestWarmStack:
    def test_what_is_appended_on_the_faulted_path_is_read_on_the_direct_one(self, stack: Stack) -> None:
        """Both paths lead to one table, and the client's S3 endpoint stays on the path it came by."""
        table = new_table(stack, direct=False)
        table.append(ROWS)
        assert table.io.properties["s3.endpoint"] == stack.addresses.s3_faulted
        assert reread(stack, table) == 3

    def test_the_faulted_path_passes_the_gateway(self, stack: Stack, tmp_path: Path) -> None:
        """Every request on the faulted path is in the gateway's log, data file and commit by kind; none of the judge's."""
        log = tmp_path / "gateway.jsonl"
        stack.set_gateway_log(log, run_id="run1", seed=7)
        new_table(stack, direct=False).append(ROWS)
        text = until(lambda: log.exists() and '"commit"' in log.read_text() and log.read_text())
        assert '"data-file"' in text
        lines = len(text.splitlines())
        reread(stack, new_table(stack, direct=True))
        stack.set_gateway_log(None)
        assert len(log.read_text().splitlines()) == lines

    def test_faults_hit_the_faulted_path_only(self, stack: Stack) -> None:
        """With the r2 path closed an append fails on the faulted path and works on the direct one."""
        faulted, direct = new_table(stack, direct=False), new_table(stack, direct=True)
        stack.toxics.disable("r2")
        with pytest.raises(OSError):  # whatever the S3 client makes of a refused connection
            faulted.append(ROWS)
        direct.append(ROWS)
        stack.reset()
        faulted.append(ROWS)
        assert reread(stack, faulted) == reread(stack, direct) == 3

    def test_ingest_leads_where_it_is_pointed(self, stack: Stack) -> None:
        """The ingest path leads to the target of the current run, and nowhere after a reset."""
        with recorder(200) as target:
            stack.point_ingest_at(target.server_address[1])
            answer = http("GET", f"{stack.addresses.ingest_faulted}/events")
            assert answer is not None
            assert answer.status_code == 200
            stack.reset()
            assert http("GET", f"{stack.addresses.ingest_faulted}/events") is None
            assert len(target.seen) == 1

    def test_reset_removes_what_others_left(self, stack: Stack) -> None:
        """Toxics and rules that this object never knew of are removed too."""
        url = f"{stack.addresses.toxiproxy_api}/proxies/r2/toxics"
        requests.post(url, json={"type": "latency", "name": "stray", "attributes": {"latency": 1}}, timeout=5)
        stack.gateway.put_rule("stray", {"match": {"upstream": "catalog"}, "action": {"do": "pass"}})
        stack.reset()
        assert requests.get(url, timeout=5).json() == []
        assert stack.gateway.rules() == {}

    def test_a_frozen_toxiproxy_is_healed(self, stack: Stack) -> None:
        """A frozen Toxiproxy is replaced while a toxic is removed, and the path works again."""
        table = new_table(stack, direct=False)
        notes: list[str] = []
        stack.note = notes.append
        stack.toxics.add("r2", "timeout", {"timeout": 0}, name="hang")
        stack.children["toxiproxy"].signal(signal.SIGSTOP)
        until(lambda: stopped(stack.children["toxiproxy"].pid))
        stack.toxics.remove("r2", "hang")
        table.append(ROWS)
        assert "killing toxiproxy" in notes[-1]

    def test_a_killed_gateway_comes_back_with_its_log(self, stack: Stack, tmp_path: Path) -> None:
        """A gateway that was killed is restarted on its ports, without rules, and writes to the run's log."""
        table = new_table(stack, direct=False)
        stack.set_gateway_log(tmp_path / "gateway.jsonl", run_id="run1")
        stack.kill("gateway")
        assert stack.dead() == {"gateway": -signal.SIGKILL}
        stack.restart("gateway")
        table.append(ROWS)
        until(lambda: '"commit"' in (tmp_path / "gateway.jsonl").read_text())
        assert stack.dead() == {}

    def test_a_server_that_died_by_itself_is_told_from_one_that_was_killed(self, stack: Stack) -> None:
        """The one is lost, and comes back when the stack is revived; the other is what a fault wanted."""
        stack.kill("gateway")
        assert (stack.dead(), stack.lost()) == ({"gateway": -signal.SIGKILL}, {})
        stack.restart("gateway")
        os.kill(stack.children["gateway"].pid, signal.SIGKILL)
        assert until(lambda: stack.lost()) == {"gateway": -signal.SIGKILL}

        assert stack.revive() == ["gateway had ended with status -9 and was started again"]
        assert (stack.dead(), stack.revive()) == ({}, [])
        new_table(stack, direct=False).append(ROWS)

    def test_a_hung_server_is_revived(self, stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
        """It lives and says nothing, so another takes its place and serves."""
        monkeypatch.setattr("chaos.stack.local.HUNG_S", 0.5)
        pid = stack.children["toxiproxy"].pid
        os.kill(pid, signal.SIGSTOP)
        until(lambda: stopped(pid))  # the signal may take a moment

        assert stack.revive() == ["toxiproxy did not answer any more and was started again"]
        new_table(stack, direct=False).append(ROWS)

    def test_killed_storage_keeps_what_was_committed(self, stack: Stack) -> None:
        """A table survives kill -9 of storage and catalog."""
        table = new_table(stack, direct=True)
        table.append(ROWS)
        stack.kill("seaweedfs")
        stack.restart("seaweedfs")
        assert reread(stack, table) == 3

    def test_everything_listens_on_loopback_only(self, stack: Stack) -> None:
        """No server of the stack is reachable from another machine."""
        assert [address for child in stack.children.values() for address in listening(child.pid)]
        for child in stack.children.values():
            assert all(
                address.startswith(("0100007F:", "00000000000000000000000001000000:"))
                for address in listening(child.pid)
            )

    def test_secrets_are_private(self, stack: Stack) -> None:
        """No secret is in the addresses' repr, and no file with one can be read by others."""
        shown = repr(stack.addresses)
        assert stack.addresses.secret_key not in shown
        assert stack.addresses.gateway_token not in shown
        for path in (stack.directory / "gateway.json", stack.directory / "storage" / "s3.json"):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600

    def test_capabilities_are_a_copy(self, stack: Stack) -> None:
        """What a stack can show is told by name."""
        stack.capabilities().clear()
        assert stack.capabilities()["metadata_objects_matter"] is False

    def test_another_process_may_use_it_alone(self, stack: Stack, warden: Warden, tmp_path: Path) -> None:
        """An attached stack works, is exclusive, cannot restart servers, and is clean when it is released."""
        state = tmp_path / "stack.json"
        stack.save_state(state)
        assert stat.S_IMODE(state.stat().st_mode) == 0o600
        guest = attach(state, warden)
        guest.toxics.add("r2", "latency", {"latency": 1}, name="slow")
        new_table(guest, direct=False).append(ROWS)
        with pytest.raises(StackInUse, match="another run"):
            attach(state, warden)
        with pytest.raises(ChaosError, match="icequake up"):
            guest.restart("gateway")
        guest.stop()
        with attach(state, warden) as next_guest:
            assert next_guest.toxics.active == []
            assert requests.get(f"{stack.addresses.toxiproxy_api}/proxies/r2/toxics", timeout=5).json() == []
        assert stack.dead() == {}


@pytest.mark.integration
def test_a_killed_controller_leaves_no_server(tmp_path: Path) -> None:
    """kill -9 of a controller with a toxic on: every server is gone, no fault is open, no socket file is left."""
    needs_servers()
    controller = subprocess.Popen(
        [sys.executable, "-c", CONTROLLER, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(PACKAGE_ROOT)},
    )
    with controller:
        assert controller.stdout
        pids = [int(pid) for pid in controller.stdout.readline().split()]
        controller.send_signal(signal.SIGKILL)
        assert all_gone(pids, PROMPT_S)
    assert len(pids) == 4
    assert open_toxics(tmp_path / "journal.jsonl") == []


def open_toxics(journal: Path) -> list[str]:
    return [entry["url"] for entry in open_entries(journal).values() if entry["kind"] == "http"]


def listening(pid: int) -> list[str]:
    """List the TCP addresses a process listens on, as in /proc/net/tcp."""
    owned = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            owned.add(str(descriptor.readlink()))
        except FileNotFoundError:
            continue
    found = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in owned:
                found.append(fields[1])
    return found


# -- what can go wrong before it serves


def test_a_server_that_ends_is_told_with_its_last_line(warden: Warden, tmp_path: Path) -> None:
    """A server that ends instead of serving is named at once, with status and last words."""
    service = Service("storage", python("print('disk full', flush=True); raise SystemExit(7)"), lambda: False)
    with pytest.raises(
        NotReady, match=r"storage ended with status 7 before it was ready; its last line was: disk full"
    ):
        service.wait_ready(service.spawn(warden, tmp_path))


def test_a_server_that_never_serves_is_told(warden: Warden, tmp_path: Path) -> None:
    """A server that runs and does not serve is given up after its time."""
    service = Service("storage", python(WAIT_FOREVER), lambda: False)
    child = service.spawn(warden, tmp_path)
    with pytest.raises(NotReady, match=r"storage was not ready after 0\.1 s"):
        service.wait_ready(child, within_s=0.1)
    child.kill()


@pytest.mark.parametrize(
    "words",
    [
        "listen tcp 127.0.0.1:8474: bind: address already in use",
        "Port allocation failed: port 21107 for S3 (specified by flag s3.port) is not available on 127.0.0.1",
    ],
)
def test_a_taken_port_is_told_apart(warden: Warden, tmp_path: Path, words: str) -> None:
    """What servers say about a taken port becomes PortTaken, so that other ports are tried."""
    service = Service("x", python(f"print({words!r}, flush=True); raise SystemExit(1)"), lambda: False)
    with pytest.raises(PortTaken, match="port taken by another program"):
        service.wait_ready(service.spawn(warden, tmp_path))


class Unlucky:
    """A backend whose only server finds its port taken, or does not know any."""

    name, region, bucket, scratch_bucket, warehouse = "unlucky", "r", "b", "s", "s3://b"
    s3_url = catalog_url = "http://127.0.0.1:1"
    capabilities: dict[str, bool] = {}  # noqa: RUF012
    roles: dict[str, str] = {}  # noqa: RUF012
    credentials = target_credentials = Credentials()
    access = CatalogAccess()
    resign: Mapping[str, object] | None = None

    def __init__(self, words: str) -> None:
        self.words = words
        self.tries = 0

    def services(self) -> list[Service]:
        self.tries += 1
        code = f"print({self.words!r}, flush=True); raise SystemExit(1)"
        return [Service("unlucky", python(code), lambda: False)]


@pytest.mark.integration
@pytest.mark.parametrize(
    ("words", "error", "tries"), [("address already in use", PortTaken, 3), ("no idea", NotReady, 1)]
)
def test_only_taken_ports_are_tried_again(
    warden: Warden, tmp_path: Path, words: str, error: type[ChaosError], tries: int
) -> None:
    """Three sets of ports are tried, any other failure is final; either way nothing is left running."""
    needs_servers()
    backend = Unlucky(words)
    started: list[int] = []
    spawn = warden.spawn

    def watched(*args: object, **kwargs: object) -> object:
        child = spawn(*args, **kwargs)  # type: ignore[arg-type]
        started.append(child.pid)
        return child

    warden.spawn = watched  # type: ignore[assignment, method-assign]
    try:
        with pytest.raises(error):
            start(lambda *_: backend, warden, tmp_path)
    finally:
        warden.spawn = spawn  # type: ignore[method-assign]
    assert backend.tries == tries
    assert all(gone(pid, PATIENCE_S) for pid in started)


def test_weed_missing_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the wheel does not exist and PATH has none, the sentence says what to do."""
    monkeypatch.setattr("importlib.metadata.files", lambda _: None)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ToolMissing, match="put `weed` on PATH") as caught:
        find_weed()
    assert caught.value.exit_code == 255


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "no stack is up"),
        ("{", "does not describe a stack"),
        ('{"schema": "icequake.stack/2.0"}', "another version"),
        ('{"schema": "icequake.stack/1.0", "routes": {}}', "does not describe a stack"),
    ],
)
def test_an_unusable_state_file_is_one_sentence(warden: Warden, tmp_path: Path, text: str | None, words: str) -> None:
    """A missing, broken or foreign stack file says to run `icequake up`."""
    path = tmp_path / "stack.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(BadState, match=words) as caught:
        attach(path, warden)
    assert "icequake up" in str(caught.value)
    assert caught.value.exit_code == 254


def test_nobody_answers_is_none() -> None:
    """Asking a port where nothing listens answers None, soon."""
    ports = Ports()
    assert http("GET", f"http://127.0.0.1:{ports.take()}/") is None
    ports.close()
