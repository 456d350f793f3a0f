"""The catalog as an ASGI application: tokens, routing, one thread per request, errors as the specification has them."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import json
import sys
import traceback
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import replace
from functools import partial
from typing import Any
from urllib.parse import parse_qsl

from sqlalchemy.orm import Session

from chaos.stack.facade.catalog import Catalog
from chaos.stack.facade.endpoints import ENDPOINTS, Call, Endpoint, Reply, configuration
from chaos.stack.facade.errors import (
    ApiError,
    InternalError,
    NotAllowedHere,
    NotAuthorized,
    NotFound,
    TooLarge,
    translate,
)
from chaos.stack.facade.names import segments
from chaos.stack.facade.replies import Replies, checked_key, fingerprint
from chaos.stack.facade.tokens import LIFETIME_S, Tokens

MAX_BODY_BYTES = 64 << 20
_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class App:
    """Serves one catalog.

    Args:
        catalog: What is served.
        client_id: Who may have a token.
        client_secret: With which secret.
        tokens: Makes and checks them.
    """

    def __init__(self, catalog: Catalog, client_id: str, client_secret: str, tokens: Tokens) -> None:
        self._catalog = catalog
        self._client = f"{client_id}:{client_secret}"
        self._tokens = tokens

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        verb = scope["method"]
        try:
            body = await _body(receive)
            reply = await asyncio.to_thread(self._answer, verb, scope, body)
        except ApiError as error:
            reply = _problem(error)
        content = b"" if verb == "HEAD" or reply.status == 204 else reply.body.encode()
        headers = [(b"content-type", b"application/json")] if content else []
        if reply.status != 204:
            headers.append((b"content-length", str(len(content)).encode()))
        if reply.status == 503:
            headers.append((b"retry-after", b"1"))
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    def _answer(self, verb: str, scope: Message, body: bytes) -> Reply:
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        parts = segments(scope["raw_path"].partition(b"?")[0])
        query = dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True))
        try:
            if (verb, parts) == ("POST", ["v1", "oauth", "tokens"]):
                return self._token(body, headers)
            self._authorize(headers)
            if (verb, parts) == ("GET", ["v1", "config"]):
                return Reply(200, json.dumps(configuration(self._catalog.client_defaults)))
            endpoint, names = _match(verb, parts)
            key = headers.get("idempotency-key")
            if key is None or verb not in ("POST", "DELETE"):
                return self._handle(endpoint, Call(names, query, body))
            target = scope["raw_path"] + b"?" + scope["query_string"]
            return self._once(endpoint, Call(names, query, body), checked_key(key), fingerprint(verb, target, body))
        except Exception as error:  # the boundary: every failure is an answer
            return _failed(error)

    def _handle(self, endpoint: Endpoint, call: Call) -> Reply:
        try:
            return endpoint.handle(self._catalog, call)
        except Exception as error:  # of what was asked; an answer that may be kept
            return _failed(error)

    def _once(self, endpoint: Endpoint, call: Call, key: str, request: str) -> Reply:
        """Answer as the first request with this key was answered; failures of the server are not kept."""
        replies = self._catalog.replies
        kept = replies.find(key, request)
        if kept is None:
            remember = partial(_remember, replies, key, request)
            reply = self._handle(endpoint, replace(call, remember=remember))
            if reply.status >= 500:
                return reply
            replies.keep(key, request, reply.status, reply.body)
            kept = replies.find(key, request)  # of two at once, the one that came first
        return Reply(*kept) if kept is not None else reply

    def _authorize(self, headers: Mapping[str, str]) -> None:
        if not self._tokens.valid(_bearer(headers)):
            raise NotAuthorized("Give a valid bearer token from /v1/oauth/tokens")

    def _token(self, body: bytes, headers: Mapping[str, str]) -> Reply:
        """OAuth2: client credentials in the form or as basic authentication, or a token of ours for a new one."""
        form = dict(parse_qsl(body.decode("latin-1"), keep_blank_values=True))
        grant = form.get("grant_type")
        if grant == "client_credentials":
            client = _basic(headers) or f"{form.get('client_id', '')}:{form.get('client_secret', '')}"
            good = hmac.compare_digest(client.encode(), self._client.encode())
        elif grant == _EXCHANGE:
            good = self._tokens.valid(form.get("subject_token", ""))
        else:
            return _refused(400, "unsupported_grant_type", "use client_credentials or a token exchange")
        if not good:
            return _refused(401, "invalid_client", "client id and secret are not those of this stack")
        token = {"access_token": self._tokens.issue(), "token_type": "bearer", "expires_in": LIFETIME_S}
        kind = {"issued_token_type": "urn:ietf:params:oauth:token-type:access_token"}
        return Reply(200, json.dumps({**token, **kind}))


def _match(verb: str, parts: list[str]) -> tuple[Endpoint, dict[str, str]]:
    """Find the endpoint of a path; raises NotFound or NotAllowedHere."""
    seen = False
    for endpoint in ENDPOINTS:
        names = _names(["v1", *endpoint.path.split("/")], parts)
        if names is None:
            continue
        if endpoint.verb == verb:
            return endpoint, names
        seen = True
    if seen:
        raise NotAllowedHere(f"{verb} is not possible here")
    raise NotFound(f"There is no /{'/'.join(parts)}")


def _names(pattern: list[str], parts: list[str]) -> dict[str, str] | None:
    if len(pattern) != len(parts):
        return None
    names = {}
    for word, part in zip(pattern, parts, strict=True):
        if word.startswith("{"):
            names[word[1:-1]] = part
        elif word != part:
            return None
    return names


def _remember(replies: Replies, key: str, request: str, session: Session, status: int, body: str) -> None:
    replies.keep(key, request, status, body, session)


def _failed(error: Exception) -> Reply:
    answer = translate(error)
    if type(answer) is InternalError:  # unreadable metadata is what a scenario may have made of it
        traceback.print_exception(error, file=sys.stderr)
    return _problem(answer)


def _bearer(headers: Mapping[str, str]) -> str:
    kind, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if kind.lower() == "bearer" else ""


def _basic(headers: Mapping[str, str]) -> str | None:
    kind, _, value = headers.get("authorization", "").partition(" ")
    if kind.lower() != "basic":
        return None
    try:
        return base64.b64decode(value, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return None


def _problem(error: ApiError) -> Reply:
    body = {"error": {"message": str(error), "type": error.type, "code": error.status}}
    return Reply(error.status, json.dumps(body))


def _refused(status: int, code: str, words: str) -> Reply:
    return Reply(status, json.dumps({"error": code, "error_description": words}))


async def _body(receive: Receive) -> bytes:
    parts, size, more = [], 0, True
    while more:
        message = await receive()
        part = message.get("body", b"")
        size += len(part)
        if size > MAX_BODY_BYTES:
            raise TooLarge(f"The body is larger than {MAX_BODY_BYTES} bytes")
        parts.append(part)
        more = message.get("more_body", False)
    return b"".join(parts)
