"""What the target says of itself while a run goes on, and what it costs: once a second, into the run's series."""

from __future__ import annotations

import http.client
import math
import threading
import time
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from chaos.loopback import open_url
from chaos.process_meter import ProcessMeter
from loadtests.records.jsonl import JsonlTail
from loadtests.records.rundir import RunDir
from loadtests.records.series import SeriesWriter
from loadtests.records.target import Metrics, Target

TIMEOUT_S = 2.0
ANSWER_BYTES_MAX = 4_000_000


def scrape(url: str) -> dict[str, float]:
    """Return every finite sample of a Prometheus endpoint as `name` or `name{k=v,...}` -> value.

    Raises:
        OSError: no answer, or an error status.
        ValueError: an answer that is not Prometheus text.
    """
    try:
        with open_url(url, timeout=TIMEOUT_S) as answer:
            text = answer.read(ANSWER_BYTES_MAX).decode(errors="replace")
    except http.client.HTTPException as error:
        raise OSError(f"{url} does not speak HTTP ({error!r})") from error
    samples: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f"{k}={v}" for k, v in sorted(sample.labels.items()))
            if math.isfinite(sample.value):
                samples[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return samples


class Sampler:
    """Scrape the target every second in a thread; `buffered` asks at once.

    Attributes:
        fill_ratio: The last fill of the fullest buffer, 0-1; None while the target does not say.
        flushes: How many commits the target says it made.
        samples: The last scrape, as `scrape` returns it; empty while the target does not answer.
    """

    def __init__(self, target: Target, run: RunDir) -> None:
        self._metrics: Metrics | None = target.metrics
        self._writer = SeriesWriter(run.series, "target", run.info.run_id)
        self._visible = JsonlTail(run.visible)
        self._meter = ProcessMeter(run)
        self.visible: dict[str, Any] = {}
        self.fill_ratio: float | None = None
        self.flushes: int | None = None
        self.samples: dict[str, float] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="sampler", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Take a last sample and close the series."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        self._writer.close()

    def buffered(self) -> int | None:
        """Return how many events the target says it holds now; None when it does not say or does not answer."""
        if self._metrics is None or self._metrics.buffered is None:
            return None
        try:
            value = scrape(self._metrics.url).get(self._metrics.buffered)
        except (OSError, ValueError):
            return None
        return None if value is None else round(value)

    def refresh_visible(self) -> dict[str, Any]:
        """Return the auditor's latest line; empty before the first."""
        for line in self._visible.read():
            self.visible = line
        return self.visible

    def _loop(self) -> None:
        while True:
            last = self._stop.is_set()
            self._sample()
            self._weigh()
            if last:
                return
            self._stop.wait(1.0)

    def _sample(self) -> None:
        if self._metrics is None:
            return
        now_ns = time.monotonic_ns()
        try:
            samples = scrape(self._metrics.url)
        except (OSError, ValueError):
            self._writer.add(now_ns, "target_up", 0.0)
            self.samples = {}
            return
        self._writer.add(now_ns, "target_up", 1.0)
        self.samples = samples
        self._keep(now_ns, samples)

    def _weigh(self) -> None:
        cost = self._meter.read()
        if cost is not None:
            now_ns, labels = time.monotonic_ns(), {"pid": str(cost.pid)}
            self._writer.add(now_ns, "target_cpu_s", cost.cpu_s, labels)
            self._writer.add(now_ns, "target_rss_bytes", cost.rss_bytes, labels)

    def _keep(self, now_ns: int, samples: dict[str, float]) -> None:
        assert self._metrics is not None
        for name, value in samples.items():
            if not name.partition("{")[0].endswith(("_created", "_bucket")):
                self._writer.add(now_ns, f"target:{name}", value)
        for series, gauge in (("fill_ratio", self._metrics.fill), ("buffer_events", self._metrics.buffered)):
            if gauge is not None and gauge in samples:
                self._writer.add(now_ns, series, samples[gauge])
                if series == "fill_ratio":
                    self.fill_ratio = samples[gauge]
        committed = samples.get("collector_flushes_total{outcome=committed}")
        if committed is not None:
            self.flushes = round(committed)
            self._writer.add(now_ns, "flushes_committed", committed)
            self._writer.add(now_ns, "flushes_failed", samples.get("collector_flushes_total{outcome=failed}", 0.0))
