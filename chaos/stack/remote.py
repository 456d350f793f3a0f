"""An object store and a catalog that run elsewhere, or that somebody else has started here: nothing of them is ours to kill.

Where they are, and the keys to them, comes from the environment (:data:`VARIABLES`). The target gets keys that were made up for
the run: the gateway signs its requests again with the real ones, and rewrites the store's address where the catalog tells it, so
that everything stays on the faulted path.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from chaos.errors import BadInput
from chaos.stack.plan import CatalogAccess, Credentials
from chaos.stack.ports import Ports
from chaos.stack.service import Service

VARIABLES: dict[str, str] = {
    "ICEQUAKE_S3_ENDPOINT": "URL of the object store",
    "ICEQUAKE_S3_REGION": "its region (default: auto)",
    "ICEQUAKE_S3_ACCESS_KEY": "a key that may read and write where the catalog keeps tables",
    "ICEQUAKE_S3_SECRET_KEY": "its secret",
    "ICEQUAKE_CATALOG_URI": "URL of the Iceberg REST catalog",
    "ICEQUAKE_CATALOG_WAREHOUSE": "the warehouse, as the catalog calls it",
    "ICEQUAKE_CATALOG_TOKEN": "a bearer token for the catalog; or instead",
    "ICEQUAKE_CATALOG_CREDENTIAL": "an OAuth2 client credential, id:secret",
}
"""Variable -> what it is, in the order of a table for a person."""

_OPTIONAL = ("ICEQUAKE_S3_REGION", "ICEQUAKE_CATALOG_TOKEN", "ICEQUAKE_CATALOG_CREDENTIAL")


class Remote:
    """Storage and catalog at the addresses that the environment names. Raises BadInput when it does not."""

    name = "remote"
    roles: dict[str, str] = {}  # noqa: RUF012  # nothing plays a role that could be killed
    capabilities: dict[str, bool] = {}  # noqa: RUF012  # nothing is known before it was tried
    bucket = scratch_bucket = ""
    resign: Mapping[str, object] | None

    def __init__(
        self, _directory: Path, _ports: Ports, credentials: Credentials, environ: Mapping[str, str] = os.environ
    ) -> None:
        given = {name: environ.get(name, "").strip() for name in VARIABLES}
        missing = [name for name, value in given.items() if not value and name not in _OPTIONAL]
        if missing:
            raise BadInput(f"the remote stack needs {', '.join(missing)} in the environment.")
        if not (given["ICEQUAKE_CATALOG_TOKEN"] or given["ICEQUAKE_CATALOG_CREDENTIAL"]):
            raise BadInput("the remote stack needs ICEQUAKE_CATALOG_TOKEN or ICEQUAKE_CATALOG_CREDENTIAL.")
        self.region = given["ICEQUAKE_S3_REGION"] or "auto"
        self.warehouse = given["ICEQUAKE_CATALOG_WAREHOUSE"]
        self.s3_url = given["ICEQUAKE_S3_ENDPOINT"].rstrip("/")
        self.catalog_url = given["ICEQUAKE_CATALOG_URI"].rstrip("/")
        self.credentials = Credentials(given["ICEQUAKE_S3_ACCESS_KEY"], given["ICEQUAKE_S3_SECRET_KEY"])
        self.target_credentials = credentials
        self.access = CatalogAccess(given["ICEQUAKE_CATALOG_TOKEN"], given["ICEQUAKE_CATALOG_CREDENTIAL"])
        self.resign = {
            "access_key_env": "ICEQUAKE_S3_ACCESS_KEY",
            "secret_key_env": "ICEQUAKE_S3_SECRET_KEY",
            "region": self.region,
        }

    def services(self) -> list[Service]:
        """Nothing is started here."""
        return []
