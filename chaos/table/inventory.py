"""What objects there are below a table's location, and which of them something references.

One listing tells thousands of sizes per request. A path counts 8 bytes of hash once it was referenced; what nobody asked
for remains with its name, and is an orphan at the end.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterable

from chaos.table.errors import ObjectMissing, StoreFailed
from chaos.table.store import ObjectStore, Stat


def path_hash(path: str) -> int:
    """Return 64 bits that stand for a path; among 10^6 paths two collide with a chance of 3 in 10^8."""
    return int.from_bytes(hashlib.blake2b(path.encode(), digest_size=8).digest(), "little")


class Inventory:
    """Sizes of objects. Safe to use from several threads.

    Args:
        locations: Prefixes that are listed at once; objects elsewhere are asked for one by one.
    """

    def __init__(self, store: ObjectStore, locations: Iterable[str]) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._taken: dict[int, int | None] = {}
        self._rest: dict[str, Stat] = {}
        self.listed = True
        try:
            for location in locations:
                self._rest.update((stat.path, stat) for stat in store.list(location))
        except (StoreFailed, ObjectMissing) as error:
            self._rest.clear()
            self.listed = False
            self.why = str(error)

    def size(self, path: str) -> int | None:
        """Return an object's size and remember that something references it; None when it is missing.

        A listing may be older than the object, so a missing one is asked for by itself. Raises StoreFailed.
        """
        key = path_hash(path)
        with self._lock:
            if (stat := self._rest.pop(path, None)) is not None:
                self._taken[key] = stat.size
            if key in self._taken:
                return self._taken[key]
        found = self._store.head(path)
        with self._lock:
            return self._taken.setdefault(key, found.size if found is not None else None)

    def take(self, path: str) -> None:
        """Remember that something references this object, whatever its size."""
        with self._lock:
            stat = self._rest.pop(path, None)
            self._taken.setdefault(path_hash(path), stat.size if stat is not None else None)

    def was_taken(self, path: str) -> bool:
        """Tell whether something references this object."""
        with self._lock:
            return path_hash(path) in self._taken

    def unreferenced(self) -> list[Stat]:
        """What was listed and nobody asked for."""
        with self._lock:
            return sorted(self._rest.values(), key=lambda stat: stat.path)
