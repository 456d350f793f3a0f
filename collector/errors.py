"""Every error the collector raises on purpose.

::

    CollectorError
    ├── ConfigError             refuse to start
    ├── InvalidEvent            the request can never be accepted as it is (400, 413, 415, ...)
    ├── NotDiscarded            a reset was not allowed: nothing was discarded (409)
    ├── NotReplayed             a replay would not be safe: nothing was stored (409)
    ├── NotAccepted             nothing was kept; the client may try later (503, 429)
    │   ├── BufferFull          one partition holds as many events as it may
    │   ├── BufferUnavailable   the disk is full, fails, or the buffer is locked
    │   ├── Overloaded          too many requests at once
    │   ├── TableUnreadable     a replay cannot be told from what the table holds
    │   └── Draining            the process is shutting down
    ├── BufferUncertain         a sync failed: the events may be on disk or not, which a restart will tell (500)
    ├── StoreError              the object store
    │   └── StoreUnavailable    no answer, or an answer that says "not now"
    └── CommitError             the catalog
        └── CommitUnknown       the snapshot may exist: look before trying again
"""

from __future__ import annotations


class CollectorError(Exception):
    """Root of the collector's errors; the message is one sentence for a person."""


class ConfigError(CollectorError):
    """The configuration does not allow a start; the message names the variable."""


class InvalidEvent(CollectorError):
    """A request that must not be sent again unchanged.

    Args:
        reason: One sentence: what is wrong, and where.
        status: The HTTP status of the refusal.
        index: Position of the offending event in its batch, or None when the request as a whole is at fault.
    """

    def __init__(self, reason: str, *, status: int = 400, index: int | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.status = status
        self.index = index


class BufferUncertain(CollectorError):
    """The sync of these very events failed. They may be found after a restart, so this is no refusal: the client must
    treat the outcome as unknown, and may send them again (dedupe keeps one)."""


class NotDiscarded(CollectorError):
    """A reset without a valid receipt or confirmation; nothing was discarded."""


class NotReplayed(CollectorError):
    """A replay that could double events; nothing was stored."""


class NotAccepted(CollectorError):
    """Nothing of the request was kept, and the same request may succeed later.

    Args:
        reason: One sentence for the client.
        retry_after_s: What the ``Retry-After`` header says, in whole seconds, at least 1.
    """

    status = 503
    kind = "unavailable"

    def __init__(self, reason: str, *, retry_after_s: int = 1) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_after_s = max(1, retry_after_s)


class BufferFull(NotAccepted):
    """A partition is at capacity, or one more partition would exceed their allowed number.

    Args:
        partition: ``(event type, hour)``; the hour counts from the Unix epoch.
        reason: Replaces the default sentence.
    """

    kind = "buffer_full"

    def __init__(self, partition: tuple[str, int], reason: str | None = None, *, retry_after_s: int = 1) -> None:
        type_, hour = partition
        text = reason or f"the buffer of type {type_!r}, hour {hour} is full"
        super().__init__(text, retry_after_s=retry_after_s)
        self.partition = partition


class BufferUnavailable(NotAccepted):
    """The buffer could not store or sync: disk full, I/O error, or locked by another process."""

    kind = "buffer_unavailable"


class TableUnreadable(NotAccepted):
    """The table cannot be asked whether it holds events of a replay: storing them could double them."""

    kind = "table_unreadable"


class Overloaded(NotAccepted):
    """More requests are in flight than the collector was told to serve at once."""

    kind = "overloaded"


class Draining(NotAccepted):
    """The process is shutting down and accepts nothing new."""

    kind = "draining"


class StoreError(CollectorError):
    """The object store refused or failed a request."""


class StoreUnavailable(StoreError):
    """The object store cannot be reached, timed out, or answered "not now"."""


class CommitError(CollectorError):
    """The catalog did not confirm a commit."""


class CommitUnknown(CommitError):
    """The commit may have been applied: its outcome must be looked up before anything is sent again."""
