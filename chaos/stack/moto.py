"""moto's S3 and a catalog over pyiceberg's SqlCatalog: pure Python, two processes (see :mod:`chaos.stack.facade`).

The catalog keeps its database through kill -9; the object store is memory, so it does not. What a fault does to
``metadata.json`` has its full effect here, which SeaweedFS cannot show.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from chaos.stack.facade.config import Config
from chaos.stack.here import BackendHere
from chaos.stack.plan import Credentials, write_private
from chaos.stack.ports import Ports
from chaos.stack.service import Service, http
from chaos.warden_client import PACKAGE_ROOT

ROLES = {"storage": "moto", "catalog": "catalog"}
CAPABILITIES: dict[str, bool] = {
    "s3_conditional_put": True,
    "survives_kill": False,  # objects are in memory only
    "metadata_objects_matter": True,
    "drop_keeps_files": True,
    "register_table": True,
    "create_existing_fails": True,
    "stale_commit_fails": True,
    "vends_credentials": False,
    "views": False,
}
"""What this storage can show; a step that needs more is void, not green."""


class Moto(BackendHere):
    """Object store and catalog below ``directory``."""

    name = "moto"
    roles = ROLES
    capabilities = CAPABILITIES

    def __init__(self, directory: Path, ports: Ports, credentials: Credentials) -> None:
        super().__init__(directory, credentials)
        self._config = Config(
            host="127.0.0.1",
            s3_port=ports.take(),
            catalog_port=ports.take(),
            access_key=credentials.access_key,
            secret_key=credentials.secret_key,
            region=self.region,
            buckets=(self.bucket, self.scratch_bucket),
            warehouse=self.warehouse,
            database=str(directory / "catalog.db"),
        )
        self.s3_url = self._config.s3_url
        self.catalog_url = self._config.catalog_url

    def services(self) -> list[Service]:
        """Write the configuration and describe the two processes."""
        self._directory.mkdir(parents=True, exist_ok=True)
        config = self._directory / "facade.json"
        write_private(config, self._config.document())
        # nothing else: AWS_*, MOTO_* and PYICEBERG_* in the environment would change what they do
        env = {"PATH": os.defpath, "HOME": str(self._directory), "PYTHONPATH": str(PACKAGE_ROOT)}
        return [
            Service(
                "moto", _module("chaos.stack.facade.objects", config), self.s3_ready, env, PACKAGE_ROOT, grace_s=0.0
            ),
            Service("catalog", _module("chaos.stack.facade", config), self.catalog_ready, env, PACKAGE_ROOT),
        ]

    def s3_ready(self) -> bool:
        """Tell whether the object store takes our key, which no other server would, and has the warehouse."""
        scope = f"AWS4-HMAC-SHA256 Credential={self._config.access_key}/20000101/{self.region}/s3/aws4_request"
        bucket = http("GET", f"{self.s3_url}/{self.bucket}?list-type=2&max-keys=1", headers={"Authorization": scope})
        unsigned = http("GET", self.s3_url)
        return bucket is not None and bucket.status_code == 200 and unsigned is not None and unsigned.status_code == 403

    def catalog_ready(self) -> bool:
        """Tell whether the catalog gives our key a token and lists its namespaces."""
        return self._lists_namespaces("namespaces")


def _module(name: str, config: Path) -> list[str | Path]:
    return [sys.executable, "-m", name, "--config", config]
