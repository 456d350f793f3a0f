"""Where a live session is reached from another terminal: a file below the runs directory that only its owner may read."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from chaos.errors import BadState
from chaos.stack.plan import write_private
from loadtests.control_client import ControlClient

FILE = ".live.json"
"""The session that began last below a runs directory; gone when that session has ended."""


@contextmanager
def announced(runs: Path, url: str, token: str) -> Iterator[None]:
    """Let other terminals find the control API at *url* for the length of a `with` block."""
    path = runs / FILE
    document = {"url": url, "token": token, "pid": os.getpid()}
    write_private(path, document)
    try:
        yield
    finally:
        if _read(path) == document:  # a later session may have written its own
            path.unlink(missing_ok=True)


def find_session(runs: Path) -> ControlClient:
    """Return the control API of the session that was announced last below *runs*. Raises BadState when there is none."""
    path = runs / FILE
    document = _read(path)
    match document:
        case {"url": str(url), "token": str(token)}:
            return ControlClient(url, token)
        case None:
            raise BadState(f"no live session runs below {runs}; start one with `icequake live`, or name its --runs.")
    raise BadState(f"{path} is not what a live session writes; remove it.")


def _read(path: Path) -> object:
    """Return what the file says; None when there is no file, an empty list when it is no JSON."""
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        return []
