"""The target's own metrics, as a run recorded them: what its Prometheus would have scraped."""

from __future__ import annotations

import numpy as np

from chaos.alerting.samples import Labels, Samples, parse_sample_name
from loadtests.records.series import read_series
from reports.runrecords import RunRecords

_PREFIX = "target:"


def recorded_samples(records: RunRecords) -> Samples:
    """Return the scraped samples of a run, in seconds since 1970; `up` says whether the target answered.

    A scrape that failed ends every series until the next one that succeeds, as in Prometheus.
    """
    table = read_series(records.run.series)
    names = table["name"].to_pylist()
    times, values = table["t_ns"].to_numpy(), table["value"].to_numpy()
    samples = Samples()
    parsed: dict[str, tuple[str, Labels]] = {}
    scrapes = np.array([t for t, name in zip(times, names, strict=True) if name == "target_up"])
    done = 0
    for t_ns, name, value in zip(times, names, values, strict=True):
        while done < len(scrapes) and scrapes[done] < t_ns:
            samples.end_of_scrape(_unix_s(records, scrapes[done]), job="target")
            done += 1
        if name == "target_up":
            samples.add(_unix_s(records, t_ns), "up", float(value), job="up")
        elif name.startswith(_PREFIX):
            metric, labels = parsed.setdefault(name, parse_sample_name(name.removeprefix(_PREFIX)))
            samples.add(_unix_s(records, t_ns), metric, float(value), labels, job="target")
    for t_ns in scrapes[done:]:
        samples.end_of_scrape(_unix_s(records, t_ns), job="target")
    return samples


def _unix_s(records: RunRecords, t_ns: int) -> float:
    return records.unix_ns(int(t_ns)) / 1e9
