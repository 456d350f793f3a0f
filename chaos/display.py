"""What a person sees while a run goes on: a live panel on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.live import Live
from rich.table import Table

PLAIN_EVERY_S = 5.0


@dataclass
class Progress:
    """The numbers on show; None is "not known (yet)"."""

    scenario: str = ""
    target: str = ""
    phase: str = "preflight"
    attempted: int = 0
    acked: int = 0
    refused: int = 0
    unknown: int = 0
    visible: int | None = None
    fill_ratio: float | None = None
    flushes: int | None = None
    faults: list[str] = field(default_factory=list)
    clock: Callable[[], float] = time.monotonic
    started: float = field(init=False)

    def __post_init__(self) -> None:
        self.started = self.clock()

    @property
    def elapsed_s(self) -> float:
        """Seconds since the run began."""
        return self.clock() - self.started

    def line(self) -> str:
        """Everything in one line."""
        fill = "?" if self.fill_ratio is None else f"{self.fill_ratio:.0%}"
        flushes = "?" if self.flushes is None else str(self.flushes)
        visible = "?" if self.visible is None else f"{self.visible:,}"
        return (
            f"{self.elapsed_s:5.1f} s  {self.phase:<9} acked {self.acked:,}  in table {visible}  fill {fill}  "
            f"flushes {flushes}  faults {', '.join(self.faults) or 'none'}"
        )


class Display:
    """Show a `Progress`; events of the timeline appear above it as they happen.

    Args:
        console: Where to; a terminal gets a panel that updates in place, anything else a line every five seconds.
        quiet: Show nothing (for `--json`).
        clock: Monotonic seconds.
    """

    def __init__(self, console: Console, *, quiet: bool = False, clock: Callable[[], float] = time.monotonic) -> None:
        self._console, self._quiet, self._clock = console, quiet, clock
        self.progress = Progress(clock=clock)
        self._live = Live(console=console, get_renderable=self._panel, refresh_per_second=4, transient=True)
        self._tty = console.is_terminal and not quiet
        self._last_line = 0.0

    def __enter__(self) -> Self:
        if self._tty:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._tty:
            self._live.stop()

    def say(self, text: str) -> None:
        """Print one lasting line."""
        if not self._quiet:
            self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def entry(self, entry: dict[str, Any]) -> None:
        """Show one entry of the timeline."""
        text = wording(entry)
        if text:
            self.say(f"{self.progress.elapsed_s:5.1f} s  {text}")

    def tick(self) -> None:
        """Show the numbers as they are now."""
        if self._tty or self._quiet:
            return
        now = self._clock()
        if now - self._last_line >= PLAIN_EVERY_S:
            self._last_line = now
            self.say(self.progress.line())

    def _panel(self) -> Table:
        p = self.progress
        table = Table.grid(padding=(0, 2))
        fill = "[dim]not told[/]" if p.fill_ratio is None else _bar(p.fill_ratio)
        table.add_row("[bold]phase[/]", f"[bold]{p.phase}[/]", "elapsed", f"{p.elapsed_s:.0f} s")
        table.add_row("acked", f"{p.acked:,}", "in table", "[dim]…[/]" if p.visible is None else f"{p.visible:,}")
        table.add_row("refused", f"{p.refused:,}", "unknown", f"{p.unknown:,}")
        table.add_row("fill", fill, "flushes", "[dim]…[/]" if p.flushes is None else str(p.flushes))
        table.add_row("faults", f"[bold red]{', '.join(p.faults)}[/]" if p.faults else "[dim]none[/]")
        return table


def _bar(ratio: float, width: int = 20) -> str:
    colour = "red" if ratio >= 0.9 else "yellow" if ratio >= 0.7 else "green"
    full = min(width, max(0, round(ratio * width)))
    return f"[{colour}]{'█' * full}[/][dim]{'░' * (width - full)}[/] {ratio:.0%}"


def wording(entry: dict[str, Any]) -> str | None:
    """Return an entry of the timeline in words; None for one that a person need not see."""
    words = _WORDING.get(entry["event"])
    return words(entry) if words is not None else None


def _step(entry: dict[str, Any]) -> str | None:
    name, state = entry["fault"], entry["state"]
    affected = entry.get("requests_affected")
    affected = "requests that left no record" if affected is None else f"{affected} requests"
    words = {
        "injected": f"fault {name} is on",
        "healed": f"fault {name} healed; {affected} met it",
        "void": f"fault {name} had no effect: {entry.get('reason')}",
        "failed": f"fault {name} failed: {entry.get('error')}",
    }
    return words.get(state)


def _drill(entry: dict[str, Any]) -> str | None:
    name, state = entry["drill"], entry["state"]
    if state == "checked":
        return f"drill {name}: {entry['check']} {'holds' if entry['ok'] else 'DOES NOT HOLD'}, {entry['detail']}"
    if state == "reached":
        return f"drill {name}: {entry['milestone']}; {entry['detail']}"
    return None if state == "armed" else f"drill {name} {state} {entry.get('reason', '')}".rstrip()


_WORDING: dict[str, Callable[[dict[str, Any]], str | None]] = {
    "phase": lambda e: f"phase {e['phase']}",
    "step": _step,
    "drill": _drill,
    "process": lambda e: f"{e['name']} {e['state']}" if e["state"] in ("killed", "exited", "restarted") else None,
    "settled": lambda e: f"settled: {e['reason']}; the target says it buffers {e['buffered']}",
    "probe": lambda e: None if e.get("ok") else f"probe {e['name']} failed: {e.get('detail', '')}",
    "note": lambda e: str(e["text"]),
}
