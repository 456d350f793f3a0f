"""The controller's side of the gateway's control interface; every call has a deadline."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from chaos.errors import BadScenario, ControlHung, ServerGone
from chaos.loopback import open_url

DEADLINE_S = 5.0


class GatewayClient:
    """Put and delete rules, read counters, switch the log.

    Args:
        base: The control address, such as `http://127.0.0.1:4711`.
        token: Its bearer token.
        deadline_s: How long a call may take.

    Raises:
        ControlHung: from every method, when no good answer comes within the deadline; ServerGone when nothing listens there.
    """

    def __init__(self, base: str, token: str, *, deadline_s: float = DEADLINE_S) -> None:
        self._base, self._deadline_s = base, deadline_s
        self.headers = {"Authorization": f"Bearer {token}"}

    def undo_entry(self, rule_id: str) -> dict[str, Any]:
        """Return the undo entry of a rule; its headers are secret and travel apart."""
        url = f"{self._base}/rules/{rule_id}"
        return {"kind": "http", "method": "DELETE", "url": url, "ok": [200, 204, 404], "gone_ok": True}

    def put_rule(self, rule_id: str, rule: dict[str, Any]) -> None:
        """Add a rule. Raises BadScenario when the gateway says that it is not one."""
        self._call("PUT", f"/rules/{rule_id}", rule)

    def delete_rule(self, rule_id: str) -> None:
        """Delete a rule; one that is not there is as good as deleted."""
        self._call("DELETE", f"/rules/{rule_id}", missing_ok=True)

    def rules(self) -> dict[str, Any]:
        """Return the rules in force, by id."""
        rules: dict[str, Any] = self._call("GET", "/rules").get("rules", {})
        return rules

    def rule_counters(self, rule_id: str) -> dict[str, int]:
        """Return `matched`, `applied` and `passed` of a rule; empty when there is none."""
        counters: dict[str, int] = self._call("GET", "/counters").get("rules", {}).get(rule_id, {})
        return counters

    def begin_run(self, run_id: str, seed: int, log: Path | None) -> None:
        """Write the log of run *run_id* to *log* from now on, and draw from *seed*."""
        self._call("PUT", "/run", {"run_id": run_id, "seed": seed})
        self._call("POST", "/log", {"path": str(log.resolve()) if log else None})

    def _call(self, verb: str, path: str, body: Any = None, *, missing_ok: bool = False) -> dict[str, Any]:
        data = None if body is None else json.dumps(body).encode()
        headers = {**self.headers, "Content-Type": "application/json"}
        request = urllib.request.Request(self._base + path, data=data, method=verb, headers=headers)  # noqa: S310
        try:
            with open_url(request, timeout=self._deadline_s) as answer:
                text = answer.read()
        except urllib.error.HTTPError as error:
            text = error.read()
            if error.code == 404 and missing_ok:
                return {}
            if error.code == 400:
                raise BadScenario(f"the gateway refuses the rule: {_sentence(text)}") from error
            raise ControlHung(f"the gateway answered {error.code} to {verb} {path}: {_sentence(text)}") from error
        except (OSError, http.client.HTTPException) as error:
            if isinstance(getattr(error, "reason", error), ConnectionRefusedError):
                raise ServerGone(f"the gateway has ended: nothing listens at {self._base}.") from error
            raise ControlHung(
                f"the gateway did not answer {verb} {path} within {self._deadline_s:g} s ({_one_line(error)})."
            ) from error
        return _object(text, verb, path)


def _object(text: bytes, verb: str, path: str) -> dict[str, Any]:
    try:
        answered = json.loads(text) if text else {}
    except ValueError:
        answered = None
    if not isinstance(answered, dict):
        raise ControlHung(f"the gateway's answer to {verb} {path} is not a JSON object: {_sentence(text)}")
    return answered


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _sentence(text: bytes) -> str:
    try:
        return str(json.loads(text)["error"])
    except (ValueError, KeyError, TypeError):
        return text.decode(errors="replace")[:200]
