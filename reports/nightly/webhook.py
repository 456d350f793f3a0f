"""Telling a webhook how the night went: within a deadline whatever it does, and never louder than a sentence."""

from __future__ import annotations

import http.client
import threading
import urllib.error
import urllib.request
from email.message import Message
from typing import IO

DEADLINE_S = 20.0


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Python follows a redirect of a POST by a GET without the body, which would look like success."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> None:
        """Follow none: the answer is then an error with its status."""


def post(url: str, body: bytes, *, deadline_s: float = DEADLINE_S) -> str | None:
    """POST JSON to *url*; return None when it was taken (2xx), else why it was not, in a few words without the URL.

    It returns within *deadline_s*, also when the other side sends one byte at a time.
    """
    said: list[str | None] = []
    thread = threading.Thread(target=lambda: said.append(_posted(url, body, deadline_s)), daemon=True)
    thread.start()
    thread.join(deadline_s)
    return said[0] if said else f"it did not answer within {deadline_s:g} s"


def _posted(url: str, body: bytes, timeout_s: float) -> str | None:
    try:
        request = urllib.request.Request(  # noqa: S310  # the command takes http and https only
            url, data=body, headers={"Content-Type": "application/json"}, method="POST"
        )
        with urllib.request.build_opener(_NoRedirect).open(request, timeout=timeout_s):
            return None
    except urllib.error.HTTPError as error:
        with error:
            return f"it answered {error.code} {error.reason}".rstrip()
    except urllib.error.URLError as error:
        return str(error.reason)
    except TimeoutError:
        return f"it did not answer within {timeout_s:g} s"
    except ConnectionError:
        return "it closed the connection without an answer"
    except http.client.HTTPException as error:
        return f"its answer is no HTTP ({type(error).__name__})"
    except (OSError, ValueError) as error:
        return str(error)
