"""A target is found by name or path, gets ports of its own, and is started until it says that it is ready."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, cast

import pytest

from chaos import target as targets
from chaos.errors import BadTarget, NotReady
from chaos.stack import Addresses
from chaos.target import TARGETS, TargetProcess, answers, find_target, place, target_environment, target_names
from loadtests.records.target import Admin, Contract, Ingest, Metrics, Process, Target
from tests.chaos.fakes import ok, replying

FILE = """\
name: mine
ingest: {url: "http://127.0.0.1:{port}/events"}
process: {command: ["{python}", "{here}/mine.py"], ready: "http://127.0.0.1:{port}/healthz"}
"""


@pytest.mark.parametrize("name", target_names())
def test_shipped_targets_are_found_by_name(name: str) -> None:
    """And are named like their files."""
    path, target = find_target(name)
    assert (path, target.name) == (TARGETS / f"{name}.yaml", name)


def test_a_file_is_taken_as_it_is(tmp_path: Path) -> None:
    """Anything that ends in .yaml or .yml is a path."""
    (tmp_path / "mine.yml").write_text(FILE)
    assert find_target(str(tmp_path / "mine.yml"))[1].name == "mine"


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("nobody", None, r"^there is no target 'nobody'; there are naive, reference, or give a \.yaml file\.$"),
        ("DIR/none.yaml", None, r"none\.yaml does not exist\.$"),
        ("DIR/mine.yaml", FILE.replace("ingest", "inject"), r"mine\.yaml:2: Object contains unknown field `inject`\.$"),
        ("DIR/mine.yaml", FILE + "x: [", r"mine\.yaml:4: "),
        ("DIR/mine.yaml", "schema: icequake.target/2.0\n", r"mine\.yaml has format icequake\.target/2\.0; "),
    ],
)
def test_a_bad_target_is_one_sentence(tmp_path: Path, name: str, text: str | None, sentence: str) -> None:
    """Unknown, missing, wrong or newer; exit code 254."""
    if text is not None:
        (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(BadTarget, match=sentence) as caught:
        find_target(name.replace("DIR", str(tmp_path)))
    assert (caught.value.exit_code, "\n" in str(caught.value)) == (254, False)


def test_a_run_fills_in_ports_interpreter_and_directory(tmp_path: Path) -> None:
    """Everywhere in the file, and nothing else is touched."""
    target = Target(
        name="mine",
        ingest=Ingest(url="http://127.0.0.1:{port}/events", headers={"X-Port": "{port}", "X-Other": "{other}"}),
        admin=Admin(url="http://127.0.0.1:{admin_port}/admin"),
        metrics=Metrics(url="http://127.0.0.1:{port}/metrics", fill="fill"),
        process=Process(command=["{python}", "{here}/mine.py"], ready="http://127.0.0.1:{port}/healthz", ready_s=3),
    )
    placed = place(tmp_path / "mine.yaml", target)
    filled = placed.target
    assert placed.port != placed.admin_port
    assert filled.ingest.url == f"http://127.0.0.1:{placed.port}/events"
    assert filled.ingest.headers == {"X-Port": str(placed.port), "X-Other": "{other}"}
    assert filled.admin is not None
    assert filled.admin.url.startswith(f"http://127.0.0.1:{placed.admin_port}/")
    assert filled.process is not None
    assert filled.process.command == [sys.executable, f"{tmp_path.resolve()}/mine.py"]
    assert filled.process.ready_s == 3


def test_two_runs_get_different_ports(tmp_path: Path) -> None:
    """Warm stacks serve many runs; none may meet the target of another."""
    target = Target(name="mine", ingest=Ingest(url="http://127.0.0.1:{port}/events"))
    ports = [
        number for _ in range(20) for placed in [place(tmp_path, target)] for number in (placed.port, placed.admin_port)
    ]
    assert all(1024 < port < 65_536 for port in ports)
    assert len(set(ports)) > 30


ADDRESSES = Addresses(
    s3_direct="http://127.0.0.1:1", catalog_direct="http://127.0.0.1:2", s3_faulted="http://127.0.0.1:3",
    catalog_faulted="http://127.0.0.1:4", ingest_faulted="http://127.0.0.1:5", toxiproxy_api="http://127.0.0.1:6",
    gateway_control="http://127.0.0.1:7", gateway_token="token", access_key="access", secret_key="secret",
    region="us-east-1", warehouse="s3://analytics", bucket="analytics", scratch_bucket="scratch",
)  # fmt: skip


def environment(tmp_path: Path, **contract: Any) -> dict[str, str]:
    target = Target(name="mine", ingest=Ingest(url="http://127.0.0.1:{port}/events"), contract=Contract(**contract))
    return target_environment(place(tmp_path / "mine.yaml", target), ADDRESSES, "run_ab12cd34.events", tmp_path)


def test_cloud_credentials_are_not_inherited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A target under test must not write to the bucket of the person who tests it; the rest it may know."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_PROFILE", "S3_BUCKET", "CATALOG_TOKEN"):
        monkeypatch.setenv(name, "canary")
    monkeypatch.setenv("ICEQUAKE_TEST_VARIABLE", "kept")
    environ = environment(tmp_path)
    assert "canary" not in environ.values()
    assert environ["ICEQUAKE_TEST_VARIABLE"] == "kept"


def test_a_target_is_pointed_at_the_faulted_paths_only(tmp_path: Path) -> None:
    """It cannot reach storage or catalog past the faults: the direct addresses are not among its variables."""
    environ = environment(tmp_path)
    assert (environ["S3_ENDPOINT"], environ["CATALOG_URI"]) == (ADDRESSES.s3_faulted, ADDRESSES.catalog_faulted)
    assert environ["CATALOG_OAUTH2_URI"].startswith(ADDRESSES.catalog_faulted)
    assert environ["CATALOG_CREDENTIAL"] == "access:secret"
    for value in environ.values():
        assert ADDRESSES.s3_direct + "/" not in value + "/"
        assert ADDRESSES.catalog_direct + "/" not in value + "/"


def test_a_target_has_a_place_for_its_data_and_a_token_of_its_own(tmp_path: Path) -> None:
    """The data directory outlives a kill; the token is long, and another in every run."""
    first, second = environment(tmp_path), environment(tmp_path)
    assert Path(first["DATA_DIR"]).is_dir()
    assert first["ADMIN_TOKEN"] != second["ADMIN_TOKEN"]
    assert len(first["ADMIN_TOKEN"]) >= 32


def test_the_buffer_is_as_large_as_the_contract_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What fill is measured against is what the target is given; without a promise nothing is set."""
    monkeypatch.delenv("ICEBERG_BUFFER_SIZE", raising=False)
    assert environment(tmp_path, capacity_events=5000)["ICEBERG_BUFFER_SIZE"] == "5000"
    assert "ICEBERG_BUFFER_SIZE" not in environment(tmp_path)


class FakeWarden:
    """Starts nothing; its child ends when it is told to, or is dead from the start."""

    def __init__(self, *, status: int | None = None) -> None:
        self.pid, self.status = 4711, status
        self.spawned: list[dict[str, Any]] = []

    def spawn(self, name: str, argv: list[str], **how: Any) -> FakeWarden:
        self.spawned.append({"name": name, "argv": argv, **how})
        return self

    def poll(self) -> int | None:
        return self.status

    def kill(self) -> int | None:
        self.status = -9
        return self.status

    def stop(self, grace_s: float) -> int | None:
        self.status = 0
        return self.status

    def log_tail(self) -> str:
        return "first\nTraceback: no such table\n"


def process(tmp_path: Path, warden: FakeWarden, *, ready_s: float = 20, port: int = 1, **more: Any) -> TargetProcess:
    how = Process(
        command=["run", "it"], ready=f"http://127.0.0.1:{port}/ready", ready_s=ready_s, env={"B": "file", "C": "file"}
    )
    return TargetProcess(how, warden=cast(Any, warden), env={"A": "run", "B": "run"}, log=tmp_path / "log", **more)


@pytest.mark.integration
def test_a_target_is_started_when_it_answers(tmp_path: Path) -> None:
    """With its command and its environment, in which the target file has the last word."""
    warden = FakeWarden()
    with replying(lambda _: ok()) as server:
        started = process(tmp_path, warden, port=int(server.url.rpartition(":")[2]))
        assert started.pid is None
        started.start()
    assert started.pid == 4711
    (spawned,) = warden.spawned
    assert (spawned["argv"], spawned["env"]) == (["run", "it"], {"A": "run", "B": "file", "C": "file"})
    assert started.kill() == -9
    assert started.pid is None


def test_a_target_that_ends_before_it_is_ready_is_one_sentence(tmp_path: Path) -> None:
    """With its status and the last line it wrote."""
    sentence = r"^the target ended with status 3 before it was ready; its last line was: Traceback: no such table$"
    with pytest.raises(NotReady, match=sentence):
        process(tmp_path, FakeWarden(status=3)).start()


def test_a_target_that_never_becomes_ready_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After its own `ready_s`; exit code 255."""
    monkeypatch.setattr(targets, "POLL_S", 0)
    with pytest.raises(NotReady, match=r"^the target was not ready after 0\.0 s; its last line was") as caught:
        process(tmp_path, FakeWarden(), ready_s=0.001).start()
    assert caught.value.exit_code == 255


@pytest.mark.parametrize(("status", "told"), [(3, 1), (-9, 0)])
def test_a_target_that_does_not_come_back_is_told_and_no_failure(tmp_path: Path, status: int, told: int) -> None:
    """What it owes is the verdict's to judge; one that was killed before it was ready was not given the time."""
    absent: list[str] = []
    target = process(tmp_path, FakeWarden(status=status), on_absent=absent.append)
    target.come_back()
    assert len(absent) == told
    assert all(f"ended with status {status} before it was ready" in why for why in absent)


def test_a_target_that_was_never_started_can_be_stopped(tmp_path: Path) -> None:
    """Tearing down needs no bookkeeping."""
    assert process(tmp_path, FakeWarden()).stop() is None


@pytest.mark.integration
@pytest.mark.parametrize(
    ("answer", "good"),
    [
        (ok(status="202 Accepted"), True),
        (ok(status="503 Busy"), False),
        (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", False),
        (b"\r\n\r\n", False),
    ],
)
def test_only_a_2xx_is_an_answer(answer: bytes, good: bool) -> None:
    """A refusal, another protocol and nonsense are not ready, and no traceback."""
    with replying(lambda _: answer) as server:
        assert answers(server.url) is good


@pytest.mark.parametrize("url", ["http://127.0.0.1:{}/", "http://127.0.0.1:99999/", "http://[::1/", "file:///none"])
def test_no_answer_is_no_answer(url: str) -> None:
    """A closed port and impossible URLs alike."""
    assert answers(url.format(targets.free_port())) is False


def test_free_ports_differ_and_no_outgoing_connection_takes_them() -> None:
    """A server that starts slowly still gets its port: nobody was given it meanwhile, neither here nor by the kernel."""
    ports = [targets.free_port() for _ in range(30)]
    assert len(set(ports)) == 30
    assert all(20_000 <= port < 32_000 for port in ports)
