"""The gateway's configuration: a JSON file that only its owner can read, because it holds the control token.

    {"listeners": [{"name": "r2", "listen": "127.0.0.1:9000", "upstream": "http://127.0.0.1:8333"},
                   {"name": "catalog", "listen": "127.0.0.1:9001", "upstream": "http://127.0.0.1:8181"}],
     "control": "127.0.0.1:9002", "token": "...", "seed": 7, "log": null, "run": "",
     "rewrite_s3_endpoint": "http://127.0.0.1:18333", "resign": null}

A listener speaks "s3" or "iceberg" (`protocol`; by default iceberg when it is named catalog, else s3). Port 0 lets the system
choose; the ready line tells the port. `resign` is needed when the S3 upstream is not on this machine:
{"access_key_env", "secret_key_env", "session_token_env"?, "region": "auto", "service": "s3", "vended": true}; the values come from
the environment variables of those names, and with `vended` the credentials in catalog answers are used for requests made with them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta, Struct

from chaos.gateway.errors import BadConfig
from chaos.gateway.sigv4 import Credentials

LOOPBACK = ("127.0.0.1", "localhost", "::1")
TOKEN_CHARACTERS = 16


class ListenerConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One address to listen on and where it leads."""

    name: Annotated[str, Meta(pattern="^[a-z0-9_-]+$")]
    listen: str
    upstream: str
    protocol: Literal["s3", "iceberg"] | None = None

    @property
    def speaks(self) -> str:
        """Return the protocol."""
        return self.protocol or ("iceberg" if self.name == "catalog" else "s3")


class ResignConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to sign for the real S3 upstream."""

    access_key_env: str | None = None
    secret_key_env: str | None = None
    session_token_env: str | None = None
    region: str = "auto"
    service: str = "s3"
    vended: bool = True

    def credentials(self, environment: Mapping[str, str]) -> Credentials | None:
        """Return the key pair that the environment holds; None when no variables are named.

        Raises:
            BadConfig: a named variable is not set.
        """
        if self.access_key_env is None or self.secret_key_env is None:
            return None
        wanted = (self.access_key_env, self.secret_key_env, self.session_token_env)
        for name in wanted:
            if name is not None and not environment.get(name):
                raise BadConfig(f"resign: the environment variable {name} is not set.")
        token = environment[self.session_token_env] if self.session_token_env else None
        return Credentials(environment[self.access_key_env], environment[self.secret_key_env], token)


class Config(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole configuration; see the module's docstring."""

    listeners: Annotated[tuple[ListenerConfig, ...], Meta(min_length=1)]
    control: str
    token: Annotated[str, Meta(min_length=TOKEN_CHARACTERS)]
    seed: int = 0
    log: str | None = None
    run: str = ""
    rewrite_s3_endpoint: str | None = None
    resign: ResignConfig | None = None


def load_config(path: Path) -> Config:
    """Read and check the configuration.

    Raises:
        BadConfig: the file is missing, readable by others, not JSON, or contradicts itself.
    """
    try:
        content = path.read_bytes()
        mode = path.stat().st_mode
    except OSError as error:
        raise BadConfig(f"{path} cannot be read: {error.strerror}.") from None
    if os.name == "posix" and mode & 0o077:
        raise BadConfig(f"{path} holds a token and can be read by others; run chmod 600 on it.")
    try:
        config = msgspec.json.decode(content, type=Config)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadConfig(f"{path}: {error}.") from None
    try:
        _check(config)
    except BadConfig as error:
        raise BadConfig(f"{path}: {error}") from None
    return config


def address(text: str) -> tuple[str, int]:
    """Return host and port of "host:port".

    Raises:
        BadConfig: it is not that, or leads off this machine.
    """
    host, _, port = text.rpartition(":")
    host = host.strip("[]")
    if host not in LOOPBACK or not port.isdigit() or int(port) > 65535:
        raise BadConfig(f"{text!r} is not a loopback address; use 127.0.0.1:PORT.")
    return host, int(port)


def _check(config: Config) -> None:
    names = [listener.name for listener in config.listeners]
    if len(set(names)) < len(names):
        raise BadConfig("two listeners have one name; rules could not tell them apart.")
    address(config.control)
    for listener in config.listeners:
        address(listener.listen)
        _check_upstream(listener, config.resign)


def _check_upstream(listener: ListenerConfig, resign: ResignConfig | None) -> None:
    try:
        parts = urlsplit(listener.upstream)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise BadConfig(f"listener {listener.name!r}: upstream {listener.upstream!r} is not http://host:port.")
    if listener.speaks == "s3" and parts.hostname not in LOOPBACK and resign is None:
        raise BadConfig(
            f"listener {listener.name!r}: {parts.hostname} is not this machine, so signatures made for the gateway's address "
            "would be wrong there; set resign."
        )
