"""What is going to run where: addresses, Toxiproxy routes and server processes of one stack, before any is started.

target -> toxiproxy "r2"      -> gateway "r2"      -> S3
target -> toxiproxy "catalog" -> gateway "catalog" -> Iceberg REST catalog
Locust -> toxiproxy "ingest"  -> target
"""

from __future__ import annotations

import json
import os
import secrets
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from chaos.errors import ToolMissing
from chaos.setup import SetupError, find_toxiproxy
from chaos.stack.ports import Ports
from chaos.stack.service import Service, http
from chaos.stack.toxiproxy import Route
from chaos.warden_client import PACKAGE_ROOT

NOWHERE = "127.0.0.1:9"
"""The discard port: nothing answers on the ingest path until a run points it at its target."""


@dataclass(frozen=True)
class Addresses:
    """Where everything is. URLs have no trailing slash; *faulted* ones lead through Toxiproxy, and the gateway.

    ``bucket`` is the table bucket, which takes only keys of the Iceberg layout; ``scratch_bucket`` an ordinary one.
    ``target_access_key`` and its secret are what the target is given, where that is not the real pair. The catalog takes
    ``catalog_token``, else ``catalog_credential``, else the key pair.
    """

    s3_direct: str
    catalog_direct: str
    s3_faulted: str
    catalog_faulted: str
    ingest_faulted: str
    toxiproxy_api: str
    gateway_control: str
    gateway_token: str = field(repr=False)
    access_key: str = field(repr=False)
    secret_key: str = field(repr=False)
    region: str
    warehouse: str
    bucket: str
    scratch_bucket: str
    target_access_key: str = field(default="", repr=False)
    target_secret_key: str = field(default="", repr=False)
    catalog_token: str = field(default="", repr=False)
    catalog_credential: str = field(default="", repr=False)

    @property
    def credential(self) -> str:
        """What the catalog's token endpoint takes, ``id:secret``; empty where a token is there already."""
        return "" if self.catalog_token else self.catalog_credential or f"{self.access_key}:{self.secret_key}"

    def keys(self, *, direct: bool) -> tuple[str, str]:
        """The key pair for the object store on the *direct* or the faulted path."""
        if direct or not self.target_access_key:
            return self.access_key, self.secret_key
        return self.target_access_key, self.target_secret_key

    def pyiceberg_properties(self, *, direct: bool) -> dict[str, str]:
        """Make the properties of ``pyiceberg.catalog.load_catalog``, for the *direct* or the faulted path; they hold secrets."""
        uri, endpoint = (self.catalog_direct, self.s3_direct) if direct else (self.catalog_faulted, self.s3_faulted)
        key, secret = self.keys(direct=direct)
        oauth = {"credential": self.credential, "oauth2-server-uri": f"{uri}/v1/oauth/tokens"}
        return {
            "type": "rest",
            "uri": uri,
            "warehouse": self.warehouse,
            **({"token": self.catalog_token} if self.catalog_token else oauth),
            "s3.endpoint": endpoint,
            "s3.access-key-id": key,
            "s3.secret-access-key": secret,
            "s3.region": self.region,
        }


@dataclass(frozen=True)
class CatalogAccess:
    """What a catalog takes: a bearer token, or else an OAuth2 client credential; both empty: the key pair of the store."""

    token: str = field(default="", repr=False)
    credential: str = field(default="", repr=False)


@dataclass(frozen=True)
class Credentials:
    """The key pair of one stack, made for it: a server that accepts it is ours."""

    access_key: str = field(default_factory=lambda: f"IQ{secrets.token_hex(8)}")
    secret_key: str = field(default_factory=lambda: secrets.token_hex(20))


class Backend(Protocol):
    """Storage and catalog as processes on this machine; made by a :data:`BackendFactory`.

    ``roles`` says which of its services is ``storage`` and which ``catalog``; one may be both. ``credentials`` are the store's;
    the target gets ``target_credentials``, if that is another pair, and then ``resign`` says how the gateway signs for the store.
    """

    name: str
    roles: dict[str, str]
    capabilities: dict[str, bool]
    region: str
    bucket: str
    scratch_bucket: str
    warehouse: str
    s3_url: str
    catalog_url: str
    credentials: Credentials
    target_credentials: Credentials
    access: CatalogAccess
    resign: Mapping[str, object] | None

    def services(self) -> list[Service]:
        """Write what the processes read, and describe them; raises ToolMissing."""
        ...


BackendFactory = Callable[[Path, Ports, Credentials], Backend]
"""Makes a backend that keeps its files in a directory, on ports it takes."""


@dataclass(frozen=True)
class Plan:
    """One stack on paper."""

    name: str
    addresses: Addresses
    routes: dict[str, Route]
    services: dict[str, Service]
    capabilities: dict[str, bool]
    roles: dict[str, str] = field(default_factory=dict)


def make_plan(make_backend: BackendFactory, directory: Path, ports: Ports, *, seed: int) -> Plan:
    """Choose ports and secrets, write configuration files below ``directory``; raises ToolMissing, PortTaken."""
    backend = make_backend(directory / "storage", ports, Credentials())
    inner = {name: f"127.0.0.1:{ports.take()}" for name in ("r2", "catalog")}
    routes = {
        name: Route(name, f"127.0.0.1:{ports.take()}", inner.get(name, NOWHERE)) for name in ("ingest", "r2", "catalog")
    }
    addresses = Addresses(
        s3_direct=backend.s3_url,
        catalog_direct=backend.catalog_url,
        s3_faulted=f"http://{routes['r2'].listen}",
        catalog_faulted=f"http://{routes['catalog'].listen}",
        ingest_faulted=f"http://{routes['ingest'].listen}",
        toxiproxy_api=f"http://127.0.0.1:{ports.take()}",
        gateway_control=f"http://127.0.0.1:{ports.take()}",
        gateway_token=secrets.token_urlsafe(32),
        access_key=backend.credentials.access_key,
        secret_key=backend.credentials.secret_key,
        region=backend.region,
        warehouse=backend.warehouse,
        bucket=backend.bucket,
        scratch_bucket=backend.scratch_bucket,
        target_access_key=backend.target_credentials.access_key,
        target_secret_key=backend.target_credentials.secret_key,
        catalog_token=backend.access.token,
        catalog_credential=backend.access.credential,
    )
    services = [
        *backend.services(),
        toxiproxy_service(addresses.toxiproxy_api),
        _gateway(directory, addresses, inner, seed, backend.resign),
    ]
    by_name = {service.name: service for service in services}
    return Plan(backend.name, addresses, routes, by_name, dict(backend.capabilities), dict(backend.roles))


def toxiproxy_service(url: str) -> Service:
    """Describe the Toxiproxy server with its control API at ``url``; raises ToolMissing."""
    try:
        server = find_toxiproxy()
    except SetupError as error:
        raise ToolMissing(str(error)) from error
    host, _, port = url.removeprefix("http://").rpartition(":")

    def ready() -> bool:
        answer = http("GET", f"{url}/version")
        return answer is not None and answer.ok

    # a line for every connection that is cut would fill a disk under load
    env = {"PATH": os.defpath, "LOG_LEVEL": "error"}
    return Service("toxiproxy", [server, "-host", host, "-port", port], ready, env)


def _gateway(
    directory: Path, addresses: Addresses, inner: dict[str, str], seed: int, resign: Mapping[str, object] | None
) -> Service:
    config = directory / "gateway.json"
    upstream = {"r2": addresses.s3_direct, "catalog": addresses.catalog_direct}
    write_private(
        config,
        {
            "listeners": [{"name": name, "listen": inner[name], "upstream": upstream[name]} for name in inner],
            "control": addresses.gateway_control.removeprefix("http://"),
            "token": addresses.gateway_token,
            "seed": seed,
            "rewrite_s3_endpoint": addresses.s3_faulted,
            "resign": resign,
        },
    )

    def ready() -> bool:
        bearer = {"Authorization": f"Bearer {addresses.gateway_token}"}
        answer = http("GET", f"{addresses.gateway_control}/healthz", headers=bearer)
        return answer is not None and answer.ok

    return Service("gateway", [sys.executable, "-m", "chaos.gateway", "--config", config], ready, cwd=PACKAGE_ROOT)


def write_private(path: Path, document: object) -> None:
    """Replace a JSON file atomically; only its owner may read it, from the first byte on."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    part.unlink(missing_ok=True)
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        json.dump(document, file, indent=1)
    os.replace(part, path)
