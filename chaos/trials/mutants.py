"""Collectors with one planted bug each. They come with a checkout, beside the packages, and are never imported: only started.

A mutants file is a program: `python FILE --targets` prints, as JSON, for each name the target document that starts it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from chaos.errors import BadInput
from chaos.warden_client import PACKAGE_ROOT

FILE = PACKAGE_ROOT / "tests" / "mutants.py"
"""Where a checkout has them."""
DEADLINE_S = 60.0


class Mutants:
    """The mutants of one file; their target files are written into *directory*.

    Raises BadInput when the file is not such a program.
    """

    def __init__(self, path: Path, directory: Path) -> None:
        self._path, self._directory = path, directory
        self._targets = _targets(path)

    @property
    def names(self) -> list[str]:
        """Every mutant there is."""
        return list(self._targets)

    def target(self, name: str) -> Path:
        """Return the target file of a mutant. Raises BadInput when there is none of that name."""
        if name not in self._targets:
            raise BadInput(f"there is no mutant {name!r} in {self._path}; there are {', '.join(self._targets)}.")
        path = self._directory / f"{name}.yaml"
        path.write_text(yaml.safe_dump(self._targets[name]), encoding="utf-8")
        return path


def _targets(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise BadInput(f"there is no file of mutants {path}; name one with --mutants, or leave them out: --no-mutants.")
    try:
        done = subprocess.run(
            [sys.executable, str(path), "--targets"], capture_output=True, text=True, check=False, timeout=DEADLINE_S,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        targets = json.loads(done.stdout)
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        raise BadInput(f"{path} is not a file of mutants: `--targets` printed no JSON ({error}).") from error
    if done.returncode != 0 or not isinstance(targets, dict):
        raise BadInput(f"{path} is not a file of mutants: `--targets` printed no JSON object.")
    return targets
