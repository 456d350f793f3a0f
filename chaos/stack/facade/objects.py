"""moto's S3 behind a check of the access key, with its buckets made; everything is in memory and gone with the process."""

from __future__ import annotations

import argparse
import logging
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from moto.moto_server.werkzeug_app import MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server
from werkzeug.test import Client

from chaos.stack.facade.config import Config

_KEY = re.compile(r"Credential=([^/,\s]+)/")
_REFUSAL = (
    b'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>InvalidAccessKeyId</Code>'
    b"<Message>The access key is not that of this stack.</Message></Error>"
)

WsgiApp = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


def keyed(app: WsgiApp, access_key: str) -> WsgiApp:
    """Let only requests through that name the access key; moto itself takes any, and checks no signature."""

    def guarded(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if _named(environ) == access_key:
            return app(environ, start_response)
        start_response("403 Forbidden", [("Content-Type", "application/xml"), ("Content-Length", str(len(_REFUSAL)))])
        return [_REFUSAL]

    return guarded


def _named(environ: dict[str, Any]) -> str | None:
    signed = _KEY.search(environ.get("HTTP_AUTHORIZATION", ""))
    presigned = re.search(r"X-Amz-Credential=([^&%/]+)", environ.get("QUERY_STRING", ""))
    found = signed or presigned
    return found[1] if found else None


def make_buckets(app: WsgiApp, config: Config) -> None:
    """Make the buckets, as a client would."""
    scope = f"AWS4-HMAC-SHA256 Credential={config.access_key}/20000101/{config.region}/s3/aws4_request"
    for bucket in config.buckets:
        answer = Client(app).put(f"/{bucket}", base_url=config.s3_url, headers={"Authorization": scope})
        if answer.status_code != 200:
            raise RuntimeError(f"moto did not make the bucket {bucket}: {answer.status}")


def main() -> None:
    """Make the buckets and serve until SIGTERM."""
    parser = argparse.ArgumentParser(description="moto's S3 with one access key.")
    parser.add_argument("--config", type=Path, required=True)
    config = Config.read(parser.parse_args().config)
    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # not a line for every request
    app = keyed(create_backend_app("s3"), config.access_key)
    server = make_server(config.host, config.s3_port, app, threaded=True, request_handler=MotoRequestHandler)
    make_buckets(app, config)
    server.serve_forever()


if __name__ == "__main__":
    main()
