"""A naive collector: acknowledges from memory, and commits again when a commit seems to have failed.

It is the example of a target that is not ours: nothing here knows icequake, only the environment it was started with. Both
faults are common in production: the events in memory die with the process, and a commit whose answer was lost is repeated.
"""

import json
import os
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pyarrow as pa
from pyiceberg.catalog import load_catalog
from pyiceberg.table import Table

CAPACITY = int(os.environ.get("ICEBERG_BUFFER_SIZE", "2000"))
TIMEOUT_S = int(os.environ.get("ICEBERG_BUFFER_TIMEOUT_MS", "30000")) / 1000
SCHEMA = pa.schema([("id", pa.string()), ("source", pa.string()), ("type", pa.string()), ("data", pa.string())])
buffer: list[dict[str, str]] = []
flushing: list[dict[str, str]] = []
lock = threading.Lock()


def open_table() -> Table:
    catalog = load_catalog(
        "naive", type="rest", uri=os.environ["CATALOG_URI"], warehouse=os.environ["CATALOG_WAREHOUSE"],
        credential=os.environ["CATALOG_CREDENTIAL"], **{
            "oauth2-server-uri": os.environ["CATALOG_OAUTH2_URI"], "s3.endpoint": os.environ["S3_ENDPOINT"],
            "s3.region": os.environ["S3_REGION"], "s3.access-key-id": os.environ["AWS_ACCESS_KEY_ID"],
            "s3.secret-access-key": os.environ["AWS_SECRET_ACCESS_KEY"]})  # fmt: skip
    catalog.create_namespace_if_not_exists(os.environ["TABLE_IDENTIFIER"].rpartition(".")[0])
    return catalog.create_table_if_not_exists(os.environ["TABLE_IDENTIFIER"], SCHEMA)


def flush_forever(table: Table) -> None:
    while True:
        time.sleep(TIMEOUT_S)
        with lock:
            rows = flushing[:] = buffer[:]
            buffer.clear()
        while rows:
            try:
                table.append(pa.Table.from_pylist(rows, SCHEMA))
                break
            except Exception as error:  # naive on purpose: whatever it was, do it all again
                print(f"flush failed, trying again: {error!r}", flush=True)
                table.refresh()
        flushing.clear()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, status: int, body: bytes = b"{}") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        held = len(buffer) + len(flushing)
        self.answer(200, f"naive_buffer_events {held}\nnaive_buffer_fill_ratio {held / CAPACITY}\n".encode())

    def do_POST(self) -> None:
        events = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        rows = [{"id": e["id"], "source": e["source"], "type": e["type"],
                 "data": json.dumps(e["data"], separators=(",", ":"))} for e in events]  # fmt: skip
        with lock:
            buffer.extend(rows)
        self.answer(202)

    def log_message(self, *_: object) -> None:
        """Say nothing: one line a request would be the largest file of a run."""


if __name__ == "__main__":
    threading.Thread(target=flush_forever, args=(open_table(),), daemon=True).start()
    ThreadingHTTPServer(("127.0.0.1", int(os.environ["LISTEN_PORT"])), Handler).serve_forever()
