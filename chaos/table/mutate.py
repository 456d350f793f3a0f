"""Damage to the objects of a table, on purpose and repeatable: every way in which an object can be wrong, by name.

What a mutation does to bytes is a pure function of the bytes and a seed. `damage` applies one to a store and returns the
original, which the caller keeps before anything is changed.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from pyiceberg.table import Table

from chaos.table.container import SYNC_BYTES, Container, read_container
from chaos.table.earlier import earlier
from chaos.table.errors import NotAContainer, NotApplicable
from chaos.table.store import ObjectStore
from chaos.table.walk import read_list, read_manifest

Role = Literal["metadata", "manifest-list", "manifest", "data-file"]
ROLES: tuple[Role, ...] = ("metadata", "manifest-list", "manifest", "data-file")

GARBAGE_BYTES = 50
_PARQUET_FOOTER_BYTES = 8
_PARQUET_MAGIC = b"PAR1"


@dataclass(frozen=True)
class Victim:
    """An object to be damaged.

    Attributes:
        sibling: Another object of the same role, whose bytes can be put in its place.
        older: The one that came before it, likewise.
    """

    role: Role
    path: str
    sibling: str | None = None
    older: str | None = None


@dataclass(frozen=True)
class Original:
    """An object as it was, so that it can be put back."""

    path: str
    data: bytes
    etag: str | None


def _deleted(_data: bytes, _rng: random.Random) -> None:
    return None


def _zero(_data: bytes, _rng: random.Random) -> bytes:
    return b""


def _half(data: bytes, _rng: random.Random) -> bytes:
    return data[: len(data) // 2]


def _last_byte(data: bytes, _rng: random.Random) -> bytes:
    return data[:-1]


def _block(data: bytes, rng: random.Random) -> bytes:
    ends = _ends(data)
    if len(ends) < 3:
        raise NotApplicable("it has fewer than two blocks; a cut after its header is the mutation header-only.")
    return data[: rng.choice(ends[1:-1])]


def _header_only(data: bytes, _rng: random.Random) -> bytes:
    return _PARQUET_MAGIC if data.startswith(_PARQUET_MAGIC) else data[: _ends(data)[0]]


def _bit(data: bytes, rng: random.Random) -> bytes:
    if not data:
        raise NotApplicable("it has no bit to flip.")
    flipped = bytearray(data)
    bit = rng.randrange(len(data) * 8)
    flipped[bit // 8] ^= 1 << bit % 8
    return bytes(flipped)


def _garbage(data: bytes, rng: random.Random) -> bytes:
    return data + rng.randbytes(GARBAGE_BYTES)


def _length(data: bytes, _rng: random.Random) -> bytes:
    """The same content in more bytes: an empty Avro block, a gap before the Parquet footer, a blank after JSON."""
    if data.startswith(_PARQUET_MAGIC):
        footer = int.from_bytes(data[-_PARQUET_FOOTER_BYTES:-4], "little") + _PARQUET_FOOTER_BYTES
        return data[:-footer] + bytes(GARBAGE_BYTES) + data[-footer:]
    if data.startswith(b"{"):
        return data + b"\n"
    container = _container(data)
    codec = container.metadata.get("avro.codec", b"null").decode("ascii", "replace")
    if codec not in _NOTHING:
        raise NotApplicable(f"an empty block of the codec {codec} is not known here.")
    return data + b"\x00" + _NOTHING[codec] + data[container.header_end - SYNC_BYTES : container.header_end]


def _stale(data: bytes, _rng: random.Random) -> bytes:
    return earlier(data)


_NOTHING = {"null": b"\x00", "deflate": b"\x04\x03\x00"}
"""Codec -> length and bytes of a block without records (deflate needs two bytes to say nothing)."""


def _ends(data: bytes) -> tuple[int, ...]:
    return _container(data).ends


def _container(data: bytes) -> Container:
    try:
        return read_container(data)
    except NotAContainer as error:
        raise NotApplicable(f"it has no Avro blocks: {error}.") from error


BYTES: dict[str, Callable[[bytes, random.Random], bytes | None]] = {
    "deleted": _deleted,
    "zero-bytes": _zero,
    "cut-half": _half,
    "cut-last-byte": _last_byte,
    "cut-at-block": _block,
    "header-only": _header_only,
    "bit-flip": _bit,
    "garbage-appended": _garbage,
    "wrong-length": _length,
    "stale": _stale,
}
"""Mutations of an object's own bytes; None means that it goes away."""

REPLACEMENTS: dict[str, Callable[[Victim], str | None]] = {
    "replaced-by-older": lambda victim: victim.older,
    "replaced-by-sibling": lambda victim: victim.sibling,
}
"""Mutations that put another object's bytes in its place."""

MUTATIONS: tuple[str, ...] = (*BYTES, *REPLACEMENTS)


def mutated(mutation: str, victim: Victim, data: bytes, store: ObjectStore, rng: random.Random) -> bytes | None:
    """Return what the object would become; None: it would be deleted.

    Raises:
        NotApplicable: this object cannot be damaged so, or would not change.
    """
    if mutation in REPLACEMENTS:
        source = REPLACEMENTS[mutation](victim)
        if source is None:
            raise NotApplicable(f"{victim.path} has no {mutation.rpartition('-')[2]} to be replaced by.")
        changed: bytes | None = store.get(source)
    elif mutation in BYTES:
        changed = BYTES[mutation](data, rng)
    else:
        raise NotApplicable(f"there is no mutation {mutation!r}; there are {', '.join(MUTATIONS)}.")
    if changed == data:
        raise NotApplicable(f"{mutation} would leave {victim.path} as it is.")
    return changed


def original(store: ObjectStore, path: str) -> Original:
    """Read what has to be kept before an object is damaged. Raises ObjectMissing, StoreFailed."""
    return Original(path, store.get(path), store.etag(path))


Keep = Callable[[Original, bytes | None], None]
"""Told an object as it is, and what it will become (None: gone), before anything is changed."""


def damage(store: ObjectStore, victim: Victim, mutation: str, seed: int, keep: Keep | None = None) -> Original:
    """Damage one object and return it as it was; *keep* has kept that when anything is changed.

    Raises:
        NotApplicable: this object cannot be damaged so.
        ObjectMissing, StoreFailed: the store has no such object, or did not answer.
    """
    before = original(store, victim.path)
    changed = mutated(mutation, victim, before.data, store, random.Random(seed))
    if keep is not None:
        keep(before, changed)
    if changed is None:
        store.delete(victim.path)
    else:
        store.put(victim.path, changed)
    return before


def put_back(store: ObjectStore, before: Original) -> None:
    """Make the object what it was. Playing it twice is harmless."""
    store.put(before.path, before.data)


def choose(table: Table, store: ObjectStore, role: Role, rng: random.Random, *, newest: bool = False) -> Victim:
    """Pick a live object of a role, with a sibling and an older one where there are such.

    Args:
        newest: The one that the current snapshot added; else any that it lists, the newest left out where there are more
            (an append reads neither older manifests nor data files, so that damage to those goes unnoticed longest).

    Raises:
        NotApplicable: the table has no such object.
    """
    if role == "metadata":
        log = [entry.metadata_file for entry in table.metadata.metadata_log]
        return _victim(role, [*log, table.metadata_location], rng, newest=True)
    snapshots = sorted(table.metadata.snapshots, key=lambda one: one.sequence_number or 0)
    current = table.current_snapshot()
    if current is None:
        raise NotApplicable(f"the table has no snapshot, so it has no {role}.")
    if role == "manifest-list":
        before = [one.manifest_list for one in snapshots if one.snapshot_id != current.snapshot_id]
        return _victim(role, [*before, current.manifest_list], rng, newest=True)
    manifests = sorted(read_list(current, store, live=True).manifests, key=lambda one: one.sequence_number or 0)
    if role == "manifest":
        return _victim(role, [one.manifest_path for one in manifests], rng, newest=newest)
    entries = [entry for one in manifests for entry in read_manifest(one, store, live=True).entries]
    paths = [entry.data_file.file_path for entry in entries if entry.status != 2 and entry.data_file.content == 0]
    return _victim(role, list(dict.fromkeys(paths)), rng, newest=newest)


def _victim(role: Role, oldest_first: list[str], rng: random.Random, *, newest: bool) -> Victim:
    if not oldest_first:
        raise NotApplicable(f"the table has no {role}.")
    last = len(oldest_first) - 1
    index = last if newest or last == 0 else rng.randrange(last)
    others = [path for path in oldest_first if path != oldest_first[index]]
    return Victim(
        role=role,
        path=oldest_first[index],
        sibling=rng.choice(others) if others else None,
        older=oldest_first[index - 1] if index else None,
    )
