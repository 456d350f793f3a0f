"""What can be known of the requests of a target that a dead path keeps from the gateway: no record of them exists."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from chaos.faults.env import Effect
from chaos.requests_seen import RequestsSeen


def on_dead_path(
    seen: RequestsSeen, paths: Sequence[str], since_ns: int, until_ns: int, measured: dict[str, Any]
) -> Effect:
    """Tell what met a path on which nothing comes through between two moments.

    Requests that were open at the gateway meanwhile met it, and are counted. Those that never came so far cannot be: then
    `affected` is None, provided that the target did use the path in the equal span before, which `measured` says. A target that
    did not is taken to have asked for nothing, and the step is void.
    """
    before = sum(seen.on_path(path, 2 * since_ns - until_ns, since_ns) for path in paths)
    during = sum(seen.on_path(path, since_ns, until_ns) for path in paths)
    measured = {**measured, "requests_before": before, "requests_during": during}
    if during:
        return Effect(during, 0, None, measured)
    if before:
        return Effect(None, 0, None, measured)
    reason = f"the target sent nothing on path {' or '.join(paths)} while it was on, nor in the equal span before"
    return Effect(0, 0, reason, measured)
