"""The kill matrix: for each named fault a collector with one planted bug, and the check that must find it.

`correct` is the naive collector itself: it acknowledges from memory and commits again when a commit seems to have failed, which
is right while nothing breaks.
"""

from __future__ import annotations

from chaos.faults import catalogue

LOST, DUPLICATED, STUCK, REFUSING = "events.lost", "events.duplicated", "events.stuck", "events.refusing"

REFUSED = (
    "catalog-500", "catalog-502", "catalog-503", "catalog-504", "catalog-429", "catalog-401", "catalog-403", "catalog-hang",
    "catalog-down", "catalog-flapping", "catalog-swallows",
    "r2-429-storm", "r2-429", "r2-503", "r2-401", "r2-403", "r2-403-data", "r2-403-manifest",
    "r2-403-manifest-list", "r2-403-read", "r2-answer-cut", "r2-down", "r2-reset", "r2-flapping",
    "storage-killed", "gateway-killed", "toxiproxy-killed",
)  # fmt: skip
"""What was asked for did not happen, and the collector was told so, or was told nothing."""

APPLIED = (
    "commit-answer-lost", "commit-applied-500", "commit-applied-502", "commit-applied-503", "commit-applied-504",
    "commit-applied-520", "commit-applied-429", "commit-applied-403", "commit-answer-reset", "commit-answer-truncated",
    "commit-answer-garbage", "commit-zombie", "catalog-black-hole", "ingest-answers-lost",
)  # fmt: skip
"""What was asked for did happen, and whoever asked was told otherwise, or nothing."""

SLOW = (
    "slow-r2", "catalog-slow", "catalog-latency", "r2-latency-1s", "r2-latency-2500ms", "r2-latency-3500ms", "r2-throttled",
    "freeze-storage", "freeze-gateway", "freeze-toxiproxy",
)  # fmt: skip

DEAD = ("kill-collector", "kill-at-random", "terminate-collector", "rolling-restart", "crash-loop")

CRASHED = tuple(name for name, spec in catalogue().items() if spec.mechanism == "crash")

KILLS: dict[str, tuple[str, str]] = {
    **dict.fromkeys(REFUSED, ("gives-up", LOST)),
    **dict.fromkeys(APPLIED, ("correct", DUPLICATED)),
    **dict.fromkeys(SLOW, ("impatient", DUPLICATED)),
    **dict.fromkeys(DEAD, ("correct", LOST)),
    **dict.fromkeys(CRASHED, ("file-backed", DUPLICATED)),
    "freeze-collector": ("expires", LOST),
    "second-collector": ("file-backed", DUPLICATED),
    "ingest-sliced": ("reads-once", LOST),
    "slow-loris": ("leaks-connections", REFUSING),
    "silent-clients": ("leaks-connections", REFUSING),
    "ingest-narrow": ("reads-once", LOST),
    "ingest-reset": ("correct", DUPLICATED),
    "catalog-409": ("gives-up-at-once", LOST),
    "r2-hang": ("impatient", DUPLICATED),
    "r2-black-hole": ("impatient", DUPLICATED),
    "commit-applied-409": ("no-retries", STUCK),  # the table refers to a manifest list that pyiceberg deleted
    "commit-sent-twice": ("no-retries", STUCK),
    "catalog-answer-cut": ("correct", STUCK),  # its thread ends when LoadTable fails too
    "catalog-limited": ("correct", STUCK),
    "load-table-stale": ("correct", STUCK),
    "commit-answer-late": ("impatient", DUPLICATED),
    "catalog-sliced": ("impatient", DUPLICATED),
    "r2-narrow": ("impatient", DUPLICATED),
}

UNKILLED: dict[str, str] = {
    "nothing": "the control experiment: nothing breaks",
    "r2-limits": "a law of the store, not a failure: it bites whoever writes one key twice in a second",
    "r2-slow-close": "a closed connection costs time only; whatever is lost is lost by slowness, see slow-r2",
    "r2-500": "the object store's client tries again by itself, three times",
    "r2-limited": "the object store's client tries again by itself, three times",
    "r2-upload-cut": "the object store's client tries again by itself, three times",
    "r2-sliced": "what is read from R2 is small; pieces of it cost milliseconds",
    "r2-upload-answer-lost": "the client stores the same bytes under the same name again",
    "r2-upload-applied-500": "the client stores the same bytes under the same name again",
    "commit-zombie-later": "the catalog itself refuses a commit whose parent is no longer the head; bait for those who force it",
    "catalog-reset": "whether a commit was applied before the reset is chance; see commit-answer-reset and catalog-down",
    "ingest-flapping": "whether an answer is cut is chance; see ingest-answers-lost",
    "ingest-down": "clients find nobody; what they sent before is there",
    "disk-full": "no mutant keeps its buffer in SQLite; tests of the collector have its own crash points",
    "fsync-error": "no mutant keeps its buffer in SQLite; tests of the collector have its own crash points",
    "buffer-locked": "no mutant keeps its buffer in SQLite",
    "half-closed-clients": "a thread a connection is enough; see slow-loris",
    "owners-hook": "what it does is the owner's",
    **dict.fromkeys(
        (name for name, spec in catalogue().items() if spec.mechanism == "object"),
        "damage that is there fails every collector: doctor and repair answer it (tests/chaos/table, test_object_fault)",
    ),
    "ingest-latency": "clients wait longer, the collector does not see it",
}
