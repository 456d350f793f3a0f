"""Take the pictures of a live session that stand in the docs.

    python -m tests.screenshots [docs/images]

Starts a session, breaks R2 in it, and takes the tab while the buffer is full, on a phone, and with the verdict. Needs Chromium.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.live_session import ROOT, Panel, chromium, live

WIDE = {"viewport": {"width": 1180, "height": 940}}
NARROW = {"viewport": {"width": 390, "height": 844}, "color_scheme": "dark"}


def main(images: Path) -> None:
    """Take all of them."""
    images.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch, chromium() as browser, live(Path(scratch), "--seed", "5") as session:
        panel = Panel(browser, session.url, **WIDE)
        panel.start(userCount=40)
        step = panel.inject("slow-r2", for_s=None, latency_ms=2500)
        panel.wait(lambda: panel.alert("BufferAlmostFull") == "pending", "a full buffer")
        panel.press("paged")
        panel.wait(lambda: "slow-r2 · injected" in panel.text, "the fault")
        panel.page.wait_for_timeout(4000)
        take(panel.page, images / "live-fault.png")
        phone = Panel(browser, session.url, **NARROW)
        phone.open()
        phone.wait(lambda: phone.number("acked") > 0, "numbers")
        take(phone.page, images / "live-phone.png")
        panel.heal(step)
        panel.wait(lambda: panel.alert("BufferAlmostFull") == "ok", "the buffer to drain")
        panel.drill("flush-and-verify")
        panel.wait(lambda: "flush-and-verify · done" in panel.text, "the drill")
        panel.stop()
        panel.verdict()
        take(panel.page, images / "live-verdict.png")
        session.end()


def take(page: Any, path: Path) -> None:
    """Write what the window shows."""
    page.evaluate("scrollTo(0, 0)")
    page.screenshot(path=path, animations="disabled")
    print(f"{path}  {path.stat().st_size // 1000} kB")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "images")
