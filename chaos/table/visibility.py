"""What the doctor can say about each damage, mutation by object kind: the finding that names it, or why none does.

Tests make every one of these and see; docs/doctor.md is written from it.
"""

from __future__ import annotations

from dataclasses import dataclass

from chaos.table.mutate import MUTATIONS, ROLES, Role


@dataclass(frozen=True)
class Visibility:
    """What can be seen of one damage.

    Attributes:
        findings: Findings of which at least one names the damaged object; empty when none can.
        reason: Why it may, or must, go unseen; or why there is no such damage. Empty when it is always named.
        exists: There is such a damage.
    """

    findings: tuple[str, ...] = ()
    reason: str = ""
    exists: bool = True

    @property
    def always(self) -> bool:
        """Whenever it was done, it is named."""
        return bool(self.findings) and not self.reason


def _named(*findings: str) -> Visibility:
    return Visibility(findings)


def _none(reason: str) -> Visibility:
    return Visibility((), reason, exists=False)


_JSON = _none("JSON has neither blocks nor a header")
_LISTS_SAY_NOTHING = Visibility((), "invisible: no metadata records the length of a list, and its content is whole")
_METADATA_LENGTH = Visibility((), "invisible: no metadata records its length, and its content is whole")
_BITS = "needs a second source where the bit changed nothing that describes anything"
_VALUE_BITS = "needs a second source where a value changed within its column's bounds"

_BROKEN = {"zero-bytes", "cut-half", "cut-last-byte", "garbage-appended"}
_SPECIAL: dict[tuple[Role, str], Visibility] = {
    ("metadata", "cut-at-block"): _JSON,
    ("metadata", "header-only"): _JSON,
    ("metadata", "bit-flip"): Visibility(("metadata-undecodable", "metadata-differs"), _BITS),
    ("metadata", "replaced-by-older"): _named("metadata-differs"),
    ("metadata", "replaced-by-sibling"): _named("metadata-differs"),
    ("metadata", "wrong-length"): _METADATA_LENGTH,
    ("metadata", "stale"): _named("metadata-differs"),
    ("manifest-list", "cut-at-block"): _none("pyiceberg writes a list as one block; of several, see header-only"),
    ("manifest-list", "header-only"): _named("manifest-list-incomplete"),
    ("manifest-list", "bit-flip"): Visibility(
        ("manifest-list-undecodable", "manifest-list-foreign", "manifest-list-incomplete", "manifest-missing"), _BITS
    ),
    ("manifest-list", "replaced-by-older"): _named("manifest-list-foreign"),
    ("manifest-list", "replaced-by-sibling"): _named("manifest-list-foreign"),
    ("manifest-list", "wrong-length"): _LISTS_SAY_NOTHING,
    ("manifest-list", "stale"): _named("manifest-list-incomplete"),
    ("manifest", "cut-at-block"): _named("manifest-incomplete"),
    ("manifest", "header-only"): _named("manifest-incomplete"),
    ("manifest", "bit-flip"): Visibility(
        ("manifest-undecodable", "manifest-foreign", "manifest-incomplete", "data-file-missing"), _BITS
    ),
    ("manifest", "replaced-by-older"): _named("manifest-foreign"),
    ("manifest", "replaced-by-sibling"): _named("manifest-foreign"),
    ("manifest", "wrong-length"): _named("manifest-length"),
    ("manifest", "stale"): _named("manifest-incomplete"),
    ("data-file", "cut-at-block"): _none("Parquet has no Avro blocks"),
    ("data-file", "header-only"): _named("data-file-undecodable"),
    ("data-file", "bit-flip"): Visibility(
        ("data-file-undecodable", "data-file-foreign", "data-file-partition", "data-file-rows"), _VALUE_BITS
    ),
    ("data-file", "replaced-by-older"): _named("data-file-foreign"),
    ("data-file", "replaced-by-sibling"): _named("data-file-foreign"),
    ("data-file", "wrong-length"): _named("data-file-length"),
    ("data-file", "stale"): _named("data-file-rows"),
}


def _of(role: Role, mutation: str) -> Visibility:
    if mutation == "deleted":
        return _named(f"{role}-missing")
    if mutation in _BROKEN:
        return _named(f"{role}-undecodable")
    return _SPECIAL[role, mutation]


VISIBLE: dict[tuple[Role, str], Visibility] = {(role, one): _of(role, one) for one in MUTATIONS for role in ROLES}
"""Object kind and mutation -> what can be seen. The catalog keeps its own copy of metadata.json here; where it does not, damage to
that object is `table-unloadable`."""
