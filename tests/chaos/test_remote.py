"""A store and a catalog that are not ours: found by the environment, signed for by the gateway, never touched unasked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from chaos.errors import BadInput
from chaos.readers import reader_environment
from chaos.stack.plan import Addresses, Credentials, make_plan
from chaos.stack.ports import Ports
from chaos.stack.remote import VARIABLES, Remote
from chaos.stack.seaweedfs import SeaweedFS
from tests.chaos.test_controller_death import ICEQUAKE, ROOT, START_S, start, until

GIVEN = {
    "ICEQUAKE_S3_ENDPOINT": "https://account.store.example",
    "ICEQUAKE_S3_ACCESS_KEY": "REALKEY",
    "ICEQUAKE_S3_SECRET_KEY": "realsecret",
    "ICEQUAKE_CATALOG_URI": "https://catalog.example/",
    "ICEQUAKE_CATALOG_WAREHOUSE": "analytics",
    "ICEQUAKE_CATALOG_TOKEN": "realtoken",
}


@pytest.mark.parametrize("missing", ["ICEQUAKE_S3_ENDPOINT", "ICEQUAKE_CATALOG_URI", "ICEQUAKE_CATALOG_TOKEN"])
def test_what_the_environment_lacks_is_said(tmp_path: Path, missing: str) -> None:
    """In one sentence, before anything is started."""
    environ = {name: value for name, value in GIVEN.items() if name != missing}
    with pytest.raises(BadInput, match=rf"^the remote stack needs {missing}"):
        Remote(tmp_path, Ports(), Credentials(), environ)


@pytest.fixture
def addresses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Addresses:
    for name, value in GIVEN.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("ICEQUAKE_CATALOG_CREDENTIAL", raising=False)
    plan = make_plan(lambda d, p, c: Remote(d, p, c, GIVEN), tmp_path, Ports(), seed=1)
    gateway = json.loads((tmp_path / "gateway.json").read_text())
    assert gateway["resign"]["access_key_env"] == "ICEQUAKE_S3_ACCESS_KEY"
    assert "realsecret" not in json.dumps(gateway)
    return plan.addresses


def test_the_target_gets_keys_that_open_nothing(addresses: Addresses) -> None:
    """Readers go straight to the store with the real pair; the target goes through the gateway with another."""
    direct, faulted = (addresses.pyiceberg_properties(direct=direct) for direct in (True, False))

    assert (direct["s3.access-key-id"], direct["s3.endpoint"]) == ("REALKEY", "https://account.store.example")
    assert (direct["uri"], direct["token"]) == ("https://catalog.example", "realtoken")
    assert "realsecret" not in faulted.values()
    assert faulted["s3.access-key-id"] != "REALKEY"
    assert faulted["uri"].startswith("http://127.0.0.1:")
    assert "credential" not in direct | faulted


def test_readers_get_the_secrets_of_their_own_stack_only(
    addresses: Addresses, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A token in the person's environment is not sent to a local catalog."""
    assert reader_environment(addresses)["ICEQUAKE_CATALOG_TOKEN"] == "realtoken"
    monkeypatch.setenv("ICEQUAKE_CATALOG_TOKEN", "realtoken")
    local = make_plan(SeaweedFS, tmp_path / "local", Ports(), seed=1).addresses
    assert "ICEQUAKE_CATALOG_TOKEN" not in reader_environment(local)


def test_the_page_names_every_variable() -> None:
    """As a person has to set it."""
    page = (ROOT / "docs" / "stacks.md").read_text(encoding="utf-8")
    assert [name for name in VARIABLES if f"`{name}`" not in page] == []


@pytest.mark.integration
def test_a_store_elsewhere_is_not_touched_unasked(tmp_path: Path) -> None:
    """The target file must allow its host; exit code 254."""
    arguments = [*ICEQUAKE, "run", "control", "--stack", "remote", "--runs", str(tmp_path)]
    done = subprocess.run(arguments, cwd=ROOT, env={**os.environ, **GIVEN}, capture_output=True, text=True, timeout=120)

    assert done.returncode == 254, done
    assert "list 'account.store.example' under `allow`" in done.stderr


@pytest.mark.integration
@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="starts a stack that it finds by its state file")
def test_a_run_on_a_stack_of_somebody_else_is_signed_for_by_the_gateway(tmp_path: Path) -> None:
    """That store checks signatures, and the target has no key to it: only what the gateway signed again gets in."""
    keeper = start("up", runs=tmp_path / "up")
    try:
        state = tmp_path / "up" / ".stack.json"
        until(lambda: state.is_file() or keeper.poll() is not None, START_S, "the stack is up")
        at = json.loads(state.read_text())["addresses"]
        given = {
            "ICEQUAKE_S3_ENDPOINT": at["s3_direct"],
            "ICEQUAKE_S3_REGION": at["region"],
            "ICEQUAKE_S3_ACCESS_KEY": at["access_key"],
            "ICEQUAKE_S3_SECRET_KEY": at["secret_key"],
            "ICEQUAKE_CATALOG_URI": at["catalog_direct"],
            "ICEQUAKE_CATALOG_WAREHOUSE": at["warehouse"],
            "ICEQUAKE_CATALOG_CREDENTIAL": f"{at['access_key']}:{at['secret_key']}",
        }
        done = subprocess.run(
            [*ICEQUAKE, "run", "quick", "--stack", "remote", "--runs", str(tmp_path / "runs"), "--json"],
            cwd=ROOT,
            env={**os.environ, **given},
            capture_output=True,
            text=True,
            timeout=280,
        )
        assert json.loads(done.stdout)["verdict"] == "PASS", done
    finally:
        keeper.terminate()
        keeper.communicate(timeout=60)
