"""The live session's control API, as Locust speaks to it (see chaos/control.py). Waiting yields to gevent inside Locust."""

from __future__ import annotations

import http.client
import json
import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Self

from loadtests.errors import TrafficError
from loadtests.settings import Settings

URL_VARIABLE = "ICEQUAKE_CONTROL_URL"
TOKEN_VARIABLE = "ICEQUAKE_CONTROL_TOKEN"  # noqa: S105  # the name of a variable, not a secret
TIMEOUT_S = 120.0
SILENT_S = 20.0
ANSWER_BYTES_MAX = 50_000_000

_open = urllib.request.build_opener(urllib.request.ProxyHandler({})).open


class ControlRefused(TrafficError):
    """The live session refused, or does not answer.

    Attributes:
        status: The HTTP status; 502 when there was no answer.
        document: The answer, `{"error": {"code", "sentence"}}`.
    """

    exit_code = 255

    def __init__(self, status: int, document: dict[str, Any]) -> None:
        self.status, self.document = status, document
        super().__init__(str(document["error"]["sentence"]))


@dataclass(frozen=True)
class ControlClient:
    """A session's control API."""

    url: str
    token: str = field(repr=False)

    @classmethod
    def from_environment(cls) -> Self | None:
        """Return the client of the session that started this process; None when Locust was started by itself."""
        url, token = os.environ.get(URL_VARIABLE), os.environ.get(TOKEN_VARIABLE)
        return cls(url, token) if url and token else None

    def begin(self, settings: Settings, *, users: int) -> dict[str, Any]:
        """Ask for a run that records this traffic; return its `run_dir` and the `url` events go to.

        Raises:
            ControlRefused: the last run is still settling, or the target could not be started.
        """
        form = {
            "events_per_s": users * settings.rate_per_user * settings.batch,
            "batch": settings.batch,
            "profile": settings.traffic.name,
            "seed": settings.seed,
            "mode": settings.mode,
        }
        return self.post("begin", form)

    def end(self, problem: str | None) -> None:
        """Say that the test is over, and why when it did not end well."""
        self.post("end", {"problem": problem})

    def get(self, path: str) -> tuple[str, bytes]:
        """Return content type and body of a resource. Raises ControlRefused."""
        return self._ask(urllib.request.Request(f"{self.url}/{path}", headers=self._headers))  # noqa: S310  # loopback

    def events(self) -> Iterator[bytes]:
        """Return the session's server-sent events, each whole, until it ends or is silent for `SILENT_S`.

        Raises:
            ControlRefused: at once, when the session refuses or does not answer.
        """
        answer = self._open(urllib.request.Request(f"{self.url}/events", headers=self._headers), SILENT_S)  # noqa: S310
        return _events(answer)

    def post(self, action: str, body: dict[str, Any]) -> dict[str, Any]:
        """Do *action*; return what became of it. Raises ControlRefused."""
        request = urllib.request.Request(  # noqa: S310  # loopback
            f"{self.url}/{action}", data=json.dumps(body).encode(), headers=self._headers, method="POST"
        )
        answer: dict[str, Any] = json.loads(self._ask(request)[1])
        return answer

    @property
    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}

    def _ask(self, request: urllib.request.Request) -> tuple[str, bytes]:
        try:
            with self._open(request, TIMEOUT_S) as answer:
                return answer.headers.get("Content-Type", ""), answer.read(ANSWER_BYTES_MAX)
        except (OSError, http.client.HTTPException) as error:
            raise _no_answer(error) from error

    def _open(self, request: urllib.request.Request, timeout_s: float) -> http.client.HTTPResponse:
        try:
            answer: http.client.HTTPResponse = _open(request, timeout=timeout_s)
        except urllib.error.HTTPError as error:
            raise ControlRefused(error.code, _refusal(error)) from error
        except (OSError, http.client.HTTPException) as error:
            raise _no_answer(error) from error
        return answer


def _events(answer: http.client.HTTPResponse) -> Iterator[bytes]:
    lines: list[bytes] = []
    with answer, suppress(OSError, http.client.HTTPException):
        for line in answer:
            lines.append(line)
            if line == b"\n":
                yield b"".join(lines)
                lines.clear()


def _no_answer(error: Exception) -> ControlRefused:
    sentence = f"the live session does not answer ({error}); is `icequake live` still running?"
    return ControlRefused(502, {"error": {"code": "no_answer", "sentence": sentence}})


def _refusal(error: urllib.error.HTTPError) -> dict[str, Any]:
    try:
        document: dict[str, Any] = json.loads(error.read(ANSWER_BYTES_MAX))
        str(document["error"]["sentence"])
    except (ValueError, KeyError, TypeError, OSError):
        return {"error": {"code": "no_answer", "sentence": f"the live session answered with status {error.code}."}}
    return document
