"""The icequake tab in Locust's own web UI: a page script, and routes that pass requests on to the live session.

The session's token stays in this process. Since Locust's UI has no defence of its own against other pages of the same browser
(its answers carry `Access-Control-Allow-Origin: *`, and /swarm and /stop take plain forms), every request of the whole UI must
name this machine as its Host, and one that changes something must come from a page of this server; what destroys is taken from
loopback only.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from flask import Blueprint, Response, jsonify, request, send_file

from loadtests.control_client import ControlClient, ControlRefused

F = TypeVar("F", bound=Callable[..., Response])
TAB = {"title": "icequake", "key": "icequake"}
SCRIPT, STYLE = Path(__file__).with_name("panel.js"), Path(__file__).with_name("panel.css")
ACTIONS = ("inject", "heal", "drill", "mark", "flush", "halt")
"""What the page may do; `begin` and `end` are Locust's own."""
REPORT_POLICY = "sandbox allow-scripts allow-popups allow-downloads"
"""A report shows what a target wrote: it gets an origin of its own, from which this server cannot be used."""
_TAGS = '<link rel="stylesheet" href="./icequake/panel.css"><script src="./icequake/panel.js" defer></script></body>'


def install(environment: Any, control: ControlClient) -> None:
    """Add tab, routes and checks to the web UI of *environment*."""
    ui = environment.web_ui
    ui.template_args.update(extended_tabs=[TAB])
    protected: Callable[[F], F] = ui.auth_required_if_enabled
    routes = Blueprint("icequake", __name__, url_prefix="/icequake")

    @routes.get("/panel.js")
    def script() -> Response:
        return send_file(SCRIPT, mimetype="text/javascript", max_age=0)

    @routes.get("/panel.css")
    def style() -> Response:
        return send_file(STYLE, mimetype="text/css", max_age=0)

    @routes.get("/state")
    @protected
    def state() -> Response:
        since = request.args.get("since", 0.0, type=float)
        return _passed_on(control, f"state?since={since!r}")

    @routes.get("/events")
    @protected
    def events() -> Response:
        try:
            return _answer(Response(control.events(), content_type="text/event-stream"))
        except ControlRefused as refused:
            return _answer(jsonify(refused.document), refused.status)

    @routes.get("/faults")
    @protected
    def faults() -> Response:
        return _passed_on(control, "faults")

    @routes.get("/drills")
    @protected
    def drills() -> Response:
        return _passed_on(control, "drills")

    @routes.get("/runs/<run_id>/report")
    @protected
    def report(run_id: str) -> Response:
        if not run_id.isalnum() or not run_id.isascii():
            return _refused(404, "not_found", "there is no such run.")
        answer = _passed_on(control, f"runs/{run_id}/report")
        answer.headers["Content-Security-Policy"] = REPORT_POLICY
        return answer

    @routes.post("/<action>")
    @protected
    def act(action: str) -> Response:
        body = request.get_json(silent=True)
        if action not in ACTIONS:
            return _refused(404, "not_found", f"there is no action {action!r}.")
        if not request.is_json or not isinstance(body, dict):
            return _refused(400, "bad_input", "send a JSON object, as application/json.")
        if not _is_loopback(request.remote_addr):
            return _refused(403, "not_local", "this is only taken from the machine that runs the session.")
        try:
            return _answer(jsonify(control.post(action, body)))
        except ControlRefused as refused:
            return _answer(jsonify(refused.document), refused.status)

    ui.app.before_request(lambda: _foreign() or _not_now(control))
    # Flask calls these from the last to the first: ours comes after Flask-CORS has added its headers.
    ui.app.after_request_funcs.setdefault(None, []).insert(0, _with_panel)
    ui.app.register_blueprint(routes)


def _passed_on(control: ControlClient, path: str) -> Response:
    try:
        kind, body = control.get(path)
    except ControlRefused as refused:
        return _answer(jsonify(refused.document), refused.status)
    return _answer(Response(body, content_type=kind))


def _refused(status: int, code: str, sentence: str) -> Response:
    return _answer(jsonify({"error": {"code": code, "sentence": sentence}}), status)


def _answer(response: Response, status: int = 200) -> Response:
    response.status_code = status
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response


def _foreign() -> Response | None:
    """Refuse a request under a foreign name, and a change that a page from elsewhere asks for."""
    own = urlsplit(f"//{request.host}")
    if not _names_this_machine(own.hostname):
        return _refused(403, "foreign_host", "this server answers to names of this machine only.")
    if request.method in ("GET", "HEAD", "OPTIONS"):
        return None
    origin, site = request.headers.get("Origin"), request.headers.get("Sec-Fetch-Site", "none")
    if (origin is not None and origin != f"{request.scheme}://{request.host}") or site not in ("same-origin", "none"):
        return _refused(403, "foreign_origin", "a page from elsewhere may not do this.")
    return None


def _not_now(control: ControlClient) -> Response | None:
    """Answer Start with a sentence while the last run is settling; Locust's form shows it."""
    if request.method != "POST" or request.path != "/swarm":
        return None
    try:
        settling = json.loads(control.get("state?since=1e12")[1])["session"]["settling"]
    except ControlRefused as refused:
        return jsonify({"success": False, "message": str(refused)})
    if settling:
        return jsonify(
            {"success": False, "message": "The last run is still settling; its verdict is on the icequake tab."}
        )
    return None


def _with_panel(answer: Response) -> Response:
    # Locust allows every page to read its answers; nothing here is for other pages.
    answer.headers.pop("Access-Control-Allow-Origin", None)
    if request.path == "/" and answer.mimetype == "text/html":
        answer.set_data(answer.get_data(as_text=True).replace("</body>", _TAGS))
    return answer


def _names_this_machine(name: str | None) -> bool:
    return name == "localhost" or _is_loopback(name)


def _is_loopback(address: str | None) -> bool:
    try:
        return address is not None and ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False
