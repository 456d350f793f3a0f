"""Iceberg's own REST compatibility kit, in Java, against the catalog of the moto stack.

It runs where `java`, `mvn` and the kit's jars are; ``mvn -f tests/rck/pom.xml test`` fetches those once.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

from chaos.stack import Stack
from tests.chaos.test_moto import started

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(600)]

POM = Path(__file__).parents[1] / "rck" / "pom.xml"
MINUTES = 9
MISSING = {
    "createTableTransaction(int)[3]": "format version 3",
    "testCreateTableWithDefaultColumnValue": "format version 3",
    "testLoadTableWithMissingMetadataFile(Path)": "the test moves the metadata file on the local disk; here it is in S3",
}
"""Every test of tables and namespaces that fails -> what it needs."""


@pytest.fixture(scope="module")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    yield from started("moto", tmp_path_factory.mktemp("moto"))


@pytest.fixture(scope="module")
def results(moto: Stack, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str | None]]:
    """Class -> test -> why it failed; None for one that passed. Skipped tests are left out."""
    if shutil.which("java") is None or shutil.which("mvn") is None:
        pytest.skip("java or mvn is missing: the compatibility kit does not run")
    output = tmp_path_factory.mktemp("rck")
    done = subprocess.run(
        ["mvn", "-B", "-o", "-f", POM, f"-Drck.output={output}", "test"],
        env=os.environ | settings(moto), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, timeout=MINUTES * 60, check=False,
    )  # fmt: skip
    if "in offline mode" in done.stdout:
        pytest.skip(f"jars of the compatibility kit are missing: mvn -f {POM.name} test fetches them")
    assert done.returncode == 0, done.stdout[-3000:]
    return {path.stem.rpartition(".")[2]: read(path) for path in output.glob("surefire-reports/TEST-*.xml")}


def settings(moto: Stack) -> dict[str, str]:
    """All that the kit needs to know; the catalog's configuration tells it where the objects are."""
    at = moto.addresses
    return {
        "AWS_REGION": at.region,
        "CATALOG_URI": at.catalog_direct,
        "CATALOG_WAREHOUSE": at.warehouse,
        "CATALOG_CREDENTIAL": f"{at.access_key}:{at.secret_key}",
        "AWS_ACCESS_KEY_ID": at.access_key,
        "AWS_SECRET_ACCESS_KEY": at.secret_key,
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


def about_views(problem: str) -> bool:
    return "Server does not support endpoint" in problem and "/views" in problem
