"""Read tables and judge runs, many with one process: what every run needs is imported once.

    python -m reports.judging

Standard input has run directories, a line each. For each the stages `reports.observe` and `reports.judge` are done as their
commands do them, with their output in the run's logs/, and a line of JSON answers: {"code": 0 | 1 | 2}, or {"error": "..."}
when a stage failed. It ends with its input. The report is left out; `icequake report RUN` writes it.
"""

from __future__ import annotations

import json
import sys
import traceback
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import click

from reports import judge, observe

STAGES: tuple[tuple[str, click.Command, tuple[int, ...]], ...] = (
    ("observe", observe.main, (0,)),
    ("judge", judge.main, (0, 1, 2)),
)


def judged(root: Path) -> dict[str, int | str]:
    """Do every stage for the run in *root* and return the answer."""
    code = 0
    for name, command, good in STAGES:
        log = root / "logs" / f"{name}.log"
        code = _stage(command, root, log)
        if code not in good:
            lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            return {"error": f"reports.{name} ended with status {code}: {lines[-1] if lines else 'it said nothing'}"}
    return {"code": code}


def _stage(command: click.Command, root: Path, log: Path) -> int:
    with log.open("a", encoding="utf-8") as output, redirect_stdout(output), redirect_stderr(output):
        try:
            command.main([str(root)], standalone_mode=False)
        except SystemExit as end:
            return end.code if isinstance(end.code, int) else 1
        except Exception:  # one run that cannot be judged must not end the judging of others
            traceback.print_exc()
            return 255
    return 0


def main() -> None:
    """Answer until standard input ends."""
    for line in sys.stdin:
        try:
            answer = judged(Path(line.rstrip("\n")))
        except OSError as error:
            answer = {"error": str(error)}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
