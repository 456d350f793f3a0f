"""Iceberg's own REST compatibility kit, in Java, against the catalog of the moto stack.

It runs where `java`, `mvn` and the kit's jars are; ``mvn -f tests/rck/pom.xml test`` fetches those once.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from xml.etree import ElementTree

import pytest

from chaos.stack import Ports, Stack
from chaos.stack.facade.config import Config
from chaos.stack.plan import write_private
from chaos.stack.service import Service, http
from chaos.warden_client import Warden
from tests.chaos.test_moto import started

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(600)]

POM = Path(__file__).parents[1] / "rck" / "pom.xml"
MINUTES = 9
LOCAL = "testLoadTableWithMissingMetadataFile"
LOCAL_FILES = "org.apache.iceberg.hadoop.HadoopFileIO"
MISSING = {
    "createTableTransaction(int)[3]": "format version 3",
    "testCreateTableWithDefaultColumnValue": "format version 3",
    "testLoadTableWithMissingMetadataFile(Path)": "a metadata file on the local disk; here it is in S3",
}
"""Every test of tables and namespaces that fails -> what it needs."""


@pytest.fixture(scope="module")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    yield from started("moto", tmp_path_factory.mktemp("moto"))


@pytest.fixture(scope="module")
def results(moto: Stack, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str | None]]:
    """What the kit says of the moto stack."""
    at = moto.addresses
    return run_kit(
        settings(at.catalog_direct, at.warehouse, at.access_key, at.secret_key), tmp_path_factory.mktemp("rck")
    )


def run_kit(env: dict[str, str], output: Path, *options: str) -> dict[str, dict[str, str | None]]:
    """Class -> test -> why it failed; None for one that passed. Skipped tests are left out."""
    if shutil.which("java") is None or shutil.which("mvn") is None:
        pytest.skip("java or mvn is missing: the compatibility kit does not run")
    done = subprocess.run(
        ["mvn", "-B", "-o", "-f", POM, f"-Drck.output={output}", *options, "test"],
        env=os.environ | env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, timeout=MINUTES * 60, check=False,
    )  # fmt: skip
    if "in offline mode" in done.stdout:
        pytest.skip(f"jars of the compatibility kit are missing: mvn -f {POM.name} test fetches them")
    assert done.returncode == 0, done.stdout[-3000:]
    return {path.stem.rpartition(".")[2]: read(path) for path in output.glob("surefire-reports/TEST-*.xml")}


def settings(uri: str, warehouse: str, key: str, secret: str) -> dict[str, str]:
    """All that the kit needs to know; the catalog's configuration tells it where the objects are."""
    return {
        "AWS_REGION": "us-east-1",
        "CATALOG_URI": uri,
        "CATALOG_WAREHOUSE": warehouse,
        "CATALOG_CREDENTIAL": f"{key}:{secret}",
        "AWS_ACCESS_KEY_ID": key,
        "AWS_SECRET_ACCESS_KEY": secret,
    }


def read(path: Path) -> dict[str, str | None]:
    cases = ElementTree.parse(path).iter("testcase")
    ran = [case for case in cases if case.find("skipped") is None]
    return {case.attrib["name"]: why(case) for case in ran}


def why(case: ElementTree.Element) -> str | None:
    for kind in ("failure", "error"):
        if (found := case.find(kind)) is not None:
            return found.text or kind
    return None


def test_tables_and_namespaces(results: dict[str, dict[str, str | None]]) -> None:
    """All pass but those that need what this catalog does not have."""
    tests = results["NestedCatalogTests"]
    failed = {name: problem for name, problem in tests.items() if problem is not None}
    assert failed.keys() == MISSING.keys(), "\n\n".join(f"{name}: {why}" for name, why in failed.items())[:5000]
    assert len(tests) - len(failed) >= 98


def test_views_are_all_that_is_missing_where_views_are_tested(results: dict[str, dict[str, str | None]]) -> None:
    """Every failure is one of an endpoint of views, which the catalog does not claim to have."""
    tests = results["RESTCompatibilityKitViewCatalogTests"]
    other = {name: problem for name, problem in tests.items() if problem and not about_views(problem)}
    assert not other


@contextmanager
def local_catalog(directory: Path) -> Iterator[dict[str, str]]:
    """Start the catalog by itself, with tables in local files, as the kit's own server keeps them."""
    warehouse = f"file:{directory}/warehouse"
    with Warden() as warden:
        config = Config(
            "127.0.0.1", 1, Ports().take(), "key", "secret", "us-east-1", (), warehouse, str(directory / "catalog.db")
        )
        write_private(directory / "facade.json", config.document())
        argv: list[str | Path] = [sys.executable, "-m", "chaos.stack.facade", "--config", directory / "facade.json"]
        service = Service("catalog", argv, lambda: http("GET", f"{config.catalog_url}/v1/config") is not None)
        service.wait_ready(service.spawn(warden, directory))
        yield settings(config.catalog_url, warehouse, "key", "secret") | {"CATALOG_IO__IMPL": LOCAL_FILES}


def test_a_lost_local_metadata_file(tmp_path: Path) -> None:
    """The one test of tables that needs local files passes where they are."""
    with local_catalog(tmp_path) as env:
        found = run_kit(env, tmp_path / "rck", f"-Drck.tests=NestedCatalogTests#{LOCAL}*")
    assert found == {"NestedCatalogTests": {f"{LOCAL}(Path)": None}}


def about_views(problem: str) -> bool:
    return "Server does not support endpoint" in problem and "/views" in problem
