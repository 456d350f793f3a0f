"""The earlier state of an object: well-formed and its own, without the newest thing in it.

It is what a lagging replica, or a writer that worked from an old copy, would leave at the object's place. No reader notices by
decoding it; only what describes the object tells.
"""

from __future__ import annotations

import io
import json
from typing import Any, cast

import pyarrow.parquet as pq
from pyiceberg.avro.codecs import AVRO_CODEC_KEY, AvroCompressionCodec
from pyiceberg.manifest import read_manifest_list, write_manifest_list

from chaos.table.container import SYNC_BYTES, Container, read_container
from chaos.table.errors import NotAContainer, NotApplicable, sentence
from chaos.table.rewriting import MemoryOutput
from chaos.table.walk import MemoryInput


def earlier(data: bytes) -> bytes:
    """Return the object without the newest thing in it: a snapshot, a manifest, an entry, a row.

    Raises:
        NotApplicable: there is nothing in it that could be missing, or it cannot be read.
    """
    try:
        if data.startswith(b"PAR1"):
            return _rows(data)
        if data.startswith(b"{"):
            return _metadata(data)
        container = read_container(data)
        return _manifests(data, container) if "sequence-number" in container.metadata else _entries(data, container)
    except (NotAContainer, ValueError, KeyError, StopIteration) as error:
        raise NotApplicable(f"it has no earlier state: {sentence(error)}.") from error


def _rows(data: bytes) -> bytes:
    rows = pq.read_table(io.BytesIO(data))
    if rows.num_rows == 0:
        raise NotApplicable("it has no row that could be missing.")
    sink = io.BytesIO()
    pq.write_table(rows.slice(0, rows.num_rows - 1), sink)
    return sink.getvalue()


def _metadata(data: bytes) -> bytes:
    """Without its current snapshot: the parent is current again."""
    document: dict[str, Any] = json.loads(data)
    current = document.get("current-snapshot-id")
    newest = next((one for one in document.get("snapshots", ()) if one["snapshot-id"] == current), None)
    if newest is None:
        raise NotApplicable("it has no current snapshot that could be missing.")
    parent = newest.get("parent-snapshot-id")
    for name in ("snapshots", "snapshot-log"):
        document[name] = [one for one in document.get(name, ()) if one["snapshot-id"] != current]
    document["current-snapshot-id"] = parent
    refs = document.get("refs", {})
    for name in [name for name, ref in refs.items() if ref["snapshot-id"] == current]:
        if parent is None:
            del refs[name]
        else:
            refs[name]["snapshot-id"] = parent
    if document.get("format-version", 1) > 1:
        document["last-sequence-number"] = newest["sequence-number"] - 1
    return json.dumps(document).encode()


def _manifests(data: bytes, container: Container) -> bytes:
    """A manifest list with the same header, without the manifest of the highest sequence number."""
    manifests = sorted(read_manifest_list(MemoryInput("list", data)), key=lambda one: one.sequence_number or 0)
    if not manifests:
        raise NotApplicable("it lists no manifest that could be missing.")
    header = {name: value.decode() for name, value in container.metadata.items()}
    parent = header.get("parent-snapshot-id", "null")
    output = MemoryOutput("list")
    with write_manifest_list(
        2,
        output,
        int(header["snapshot-id"]),
        None if parent == "null" else int(parent),
        int(header["sequence-number"]),
        cast(AvroCompressionCodec, header.get(AVRO_CODEC_KEY, "null")),
    ) as writer:
        writer.add_manifests(manifests[:-1])
    return output.data.replace(_sync(output.data, read_container(output.data)), _sync(data, container))


def _sync(data: bytes, container: Container) -> bytes:
    """The marker between blocks, which every writer draws anew; the same bytes in give the same bytes out."""
    return data[container.header_end - SYNC_BYTES : container.header_end]


def _entries(data: bytes, container: Container) -> bytes:
    """A manifest without its last block; pyiceberg writes a block an entry."""
    if len(container.ends) < 2:
        raise NotApplicable("it has no entry that could be missing.")
    return data[: container.ends[-2]]
