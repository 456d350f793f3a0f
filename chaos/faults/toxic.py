"""Toxiproxy toxics on the paths ingest, r2 and catalog, for established connections too.

Toxiproxy draws toxicity once a connection and has no working seed, so every toxic here has toxicity 1. That it took effect is
measured: a probe of ours goes the same way before, during and after, on a new connection and on one from before.
"""

from __future__ import annotations

import time
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from chaos.faults.dead_path import on_dead_path
from chaos.faults.env import Effect, Env
from chaos.faults.probe import PROBE_PATH, Probe, Reading, base_of
from chaos.faults.toxic_kinds import KINDS, Kind, probe_for

__all__ = ["PROBE_PATH", "Toxic", "ToxicInjection"]

Millis = Annotated[int, Meta(ge=0, le=600_000)]
Positive = Annotated[int, Meta(gt=0, le=1_000_000_000)]


class Toxic(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One toxic on one path, in one direction; `chaos.faults.toxic_kinds` says which kind takes which parameters.

    Attributes:
        path: Which proxy.
        kind: latency, bandwidth, timeout, reset_peer, slow_close, slicer, limit_data, down or flapping.
        stream: `downstream` disturbs answers, `upstream` requests; down and flapping know no direction.
        latency_ms, jitter_ms: Added to every chunk of data, plus or minus.
        rate_kb_s: Of bandwidth.
        timeout_ms: Of timeout (0: hold for ever) and reset_peer.
        delay_ms: Of slow_close (before the end) and slicer (between pieces).
        size_bytes: Of slicer (a piece, plus or minus a third) and limit_data (a connection).
        down_ms, up_ms: Of flapping.
    """

    path: Literal["ingest", "r2", "catalog"]
    kind: str = "latency"
    stream: Literal["upstream", "downstream"] = "downstream"
    latency_ms: Annotated[int, Meta(gt=0, le=600_000)] | None = None
    jitter_ms: Millis | None = None
    rate_kb_s: Positive | None = None
    timeout_ms: Millis | None = None
    delay_ms: Positive | None = None
    size_bytes: Positive | None = None
    down_ms: Positive | None = None
    up_ms: Positive | None = None

    def __post_init__(self) -> None:
        """Refuse parameters that the kind lacks or does not know. Raises ValueError."""
        if self.kind not in KINDS:
            raise ValueError(f"there is no toxic of kind {self.kind!r}; there are {', '.join(KINDS)}.")
        kind, given = KINDS[self.kind], self.params.keys()
        if missing := sorted(kind.required - given):
            raise ValueError(f"a toxic of kind {self.kind} needs {', '.join(missing)}.")
        if unknown := sorted(given - kind.required - kind.optional):
            raise ValueError(f"a toxic of kind {self.kind} does not take {', '.join(unknown)}.")

    @property
    def params(self) -> dict[str, int]:
        """What was given beside path, kind and stream."""
        fields = msgspec.structs.asdict(self)
        return {
            name: value
            for name, value in fields.items()
            if name not in ("path", "kind", "stream") and value is not None
        }

    def problem(self, *, starts_target: bool) -> str | None:
        """A target that runs elsewhere does not write through our proxies."""
        if self.path != "ingest" and not starts_target:
            return f"the target is not started by the harness, so its way to {self.path} does not lead through us"
        return None

    def inject(self, env: Env, name: str) -> ToxicInjection:
        """Add the toxic; measure before and during."""
        return ToxicInjection(self, env, name)


class ToxicInjection:
    """One toxic that is on."""

    def __init__(self, toxic: Toxic, env: Env, name: str) -> None:
        self._toxic, self._env, self._name = toxic, env, name
        self._kind: Kind = KINDS[toxic.kind]
        self._downs: list[tuple[int, int]] = []
        self._is_down, self._switch_at = False, 0.0
        kept = self._probe()
        self._before = self._ask(kept)
        self._since_ns = time.monotonic_ns()
        self._put()
        self._live = kept.ask() if toxic.kind != "slow_close" else None
        kept.close()
        self._during = self._ask()
        self._until_ns = self._since_ns
        self._after: Reading | None = None

    def finished(self) -> bool:
        """A toxic lasts until it is removed; asked often, this is also where flapping flaps."""
        if self._toxic.kind == "flapping" and time.monotonic() >= self._switch_at:
            self._flap(down=not self._is_down)
        return False

    def heal(self) -> None:
        """Remove the toxic, or let the proxy listen, and see that it is so."""
        self._until_ns = time.monotonic_ns()
        if self._kind.attributes is None:
            self._env.stack.toxics.enable(self._toxic.path)
        else:
            self._env.stack.toxics.remove(self._toxic.path, self._name)
        self._after = self._ask()

    def effect(self) -> Effect:
        """Count the target's requests on this path while it was on; none count unless the probe felt it."""
        measured = self._measured()
        passed = self._env.seen.on_path(self._toxic.path, self._since_ns, self._until_ns)
        if reason := self._kind.felt(self._toxic.params, self._toxic.stream, self._before, self._during):
            return Effect(0, passed, reason, measured)
        if self._kind.blocks and self._toxic.path != "ingest":
            return self._kept_away(passed, measured)
        affected = self._env.seen.disturbed(self._since_ns, self._until_ns) if self._kind.blocks else passed
        escaped = max(0, passed - affected)
        if affected == 0:
            return Effect(0, escaped, f"the target sent nothing on path {self._toxic.path} while it was on", measured)
        return Effect(affected, escaped, None, measured)

    def _kept_away(self, passed: int, measured: dict[str, Any]) -> Effect:
        """Tell what a path did that lets nothing through, or nothing whole; while it flaps, that is now and then."""
        path, seen = self._toxic.path, self._env.seen
        whole = on_dead_path(seen, [path], self._since_ns, self._until_ns, measured)
        if self._toxic.kind != "flapping" or not whole.affected:
            return whole
        met = sum(seen.on_path(path, since, until) for since, until in self._downs)
        return Effect(met or None, max(0, passed - met), None, whole.measured)

    def _measured(self) -> dict[str, Any]:
        readings = {"before": self._before, "during": self._during, "live": self._live, "after": self._after}
        measured: dict[str, Any] = {
            f"probe_ms_{when}": reading.ms if reading.whole else None
            for when, reading in readings.items()
            if reading is not None
        }
        if self._kind.blocks:
            measured |= {f"answered_{when}": reading.whole for when, reading in readings.items() if reading is not None}
        if self._toxic.kind == "slow_close":
            measured["closed_ms_during"] = self._during.closed_ms
        if self._downs:
            measured["cuts"] = len(self._downs)
        return measured

    def _put(self) -> None:
        if self._toxic.kind == "flapping":
            self._flap(down=True)
        elif self._kind.attributes is None:
            self._env.stack.toxics.disable(self._toxic.path)
        else:
            attributes = self._kind.attributes(self._toxic.params)
            self._env.stack.toxics.add(
                self._toxic.path, self._toxic.kind, attributes, stream=self._toxic.stream, name=self._name
            )

    def _flap(self, *, down: bool) -> None:
        toxics, path = self._env.stack.toxics, self._toxic.path
        (toxics.disable if down else toxics.enable)(path)
        lasts_ms = self._toxic.down_ms if down else self._toxic.up_ms
        if down:
            self._downs.append((now := time.monotonic_ns(), now + (lasts_ms or 0) * 1_000_000))
        self._is_down = down
        self._switch_at = time.monotonic() + (lasts_ms or 0) / 1000

    def _probe(self) -> Probe:
        base = base_of(self._env.stack.addresses, self._toxic.path)
        return probe_for(self._toxic.kind, base, self._toxic.params, self._toxic.stream)

    def _ask(self, probe: Probe | None = None) -> Reading:
        asking = probe or self._probe()
        reading = asking.ask_once() if self._toxic.kind == "slow_close" else asking.ask()
        if probe is None:
            asking.close()
        return reading
