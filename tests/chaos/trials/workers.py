"""A worker without a stack: it plays a part for each trial, by the name of the trial's target.

`passes`, `breaks` (icequake failed), `dies` (ends without a word), `halted` (somebody halted the run), `waits` (goes on until it is
interrupted, and says so), `deaf` (goes on until it is killed).
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from chaos.trials.messages import ORDERS, Order, Phase, Ready, line
from chaos.trials.outcome import Outcome, Trial, Word

WORDS = {"passes": Word.PASSED, "breaks": Word.BROKEN, "halted": Word.STOPPED, "waits": Word.STOPPED}


def main() -> None:
    log = Path(sys.argv[1])
    note(log, "begins")
    tell(Ready())
    for raw in sys.stdin.buffer:
        order = ORDERS.decode(raw)
        if not isinstance(order, Order):
            break
        play(order, log)
    note(log, "ends")


def play(order: Order, log: Path) -> None:
    trial = order.trial
    tell(Phase("inject"))
    if trial.target == "dies":
        print("my last words", file=sys.stderr, flush=True)
        os._exit(3)
    if trial.target in ("waits", "deaf"):
        hear = signal.default_int_handler if trial.target == "waits" else lambda *_: tell(Phase("hears nothing"))
        signal.signal(signal.SIGINT, hear)
        try:
            tell(Phase("waiting"))  # who hears it may interrupt at once
            while True:
                signal.pause()
        except KeyboardInterrupt:
            note(log, "healed")
    tell(outcome(trial))


def outcome(trial: Trial) -> Outcome:
    return Outcome(
        fault=trial.fault, target=trial.target, word=WORDS[trial.target], blamed=[], detail="", run=None,
        seconds=1.0, unix_ns=10**9, seed=7, definition="any",
    )  # fmt: skip


def tell(message: object) -> None:
    sys.stdout.buffer.write(line(message))  # type: ignore[arg-type]
    sys.stdout.buffer.flush()


def note(log: Path, what: str) -> None:
    with log.open("a") as stream:
        stream.write(f"{os.getpid()} {what}\n")


if __name__ == "__main__":
    main()
