"""The gateway as a process: how it starts, how it refuses, how it ends."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from chaos.gateway import bench
from chaos.gateway.config import address, load_config
from chaos.gateway.errors import BadConfig
from tests.chaos.gateway.fakes import TOKEN

LISTENER = {"name": "catalog", "listen": "127.0.0.1:0", "upstream": "http://127.0.0.1:8181"}
CONFIG: dict[str, Any] = {"listeners": [LISTENER], "control": "127.0.0.1:0", "token": TOKEN}


def written(directory: Path, **changes: Any) -> Path:
    path = directory / "gateway.json"
    path.touch(0o600)
    path.write_text(json.dumps(CONFIG | changes))
    return path


@contextmanager
def started(path: Path) -> Iterator[subprocess.Popen[str]]:
    argv = [sys.executable, "-m", "chaos.gateway", "--config", str(path)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.integration
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_gateway_says_when_it_is_ready_and_ends_when_told(number: signal.Signals, tmp_path: Path) -> None:
    """One line names every bound address; a signal ends the process with 0, open connections or not."""
    with started(written(tmp_path, log=str(tmp_path / "gateway.jsonl"))) as process:
        assert process.stdout is not None and process.stderr is not None
        ready = json.loads(process.stdout.readline())
        host, _, port = ready["listeners"]["catalog"].rpartition(":")
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(b"POST /v1/namespaces/n/tables/t HTTP/1.1\r\nContent-Length: 5\r\n\r\nab")
            process.send_signal(number)

            assert (ready["ready"], process.wait(10)) == (True, 0)
            assert process.stderr.read() == ""
    assert json.loads((tmp_path / "gateway.jsonl").read_text().splitlines()[0])["schema"] == "icequake.gateway/1.0"


@pytest.mark.integration
def test_taken_port_is_one_sentence_and_255(tmp_path: Path) -> None:
    """The sentence names the address and the listener; nothing is printed on stdout."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        where = f"127.0.0.1:{taken.getsockname()[1]}"
        with started(written(tmp_path, control=where)) as process:
            out, err = process.communicate(timeout=20)

    assert (process.returncode, out) == (255, "")
    assert [
        f"The gateway cannot listen on {where} for 'control': Address already in use. Free the port or choose another."
    ] == (err.splitlines())


@pytest.mark.integration
def test_wrong_configuration_is_one_sentence_and_254(tmp_path: Path) -> None:
    """Bad files and bad arguments end before anything is bound."""
    for argv in (["--config", str(tmp_path / "none.json")], [], ["--config", str(written(tmp_path, listeners=[]))]):
        done = subprocess.run(
            [sys.executable, "-m", "chaos.gateway", *argv], capture_output=True, text=True, timeout=20
        )

        assert done.returncode == 254
        assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"listeners": []}, "listeners"),
        ({"token": "short"}, "token"),
        ({"port": 1}, "unknown field `port`"),
        ({"control": "0.0.0.0:1"}, "not a loopback address"),
        ({"listeners": [LISTENER | {"listen": "192.168.0.1:80"}]}, "not a loopback address"),
        ({"listeners": [LISTENER, LISTENER]}, "one name"),
        ({"listeners": [LISTENER | {"upstream": "127.0.0.1:80"}]}, "is not http://host:port"),
        ({"listeners": [LISTENER | {"upstream": "http://h:x"}]}, "is not http://host:port"),
        ({"listeners": [LISTENER | {"name": "r2", "upstream": "https://a.r2.cloudflarestorage.com"}]}, "set resign"),
    ],
)
def test_contradiction_in_the_configuration_is_named(changes: dict[str, Any], words: str, tmp_path: Path) -> None:
    """File, field and remedy, in one sentence."""
    with pytest.raises(BadConfig, match=words) as caught:
        load_config(written(tmp_path, **changes))

    assert str(caught.value).startswith(str(tmp_path))


def test_configuration_that_others_can_read_is_refused(tmp_path: Path) -> None:
    """The file holds the token."""
    path = written(tmp_path)
    path.chmod(0o644)
    with pytest.raises(BadConfig, match="chmod 600"):
        load_config(path)


def test_credentials_come_from_the_environment_only(tmp_path: Path) -> None:
    """The file names variables; one that is not set is an error that names it."""
    config = load_config(written(tmp_path, resign={"access_key_env": "AK", "secret_key_env": "SK"}))
    assert config.resign is not None
    found = config.resign.credentials({"AK": "key", "SK": "secret"})

    assert found is not None and (found.access_key, found.secret_key) == ("key", "secret")
    with pytest.raises(BadConfig, match="variable SK is not set"):
        config.resign.credentials({"AK": "key"})


def test_addresses_of_both_families_are_loopback() -> None:
    """IPv6 is written in brackets."""
    assert address("[::1]:80") == ("::1", 80)


@pytest.mark.integration
def test_bench_measures_a_real_gateway(capsys: pytest.CaptureFixture[str]) -> None:
    """The benchmark runs to its end and its figures are plausible: the gateway costs something, and not much."""
    assert bench.main(["--seconds", "0.3", "--json"]) == 0
    price = json.loads(capsys.readouterr().out)

    assert 0 < price["direct_p50_ms"] < price["gateway_p50_ms"] < 50
    assert price["requests_per_s"] > 100
    if os.path.exists("/proc/self/stat"):  # noqa: PTH110
        assert price["peak_rss_mib"] < 200
