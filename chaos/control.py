"""The control API of a live session: what is going on, and the operator's hands. JSON over HTTP, loopback only.

GET  /state?since=S    everything on show, as one object; `history` begins after S seconds of the run
GET  /events           the same as server-sent events, one a second and one after each POST; the first has the whole history, the
                       others what is new. An event `problem` says, as a refusal does, why there is no state now
GET  /faults           the catalogue: name, about, parameters, JSON Schema of the mechanism, why it is not possible here
GET  /drills           the drills: name, about, procedure, parameters, JSON Schema, why it is not possible here
GET  /runs/ID/report   the HTML report of a run of this session
POST /inject           {"fault": name, "with": {...}, "for_s": seconds or null (until healed)}
POST /heal             {"step": number} or {} for everything that is on
POST /drill            {"drill": name, "with": {...}}; begins it, the state tells what became of it; answers its step and run
POST /mark             {"text": "paged"}
POST /flush            ask the target to flush now, answered when it is decided
POST /halt             heal everything and end the run; it cannot PASS
POST /begin, /end      the load generator says that its test starts, or has ended

Every request needs `Authorization: Bearer TOKEN` and a Host that names this machine; a request with an Origin other than the
server's own is refused, whatever its token. A refusal is `{"error": {"code", "sentence"}}` with status 400 (the request is
wrong), 409 (not now), 401, 403, 404, 413 or 500.
"""

from __future__ import annotations

import hmac
import json
import secrets
import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Protocol, Self, cast
from urllib.parse import parse_qs, urlsplit

from chaos.errors import BadInput, ChaosError, NotNow

HOST = "127.0.0.1"
BODY_BYTES_MAX = 64_000
REQUEST_S = 10.0
"""A client that does not finish its request within this time is given up."""
EVENT_S = 1.0
_NAMES = ("127.0.0.1", "localhost", "[::1]")


class Operations(Protocol):
    """What the API does. Every method may be called from any thread; a ChaosError is answered as a refusal."""

    def state(self, since_s: float) -> dict[str, Any]:
        """Return everything on show."""

    def faults(self) -> list[dict[str, Any]]:
        """Return the catalogue."""

    def drills(self) -> list[dict[str, Any]]:
        """Return the drills."""

    def report(self, run_id: str) -> bytes:
        """Return the HTML report of a run. Raises ChaosError when there is none."""

    def act(self, action: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """Do one of `ACTIONS` and return what became of it."""


ACTIONS = ("inject", "heal", "drill", "mark", "flush", "halt", "begin", "end")


class ControlServer:
    """Serves *operations* on a free loopback port for the length of a `with` block.

    Attributes:
        url: Where it listens.
        token: What a client must show; fresh for each server.
    """

    def __init__(self, operations: Operations) -> None:
        self.token = secrets.token_urlsafe(32)
        self._server = _Server(operations, self.token)
        self.url = f"http://{HOST}:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="control", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._server.changes.close()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Changes:
    """Wakes streams of events when an operator did something, and ends them when the server closes."""

    def __init__(self) -> None:
        self._heard, self._count, self.closed = threading.Condition(), 0, False

    @property
    def count(self) -> int:
        """How many there were."""
        return self._count

    def note(self) -> None:
        """Something was done."""
        with self._heard:
            self._count += 1
            self._heard.notify_all()

    def close(self) -> None:
        """There is nothing more to tell."""
        self.closed = True
        self.note()

    def wait(self, seen: int, seconds: float) -> None:
        """Wait until there is another than those *seen*, or for so long."""
        with self._heard:
            self._heard.wait_for(lambda: self._count > seen, seconds)


class _Feed:
    """The state, again and again, with only the history that it has not told yet."""

    def __init__(self, operations: Operations) -> None:
        self._operations, self._run, self._since_s = operations, None, 0.0

    def next(self) -> dict[str, Any]:
        """Return the state as of now."""
        state = self._operations.state(self._since_s)
        run = (state.get("run") or {}).get("id")
        if run != self._run and self._since_s:  # another run, with a history of its own
            state = self._operations.state(0.0)
        history = state.get("history")
        self._run, self._since_s = run, history[-1]["t_s"] if history else (self._since_s if run == self._run else 0.0)
        return state


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False  # an action may wait for the target; the process does not wait for it

    def __init__(self, operations: Operations, token: str) -> None:
        super().__init__((HOST, 0), _Handler)
        self.operations = operations
        self.token = token.encode()
        self.changes = _Changes()
        self.origin = f"http://{HOST}:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no event."""


class _Refused(Exception):
    def __init__(self, status: int, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.status, self.code, self.sentence = status, code, sentence


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = REQUEST_S

    @property
    def _app(self) -> _Server:
        return cast(_Server, self.server)

    def do_GET(self) -> None:
        self._answered(self._get)

    def do_POST(self) -> None:
        self._answered(self._post)

    def log_message(self, format: str, *args: Any) -> None:
        """The timeline is the log."""

    # -- one request

    def _answered(self, work: Callable[[], None]) -> None:
        try:
            self._check()
            work()
        except (BrokenPipeError, ConnectionResetError, socket.timeout):  # noqa: UP041  # they left
            self.close_connection = True
        except Exception as error:
            status, document = _refusal(error)
            self._json(status, document)

    def _check(self) -> None:
        host = urlsplit(f"//{self.headers.get('Host', '')}")
        if host.netloc.rpartition(":")[0] not in _NAMES:
            raise _Refused(403, "foreign_host", "this server answers to names of this machine only.")
        origin = self.headers.get("Origin")
        if origin is not None and origin != self._app.origin:
            raise _Refused(403, "foreign_origin", "a page from elsewhere may not use this API.")
        scheme, _, token = self.headers.get("Authorization", "").partition(" ")
        right = hmac.compare_digest(token.strip().encode("utf-8", "replace"), self._app.token)
        if scheme.lower() != "bearer" or not right:
            raise _Refused(401, "unauthorized", "show the session's token as `Authorization: Bearer ...`.")

    def _get(self) -> None:
        parts = urlsplit(self.path)
        words = parts.path.strip("/").split("/")
        if words == ["state"]:
            self._json(200, self._app.operations.state(_since(parts.query)))
        elif words == ["faults"]:
            self._json(200, {"faults": self._app.operations.faults()})
        elif words == ["drills"]:
            self._json(200, {"drills": self._app.operations.drills()})
        elif words == ["events"]:
            self._events()
        elif len(words) == 3 and words[0] == "runs" and words[2] == "report":
            self._send(200, "text/html; charset=utf-8", self._app.operations.report(words[1]))
        else:
            raise _Refused(404, "not_found", f"there is no {parts.path}.")

    def _post(self) -> None:
        body = self._body()
        action = urlsplit(self.path).path.strip("/")
        if action not in ACTIONS:
            raise _Refused(404, "not_found", f"there is no action {action!r}; there are {', '.join(ACTIONS)}.")
        try:
            done = self._app.operations.act(action, body)
        finally:
            self._app.changes.note()
        self._json(200, done)

    def _body(self) -> dict[str, Any]:
        if "Transfer-Encoding" in self.headers:
            self.close_connection = True
            raise _Refused(400, "bad_input", "send the body whole, with Content-Length.")
        length = self.headers.get("Content-Length", "0")
        if not length.isdecimal() or int(length) > BODY_BYTES_MAX:
            self.close_connection = True
            raise _Refused(413, "too_large", f"a body has {BODY_BYTES_MAX:,} bytes at most.")
        text = self.rfile.read(int(length)) or b"{}"
        try:
            body = json.loads(text)
        except (ValueError, RecursionError):
            body = None
        if not isinstance(body, dict):
            raise _Refused(400, "bad_input", "the body is not a JSON object.")
        return body

    def _events(self) -> None:
        self.close_connection = True
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        feed, changes = _Feed(self._app.operations), self._app.changes
        while not changes.closed:
            seen = changes.count
            self.wfile.write(_event(feed))
            self.wfile.flush()
            changes.wait(seen, EVENT_S)

    def _json(self, status: int, document: dict[str, Any]) -> None:
        self._send(status, "application/json", json.dumps(document).encode())

    def _send(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        self.wfile.write(body)


def _event(feed: _Feed) -> bytes:
    """Return one event: the state, or why there is none."""
    try:
        return b"data: " + json.dumps(feed.next()).encode() + b"\n\n"
    except Exception as error:
        return b"event: problem\ndata: " + json.dumps(_refusal(error)[1]).encode() + b"\n\n"


def _refusal(error: Exception) -> tuple[int, dict[str, Any]]:
    """Return status and document; a fault of ours is told to whoever asked, and the session goes on."""
    if isinstance(error, _Refused):
        status, code, sentence = error.status, error.code, error.sentence
    elif isinstance(error, ChaosError):
        status = 409 if isinstance(error, NotNow) else 400 if isinstance(error, BadInput) else 500
        code, sentence = error.code, error.sentence
    else:
        status, code, sentence = 500, "internal", f"this is a fault of icequake itself: {error!r}."
    return status, {"error": {"code": code, "sentence": sentence}}


def _since(query: str) -> float:
    try:
        return float(parse_qs(query).get("since", ["0"])[-1])
    except ValueError:
        raise _Refused(400, "bad_input", "since is a number of seconds.") from None
