"""Serve the catalog until SIGTERM."""

from __future__ import annotations

import argparse
from pathlib import Path

import uvicorn

from chaos.stack.facade.app import App
from chaos.stack.facade.catalog import Catalog
from chaos.stack.facade.config import Config
from chaos.stack.facade.tokens import Tokens


def main() -> None:
    """Read the configuration, open the database, serve."""
    parser = argparse.ArgumentParser(description="An Iceberg REST catalog over pyiceberg's SqlCatalog.")
    parser.add_argument("--config", type=Path, required=True)
    config = Config.read(parser.parse_args().config)
    catalog = Catalog(config)
    app = App(catalog, config.access_key, config.secret_key, Tokens(config.secret_key))
    try:
        uvicorn.run(
            app, host=config.host, port=config.catalog_port, http="httptools", lifespan="off", log_level="warning",
            access_log=False, server_header=False, timeout_graceful_shutdown=1,
        )  # fmt: skip
    finally:
        catalog.close()


if __name__ == "__main__":
    main()
