"""Toxiproxy toxics on the paths ingest, r2 and catalog, for established connections too.

Toxiproxy draws toxicity once a connection and has no working seed, so every toxic here has toxicity 1. That it took effect is
measured: a probe of ours goes the same way before, during and after.
"""

from __future__ import annotations

import http.client
import time
import urllib.error
from typing import Annotated, Literal

from msgspec import Meta, Struct

from chaos.faults.env import Effect, Env
from chaos.loopback import open_url

PROBE_PATH = "/icequake-probe"
_PROBE_DEADLINE_S = 15.0

Millis = Annotated[int, Meta(ge=0, le=600_000)]


class Toxic(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Latency on one path, in one direction.

    Attributes:
        path: Which proxy.
        latency_ms: Added to every chunk of data; a multi-request upload pays it several times.
        jitter_ms: Plus or minus so much, uniformly.
        stream: `downstream` delays answers, `upstream` requests.
    """

    path: Literal["ingest", "r2", "catalog"]
    latency_ms: Annotated[int, Meta(gt=0, le=600_000)]
    jitter_ms: Millis = 0
    stream: Literal["upstream", "downstream"] = "downstream"

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
        self._before_ms = self._probe_ms()
        self._since_ns = time.monotonic_ns()
        attributes = {"latency": toxic.latency_ms, "jitter": toxic.jitter_ms}
        env.stack.toxics.add(toxic.path, "latency", attributes, stream=toxic.stream, name=name)
        self._during_ms = self._probe_ms()
        self._until_ns = self._since_ns
        self._after_ms: float | None = None

    def finished(self) -> bool:
        """A toxic lasts until it is removed."""
        return False

    def heal(self) -> None:
        """Remove the toxic and see that Toxiproxy no longer lists it."""
        self._until_ns = time.monotonic_ns()
        self._env.stack.toxics.remove(self._toxic.path, self._name)
        self._after_ms = self._probe_ms()

    def effect(self) -> Effect:
        """Count the target's requests on this path while it was on; none count unless the probe felt it."""
        passed = self._env.seen.on_path(self._toxic.path, self._since_ns, self._until_ns)
        measured = {
            "probe_ms_before": self._before_ms,
            "probe_ms_during": self._during_ms,
            "probe_ms_after": self._after_ms,
        }
        least_ms = 0.8 * (self._toxic.latency_ms - self._toxic.jitter_ms)
        if self._during_ms is not None and self._during_ms < least_ms:
            reason = f"a probe on the same path took {self._during_ms:g} ms; at least {least_ms:g} ms were planned"
            return Effect(0, passed, reason, measured)
        if passed == 0:
            return Effect(0, 0, f"the target sent nothing on path {self._toxic.path} while it was on", measured)
        return Effect(passed, 0, None, measured)

    def _probe_ms(self) -> float | None:
        """Return how long an answer takes on this path; None when none came in time (slower than any plan)."""
        addresses = self._env.stack.addresses
        base = {
            "ingest": addresses.ingest_faulted,
            "r2": addresses.s3_faulted,
            "catalog": addresses.catalog_faulted,
        }[self._toxic.path]
        started = time.monotonic()
        try:
            with open_url(base + PROBE_PATH, timeout=_PROBE_DEADLINE_S) as answer:
                answer.read()
        except urllib.error.HTTPError as error:
            error.close()  # any answer will do: it came back the whole way
        except (OSError, http.client.HTTPException):
            return None
        return round((time.monotonic() - started) * 1000, 1)
