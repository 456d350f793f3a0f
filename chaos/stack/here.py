"""What stacks have in common whose store and catalog are processes on this machine: names of buckets, and one key pair for all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from chaos.stack.plan import CatalogAccess, Credentials
from chaos.stack.service import http


class BackendHere:
    """One bucket as the warehouse, one for everything else; the target has the store's own keys.

    See :class:`chaos.stack.plan.Backend` for what a subclass adds.
    """

    access = CatalogAccess()
    resign: Mapping[str, object] | None = None
    region = "us-east-1"
    bucket = "analytics"
    scratch_bucket = "scratch"
    warehouse = "s3://analytics"
    catalog_url: str

    def __init__(self, directory: Path, credentials: Credentials) -> None:
        self._directory = directory
        self.credentials = self.target_credentials = credentials

    def _lists_namespaces(self, path: str) -> bool:
        """Tell whether the catalog gives our key a token and lists its namespaces at *path*; no other server would take the key."""
        pair = self.credentials
        form = (
            f"grant_type=client_credentials&client_id={pair.access_key}&client_secret={pair.secret_key}&scope=catalog"
        )
        kind = {"Content-Type": "application/x-www-form-urlencoded"}
        token = http("POST", f"{self.catalog_url}/v1/oauth/tokens", body=form, headers=kind)
        if token is None or token.status_code != 200:
            return False
        bearer = {"Authorization": f"Bearer {token.json()['access_token']}"}
        namespaces = http("GET", f"{self.catalog_url}/v1/{path}", headers=bearer)
        return namespaces is not None and namespaces.status_code == 200
