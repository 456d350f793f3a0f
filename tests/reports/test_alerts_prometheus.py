"""What a real Prometheus did with the same alerts is told beside ours, and differences are findings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from loadtests.records.series import SeriesWriter
from reports.alerts.__main__ import main
from reports.alerts.prometheus import ask_prometheus
from reports.errors import BadRequest
from tests.chaos.fakes import ok, replying
from tests.histories import START_UNIX_NS, HandMadeRun, mono_ns

ZERO_S = START_UNIX_NS / 1e9
RULES = """
groups:
- name: mine
  interval: 1s
  rules:
  - {alert: Full, expr: fill > 0.5, for: 10s}
  - {alert: Missed, expr: fill > 0.6}
  - {alert: Never, expr: fill > 2}
"""


def alert(name: str, state: str, begin_s: float, end_s: float) -> dict[str, Any]:
    """One series of ALERTS, a point a second, in seconds after the run began."""
    values = [[ZERO_S + second, "1"] for second in range(round(begin_s), round(end_s) + 1)]
    return {"metric": {"__name__": "ALERTS", "alertname": name, "alertstate": state}, "values": values}


def answer(*series: dict[str, Any]) -> bytes:
    return ok(json.dumps({"status": "success", "data": {"resultType": "matrix", "result": list(series)}}))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A buffer that is nearly full from second 20 on, and empty again from second 50 on."""
    made = HandMadeRun(tmp_path, capacity_events=100)
    writer = SeriesWriter(made.run.series, "target", "abcd1234")
    for second in range(70):
        writer.add(mono_ns(second), "target_up", 1.0)
        writer.add(mono_ns(second), "target:fill", 0.9 if 20 <= second < 50 else 0.1)
    writer.close()
    (tmp_path / "rules.yml").write_text(RULES)
    return made.written()


@pytest.mark.integration
def test_what_prometheus_did_stands_beside_what_we_found(run: Path, tmp_path: Path) -> None:
    """An alert that fired five seconds later there is the same; one that fired on one side only is a finding."""
    series = [alert("Full", "pending", 22, 33), alert("Full", "firing", 34, 51), alert("Never", "firing", 60, 68)]
    with replying(lambda _: answer(*series)) as server:
        arguments = [str(run), "--rules", str(tmp_path / "rules.yml"), "--prometheus", server.url]
        done = CliRunner().invoke(main, arguments)
        assert server.requests[0].startswith(b"GET /api/v1/query_range?query=ALERTS&start=")
        plain = json.loads(CliRunner().invoke(main, [*arguments, "--json"]).output)
    assert done.exit_code == 1
    assert "in Prometheus" in done.output
    assert "Missed fired here and not in Prometheus" in done.output
    assert "Never fired in Prometheus and not here." in done.output
    assert "Full fired" not in done.output
    fired = {row["alert"]: row["fired_in_prometheus_at_s"] for row in plain["rules"]}
    assert fired == {"Full": 34.0, "Missed": None, "Never": 60.0}


@pytest.mark.integration
def test_an_alert_that_comes_much_later_in_prometheus_is_a_finding(run: Path, tmp_path: Path) -> None:
    """A `for` of five minutes there, of ten seconds here."""
    series = [alert("Full", "firing", 75, 80), alert("Missed", "firing", 21, 50)]
    with replying(lambda _: answer(*series)) as server:
        done = CliRunner().invoke(main, [str(run), "--rules", str(tmp_path / "rules.yml"), "--prometheus", server.url])
    assert "Full fired 45 s later in Prometheus than here." in done.output
    assert "Missed" not in done.output.partition("finding:")[2]


@pytest.mark.integration
def test_what_still_fires_at_the_end_is_open() -> None:
    """It has not cleared; what ended before has, a step later."""
    series = [alert("Open", "firing", 10, 60), alert("Done", "firing", 10, 40)]
    with replying(lambda _: answer(*series)) as server:
        found = ask_prometheus(server.url, ZERO_S, ZERO_S + 60)
    assert (found["Open"].open_, found["Open"].cleared_s) == (True, None)
    assert (found["Done"].open_, found["Done"].cleared_s) == (False, ZERO_S + 41)


@pytest.mark.integration
@pytest.mark.parametrize("said", [b"HTTP/1.1 503 no\r\nContent-Length: 0\r\n\r\n", ok("<html>"), ok("[]"), b"x\r\n"])
def test_who_is_no_prometheus_gets_one_sentence(said: bytes) -> None:
    """With the URL."""
    with replying(lambda _: said) as server, pytest.raises(BadRequest, match=server.url):
        ask_prometheus(server.url, ZERO_S, ZERO_S + 60)


def test_an_url_that_is_none_is_refused(run: Path) -> None:
    """Before anything is asked."""
    done = CliRunner().invoke(main, [str(run), "--prometheus", "file:///etc/passwd"])
    assert done.exit_code == 254
    assert "is not an http or https URL" in done.output
