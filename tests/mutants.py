"""Collectors with one planted bug each: `python tests/mutants.py NAME`; `--targets` prints the target document of each as JSON.

Each is the naive or the reference collector, right while nothing breaks, with one difference (`tests/planted`).
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
from collections.abc import Callable
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # as a script, it begins with its own directory only

import yaml

from tests.planted import (
    accepting,
    acknowledging,
    clock,
    committing,
    disk,
    flushing,
    operating,
    reference,
    sharing,
    stores,
    telling,
)
from tests.planted.naive import load_naive

HERE = Path(__file__).resolve()
REFERENCE_TARGET = HERE.parents[1] / "chaos" / "targets" / "reference.yaml"


def correct(naive: Any) -> None:
    """No bug at all while nothing breaks: the control."""


NAIVE: dict[str, Callable[[Any], None]] = {
    "correct": correct,
    "blackhole": acknowledging.blackhole,
    "twice": acknowledging.twice,
    "always-503": acknowledging.always_503,
    "expires": acknowledging.expires,
    "reads-once": acknowledging.reads_once,
    "leaks-connections": acknowledging.leaks_connections,
    "waits-for-ever": acknowledging.waits_for_ever,
    "late-to-answer": acknowledging.late_to_answer,
    "stores-what-fits": acknowledging.stores_what_fits,
    "drops-oldest": acknowledging.drops_oldest,
    "blocks-on-poison": accepting.blocks_on_poison,
    "stuck": flushing.stuck,
    "gives-up": flushing.gives_up,
    "dies": flushing.dies,
    "impatient": flushing.impatient,
    "file-backed": flushing.file_backed,
    "flushes-race": flushing.flushes_race,
    "wall-clock": flushing.wall_clock,
    "watermark": clock.watermark,
    "no-retries": committing.no_retries,
    "gives-up-at-once": committing.gives_up_at_once,
    "forces-commits": committing.forces_commits,
    "compacts": committing.compacts,
    "checks-head": sharing.checks_head,
    "drops-misfits": sharing.drops_misfits,
    "pins-its-schema": sharing.pins_its_schema,
    "lands-again": sharing.lands_again,
    "recreates": sharing.recreates,
    "asks-once": stores.asks_once,
    "writes-one-key": stores.writes_one_key,
    "reads-back-once": stores.reads_back_once,
    "waits-for-the-end": stores.waits_for_the_end,
}

REFERENCE: dict[str, Callable[[], list[reference.Patch]]] = {
    "sound": reference.sound,
    "acks-first": reference.acks_first,
    "dedupes-by-id": accepting.dedupes_by_id,
    "acks-unwritten": reference.acks_unwritten,
    "never-dedupes": reference.never_dedupes,
    "forgets-what-it-saw": reference.forgets_what_it_saw,
    "forgets-flushes": reference.forgets_flushes,
    "clears-before-commit": reference.clears_before_commit,
    "trusts-its-intent": reference.trusts_its_intent,
    "commits-again": reference.commits_again,
    "ignores-totals": reference.ignores_totals,
    "builds-on-nothing": reference.builds_on_nothing,
    "merges-what-it-can": reference.merges_what_it_can,
    "trusts-its-uploads": reference.trusts_its_uploads,
    "flush-lies": operating.flush_lies,
    "exports-too-little": operating.exports_too_little,
    "replays-again": operating.replays_again,
    "reset-lies": operating.reset_lies,
    "hides-what-it-flushes": telling.hides_what_it_flushes,
    "clamps-its-fill": telling.clamps_its_fill,
    "counts-attempts": telling.counts_attempts,
    "counts-arrivals": telling.counts_arrivals,
    "no-sync": disk.no_sync,
    "stays-down": disk.stays_down,
    "ends-at-a-tear": disk.ends_at_a_tear,
    "discards-torn-logs": disk.discards_torn_logs,
}

WITH_ADMIN = ("flushes-race",)
"""Naive ones that an operator can ask for a flush."""

MUTANTS = {**NAIVE, **REFERENCE}


def target(name: str) -> dict[str, Any]:
    """Return the target document of a mutant: how icequake starts it and where it listens."""
    command = ["{python}", str(HERE), name]
    if name in REFERENCE:
        document: dict[str, Any] = yaml.safe_load(REFERENCE_TARGET.read_text(encoding="utf-8"))
        return document | {"name": name, "process": document["process"] | {"command": command}}
    admin = {"admin": {"url": "http://127.0.0.1:{port}/admin"}} if name in WITH_ADMIN else {}
    return {
        "name": name,
        **admin,
        "ingest": {"url": "http://127.0.0.1:{port}/events", "mode": "batch"},
        "metrics": {"url": "http://127.0.0.1:{port}/metrics", "buffered": "naive_buffer_events"},
        "process": {
            "command": command,
            "ready": "http://127.0.0.1:{port}/healthz",
            "crash_points": {"env": "DIE_AT", "format": "{point}"},
        },
    }


def run_naive(name: str) -> None:
    """Serve as the naive collector does, with its bug planted."""
    module = load_naive()
    NAIVE[name](module)
    threading.Thread(target=module.flush_forever, args=(module.open_table(),), daemon=True).start()
    ThreadingHTTPServer(("127.0.0.1", int(os.environ["LISTEN_PORT"])), module.Handler).serve_forever()


def run_reference(name: str, arguments: list[str]) -> None:
    """Run the reference collector with its bug planted."""
    for owner, attribute, planted in REFERENCE[name]():
        setattr(owner, attribute, planted)
    from collector.__main__ import main

    code = main(arguments)
    logging.shutdown()
    os._exit(code)


if __name__ == "__main__":
    if sys.argv[1:] == ["--targets"]:
        print(json.dumps({name: target(name) for name in MUTANTS}))
        sys.exit()
    if sys.argv[1] in REFERENCE:
        run_reference(sys.argv[1], sys.argv[2:])
    run_naive(sys.argv[1])
