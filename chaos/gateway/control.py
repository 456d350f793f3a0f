"""
The control interface: loopback, `Authorization: Bearer TOKEN`, no browser (a request with an Origin field gets 403).

    GET    /healthz      {"ok": true, "run", "log", "open_requests", "failed_log_lines", "rules"}
    GET    /rules        {"rules": {id: rule}}, in the order in which they act
    PUT    /rules/{id}   body: a rule (see `chaos.gateway.rules`); 201, or 200 when it replaced one; 400 with a sentence
    DELETE /rules/{id}   204; 404 when there is none, which is as good: deleting twice is safe
    DELETE /rules        200 {"deleted": n}
    GET    /counters     {"rules": {id: {"matched", "applied", "passed"}}, "totals": {upstream: {kind: n}}}
    POST   /log          {"path": absolute path or null}: go on in another file; 200 {"path"}
    PUT    /run          {"run_id", "seed"?}: for the header of logs opened and rules put from now on

Errors are {"error": sentence}.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from chaos.gateway.errors import BadRule, TooLargeToHold
from chaos.gateway.messages import Answer, Request
from chaos.gateway.proxy import Gateway
from chaos.gateway.rules import decode_rule
from chaos.gateway.server import ServerConnection

BODY_BYTES = 1024 * 1024
_RULE = re.compile(r"/rules/([A-Za-z0-9._:-]{1,128})$")


class _LogSwitch(msgspec.Struct, forbid_unknown_fields=True):
    path: str | None


class _Run(msgspec.Struct, forbid_unknown_fields=True):
    run_id: str
    seed: int | None = None


class _Refused(Exception):
    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


class Control:
    """Answers control requests.

    Args:
        gateway: What is controlled.
        token: What a caller must bring.
        upstreams: Names of the listeners.
    """

    def __init__(self, gateway: Gateway, token: str, upstreams: frozenset[str]) -> None:
        self._gateway = gateway
        self._token = f"Bearer {token}".encode()
        self._upstreams = upstreams
        self._routes: dict[tuple[str, str], Callable[[bytes], Answer]] = {
            ("GET", "/healthz"): self._health,
            ("GET", "/rules"): self._rules,
            ("DELETE", "/rules"): self._clear,
            ("GET", "/counters"): lambda _: _json(200, gateway.book.counters()),
            ("POST", "/log"): self._switch_log,
            ("PUT", "/run"): self._set_run,
        }

    async def handle(self, request: Request, client: ServerConnection) -> None:
        """Answer one request; the `Handler` of the control listener."""
        try:
            self._admit(request)
            body = await request.body.read_all(BODY_BYTES)
            answer = self._answer(request, body)
        except TooLargeToHold:
            answer = _json(413, {"error": f"A control request has at most {BODY_BYTES} bytes."})
        except _Refused as refused:
            answer = _json(refused.status, {"error": str(refused)})
        await client.send_answer(request, answer)

    def _admit(self, request: Request) -> None:
        if request.header(b"origin") is not None:
            raise _Refused(403, "Requests from a browser are not answered here.")
        if not hmac.compare_digest(request.header(b"authorization") or b"", self._token):
            raise _Refused(401, "The token of the gateway's configuration is needed as Authorization: Bearer TOKEN.")

    def _answer(self, request: Request, body: bytes) -> Answer:
        if rule := _RULE.match(request.path):
            if request.verb == "PUT":
                return self._put(rule.group(1), body)
            if request.verb == "DELETE":
                return self._delete(rule.group(1))
        route = self._routes.get((request.verb, request.path))
        if route is None:
            raise _Refused(404, f"There is no {request.verb} {request.path} here.")
        return route(body)

    def _put(self, rule_id: str, body: bytes) -> Answer:
        try:
            rule = decode_rule(body, upstreams=self._upstreams)
        except BadRule as error:
            raise _Refused(400, f"Rule {rule_id!r}: {error}") from None
        known = any(active.id == rule_id for active in self._gateway.book.active)
        self._gateway.book.put(rule_id, rule)
        return _json(200 if known else 201, {"id": rule_id})

    def _delete(self, rule_id: str) -> Answer:
        if not self._gateway.book.delete(rule_id):
            raise _Refused(404, f"There is no rule {rule_id!r}.")
        return Answer(204, [], Answer.of(204, b"", []).body, bodyless=True)

    def _clear(self, _: bytes) -> Answer:
        return _json(200, {"deleted": self._gateway.book.clear()})

    def _rules(self, _: bytes) -> Answer:
        return _json(200, {"rules": {active.id: active.rule for active in self._gateway.book.active}})

    def _health(self, _: bytes) -> Answer:
        gateway = self._gateway
        return _json(200, {
            "ok": True,
            "run": gateway.log.run_id,
            "log": str(gateway.log.path) if gateway.log.path else None,
            "open_requests": gateway.open_requests,
            "failed_log_lines": gateway.log.failed_lines,
            "rules": len(gateway.book.active),
        })  # fmt: skip

    def _switch_log(self, body: bytes) -> Answer:
        path = _decoded(body, _LogSwitch).path
        if path is not None and not Path(path).is_absolute():
            raise _Refused(400, f"The log path {path!r} is not absolute.")
        try:
            self._gateway.log.switch(Path(path) if path is not None else None)
        except OSError as error:
            raise _Refused(400, f"The log {path} cannot be opened: {error.strerror}.") from None
        return _json(200, {"path": path})

    def _set_run(self, body: bytes) -> Answer:
        run = _decoded(body, _Run)
        self._gateway.log.run_id = run.run_id
        if run.seed is not None:
            self._gateway.book.seed = run.seed
        return _json(200, {"run_id": run.run_id, "seed": self._gateway.book.seed})


def _decoded(body: bytes, shape: type[Any]) -> Any:
    try:
        return msgspec.json.decode(body, type=shape)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _Refused(400, f"The request cannot be read: {error}.") from None


def _json(status: int, document: Any) -> Answer:
    return Answer.of(status, msgspec.json.encode(document), [(b"Content-Type", b"application/json")])
